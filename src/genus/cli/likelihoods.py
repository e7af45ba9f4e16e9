"""Likelihoods of a causal language model: perplexity per word (`evaluate --task wikitext`), and `attribute`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.folders import read_model
from genus.cli.options import AsJson, Folder, Running, chosen_run
from genus.cli.output import Counter, columns, document
from genus.errors import GenusError, UsageError, say

if TYPE_CHECKING:
    from genus.train.run import Run

WIKITEXT = "wikitext"
"""The `--task` of perplexity per word."""
Stride = Annotated[
    int | None,
    typer.Option(metavar="SUBWORDS", help="With --task wikitext: how far each window is moved; published: 32."),
]


def measure_words(model: Path, data: Sequence[str], stride: int | None, run: "Run", as_json: bool) -> None:
    """Measure the perplexity per word of one text in WikiText's form."""
    from genus.evaluate.word_perplexity import STRIDE, word_perplexity
    from genus.text.read import read_whole
    from genus.train.world import device_of_run

    if len(data) != 1:
        raise UsageError(f"--task {WIKITEXT}: expected one file, such as wiki.test.tokens, got {len(data)}")
    text = read_whole(Path(data[0]))
    source = read_model(model)
    source.learner.to(device_of_run(run))
    window = source.recipe.model.max_length or source.recipe.stages[-1].max_length
    moved = min(STRIDE, window) if stride is None else stride
    found = word_perplexity(
        source.learner, source.tokenizer, text, window, moved, run.precision, progress=Counter("reading", "")
    )
    told = {
        "word_perplexity": found.per_word, "subword_perplexity": found.per_subword, "words": found.words,
        "subwords": found.subwords, "window": window, "stride": moved,
    }  # fmt: skip
    if as_json:
        document(told)
    else:
        lines = [[name, f"{value:.4f}" if isinstance(value, float) else f"{value:,}"] for name, value in told.items()]
        print(columns(["metric", ""], lines))


def attribute(
    model: Folder,
    text: Annotated[str, typer.Argument(help="The text.", show_default=False)],
    code: Annotated[
        list[str], typer.Option(help="A control code; repeatable. None: those that the model was trained with.")
    ] = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Tell under which control code a text is likely (CTRL's source attribution)."""
    from dataclasses import asdict

    from genus.evaluate.attribution import attribute
    from genus.train.world import device_of_run

    if "" in code or len({*code}) < len(code):
        raise UsageError(f"--code: expected each code once and none empty, got {', '.join(map(repr, code))}")
    run = chosen_run(running, precision="float32")
    source = read_model(model)
    known = source.recipe.examples.control_codes
    if not code and not known:
        raise GenusError(f"{model}: was trained without control codes, as far as it tells; name some with --code")
    if known and (strange := [one for one in code if one not in known]):
        say(f"--code {strange[0]}: stood before no text in training, where the codes were {', '.join(known)}")
    source.learner.to(device_of_run(run))
    found = attribute(
        source.learner, source.tokenizer, text, code or known, source.recipe.model.max_length, precision=run.precision
    )
    if as_json:
        document([asdict(one) for one in found])
    else:
        lines = [[f"{one.probability:.4f}", f"{one.nats:.2f}", f"{one.perplexity:.2f}", one.code] for one in found]
        print(columns(["p(code)", "nats", "perplexity", "code"], lines))
