"""Quantization: a fine-tuned model as a graph whose weights have 8 or 4 bits, refused where its score falls too far.

Which library computes it, and which choices of that library, was measured: `benchmarks/quantization.py`.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from genus.compress.measure import Table, Worth, worth
from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel, load, save
from genus.export.onnx.folder import is_graph, write
from genus.export.onnx.session import needed
from genus.files import beside
from genus.part import Count, Part
from genus.tasks.predict import objective_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from genus.tasks import Task
    from genus.train.run import Run

DROP = 0.01
"""Most that a score may fall by, where nothing else is said: one percentage point."""


INT8_PRODUCTS = 4
"""ONNX Runtime's `accuracy_level` of products with blocks: activations have 8 bits in them; others are slower."""


class Quantization(Part, ABC):
    """The slot of quantizations."""

    weights: ClassVar[str]
    """Name of the format of its weights, in `graph.json` and on the card."""

    @abstractmethod
    def change(self, source: Path, target: Path) -> None:
        """Write the quantized graph of a float32 graph."""


class DynamicInt8(Quantization):
    """Dynamic quantization: weights of 8 bits with a scale per output, activations of 8 bits with a scale per batch.

    Products are of integers. Embeddings have 8 bits too.

    Source: Zafrir et al. 2019 (Q8BERT), section 3; ONNX Runtime's `quantize_dynamic`, whose weights are symmetric.
    """

    weights: ClassVar[str] = "int8, activations too"

    def change(self, source: Path, target: Path) -> None:
        """Write the quantized graph of a float32 graph."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with _quietly():
            quantize_dynamic(
                source, target, per_channel=True, weight_type=QuantType.QInt8,
                use_external_data_format=source.with_name(f"{source.name}.data").exists(),
            )  # fmt: skip


class BlockWeights(Quantization):
    """Weight-only quantization: weights of 8 or 4 bits with a scale for each block of an output's inputs.

    Activations stay in float32, but for products on CPUs, where each block of them gets 8 bits while it is multiplied.
    Source: ONNX Runtime's `MatMulNBits` and `GatherBlockQuantized`, for embeddings.
    """

    bits: Literal[4, 8] = 8
    block: Count = 32
    """Inputs that share a scale; a power of two from 16 on."""

    @property
    def weights(self) -> str:  # type: ignore[override]
        """The number of bits and the size of blocks."""
        return f"int{self.bits} in blocks of {self.block}"

    def change(self, source: Path, target: Path) -> None:
        """Write the quantized graph of a float32 graph."""
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        from onnxruntime.quantization.onnx_model import ONNXModel

        with _quietly():
            graph = ONNXModel(onnx.load(source))
            graph.replace_gemm_with_matmul()  # the only product that has blocks
            maker = MatMulNBitsQuantizer(
                graph.model, bits=self.bits, block_size=self.block, is_symmetric=True, accuracy_level=INT8_PRODUCTS,
                op_types_to_quantize=("MatMul", "Gather"), quant_axes=(("MatMul", 0), ("Gather", 1)),
            )  # fmt: skip
            maker.process()
            big = source.with_name(f"{source.name}.data").exists()
            maker.model.save_model_to_file(str(target), use_external_data_format=big)


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was written, and what it is worth."""

    folder: Path
    weights: str
    before: Worth | None
    """Of the model as it was; None where there was no table."""
    after: Worth | None
    metric: str | None
    """The metric that decided."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return {
            "folder": str(self.folder),
            "weights": self.weights,
            "metric": self.metric,
            "before": self.before and self.before.to_json(),
            "after": self.after and self.after.to_json(),
        }


def quantize(
    source: Path,
    out: Path,
    choice: Quantization,
    *,
    run: Run,
    data: Path | None = None,
    task: Task | None = None,
    max_drop: float | None = None,
    replaced: Collection[Path] = (),
) -> Quantized:
    """Write the quantized model of a folder, unless its score falls by more than `max_drop`.

    Args:
        source: the folder of a fine-tuned model.
        out: where to write.
        choice: how to quantize.
        run: device and precision of the model as it is.
        data: a table of labeled rows on which both are measured; None: neither is.
        task: names columns and metrics; None: the usual ones of what the model learned.
        max_drop: most that the first metric may be worse by, in its units; None: `DROP`, where there is a table.
        replaced: files of an older model in `out`, relative to it, that do not stay.

    Raises:
        GenusError: the model was not fine-tuned, or cannot be a graph; the score falls too far, and nothing is written.
        UsageError: a drop without a table, a folder that is quantized already, a library that is not installed.
    """
    needed("onnx", "onnxscript", "onnxruntime")
    if data is None and max_drop is not None:
        raise UsageError("--max-drop: the score falls on a table of labeled rows; name one with --data")
    if is_graph(source):
        raise UsageError(f"{source}: is a graph already, and what was rounded cannot be rounded anew; quantize the "
                         "folder that it was made of")  # fmt: skip
    model = load(source)
    _check_fine_tuned(model, source)
    table = None if data is None else Table.of(data, model, task)
    before = None if table is None else worth(model, source, table, run)
    after = None
    with TemporaryDirectory(prefix="genus-") as work:
        trial = Path(work) / "model"
        write(trial, model, save, change=choice.change, weights=choice.weights, notes=_notes(choice))
        if table is not None and before is not None:
            after = worth(load(trial), trial, table, run)
            _check_drop(source, table, before, after, DROP if max_drop is None else max_drop)
        with beside(out, replaced) as made:
            shutil.copytree(trial, made, dirs_exist_ok=True)
    return Quantized(out, choice.weights, before, after, None if table is None else table.main.name)


def _check_fine_tuned(model: LoadedModel, source: Path) -> None:
    """Raise a GenusError for a model without a task's head, whose answers nobody could compare."""
    try:
        objective_of(model)
    except GenusError:
        raise GenusError(
            f"{source}: has no head of a task, and only models of tasks are quantized; run `genus finetune` first, or "
            "`genus export --format onnx` for its hidden states"
        ) from None


def _check_drop(source: Path, table: Table, before: Worth, after: Worth, most: float) -> None:
    """Raise a GenusError if the first metric became worse by more than `most`."""
    name = table.main.name
    old, new = before.scores[name], after.scores[name]
    drop = table.main.rank(old) - table.main.rank(new)
    if old is None or new is None:
        raise GenusError(f"{table.path}: {name} is undefined for its labels, so that no drop can be told; take another "
                         "table or --metric; nothing is written")  # fmt: skip
    if drop > most:
        raise GenusError(f"{source}: {name} falls from {old:.4f} to {new:.4f}, by more than --max-drop {most:g}; "
                         "nothing is written; take more bits, or allow more")  # fmt: skip


def _notes(choice: Quantization) -> str:
    return f"Quantized: the weights are {choice.weights}."


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence ONNX Runtime's quantizer, which recommends its preprocessing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
