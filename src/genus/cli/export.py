"""The command `export`: what a model is written as, by format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.folders import model_folder, model_name, read_model
from genus.cli.options import AsJson, BaseFolder, Folder, Out
from genus.cli.output import columns, document
from genus.errors import UsageError, near

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel

Differences = Mapping[str, float]
"""How far what was written differs from the model, by output."""


@dataclass(frozen=True)
class Wanted:
    """What is to be written, and where."""

    model: Path
    base: Path | None
    merge: bool
    out: Path

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return model_folder(self.model)

    @property
    def name(self) -> str:
        """The model's name in services: letters, digits, dots, dashes and underscores."""
        return "".join(
            one if one.isascii() and (one.isalnum() or one in ".-_") else "_" for one in model_name(self.model)
        )

    def read(self) -> "LoadedModel":
        """Return the model.

        Raises:
            UsageError: it is an adapter that is not to be merged.
        """
        from genus.export.adapted.folder import is_adapter, merged

        source = read_model(self.model, self.base)
        if self.merge:
            return merged(source)
        if source.recipe.finetuning.adaptation is not None and is_adapter(self.folder):
            raise UsageError(f"{self.model}: is an adapter, in the layout of peft already; give --merge for a plain "
                             "model")  # fmt: skip
        return source


def _safetensors(wanted: Wanted) -> Differences:
    from genus.export.checked import write_checked
    from genus.export.files import replaced_by_model
    from genus.run_folder import RunFolder

    old = replaced_by_model(wanted.out)
    source = wanted.read()
    with RunFolder(wanted.out).lock():
        return write_checked(wanted.out, source, wanted.model, old)


def _onnx(wanted: Wanted) -> Differences:
    from genus.export.files import replaced_by_model
    from genus.export.folder import save
    from genus.export.onnx.folder import write
    from genus.run_folder import RunFolder

    old = replaced_by_model(wanted.out)
    source = wanted.read()
    with RunFolder(wanted.out).lock():
        return write(wanted.out, source, save, replaced=old)


def _open_clip(wanted: Wanted) -> Differences:
    from genus.export.files import replaced_by_open_clip
    from genus.export.open_clip.folder import write
    from genus.run_folder import RunFolder

    old = replaced_by_open_clip(wanted.out)
    source = wanted.read()
    with RunFolder(wanted.out).lock():
        return write(wanted.out, source.recipe, source.learner, source.tokenizer, old)


def _triton(wanted: Wanted) -> Differences:
    from genus.cli.serve import needed
    from genus.export.onnx.session import needed as needed_of_graphs

    needed()
    needed_of_graphs("onnxruntime")
    from genus.serve.triton.repository import write

    return write(wanted.out, wanted.name, wanted.read(), wanted.folder)


def _docker(wanted: Wanted) -> Differences:
    from genus.serve.container import write

    return write(wanted.out, wanted.name, wanted.read(), wanted.folder)


FORMATS: dict[str, Callable[[Wanted], Differences]] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "open-clip": _open_clip,
    "triton": _triton,
    "docker": _docker,
}


def export(
    model: Folder,
    out: Out,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="safetensors; onnx: a graph for ONNX Runtime in the place of weights; open-clip: OpenCLIP's folder; "
            "triton: that graph, and a model that takes texts, in a repository of Triton; docker: the model with a "
            "Dockerfile that serves it.",
        ),
    ] = "safetensors",
    merge: Annotated[
        bool, typer.Option("--merge", help="Of an adapter: fold it into its base, and write a plain model.")
    ] = False,
    base: BaseFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write a model in the Hugging Face layout, or in ours where no class of theirs fits; or for a service.

    Refused unless it gives the same logits when it is read again. Only a model that genus wrote is written over.
    """
    from genus.export.native import is_native
    from genus.files import read_json

    if format not in FORMATS:
        raise UsageError(f"--format: there is no format {format!r:.40}.{near(format, [*FORMATS])}")
    differences = FORMATS[format](Wanted(model, base, merge, out))
    config = read_json(out / "config.json") if format == "safetensors" else {}
    if as_json:
        document({"folder": out, "model_type": config.get("model_type", format), "differences": differences})
        return
    told = [[name, f"{value:.1e}"] for name, value in differences.items()]
    if told:
        print(columns(["output", "relative difference"], told))
    print(f"written to {out}{', which only genus reads' if config and is_native(config) else ''}")
