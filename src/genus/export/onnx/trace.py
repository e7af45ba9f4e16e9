"""A model as an ONNX graph: from padded texts to hidden states, or to the outputs of one head.

Legend: N texts, L tokens of the longest.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from genus.batch import IGNORE, Batch, Packed, Targets
from genus.errors import GenusError, UsageError
from genus.export.onnx.session import needed
from genus.objectives import answering
from genus.objectives.supervised import FineTuned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.objectives import Head, Learner

OPSET = 18
"""Version of ONNX's operators: PyTorch's exporter writes this one, and converts to others."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Names of the inputs (N, L), those of transformers."""
NAMES = {"values": "logits", "vectors": "sentence_embedding"}
"""Names of outputs, those of transformers and sentence-transformers, by ours where they are others."""
STATES = "last_hidden_state"
"""Name of the hidden states (N, L, H), that of transformers."""
EXAMPLE = (2, 12)
"""N and L of the texts with which the network is traced; any others may follow."""
MOST = 2_000_000_000
"""Bytes of weights up to which they lie within the graph: protobuf's limit is 2 GiB for all."""


@dataclass(frozen=True)
class Asked:
    """What a graph computes: the outputs of a head, or hidden states."""

    learner: Learner
    head: str | None
    """Name of the head; None: hidden states."""
    last: bool
    """Whether the last token of a text stands for the whole of it, in place of the first."""

    @property
    def outputs(self) -> dict[str, str]:
        """The head's names of the outputs, by the graph's, which are those of transformers."""
        if self.head is None:
            return {STATES: STATES}
        ids = torch.ones(EXAMPLE, dtype=torch.long)
        found = self.found(ids, ids, torch.zeros_like(ids))
        return {NAMES.get(name, name): name for name in found}

    def found(self, ids_NL: Tensor, mask_NL: Tensor, segments_NL: Tensor) -> dict[str, Tensor]:
        """Return the outputs by the names that the head has for them, (N, ...) or (N, L, ...)."""
        with answering(self.learner):
            return Graph(self)._by_name(ids_NL, mask_NL, segments_NL)


def asked(model: LoadedModel) -> Asked:
    """Return what the graph of a model computes.

    Raises:
        UsageError: the model reads a source, or its head answers something else than a text's, a token's or a span's
            outputs.
    """
    name, network = model.recipe.name, model.recipe.model
    if network.streams != {"tokens"}:
        raise UsageError(f"{name}: reads a source and writes, which no single graph does; ONNX is for encoders and for "
                         "decoders that were fine-tuned")  # fmt: skip
    last = bool(model.tokenizer.vocabulary.whole(2))
    tasks = [one for one in model.recipe.objectives if isinstance(one, FineTuned) and one.name in model.learner.heads]
    if not tasks:
        return Asked(model.learner, None, last)
    (task,) = tasks[:1]
    if task.symmetric or not task.of_one_sequence:
        raise UsageError(f"{name}: {task.name} is told of several sequences, or written, which no single graph does; "
                         "ONNX is for classification, regression, tagging, spans and hidden states")  # fmt: skip
    return Asked(model.learner, task.name, last)


class Graph(nn.Module):
    """The module that is traced: padded texts in, outputs out. Texts may be padded on either side."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self.network, self.head = asked.learner.network, None
        if asked.head is not None:
            self.head = cast("Head", asked.learner.heads[asked.head])
        self.last = asked.last

    def forward(self, ids_NL: Tensor, mask_NL: Tensor, segments_NL: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the outputs, in their order; segments are 0 where they are left out."""
        segments_NL = torch.zeros_like(ids_NL) if segments_NL is None else segments_NL
        return tuple(self._by_name(ids_NL, mask_NL, segments_NL).values())

    def _by_name(self, ids_NL: Tensor, mask_NL: Tensor, segments_NL: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name."""
        count, length = ids_NL.shape
        packed = _packed(ids_NL, mask_NL, segments_NL)
        batch = Batch({"tokens": packed}, {})
        states = self.network(batch)
        if self.head is None:
            return {STATES: torch.unflatten(states["tokens"], 0, (count, length))}
        whole = self.head.per == "sequence"
        index = self._whole(mask_NL) if whole else torch.arange(count * length)
        targets = Targets(index, torch.full_like(index, IGNORE))
        found = self.head.outputs(self.network, states, Batch(batch.streams, {self.head.target: targets}))
        return found if whole else {name: torch.unflatten(one, 0, (count, length)) for name, one in found.items()}

    def _whole(self, mask_NL: Tensor) -> Tensor:
        """Return the index (N,) on the packed axis of the token that stands for the whole of each text."""
        count, length = mask_NL.shape
        place = length - 1 - mask_NL.flip(1).argmax(1) if self.last else mask_NL.argmax(1)
        return torch.arange(count) * length + place


def _packed(ids_NL: Tensor, mask_NL: Tensor, segments_NL: Tensor) -> Packed:
    """Return padded texts as rows of packed sequences: entry 2 n + 1 is text n, those between are padding."""
    count, length = ids_NL.shape
    live_NL = mask_NL != 0
    rows_N = torch.arange(count)
    sequence = torch.where(live_NL, (2 * rows_N + 1)[:, None].expand(count, length), -1).flatten()
    positions_NL = (live_NL.long().cumsum(1) - 1).clamp(min=0)
    first_N = rows_N * length + live_NL.long().argmax(1)
    ends = torch.stack([first_N, first_N + live_NL.sum(1)], 1).flatten()
    offsets = torch.cat([ends.new_zeros(1), ends, ends.new_zeros(1) + count * length])
    facts = {"segment": segments_NL.flatten()}
    return Packed(ids_NL.flatten(), positions_NL.flatten(), sequence, offsets, length, 0, facts)


def write_graph(asked: Asked, path: Path, name: str, *, segmented: bool) -> None:
    """Write the graph of a learner in float32 to a file, with dynamic N and L; weights over 2 GB go beside it.

    Args:
        asked: what it computes.
        path: the file.
        name: name of the model, for messages.
        segmented: whether segments are an input; else they are all 0.

    Raises:
        GenusError: the network cannot be traced, as where what it computes depends on lengths outside of tensors.
        UsageError: the libraries are not installed.
    """
    needed("onnx", "onnxscript")
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    ids, mask = (torch.ones(EXAMPLE, dtype=torch.long) for _ in range(2))
    mask[1, EXAMPLE[1] // 2 :] = 0
    given = (ids, mask, torch.zeros_like(ids)) if segmented else (ids, mask)
    size = sum(tensor.nbytes for tensor in asked.learner.state_dict().values())
    try:
        with answering(asked.learner), _quietly():
            made = torch.onnx.export(
                Graph(asked).eval(),
                given,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(dynamic,) * len(given),
                input_names=INPUTS[: len(given)],
                output_names=list(asked.outputs),
                verbose=False,
            )
            assert made is not None
            made.save(path, external_data=size > MOST)
    except OSError:
        raise
    except Exception as error:  # PyTorch raises errors of many types, with messages of many lines
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
        raise GenusError(
            f"{name}: cannot be written as a graph, which must compute the same for texts of any lengths "
            f"({why[:120]}); take a member with full attention, such as bert or roberta"
        ) from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence PyTorch's exporter, which prints graphs, progress and notes."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
