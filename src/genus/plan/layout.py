"""Layouts: how devices share the work on a model, and which of them fit its sizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from genus.part import leaves

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.recipe import Recipe

STAGES = (0, 1, 2, 3)
"""ZeRO's stages; 0: every group of devices has all weights, gradients and moments."""
DIVIDED = ("heads", "key_heads", "size")
"""Choices of attention and feed-forward networks that tensor parallelism divides."""
VOCABULARY = 128
"""Megatron-LM pads a vocabulary to a multiple of this for each device (arguments.py: make-vocab-size-divisible-by)."""


@dataclass(frozen=True, order=True)
class Layout:
    """How devices share the work; of two that are as fast, the lesser is the simpler one."""

    pipeline: int = 1
    """Stages of a pipeline of layers, which genus does not train with: for what others report."""
    tensor: int = 1
    """Devices that split each matrix."""
    stage: int = 0
    """ZeRO's stage: what the groups that share the data divide among themselves."""
    recompute: bool = False
    """Whether a layer's activations are computed again in the backward pass."""
    data: int = 1
    """Groups of devices, each with micro-batches of its own."""
    sequence: bool = False
    """Whether tokens are split too, outside of sub-layers."""

    @property
    def devices(self) -> int:
        """Number of devices."""
        return self.pipeline * self.tensor * self.data

    @property
    def in_words(self) -> str:
        """The layout in a few words."""
        kinds = ("replicated", "moments sharded", "moments and gradients sharded", "all sharded")
        words = [f"{kinds[self.stage]} over {self.data}" if self.data > 1 else "one group"]
        if self.tensor > 1:
            words.insert(0, f"{'matrices and tokens' if self.sequence else 'matrices'} split in {self.tensor}")
        if self.pipeline > 1:
            words.insert(0, f"layers in a pipeline of {self.pipeline}")
        return ", ".join([*words, *(["layers computed again"] if self.recompute else [])])

    def settings(self, vocab_rows: int) -> list[str]:
        """Return the options of `genus pretrain` under `torchrun` that say this layout."""
        sharded = ["Sharded", f"stage={self.stage}"] if self.stage else ["Replicated"]
        chosen = {"parallel": sharded[0]} if self.tensor == 1 else {"parallel": "TensorParallel"}
        if self.tensor > 1:
            chosen |= {"parallel.size": str(self.tensor), "parallel.data": sharded[0]}
        if self.sequence:
            chosen["parallel.sequence"] = "true"
        if self.stage:
            place = "parallel" if self.tensor == 1 else "parallel.data"
            chosen[f"{place}.stage"] = str(self.stage)
        if self.recompute:
            chosen["recompute"] = "layers"
        told = [f"--runtime {name}={value}" for name, value in chosen.items() if (name, value) != _DEFAULT]
        if vocab_rows % self.tensor:
            told.append(f"--set padded_vocab_size={padded(vocab_rows, self.tensor)}")
        return told


_DEFAULT = ("parallel", "Replicated")


def padded(vocab_rows: int, tensor: int) -> int:
    """Return the rows of a vocabulary that can be divided, as Megatron-LM pads it."""
    unit = VOCABULARY * tensor
    return -(-vocab_rows // unit) * unit


def layouts(recipe: Recipe, count: int, machine: int, batch: int, pipelines: Sequence[int] = (1,)) -> Iterator[Layout]:
    """Yield the layouts of so many devices that a recipe's sizes allow.

    Args:
        recipe: whose heads and inner sizes are divided.
        count: number of devices.
        machine: devices of a machine, beyond which no matrix is split.
        batch: rows of a step, which the groups must divide.
        pipelines: lengths of pipelines to consider.
    """
    sizes = {value for path, value in leaves(recipe.model.to_json()) if path.rpartition(".")[2] in DIVIDED}
    divided = [size for size in sizes if isinstance(size, int)]
    for pipeline in pipelines:
        for tensor in range(1, min(machine, count // pipeline) + 1):
            data, rest = divmod(count, pipeline * tensor)
            if rest or batch % data or any(size % tensor for size in divided):
                continue
            for stage in STAGES if data > 1 else STAGES[:1]:
                for recompute, sequence in product((False, True), (False, True) if tensor > 1 else (False,)):
                    yield Layout(pipeline, tensor, stage, recompute, data, sequence)
