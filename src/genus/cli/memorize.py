"""The command `memorize`: which training text a model has by heart."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.folders import model_name, read_model
from genus.cli.generate import Seed, Slots
from genus.cli.options import AsJson, Field, Folder, Out, Running, generating_run
from genus.cli.output import Counter, columns, document
from genus.errors import GenusError, UsageError, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.curate.occurrences import Corpus
    from genus.curate.suffix_index import SuffixIndex
    from genus.export.folder import LoadedModel
    from genus.memorization.attack import Judged
    from genus.memorization.canaries import Planted
    from genus.memorization.samples import Sample
    from genus.memorization.verbatim import Verbatim
    from genus.run_folder import RunFolder
    from genus.train.run import Run

JSON, TEXT, PAGE, SETTINGS = "memorization.json", "memorization.md", "memorization.html", "settings.json"
SAMPLES, SCORED, INDEX = "samples.jsonl", "scores.jsonl", "index"
"""What `memorize` writes."""
READ = 10_000
"""Documents, the first ones, from which prefixes are drawn."""


Corpora = Annotated[
    list[str],
    typer.Option(
        "--corpus", metavar="TEXT", help="The text that was trained on, or its token store or run; repeatable."
    ),
]
Number = Annotated[int, typer.Option("--samples", help="Texts that the model writes in each way.")]
Tokens = Annotated[int, typer.Option("--tokens", help="Of each of them.")]
TopN = Annotated[int, typer.Option("--top-n", help="Most probable tokens of which one is drawn.")]
Prefixes = Annotated[
    str | None,
    typer.Option(
        "--prefixes", metavar="TEXT", help="Other text, of which pieces are gone on from: the third way of writing."
    ),
]
PrefixTokens = Annotated[
    tuple[int, int], typer.Option("--prefix-tokens", metavar="LEAST MOST", help="Tokens of a prefix.")
]
Small = Annotated[Path | None, typer.Option("--small", metavar="MODEL", help="A smaller model to compare with.")]
Medium = Annotated[Path | None, typer.Option("--medium", metavar="MODEL", help="Another model to compare with.")]
Best = Annotated[int, typer.Option("--best", help="Texts of each score that are looked at (k).")]
RunTokens = Annotated[int, typer.Option("--run-tokens", help="Tokens in a row by which a text is memorized.")]
CanaryFile = Annotated[
    Path | None,
    typer.Option("--canaries", metavar="FILE", help="The canaries.json of a planted text: ask for its secrets."),
]
Candidates = Annotated[int, typer.Option("--candidates", help="Secrets that a canary is compared with, at most.")]
IndexFolder = Annotated[
    Path | None,
    typer.Option("--index", metavar="FOLDER", help="An index of the text, as of find; by default in --out."),
]
Words = Annotated[
    Path | None, typer.Option("--tokenizer", metavar="FOLDER", help="Of a token store, if it is not beside it.")
]
Workers = Annotated[int, typer.Option("--workers", help="Processes that make the index.")]


def memorize(
    model: Folder,
    out: Out,
    corpus: Corpora = [],
    samples: Number = 1_000,
    tokens: Tokens = 256,
    top_n: TopN = 40,
    prefixes: Prefixes = None,
    prefix_tokens: PrefixTokens = (5, 10),
    small: Small = None,
    medium: Medium = None,
    best: Best = 100,
    run_tokens: RunTokens = 50,
    canaries: CanaryFile = None,
    candidates: Candidates = 10_000,
    index: IndexFolder = None,
    words: Words = None,
    field: Field = "text",
    workers: Workers = 1,
    slots: Slots = 32,
    seed: Seed = 0,
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Find out which training text a model has by heart.

    Texts that a causal model writes are ranked by six scores and looked up in the text that it was trained on; secrets
    of planted canaries are asked for, of masked models too. The same command goes on where it was stopped.
    """
    from genus.curate.occurrences import Corpus
    from genus.memorization.samples import check_prefix_tokens
    from genus.run_folder import RunFolder

    _check_numbers({"--samples": samples + 1, "--tokens": tokens, "--top-n": top_n, "--best": best,
                    "--run-tokens": run_tokens, "--workers": workers})  # fmt: skip
    run, source = generating_run(running), read_model(model)
    writes = _check(source, samples, corpus, canaries)
    check_prefix_tokens(prefix_tokens, source.recipe.model.max_length if prefixes is not None else None)
    planted = _planted(canaries)
    text = Corpus(corpus, field, words) if corpus else None
    settings: dict[str, Any] = {
        "samples": samples, "tokens": tokens, "top_n": top_n, "seed": seed, "prefixes": prefixes,
        "prefix_tokens": [*prefix_tokens], "precision": run.precision,
    }  # fmt: skip
    folder = RunFolder(out)
    with folder.lock():
        looked_up = _index(text, index or out / INDEX, workers, folder, source, settings)
        report: dict[str, Any] = {"model": model_name(model), "corpus": corpus, "settings": settings,
                                  "run_tokens": run_tokens, "rates": {}, "precision": [], "examples": [],
                                  "canaries": None}  # fmt: skip
        if writes and looked_up is not None:
            written = _written(source, settings, out, slots, run, field)
            report |= _attack(source, written, looked_up, out, (small, medium), best, run_tokens, run)
        if planted is not None:
            report["canaries"] = _asked(source, planted, looked_up, candidates, run)
        _finish(out, report, as_json)


def _check_numbers(numbers: dict[str, int]) -> None:
    """Refuse numbers below 1 (UsageError)."""
    for option, value in numbers.items():
        if value < 1:
            raise UsageError(f"{option}: expected a larger number")


def _check(source: "LoadedModel", samples: int, corpus: list[str], canaries: Path | None) -> bool:
    """Return whether texts are written and looked up.

    Raises:
        UsageError: there is nothing that can be done, or the text is missing.
    """
    from genus.evaluate.likelihood import find_predictor

    causal = find_predictor(source.learner).head.predicts == "following"
    if not causal and canaries is None:
        raise UsageError("this model reads both sides and writes no text: memorization is looked for in what a causal "
                         "model writes (gpt2, llama); of this one ask for planted --canaries")  # fmt: skip
    if causal and samples and not corpus:
        raise UsageError("--corpus: name the text that the model was trained on, or ask for --canaries alone with "
                         "--samples 0")  # fmt: skip
    if not samples and canaries is None:
        raise UsageError("--samples 0: leaves nothing to do; add --canaries FILE")
    if not causal:
        say("this model reads both sides and writes no text: its canaries are masked and restored")
    return causal and samples > 0


def _planted(canaries: Path | None) -> "Planted | None":
    from genus.memorization.canaries import Planted

    return None if canaries is None else Planted.read(canaries)


def _index(
    text: "Corpus | None", path: Path, workers: int, folder: "RunFolder", source: "LoadedModel",
    settings: dict[str, Any],
) -> "SuffixIndex | None":  # fmt: skip
    """Return the index of the text, made where it is not there, once the folder is known to be this command's own."""
    from genus.curate.engines.local import LocalProcesses
    from genus.curate.suffix_index import SuffixIndex
    from genus.export.weights import fingerprint
    from genus.files import read_json, write_json

    told = {"recipe": source.recipe.hash(), "weights": fingerprint(source.learner.tensors()), **settings}
    begun = folder.path / SETTINGS
    if not begun.exists():
        folder.refuse_unless_empty("a report of memorization")
        write_json(begun, told)
    elif changed := [name for name, value in read_json(begun).items() if told.get(name) != value]:
        raise UsageError(f"{folder.path}: holds texts that were written with other {', '.join(changed)}; "
                         "write to a new folder")  # fmt: skip
    if text is None:
        return None
    found = SuffixIndex(path)
    if found.is_there:
        found.check(text)
    else:
        found.build(text, LocalProcesses(workers=workers))
    if not any(len(one.begins) for one in found.opened()):
        raise GenusError(f"{', '.join(text.names)}: there is no text in it to look in")
    return found


def _written(
    source: "LoadedModel", settings: dict[str, Any], out: Path, slots: int, run: "Run", field: str
) -> "list[Sample]":
    """Return all samples; those that the folder lacks are written."""
    from genus.files import write_text
    from genus.generate.engine import Engine
    from genus.memorization.samples import WAYS, append, lines_of, ordered, read_samples, write_samples
    from genus.train.world import device_of_run

    path, number = out / SAMPLES, settings["samples"]
    known = read_samples(path)
    given = {way: [""] * number for way in WAYS[:2]}
    if settings["prefixes"] is not None:
        given[WAYS[2]] = _prefixes(source, settings, field)
    else:
        say("without --prefixes TEXT, texts are written in two of the three ways, from nothing")
    source.learner.to(device_of_run(run))
    engine = Engine(
        source.learner, source.recipe.model, source.tokenizer, slots=slots, seed=settings["seed"],
        precision=run.precision,
    )  # fmt: skip
    write_text(path, lines_of(ordered(known)))  # without a line that was cut
    count, total = Counter("writing", "texts"), sum(map(len, given.values())) - len(known)
    done = 0
    for way, prefixes in given.items():
        for one in write_samples(engine, way, prefixes, known, tokens=settings["tokens"], top_n=settings["top_n"]):
            append(path, one)
            done += 1
            count(done, total)
    found = ordered(read_samples(path))
    write_text(path, lines_of(found))
    return found


def _prefixes(source: "LoadedModel", settings: dict[str, Any], field: str) -> list[str]:
    """Return the prefixes of the third way, from the first documents of a text."""
    from itertools import islice

    from genus.curate.occurrences import Corpus
    from genus.memorization.samples import draw_prefixes

    read = (one.text for piece in Corpus([settings["prefixes"]], field).pieces() for one in piece.read())
    least, most = settings["prefix_tokens"]
    return draw_prefixes(
        source.tokenizer, [*islice(read, READ)], settings["samples"], (least, most), settings["seed"]
    )


def _attack(
    source: "LoadedModel", written: "Sequence[Sample]", index: "SuffixIndex", out: Path,
    others: tuple[Path | None, Path | None], best: int, least: int, run: "Run",
) -> dict[str, Any]:  # fmt: skip
    """Return what the report says of texts that the model wrote; write the scores of each."""
    from genus.memorization.attack import base_rates, examples, precisions
    from genus.memorization.verbatim import Verbatim

    verbatim = Verbatim(index, source.tokenizer)
    judged = _judged(source, written, verbatim, others, run)
    _write_scores(out / SCORED, judged)
    return {
        "rates": {way: asdict(one) for way, one in base_rates(judged, least).items()},
        "precision": [asdict(one) for one in precisions(judged, best, least)],
        "examples": examples(judged, verbatim, least),
    }


def _judged(
    source: "LoadedModel", written: "Sequence[Sample]", verbatim: "Verbatim",
    others: tuple[Path | None, Path | None], run: "Run",
) -> "list[Judged]":  # fmt: skip
    """Return the samples with what their scores are made of, and their longest runs."""
    from genus.memorization.attack import Judged
    from genus.memorization.scores import measure
    from genus.train.world import device_of_run

    small, medium = (None if path is None else read_model(path) for path in others)
    for one in (small, medium):
        if one is not None:
            one.learner.to(device_of_run(run))
    measured = measure(
        source, [one.whole for one in written], small, medium, precision=run.precision,
        progress=Counter("scoring", "texts"),
    )  # fmt: skip
    count, judged = Counter("looking up", "texts"), []
    for number, (sample, found) in enumerate(zip(written, measured, strict=True), 1):
        judged.append(Judged(sample, found, verbatim.longest(sample.text)))
        count(number, len(written))
    return judged


def _write_scores(path: Path, judged: "Sequence[Judged]") -> None:
    """Write what is told of each sample, as JSON lines."""
    import json

    from genus.files import write_text

    write_text(path, "".join(json.dumps(one.line()) + "\n" for one in judged))


def _asked(
    source: "LoadedModel", planted: "Planted", index: "SuffixIndex | None", candidates: int, run: "Run"
) -> dict[str, Any]:
    """Return what the report says of canaries."""
    import math

    from genus.curate.occurrences import Query
    from genus.memorization.attack import by_repetitions
    from genus.memorization.exposure import exposures
    from genus.train.world import device_of_run

    source.learner.to(device_of_run(run))
    found = exposures(
        source, planted, most=candidates, precision=run.precision, progress=Counter("asking for", "canaries")
    )
    counted = None if index is None else [index.find(Query(one.text, 0, 0)).occurrences for one in planted.canaries]
    compared = max(one.compared for one in found)
    exact = planted.space <= candidates
    return {
        "space": planted.space,
        "compared": compared,
        "exact": exact,
        "most": math.log2(compared),
        "extraction": "a secret is extracted where greedy decoding goes on with it, or where it is restored from masks",
        "by_repetitions": by_repetitions(found, counted),
        "each": [asdict(one) for one in found],
    }


def _finish(out: Path, report: dict[str, Any], as_json: bool) -> None:
    """Write the report, and print it."""
    from genus.cli import memorization_page as pages
    from genus.files import write_json, write_text

    write_json(out / JSON, report)
    write_text(out / TEXT, pages.written(report))
    write_text(out / PAGE, pages.page(report))
    if as_json:
        document(report)
        return
    if report["precision"]:
        found = pages.precision(report)
        print(columns(found.header, found.rows))
    if report["canaries"]:
        found = pages.canaries(report)
        print(columns(found.header, found.rows))
    print(f"written to {out / PAGE}, {TEXT} and {JSON}")
