"""Training steps and beam search of encoder-decoders on real pairs, beside transformers on the same weights.

    python benchmarks/pairs.py --data ../shared/data                      # t5/mini: translations, and summaries
    python benchmarks/pairs.py --data ../shared/data --recipe bart/mini --busy

A folder of random weights is written and read by both. A step is a forward pass, a backward pass and an update of AdamW
over a batch of pairs, as they come and cut to 512 and 128 tokens; ours is packed, theirs padded to the longest of the
batch, in order as it comes and, as "grouped", in batches of pairs of like length (which changes what is learned
together). Theirs is also given bfloat16. Beam search writes 32 tokens for each of 64 sources of mixed lengths, with 4
beams. All contenders take turns; told are the medians of the seconds and of the ratios within a round, of processor
time with --busy, beside other work. Tokens are real ones, of both sides.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from contenders import NATIVE_HALF

from genus import catalog
from genus.examples.feed.bins import bin_pack
from genus.examples.feed.pack import pack
from genus.export.folder import load, save
from genus.files import write_json
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.model.cpu import tune_cpu_process
from genus.optim.adamw import AdamW
from genus.tasks.dataset import LabeledRow
from genus.tasks.text_to_text import EncodedPairs, TextToText
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.export.folder import LoadedModel

RESULTS = Path(__file__).parent / "results"
LENGTH, TARGET = 512, 128
BATCH, BATCHES = 32, 4
SOURCES, BEAMS, NEW = 64, 4, 32
TEXTS = {"translations": ("multi30k", "de", "en"), "summaries": ("scitldr_a", "source", "target")}
"""Tables of pairs with their columns, by what they are."""
RATE = 1e-4


@dataclass(frozen=True)
class Contender:
    """Who does some work."""

    name: str
    work: Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the tables")
    parser.add_argument("--recipe", default="t5/mini")
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=[*TEXTS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="processor time of this process, in one thread")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    tune_cpu_process()
    if options.busy:
        torch.set_num_threads(1)
    clock = time.process_time if options.busy else time.perf_counter
    recipe = catalog.load(options.recipe)
    told = {"recipe": recipe.name, "recipe_hash": recipe.hash(), "seed": recipe.seed, "busy": options.busy}
    found: dict[str, Any] = {**surroundings(torch.device("cpu")), **told, "rows": []}
    path = options.results or RESULTS / f"pairs-{options.recipe.replace('/', '-')}-cpu.json"
    for name in options.texts:
        pairs = read(options.data, *TEXTS[name])
        with TemporaryDirectory() as work:
            folder = written(options.recipe, [text for pair in pairs for text in pair], Path(work))
            for what, everyone, tokens in (training(folder, pairs), generation(folder, pairs)):
                row = {"texts": name, "work": what, **measured(everyone, tokens, options.rounds, clock)}
                found["rows"].append(row)
                print(line(row), flush=True)
                write_json(path, found)


def read(data: Path, table: str, source: str, target: str) -> list[tuple[str, str]]:
    """Return the pairs of a table's training split."""
    task = TextToText(texts=(source,), label=target)
    with gzip.open(data / table / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [task.read(json.loads(line)) for line in file]
    return [(text, label if isinstance(label, str) else (label or ("",))[0]) for (text,), label in rows]


def written(name: str, texts: list[str], folder: Path) -> Path:
    """Write a model of random weights, with a tokenizer trained on the texts."""
    recipe = catalog.load(name)
    tokenizer = recipe.tokens.train(texts[:20_000])
    torch.manual_seed(0)
    recipe = recipe.overlay({"tokens": tokenizer.tokens.to_json()})
    save(folder / "model", recipe, recipe.learner(), tokenizer)
    return folder / "model"


def encoded(model: LoadedModel, pairs: Sequence[tuple[str, str]]) -> EncodedPairs:
    """Return tokenized pairs."""
    task = TextToText(target_length=TARGET)
    objective = task.objective([]).continued(model.recipe.objectives, model.recipe.model)
    rows = [LabeledRow(number, (source,), target) for number, (source, target) in enumerate(pairs)]
    return task.encode(model.tokenizer, rows, objective, LENGTH)


def training(folder: Path, pairs: list[tuple[str, str]]) -> tuple[str, list[Contender], int]:
    """Return contenders for a few steps each, and the real tokens of these steps."""
    model = load(folder)
    chosen = np.random.default_rng(0).permutation(len(pairs))[: BATCH * BATCHES]
    data = encoded(model, [pairs[number] for number in chosen])
    tokens = int(sum(lengths.sum() for lengths in data.stream_lengths.values()))
    return "training", [ours_trains(model, data), *theirs_train(folder, data)], tokens


def ours_trains(model: LoadedModel, data: EncodedPairs) -> Contender:
    """Return steps over packed rows."""
    learner, batches = model.learner.train(), []
    for first in range(0, len(data), BATCH):
        lengths = {stream: each[first : first + BATCH] for stream, each in data.stream_lengths.items()}
        limits = {stream: int(each.max()) for stream, each in data.stream_lengths.items()}
        rows = [[data.example(first + i) for i in row.tolist()] for row in bin_pack(lengths, limits)]
        batches.append(pack(rows, limits, data.vocabulary.pad, streams=False))
    optimizer = AdamW(lr=RATE).build(learner)

    def work() -> None:
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=NATIVE_HALF):
                sums = learner(batch).sums
            learner.objective(sums, learner.counts(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()

    return Contender("ours", work)


def theirs_train(folder: Path, data: EncodedPairs) -> list[Contender]:
    """Return steps over padded batches: as they come, grouped by length, and each in bfloat16 too."""
    from transformers import AutoModelForSeq2SeqLM

    examples = [data.example(number) for number in range(len(data))]
    grouped = sorted(range(len(data)), key=lambda number: len(examples[number].streams["source"].ids))
    found = []
    for name, order in (("as they come", range(len(data))), ("grouped", grouped)):
        batches = [padded([examples[i] for i in order[first : first + BATCH]], data.vocabulary.pad)
                   for first in range(0, len(data), BATCH)]  # fmt: skip
        for half in (False, True):
            theirs = AutoModelForSeq2SeqLM.from_pretrained(folder).train()
            optimizer = torch.optim.AdamW(theirs.parameters(), lr=RATE)

            def work(
                theirs: Any = theirs, optimizer: Any = optimizer, batches: Any = batches, half: bool = half
            ) -> None:
                for batch in batches:
                    with torch.autocast("cpu", torch.bfloat16, enabled=half):
                        loss = theirs(**batch).loss
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()

            found.append(Contender(f"theirs, {name}{', bfloat16' if half else ''}", work))
    return found


def padded(examples: list[Any], pad: int) -> dict[str, torch.Tensor]:
    """Return a batch as transformers takes it, padded to its longest source and target."""
    sources = [example.streams["source"].ids for example in examples]
    targets = [example.tokens.ids[1:] for example in examples]
    source, target = (max(map(len, side)) for side in (sources, targets))
    return {
        "input_ids": torch.tensor(
            np.stack([np.pad(one, (0, source - len(one)), constant_values=pad) for one in sources])
        ),
        "attention_mask": torch.tensor(np.stack([np.arange(source) < len(one) for one in sources])).long(),
        "labels": torch.tensor(
            np.stack([np.pad(one, (0, target - len(one)), constant_values=-100) for one in targets])
        ),
    }


def generation(folder: Path, pairs: list[tuple[str, str]]) -> tuple[str, list[Contender], int]:
    """Return contenders for beam search, and the tokens that are read and written."""
    from transformers import AutoModelForSeq2SeqLM

    model, theirs = load(folder), AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    chosen = np.random.default_rng(1).permutation(len(pairs))[:SOURCES]
    data = encoded(model, [pairs[number] for number in chosen])
    sources = [data.example(number).streams["source"].ids for number in range(len(data))]
    engine = Engine(model.learner, model.recipe.model, model.tokenizer, slots=SOURCES * BEAMS)
    batch = padded([data.example(number) for number in range(len(data))], data.vocabulary.pad)
    del batch["labels"]

    def ours() -> None:
        requests = [Request(source.tolist(), max_tokens=NEW, ignore_end=True) for source in sources]
        assert all(len(result.ids) == NEW for [result] in engine.generate(requests, BeamSearch(beams=BEAMS)))

    def padded_together() -> None:
        with torch.no_grad():
            made = theirs.generate(**batch, num_beams=BEAMS, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
        assert made.shape[1] == NEW + 1

    tokens = sum(map(len, sources)) + NEW * SOURCES
    return "beam search", [Contender("ours", ours), Contender("theirs", padded_together)], tokens


def measured(everyone: list[Contender], tokens: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Return the tokens a second of each contender, and how many times ours is as fast."""
    seconds: dict[str, list[float]] = {one.name: [] for one in everyone}
    for one in everyone:
        one.work()
    for _ in range(rounds):
        for one in everyone:
            begun = clock()
            one.work()
            seconds[one.name].append(clock() - begun)
    ours = seconds["ours"]
    return {
        name: {
            "tokens_per_second": tokens / median(each),
            "ours_is_times_as_fast": median(a / b for a, b in zip(each, ours, strict=True)),
        }
        for name, each in seconds.items()
    }


def line(row: dict[str, Any]) -> str:
    """Return a row of the table, in words."""
    told = [f"{row['work']}, {row['texts']}: ours {row['ours']['tokens_per_second']:,.0f} tokens/s"]
    for name, one in row.items():
        if name.startswith("theirs"):
            told.append(
                f"{name} {one['tokens_per_second']:,.0f}, ours is {one['ours_is_times_as_fast']:.2f} times as fast"
            )
    return "; ".join(told)


if __name__ == "__main__":
    main()
