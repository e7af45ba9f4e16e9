"""Evaluation of written programs: `evaluate-code`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.folders import read_model
from genus.cli.generate import CutPrompt, Seed, Slots, TopP, say_cut
from genus.cli.options import AsJson, Folder, Out, Running, generating_run
from genus.cli.output import Counter, columns, document
from genus.errors import UsageError, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.evaluate.code.problems import Problem
    from genus.evaluate.code.samples import Sample
    from genus.export.folder import LoadedModel
    from genus.generate import Request
    from genus.generate.engine import Engine
    from genus.run_folder import RunFolder
    from genus.train.run import Run

SAMPLES, RESULTS = "samples.jsonl", "results.json"

Problems = Annotated[
    Path,
    typer.Argument(metavar="PROBLEMS", help="Problems as HumanEval's file, .jsonl or .jsonl.gz.", show_default=False),
]


def evaluate_code(
    model: Folder,
    problems: Problems,
    out: Out,
    samples: Annotated[int, typer.Option(help="Completions of each problem.")] = 20,
    temperature: Annotated[float, typer.Option(help="Of sampling; higher ones are better for pass@100.")] = 0.2,
    top_p: TopP = 0.95,
    max_tokens: Annotated[int, typer.Option(help="The most tokens of a completion.")] = 512,
    cut_prompt: CutPrompt = False,
    slots: Slots = 32,
    seed: Seed = 0,
    run_code: Annotated[bool, typer.Option("--run-code", help="Run the programs that the model has written.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Of one program.")] = 3.0,
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Let a model write programs, and count those that pass their tests (pass@k).

    Completions are written to samples.jsonl. They are run with --run-code only, each in a process without network and
    with limits; the same command with it runs what was generated before.
    """
    from genus.evaluate.code.problems import read_problems
    from genus.run_folder import RunFolder

    for option, value in (("--samples", samples), ("--timeout", timeout)):
        if not 0 < value < math.inf:
            raise UsageError(f"{option}: expected a number above 0, got {value:g}")
    asked, checksum = read_problems(problems)
    run = generating_run(running)
    source = read_model(model)
    settings = {
        "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "cut_prompt": cut_prompt, "seed": seed,
        "precision": run.precision,
    }  # fmt: skip
    folder = RunFolder(out)
    with folder.lock():
        told = _begun(folder, source, checksum, settings)
        _generate(source, asked, samples, folder.path, told, slots, run)
        if not run_code:
            say(f"{samples * len(asked)} programs are in {out / SAMPLES}; look at some, and add --run-code to run them")
            return
        told = told | _judge(asked, samples, folder.path / SAMPLES, timeout)
        _finish(folder.path / RESULTS, told, as_json)


def _begun(folder: "RunFolder", source: "LoadedModel", checksum: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of where the samples come from; refuse a folder that has samples of others."""
    from genus.evaluate.code.problems import STOP
    from genus.export.weights import fingerprint
    from genus.files import read_json

    told: dict[str, Any] = {
        "model": source.recipe.name, "recipe": source.recipe.hash(), "weights": fingerprint(source.learner.tensors()),
        "problems": checksum, "generation": {**settings, "stop": list(STOP)},
    }  # fmt: skip
    path = folder.path / RESULTS
    if not path.exists():
        folder.refuse_unless_empty("an evaluation of code")
        return told
    before = read_json(path)
    for name, value in told.items():
        if before.get(name) != value:
            raise UsageError(f"{folder.path}: holds samples of another {name}; write to a new folder")
    return told


def _generate(
    source: "LoadedModel", problems: "Sequence[Problem]", number: int, folder: Path, told: dict[str, Any], slots: int,
    run: "Run",
) -> None:  # fmt: skip
    """Write the samples that the folder lacks, and what is told of them."""
    from genus.evaluate.code.samples import append, ordered, read_samples, whole, write_samples
    from genus.files import write_json
    from genus.generate.engine import Engine
    from genus.train.world import device_of_run

    path, settings = folder / SAMPLES, told["generation"]
    known = read_samples(path)
    have = whole(known, problems, number)
    missing = [problem for problem in problems if problem.task_id not in have]
    if not missing:
        return
    source.learner.to(device_of_run(run))
    engine = Engine(
        source.learner, source.recipe.model, source.tokenizer, slots=slots, seed=settings["seed"],
        precision=run.precision, cut_prompts=settings["cut_prompt"], log_probabilities=True,
    )  # fmt: skip
    requests = _requests(missing, number, settings)
    say_cut(engine, requests, [problem.task_id for problem in missing])
    count, total = Counter("generating", "programs"), number * len(missing)
    for done, sample in enumerate(_samples(engine, requests, missing, settings), 1):
        if done == 1:
            write_json(folder / RESULTS, told)
            write_samples(path, known)  # without a line that was cut
        append(path, sample)
        count(done, total)
    write_samples(path, ordered(read_samples(path), problems))


def _requests(problems: "Sequence[Problem]", number: int, settings: dict[str, Any]) -> "list[Request]":
    """Return what is asked of the model for each problem."""
    from genus.evaluate.code.problems import STOP
    from genus.evaluate.code.samples import key
    from genus.generate import Request

    return [Request(one.prompt, settings["max_tokens"], number, STOP, key=key(one)) for one in problems]


def _samples(
    engine: "Engine", requests: "list[Request]", problems: "Sequence[Problem]", settings: dict[str, Any]
) -> "Iterator[Sample]":
    """Yield the samples of problems as they end."""
    from genus.evaluate.code.samples import Sample
    from genus.generate.sampling import Sampling

    for piece in engine.stream(requests, Sampling(temperature=settings["temperature"], top_p=settings["top_p"])):
        if (result := piece.result) is not None:
            told = result.log_probabilities
            mean = sum(told) / len(told)
            yield Sample(problems[result.request].task_id, result.sample, result.text, mean, result.reason)


def _judge(problems: "Sequence[Problem]", number: int, path: Path, timeout: float) -> dict[str, Any]:
    """Run the programs, write how they ended beside them, and return what is told of it."""
    from dataclasses import asdict

    from genus.evaluate.code.execution import Limits, isolated, run_all
    from genus.evaluate.code.samples import ordered, read_samples, whole, write_samples
    from genus.evaluate.code.score import scores

    limits, known = Limits(seconds=timeout), read_samples(path)
    found = whole(known, problems, number)
    say(
        "warning: programs that the model wrote are run on this machine, with limits"
        + (", without network, and with all other files read-only" if isolated() else
           " only: this kernel lets them have no namespaces, so they can write your files")
    )  # fmt: skip
    chosen = [sample for problem in problems for sample in found[problem.task_id]]
    programs = [problem.program(sample.completion) for problem in problems for sample in found[problem.task_id]]
    verdicts = run_all(programs, limits, progress=Counter("running", "programs"))
    judged = [sample.judged(verdict) for sample, verdict in zip(chosen, verdicts, strict=True)]
    write_samples(path, ordered([*known, *judged], problems))
    by_problem = whole(judged, problems, number)
    return {
        "samples": number, "limits": asdict(limits), "namespaces": isolated(),
        "metrics": {name: asdict(value) for name, value in scores(list(by_problem.values())).items()},
        "passed": {name: sum(one.result == "passed" for one in those) for name, those in by_problem.items()},
    }  # fmt: skip


def _finish(path: Path, told: dict[str, Any], as_json: bool) -> None:
    """Write the results, and print them."""
    from genus.evaluate.interval import Interval
    from genus.files import write_json

    write_json(path, told)
    if as_json:
        document(told)
        return
    print(columns(["metric", ""], [[name, str(Interval(**value))] for name, value in told["metrics"].items()]))
    print(f"written to {path}")
