"""Generation of text: `generate`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.folders import read_model
from genus.cli.options import AsJson, BaseFolder, Folder, Prefix, Running, generating_run
from genus.cli.output import document
from genus.errors import GenusError, UsageError, say
from genus.files import reason

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.generate import Decoding, Penalty, Request, Result
    from genus.generate.engine import Engine


MOST_TOKENS = 128
"""Tokens of a text at most, where nobody says otherwise."""
NAMED = 3
"""Most prompts that a notice names."""
Prompts = Annotated[
    list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Texts to go on from.", show_default=False)
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", help='Prompts from a file: .jsonl with "prompt", else one a line.'),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="The most tokens of a text; by default as the model says, or 128.", show_default=False),
]
Samples = Annotated[int, typer.Option(help="Texts for each prompt.")]
Temperature = Annotated[
    float | None, typer.Option(help="Above 0: sample from softmax(logits / temperature); 0: the most probable token.")
]
TopK = Annotated[int | None, typer.Option(help="Sample from the k most probable tokens.")]
TopP = Annotated[float, typer.Option(help="Sample from the most probable tokens that sum to p (nucleus).")]
MinP = Annotated[float, typer.Option(help="Sample from tokens of this share of the most probable one's.")]
Beams = Annotated[int | None, typer.Option(help="Beam search with so many beams.")]
LengthPenalty = Annotated[float, typer.Option(help="Of beam search: above 0, longer texts win.")]
PenaltyForm = Annotated[
    str,
    typer.Option(
        help="Of the length penalty a: length, for length^a as in transformers, or gnmt, for ((5 + length) / 6)^a."
    ),
]
EarlyStopping = Annotated[str, typer.Option(help="Of beam search: no, yes, never.")]
Repetition = Annotated[float | None, typer.Option(help="Above 1, tokens of the text so far become less probable.")]
Penalized = Annotated[float | None, typer.Option(metavar="THETA", help="CTRL's penalized sampling; published: 1.2.")]
NoRepeated = Annotated[int | None, typer.Option(metavar="N", help="No n-gram of tokens occurs twice.")]
Stop = Annotated[list[str], typer.Option(help="End before this string; repeatable.")]
Answer = Annotated[list[str], typer.Option(help="Only one of these may follow; repeatable.")]
CutPrompt = Annotated[
    bool,
    typer.Option("--cut-prompt", help="Drop the left end of a prompt that is too long, of a source the right end."),
]
Slots = Annotated[int, typer.Option(help="Texts that are generated together.")]
Seed = Annotated[int, typer.Option(help="Of all draws.")]


def generate(
    model: Folder,
    prompts: Prompts = None,
    file: PromptFile = None,
    prefix: Prefix = None,
    max_tokens: MaxTokens = None,
    samples: Samples = 1,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    beams: Beams = None,
    length_penalty: LengthPenalty = 1.0,
    penalty_form: PenaltyForm = "length",
    early_stopping: EarlyStopping = "no",
    repetition_penalty: Repetition = None,
    penalized_sampling: Penalized = None,
    no_repeated_ngrams: NoRepeated = None,
    stop: Stop = [],
    answer: Answer = [],
    cut_prompt: CutPrompt = False,
    slots: Slots = 32,
    seed: Seed = 0,
    base: BaseFolder = None,
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Continue texts with a model that predicts the next token (gpt2, llama, ...), or answer sources (t5).

    What is not said is as the folder's generation_config.json and task.json say (a prefix of sources); else the most
    probable token is taken. One prompt is printed as it grows. --json tells each token's id and log-probability.
    """
    from genus.generate import Request
    from genus.generate.configuration import Configuration
    from genus.generate.engine import Engine
    from genus.train.world import device_of_run

    given = _asked(prompts, file)
    decoding = _decoding(temperature, top_k, top_p, min_p, beams, length_penalty, penalty_form, early_stopping)
    penalties = _penalties(repetition_penalty, penalized_sampling, no_repeated_ngrams)
    run = generating_run(running)
    source = read_model(model, base)
    asked = _as_learned(source, given, prefix)
    own = Configuration.of(source.generation or {}, reads_source="source" in source.recipe.model.streams)
    if decoding is None:
        decoding, penalties = own.decoding, penalties or [*own.penalties]
    source.learner.to(device_of_run(run))
    engine = Engine(
        source.learner, source.recipe.model, source.tokenizer, slots=slots, seed=seed, precision=run.precision,
        penalties=penalties, cut_prompts=cut_prompt, log_probabilities=as_json,
    )  # fmt: skip
    most = (own.max_tokens or MOST_TOKENS) if max_tokens is None else max_tokens
    requests = [Request(prompt, most, samples, tuple(stop), tuple(answer)) for prompt in asked]
    say_cut(engine, requests, [f"prompt {number}" for number in range(1, len(asked) + 1)])
    if as_json:
        document([_told(*pair) for pair in zip(given, engine.generate(requests, decoding), strict=True)])
    elif len(requests) == samples == 1:
        _print_growing(engine, requests, decoding)
    else:
        _print_each(engine.generate(requests, decoding), [""] * len(asked) if engine.prompts.reads_source else asked)


def _as_learned(source: "LoadedModel", given: list[str], prefix: str | None) -> list[str]:
    """Return the prompts after what stands before every source: as is said, or as the model was fine-tuned.

    What the model has not learned of them is said.
    """
    from genus.tasks.remembered import remembered

    if prefix is None:
        task = remembered(source)
        prefix = "" if task is None else task.source_prefix
        if prefix:
            say(f"as the model was fine-tuned: {prefix!r} before every source (--prefix '' for none)")
    found = [prefix + prompt for prompt in given]
    for line in dict.fromkeys(filter(None, map(source.recipe.examples.unfamiliar_prompt, found))):
        say(line)
    return found


def say_cut(engine: "Engine", requests: list["Request"], names: list[str]) -> None:
    """Tell which prompts lose an end, where they may."""
    if not engine.prompts.cut:
        return
    dropped = [
        (name, number) for name, one in zip(names, requests, strict=True) if (number := engine.prompts.dropped(one))
    ]
    if dropped:
        told = ", ".join(f"{number:,} tokens of {name}" for name, number in dropped[:NAMED])
        more = f" and of {len(dropped) - NAMED:,} more" if len(dropped) > NAMED else ""
        end = "last" if engine.prompts.reads_source else "first"
        say(f"longer than the model's positions: the {end} {told}{more} are dropped (--cut-prompt)")


def _asked(prompts: list[str] | None, file: Path | None) -> list[str]:
    """Return the prompts of the command line and of a file."""
    found = [*(prompts or []), *(_read(file) if file is not None else [])]
    if not found:
        raise UsageError("no prompt is given; write one behind the model's folder, or give --prompts FILE")
    return found


def _read(file: Path) -> list[str]:
    """Return the prompts of a file; lone surrogates, which are no text, are replaced."""
    from genus.text.blocks import REPLACEMENT, SURROGATE

    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise GenusError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise GenusError(f"{file}: cannot be read: {reason(error)}") from None
    if file.suffix != ".jsonl":
        return [line for line in lines if line.strip()]
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = json.loads(line)["prompt"]
        except (ValueError, KeyError, TypeError, RecursionError):
            prompt = None
        if not isinstance(prompt, str):
            raise GenusError(f'{file}, line {number}: expected an object with a text as "prompt"')
        found.append(SURROGATE.sub(REPLACEMENT, prompt))
    return found


def _decoding(
    temperature: float | None,
    top_k: int | None,
    top_p: float,
    min_p: float,
    beams: int | None,
    length_penalty: float,
    penalty_form: str,
    early_stopping: str,
) -> "Decoding | None":
    """Return the decoding that the options ask for; None where they ask for none.

    Raises:
        UsageError: options that contradict each other.
    """
    from genus.generate.beam import BeamSearch
    from genus.generate.sampling import Greedy, Sampling

    filters = {"--top-k": top_k is not None, "--top-p": top_p != 1, "--min-p": min_p != 0}
    if beams is not None:
        if given := [name for name, there in {"--temperature": temperature, **filters}.items() if there]:
            raise UsageError(f"{given[0]}: is for sampling, and --beams searches; leave one of them out")
        if early_stopping not in ("no", "yes", "never"):
            raise UsageError(f"--early-stopping: expected no, yes or never, got {early_stopping!r}")
        if penalty_form not in ("length", "gnmt"):
            raise UsageError(f"--penalty-form: expected length or gnmt, got {penalty_form!r}")
        return BeamSearch(
            beams=beams,
            length_penalty=length_penalty,
            penalty_form=penalty_form,  # type: ignore[arg-type]
            early_stopping=early_stopping,  # type: ignore[arg-type]
        )
    if not temperature:
        if given := [name for name, there in filters.items() if there]:
            raise UsageError(f"{given[0]}: is for sampling; add --temperature 1")
        return None if temperature is None else Greedy()
    return Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)


def _penalties(
    repetition_penalty: float | None, penalized_sampling: float | None, no_repeated_ngrams: int | None
) -> list["Penalty"]:
    """Return the penalties that the options ask for."""
    from genus.generate.penalties import NoRepeatedNgrams, PenalizedSampling, RepetitionPenalty

    found: list[Penalty] = []
    if repetition_penalty is not None:
        found.append(RepetitionPenalty(value=repetition_penalty))
    if penalized_sampling is not None:
        found.append(PenalizedSampling(theta=penalized_sampling))
    if no_repeated_ngrams is not None:
        found.append(NoRepeatedNgrams(size=no_repeated_ngrams))
    return found


def _print_growing(engine: "Engine", requests: list["Request"], decoding: "Decoding") -> None:
    """Print a text as it grows, after its prompt unless that is a source."""
    prompt = "" if engine.prompts.reads_source else requests[0].prompt
    for number, piece in enumerate(engine.stream(requests, decoding)):
        if number == 0 and isinstance(prompt, str):  # not before it is known that it can be answered
            sys.stdout.write(prompt)
        sys.stdout.write(piece.text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _print_each(found: list[list["Result"]], prompts: list[str]) -> None:
    """Print texts one after another, each after what is told of its prompt, with an empty line between."""
    print(
        "\n\n".join(prompt + result.text for prompt, results in zip(prompts, found, strict=True) for result in results)
    )


def _told(prompt: str, results: list["Result"]) -> dict[str, object]:
    """Return what is told of a prompt as JSON."""
    keys = ("text", "ids", "log_probabilities", "reason", "score")
    return {"prompt": prompt, "texts": [{key: getattr(result, key) for key in keys} for result in results]}
