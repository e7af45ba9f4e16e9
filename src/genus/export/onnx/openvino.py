"""Graphs that OpenVINO computes in the place of ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from genus.errors import GenusError, UsageError
from genus.export.onnx.folder import GRAPH, is_graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMATS = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""What OpenVINO calls the format in which products are computed (its property `INFERENCE_PRECISION_HINT`)."""


def check(folders: Sequence[Path]) -> None:
    """Check that OpenVINO is installed, and that folders hold graphs.

    Raises:
        UsageError: it is not, or one holds weights.
    """
    if find_spec("openvino") is None:
        raise UsageError("--backend openvino needs the library: pip install openvino")
    for folder in folders:
        if not is_graph(folder):
            raise UsageError(f"--backend openvino: {folder} holds no graph; write one: genus export {folder} --format "
                             "onnx --out FOLDER")  # fmt: skip


@dataclass(frozen=True)
class Port:
    """An input or an output of a graph."""

    name: str


class Session:
    """A graph that is compiled by OpenVINO, to be asked as ONNX Runtime's `InferenceSession` is."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        """Compile a folder's graph for the CPU, with as many threads as PyTorch has.

        Args:
            folder: of a graph.
            dtype: float32 or bfloat16, in which products are computed.

        Raises:
            GenusError: OpenVINO cannot compute the graph.
        """
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": FORMATS[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                    "PERFORMANCE_HINT": "LATENCY"}  # fmt: skip
        try:
            self._compiled = openvino.Core().compile_model(str(folder / GRAPH), "CPU", settings)
        except RuntimeError as error:
            raise GenusError(f"{folder / GRAPH}: is no graph that OpenVINO computes "
                             f"({str(error).splitlines()[-1][:99]}); serve it without --backend") from None  # fmt: skip

    def get_inputs(self) -> list[Port]:
        """Return the inputs."""
        return [Port(one.get_any_name()) for one in self._compiled.inputs]

    def get_outputs(self) -> list[Port]:
        """Return the outputs."""
        return [Port(one.get_any_name()) for one in self._compiled.outputs]

    def run(self, names: Sequence[str], given: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return outputs by their names, given the inputs."""
        found = self._compiled(dict(given))
        return [found[name].copy() for name in names]
