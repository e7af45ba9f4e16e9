"""Tokens a second of a training step and of inference, beside Hugging Face's classes doing the same work.

    python benchmarks/throughput.py                                         # bert/mini on the CPU
    python benchmarks/throughput.py --device cuda --recipe bert/base        # on a GPU, with model-FLOPs utilization
    python benchmarks/throughput.py --levers                                # what each trick gains, turned off alone
    python benchmarks/throughput.py --all                                   # every member beside its class
    python benchmarks/throughput.py --busy                                  # on a CPU that has other work too
    python benchmarks/throughput.py --all --busy --eager --rounds 3         # the same table sooner: nobody compiles

All contenders live in one process and take turns, step by step; a ratio is taken within each round, so that what else
the machine does falls on both sides. Told are the median over the rounds, and the lowest and the highest. Tokens are
real ones: padding is no work. Their best is bfloat16, compiled, no dropout; `memory kept` lends it our allocator.
FLOPs are those the step needs: heads at targets only, real tokens.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from contenders import Levers, Ours, Shared, Theirs, process, sequences, shared

from genus import catalog
from genus.cost import TRAINING, component_cost
from genus.files import write_json
from genus.model.cpu import cast_linear_weights
from genus.train.peak import peak_flops
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from genus.examples import Example

CORPUS = Path(__file__).parents[2] / "shared" / "data" / "en_wikipedia" / "validation.jsonl.xz"
RESULTS = Path(__file__).parent / "results"
TOKENS = {"cpu": 8_192, "cuda": 131_072}
"""Cells of a padded training batch."""
PIECES_A_WORD = 1.3
"""WordPiece on English, about."""
LENGTHS, LENGTH = [128, 512], [128]
"""Of one row, and of each with `--all`."""
FILL = 0.34
"""Mean share of a padded row that is real, where the corpus is missing and lengths are drawn."""
INFERENCE = (1, 8, 32)
OFF = Levers(half=False, compiled=False, memory_kept=False, onednn=False, no_dropout=False)
BEST = Levers(memory_kept=False, onednn=False)
SINGLE = Levers(half=False)
EAGER = Levers(compiled=False)


@dataclass(frozen=True)
class Match:
    """What all contenders share."""

    work: Shared
    device: torch.device
    rounds: int
    clock: Callable[[], float]


@dataclass(frozen=True)
class Turn:
    """A contender's step or forward pass, and the state of the process it wants."""

    name: str
    levers: Levers
    work: Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="bert/mini")
    parser.add_argument("--all", action="store_true", help="a training step of every member's mini row, in one table")
    parser.add_argument("--members", nargs="+", help="with --all: these alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lengths", type=int, nargs="*", help="of a row of a batch; 128, and 512 without --all")
    parser.add_argument("--tokens", type=int, help="cells of a padded batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--levers", action="store_true", help="turn our levers off one at a time instead")
    parser.add_argument("--busy", action="store_true", help="one thread, and processor time instead of the clock's")
    parser.add_argument("--eager", action="store_true", help="compile nobody: a table in minutes")
    parser.add_argument("--no-inference", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch._dynamo.config.recompile_limit = 64  # every contender and length is a graph of its own
    if options.busy:
        torch.set_num_threads(1)
    if options.eager:
        torch._dynamo.config.disable = True  # every call of torch.compile gives back what it got
    if options.all:
        return whole_family(options)
    match = make_match(options, options.recipe)
    tokens = options.tokens or TOKENS[match.device.type]
    rows = []
    for length in options.lengths or LENGTHS:
        for kind, lengths in both(tokens, length, match.work.recipe.seed):
            rows.append(training(match, lengths, length, kind, ours_with_levers if options.levers else contenders))
    if not (options.no_inference or options.levers):
        for size in INFERENCE:
            drawn = both(128 * size, 128, match.work.recipe.seed)
            rows += [inference(match, lengths, 128, kind) for kind, lengths in drawn]
    row = match.work.recipe
    told = {"recipe": row.name, "recipe_hash": row.hash(), "seed": row.seed, **conditions(options)}
    name = f"throughput-{row.name.replace('/', '-')}-{match.device.type}{'-levers' if options.levers else ''}.json"
    write_json(options.out or RESULTS / name, {**surroundings(match.device), **told, "results": rows})


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the results hang on beside the machine."""
    how = {"transformers": version("transformers"), "busy": options.busy, "eager": options.eager}
    return how | {"lengths": corpus_note()}


def make_match(options: argparse.Namespace, name: str) -> Match:
    """Return what all contenders for a row share."""
    clock = time.process_time if options.busy else time.perf_counter
    return Match(shared(catalog.load(name)), torch.device(options.device), options.rounds, clock)


def whole_family(options: argparse.Namespace) -> None:
    """Time a training step of every member's mini row, print one table and write all numbers."""
    rows, lines = [], []
    for member, sizes in catalog.members().items():
        if (name := f"{member}/mini") not in sizes or member not in (options.members or [member]):
            continue
        match = make_match(options, name)
        told = {"recipe": name, "recipe_hash": match.work.recipe.hash(), "class": match.work.architecture}
        for length in options.lengths or LENGTH:
            for kind, lengths in both(max(length, options.tokens or TOKENS[match.device.type]), length, 0):
                row = training(match, lengths, length, kind, beside_theirs)
                rows.append(told | row)
                lines.append(line_of(told, row))
    print("\n".join(["| row | class | setting | tokens/s | times as fast as their best |", "|" + " --- |" * 5, *lines]))
    which = "-".join(["family", *(options.members or []), *map(str, options.lengths or []), options.device])
    where = options.out or RESULTS / f"throughput-{which}.json"
    write_json(where, {**surroundings(torch.device(options.device)), **conditions(options), "results": rows})


def line_of(told: dict[str, Any], row: dict[str, Any]) -> str:
    """Return the line of one measurement; the smallest ratio to any way of theirs is what tells."""
    cells = [told["recipe"], told["class"] or "none", row["setting"]]
    ratios = [one["ours_is_times_as_fast"] for name, one in row["contenders"].items() if name.startswith("theirs")]
    least = min(ratios, key=lambda ratio: ratio["median"], default=None)
    rate = f"{row['contenders']['ours']['tokens_per_second']:,.0f}"
    told_ratio = f"{least['median']:.2f} ({least['lowest']:.2f} to {least['highest']:.2f})" if least else "alone"
    told_ratio += "".join(f"; {name} refused" for name in row["refused"])
    return f"| {' | '.join([*cells, rate, told_ratio])} |"


def both(tokens: int, length: int, seed: int) -> list[tuple[str, NDArray[np.int64]]]:
    """Return the lengths of the sequences of a padded batch, where all are full and where they are real."""
    return [("full", np.full(tokens // length, length)), ("real", real(tokens, length, seed))]


def real(tokens: int, length: int, seed: int) -> NDArray[np.int64]:
    """Return lengths of Wikipedia's paragraphs (joined in fours for 512, and so on), or drawn ones with `FILL`."""
    rng, number = np.random.default_rng(seed), tokens // length
    if not CORPUS.exists():
        return np.clip(rng.lognormal(np.log(FILL * length) - 0.32, 0.8, number), 4, length).astype(int)
    with lzma.open(CORPUS, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    words = np.array([len(part.split()) for text in texts for part in text.split("\n") if part.strip()])
    joined = max(1, length // 128)
    sums = words[: len(words) // joined * joined].reshape(-1, joined).sum(1)
    return rng.choice(np.clip(np.rint(PIECES_A_WORD * sums).astype(int) + 2, 4, length), number, replace=False)


def corpus_note() -> str:
    if CORPUS.exists():
        return f"paragraphs of en_wikipedia/validation, {PIECES_A_WORD} tokens a word, joined in length / 128"
    return f"drawn from a log-normal distribution with a fill of about {FILL}"


def training(
    match: Match, lengths: NDArray[np.int64], length: int, kind: str, make: Callable[..., list[Turn]]
) -> dict[str, Any]:
    """Time a training step of every contender."""
    examples = sequences(match.work, lengths)
    turns, refused = able(make(match, examples, length))
    row = table(f"training, {kind} length {length}", take_turns(turns, match), lengths, length) | {"refused": refused}
    seen = round(float((lengths**2).sum() / lengths.sum()))  # the mean length as tokens see it: long ones hold more
    row["flops_per_token"] = TRAINING * component_cost(match.work.recipe, {"tokens": seen}).flops
    if match.device.type == "cuda" and (peak := peak_flops(match.device, torch.bfloat16)):
        rate = row["contenders"]["ours"]["tokens_per_second"] * row["flops_per_token"]
        row["utilization"] = rate / peak
        print(f"  model-FLOPs utilization {row['utilization']:.1%}", flush=True)
    torch._dynamo.reset()
    return row


def able(turns: list[Turn]) -> tuple[list[Turn], dict[str, str]]:
    """Return ours and those that can do a step, and what the others say, as a class that wants another length."""
    refused = {}
    for turn in turns[1:]:
        try:
            with process(turn.levers):
                turn.work()
        except Exception as error:  # whatever theirs may raise
            refused[turn.name] = f"{type(error).__name__}: {error}"
            print(f"  {turn.name}: {refused[turn.name].splitlines()[0][:150]}", flush=True)
    return [turn for turn in turns if turn.name not in refused], refused


def contenders(match: Match, examples: list[Example], length: int) -> list[Turn]:
    """Return ours, ours in float32, and theirs."""
    single = Ours(match.work.recipe, examples, length, SINGLE, match.device)
    first, *others = beside_theirs(match, examples, length)
    return [first, Turn("ours, float32", SINGLE, single.step), *others]


def beside_theirs(match: Match, examples: list[Example], length: int) -> list[Turn]:
    """Return ours, their default and their best, with and without kept memory."""
    turns = [Turn("ours", Levers(), Ours(match.work.recipe, examples, length, Levers(), match.device).step)]
    if match.work.architecture is None:
        return turns
    default, best = (Theirs(match.work, examples, length, levers, match.device).step for levers in (OFF, BEST))
    turns += [Turn("theirs, default", OFF, default), Turn("theirs, best", BEST, best)]
    return [*turns, Turn("theirs, best, memory kept", Levers(), best)] if match.device.type == "cpu" else turns


def ours_with_levers(match: Match, examples: list[Example], length: int) -> list[Turn]:
    """Return ours with all levers, and with each one turned off; `onednn` in float32, where it matters."""
    chosen = {"ours": Levers(), "ours, float32": SINGLE}
    for lever in Levers.__dataclass_fields__:
        chosen[f"without {lever}"] = replace(SINGLE if lever == "onednn" else Levers(), **{lever: False})
    made = {name: Ours(match.work.recipe, examples, length, own, match.device) for name, own in chosen.items()}
    return [Turn(name, one.levers, one.step) for name, one in made.items()]


def inference(match: Match, lengths: NDArray[np.int64], length: int, kind: str) -> dict[str, Any]:
    """Time forward passes; none is compiled, and theirs is in float32, as it comes."""
    recipe, device = match.work.recipe, match.device
    examples = sequences(match.work, lengths)
    single = replace(EAGER, half=False)
    half = Ours(recipe, examples, length, EAGER, device)
    if EAGER.half:
        cast_linear_weights(half.learner.network, torch.bfloat16)
    turns = [
        Turn("ours", EAGER, half.infer),
        Turn("ours, float32", single, Ours(recipe, examples, length, single, device).infer),
        Turn("theirs, default", OFF, Theirs(match.work, examples, length, OFF, device).infer),
    ]
    found = take_turns(turns, replace(match, rounds=3 * match.rounds))
    return table(f"inference, {len(lengths)} of {kind} length {length}", found, lengths, length)


def take_turns(turns: list[Turn], match: Match) -> dict[str, list[float]]:
    """Return the seconds of every round by contender; two rounds before do not count."""
    seconds: dict[str, list[float]] = {turn.name: [] for turn in turns}
    for number in range(match.rounds + 2):
        for turn in turns:
            with process(turn.levers):
                if turn.levers.memory_kept:
                    turn.work()  # it has to be fetched first, as the turn before did not keep it
                wait(match.device)
                begun = match.clock()
                turn.work()
                wait(match.device)
                if number >= 2:
                    seconds[turn.name].append(match.clock() - begun)
    return seconds


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(title: str, seconds: dict[str, list[float]], lengths: NDArray[np.int64], length: int) -> dict[str, Any]:
    """Print and return rates, and how many times as fast as each other contender ours is."""
    tokens, fill = int(lengths.sum()), float(lengths.mean() / length)
    print(f"{title}: {len(lengths)} sequences, {fill:.0%} filled", flush=True)
    rows = {}
    for name, times in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(times, seconds["ours"], strict=True)]
        spread = {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)}
        rows[name] = {"tokens_per_second": tokens / median(times), "ours_is_times_as_fast": spread, "seconds": times}
        told = f"{spread['median']:.2f} times ({spread['lowest']:.2f} to {spread['highest']:.2f})"
        print(f"  {name:28} {tokens / median(times):>12,.0f} tokens/s   ours is {told}", flush=True)
    return {"setting": title, "sequences": len(lengths), "tokens": tokens, "fill": fill, "contenders": rows}


if __name__ == "__main__":
    main()
