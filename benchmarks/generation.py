"""Tokens a second of generation beside transformers, on the same weights, prompts and number of tokens.

    python benchmarks/generation.py                         # gpt2/mini and llama/mini
    python benchmarks/generation.py --recipe llama/tiny --rounds 1

A folder of random weights is written and read by both. Prompts have 16 to 512 tokens, and 128 follow each; the end
token may not occur. `prefill` is the time to the first token of all prompts, `decode` the rest. Theirs are prompts
padded on the left, with the default cache and with the static one, compiled; in the library of products that PyTorch
takes by default, and, as "onednn", in the one that ours takes for many rows. All contenders take turns; told are the
medians of tokens a second and of the ratios within a round, of processor time with --busy, beside other work. The bytes
of our cache are told beside those that keys and values need.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus import catalog
from genus.export.folder import load, save
from genus.files import write_json
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.reader import Reader
from genus.generate.sampling import Greedy
from genus.model.cpu import tune_cpu_process, without_onednn
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.export.folder import LoadedModel

RESULTS = Path(__file__).parent / "results" / "generation-cpu.json"
PAGES = Path(__file__).parents[1] / "docs"
SHORTEST, LONGEST, NEW = 16, 512, 128
BATCHES = {"one short prompt": [64], "one long prompt": [512], "32 alike": [64] * 32, "32 mixed": None}
"""Lengths of the prompts; None: drawn from 16 to 512, evenly on a logarithmic scale."""


@dataclass(frozen=True)
class Contender:
    """Who generates so many tokens after each prompt."""

    name: str
    generate: Callable[[list[list[int]], int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="+", default=["gpt2/mini", "llama/mini"])
    parser.add_argument("--batches", nargs="+", choices=BATCHES, default=[*BATCHES])
    parser.add_argument("--new", type=int, default=NEW, help="tokens after each prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="processor time of this process, in one thread")
    parser.add_argument("--static", action="store_true", help="theirs with a static cache too, compiled: takes minutes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    tune_cpu_process()
    if options.busy:
        torch.set_num_threads(1)
    clock = time.process_time if options.busy else time.perf_counter
    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {**surroundings(torch.device("cpu")), "new": options.new, "busy": options.busy, "rows": []}
    for name in options.recipe:
        with TemporaryDirectory() as work:
            folder = written(name, Path(work))
            everyone = contenders(load(folder), folder, static=options.static)
            for batch in options.batches:
                row = measured(everyone, prompts(batch), options.new, options.rounds, clock)
                row |= {"recipe": name, "batch": batch, "cache": cache_bytes(load(folder), prompts(batch), options.new)}
                found["rows"].append(row)
                print(line(row), flush=True)
                write_json(options.results, found)


def written(name: str, folder: Path, settings: Sequence[str] = ()) -> Path:
    """Write a model of random weights, with a tokenizer trained on this project's pages."""
    recipe = catalog.load(name, list(settings))
    texts = [page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("**/*.md"))]
    tokenizer = recipe.tokens.train(texts)
    torch.manual_seed(0)
    recipe = recipe.overlay({"tokens": tokenizer.tokens.to_json()})
    save(folder / "model", recipe, recipe.learner(), tokenizer)
    return folder / "model"


def prompts(batch: str) -> list[list[int]]:
    """Return the prompts of a batch, as ids."""
    rng = np.random.default_rng(0)
    lengths = BATCHES[batch]
    if lengths is None:
        lengths = np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST), 32)).round().astype(int).tolist()
    return [rng.integers(10, 1000, length).tolist() for length in lengths]


def contenders(model: LoadedModel, folder: Path, *, static: bool) -> list[Contender]:
    """Return ours, theirs as it comes, and theirs with a static cache."""
    from transformers import AutoModelForCausalLM, CompileConfig

    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    engine = Engine(model.learner, model.recipe.model, model.tokenizer)

    def ours(given: list[list[int]], new: int) -> None:
        found = engine.generate([Request(ids, max_tokens=new, ignore_end=True) for ids in given], Greedy())
        assert all(len(result.ids) == new for [result] in found)

    def padded(given: list[list[int]], new: int, **choices: Any) -> None:
        longest = max(map(len, given))
        ids = torch.tensor([[0] * (longest - len(one)) + one for one in given])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in given])
        with torch.no_grad():
            made = theirs.generate(
                ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0,
                **choices,
            )  # fmt: skip
        assert made.shape[1] == longest + new

    def default(given: list[list[int]], new: int, **choices: Any) -> None:
        with without_onednn():
            padded(given, new, **choices)

    found = [Contender("ours", ours), Contender("theirs", default), Contender("theirs, onednn", padded)]
    if static:
        compiled = CompileConfig()
        compiled._compile_all_devices = True  # else on GPUs only
        choices = {"cache_implementation": "static", "compile_config": compiled}
        found.append(Contender("theirs, static", lambda given, new: default(given, new, **choices)))
    return found


def measured(
    everyone: list[Contender], given: list[list[int]], new: int, rounds: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """Return the tokens a second of each contender, and how many times ours is as fast."""
    seconds: dict[str, list[tuple[float, float]]] = {one.name: [] for one in everyone}
    for one in everyone:
        one.generate(given, 2)
        one.generate(given, new)
    for _ in range(rounds):
        for one in everyone:
            begun = clock()
            one.generate(given, 1)
            first = clock()
            one.generate(given, new)
            whole = clock() - first
            seconds[one.name].append((first - begun, whole - (first - begun)))
    read, made = sum(map(len, given)), (new - 1) * len(given)
    return {
        name: {
            "prefill": read / median(prefill for prefill, _ in each),
            "decode": made / median(decode for _, decode in each),
            "ours_is_times_as_fast": {
                "prefill": median(a[0] / b[0] for a, b in zip(each, seconds["ours"], strict=True)),
                "decode": median(a[1] / b[1] for a, b in zip(each, seconds["ours"], strict=True)),
                "whole": median(sum(a) / sum(b) for a, b in zip(each, seconds["ours"], strict=True)),
            },
        }
        for name, each in seconds.items()
    }


def cache_bytes(model: LoadedModel, given: list[list[int]], new: int) -> dict[str, float]:
    """Return the bytes of our cache, and of the keys and values of so many tokens."""
    tokens = sum(len(ids) + new for ids in given)
    cache = Reader(model.learner, model.recipe.model, tokens).cache
    assert cache is not None
    held = sum(one.nbytes for one in cache.layers)
    needed = sum(2 * one.keys[0].nbytes * tokens for one in cache.layers)
    return {"bytes": held, "times_needed": held / needed}


def line(row: dict[str, Any]) -> str:
    """Return a row of the table, in words."""
    told = [
        f"{row['recipe']}, {row['batch']}: ours {row['ours']['prefill']:,.0f} and {row['ours']['decode']:,.0f} tokens/s"
    ]
    for name in ("theirs", "theirs, onednn", "theirs, static"):
        if name in row:
            times = row[name]["ours_is_times_as_fast"]
            each = f"{name} {row[name]['prefill']:,.0f} and {row[name]['decode']:,.0f}"
            ratio = f"{times['prefill']:.2f} and {times['decode']:.2f} times as fast, {times['whole']:.2f} in all"
            told.append(f"{each}; ours is {ratio}")
    return "; ".join(told) + f"; cache {row['cache']['times_needed']:.2f} times what is needed"


if __name__ == "__main__":
    main()
