"""The command `doctor`: what a text or a run has that will trouble training."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from genus.cli.options import AsJson, Codes, Field, SourceField, Title
from genus.cli.output import document
from genus.errors import UsageError

INSTEAD = {
    "a pretraining run": "examine it alone",
    "a fine-tuning": "its results are in its report.json",
    "a model": "genus evaluate measures it",
    "a tokenizer": "give it as --tokenizer beside a text",
}
"""What to do with a folder that is no text."""


def doctor(
    what: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...|RUN", help="Text as for pretrain, or the folder of a run.", show_default=False),
    ],
    words: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="FOLDER", help="Tell how much of the text it does not know.")
    ] = None,
    field: Field = "text",
    title: Title = None,
    codes: Codes = [],
    source: SourceField = None,
    as_json: AsJson = False,
) -> None:
    """Examine a text before training, or a run during and after it.

    Each line is one thing that was measured; under what may trouble training stands one thing to try.
    """
    from genus.doctor import examine_run, examine_text
    from genus.run_folder import RunFolder
    from genus.text import Corpus, Fields
    from genus.tokens.tokenizer import Tokenizer

    held = {name: RunFolder(Path(name)).content() for name in what}
    if held == {what[0]: "a pretraining run"}:
        findings = examine_run(Path(what[0]))
    else:
        for name, content in held.items():
            if content in INSTEAD:
                raise UsageError(f"{name}: holds {content}; {INSTEAD[content]}. Examined are text (name its files) and "
                                 "the folder of one pretraining run")  # fmt: skip
        tokenizer = None if words is None else Tokenizer.load(words)
        findings = examine_text(Corpus(what, Fields(field, title, tuple(codes), source)), tokenizer)
    if as_json:
        document([asdict(finding) for finding in findings])
        return
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{'!' if finding.advice else ' '} {finding.what:{width}}  {finding.found}")
        if finding.advice:
            print(f"  {'':{width}}  try: {finding.advice}")
