"""`genus quickstart`: from nothing to a pretrained, fine-tuned model, on text that is on every machine."""

from pathlib import Path
from typing import Annotated

import typer

from genus.cli.options import AsJson


def quickstart(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where everything goes.")] = Path("quickstart"),
    as_json: AsJson = False,
) -> None:
    """Pretrain, fine-tune and try bert/mini in minutes."""
