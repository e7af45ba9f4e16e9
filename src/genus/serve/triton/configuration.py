"""The configuration of a model of Triton, `config.pbtxt`: the message `ModelConfig` in protobuf's text form.

A model with `max_batch_size` has shapes of which `dims` leaves out the first axis, that of the batch.

Source: triton-inference-server/common, protobuf/model_config.proto (fields, types); server,
docs/user_guide/model_configuration.md ("Inputs and Outputs", "Datatypes", "Instance Groups") and batcher.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from genus.export.files import MARK
from genus.serve.tensors import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genus.serve.tensors import Tensor

FILE = "config.pbtxt"
DELAY = 100
"""Microseconds that a request waits for others of its batch (batcher.md, "Delayed Batching", its example). There are
no preferred sizes of batches, as that page advises for all but TensorRT's profiles."""
LABELS = "labels.txt"
"""The file of the labels, a line each, of Triton's extension for classification."""
OF_GRAPHS = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
"""Types by the names of ONNX Runtime."""
OF_TENSORS = {TEXT: "TYPE_STRING", "INT64": "TYPE_INT64", "FP32": "TYPE_FP32"}
"""Types by the names of the Open Inference Protocol."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output."""

    name: str
    kind: str
    dims: tuple[int, ...]
    """The shape without the batch; -1: any size."""
    optional: bool = False
    labeled: bool = False
    """Whether its last axis is that of the labels."""

    @classmethod
    def of_graph(cls, value: Any, *, labeled: bool = False) -> Port:
        """Return an input or an output of ONNX Runtime's session of a graph."""
        dims = tuple(size if isinstance(size, int) else -1 for size in value.shape[1:])
        return cls(value.name, OF_GRAPHS[value.type], dims, labeled=labeled)

    @classmethod
    def of_tensor(cls, tensor: Tensor) -> Port:
        """Return a tensor of the Open Inference Protocol; what it has once for each text has one axis here, of 1."""
        dims = tensor.shape[1:] or (1,)
        known = tensor.parameters
        return cls(tensor.name, OF_TENSORS[tensor.datatype], dims, bool(known.get("optional")), "labels" in known)

    def __str__(self) -> str:
        """Return it as it stands in the file."""
        dims = ", ".join(map(str, self.dims))
        optional = " optional: true" if self.optional else ""
        labels = f' label_filename: "{LABELS}"' if self.labeled else ""
        return f'  {{ name: "{self.name}" data_type: {self.kind} dims: [ {dims} ]{optional}{labels} }}'


def configuration(
    name: str, computed: str, most: int, inputs: Iterable[Port], outputs: Iterable[Port], instances: str
) -> str:
    """Return the configuration of a model, in batches that the server makes of requests.

    Args:
        name: of the model, and of its folder.
        computed: by what, as `platform` or `backend` says it.
        most: texts of a batch.
        inputs: of the model.
        outputs: of the model.
        instances: the fields of its only instance group.
    """
    given, made = (",\n".join(map(str, ports)) for ports in (inputs, outputs))
    return f"""{MARK} {version("genus")}
name: "{name}"
{computed}
max_batch_size: {most}
input [
{given}
]
output [
{made}
]
dynamic_batching {{ max_queue_delay_microseconds: {DELAY} }}
instance_group [ {{ {instances} }} ]
"""
