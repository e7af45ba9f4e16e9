"""A graph that ONNX Runtime computes, as a learner that answers.

Legend: N texts, L tokens of the longest, M targets, K candidates of a target.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from genus.errors import GenusError, UsageError
from genus.objectives import Learner

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.batch import Batch, Packed
    from genus.objectives import Prediction

PROVIDERS = ["CPUExecutionProvider"]
"""Where ONNX Runtime computes: quantized graphs are for CPUs."""


def needed(*libraries: str) -> None:
    """Check that libraries of the extra `export` are installed.

    Raises:
        UsageError: one is not.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise UsageError(f"ONNX graphs need the library {library}: pip install 'genus[export]'")


def session(path: Path) -> Any:
    """Return ONNX Runtime's session of a graph, with as many threads as PyTorch has.

    Raises:
        GenusError: the file is no graph that it can compute.
        UsageError: the library is not installed.
    """
    needed("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3  # errors: it warns of every constant that it folds
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
    except Exception as error:  # its errors have types of their own, which no public name has
        raise GenusError(f"{path}: is damaged, or no graph that ONNX Runtime computes "
                         f"({str(error).splitlines()[0][:120]})") from None  # fmt: skip


def computed(session: Any, ids_NL: NDArray[np.int64], mask_NL: NDArray[np.int64], segments_NL: NDArray[np.int64]
             ) -> dict[str, NDArray[np.float32]]:  # fmt: skip
    """Return the outputs of a graph by name, (N, ...) or (N, L, ...)."""
    given = {"input_ids": ids_NL, "attention_mask": mask_NL, "token_type_ids": segments_NL}
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {one.name: given[one.name] for one in session.get_inputs()})
    return dict(zip(names, found, strict=True))


class GraphLearner(Learner):
    """A learner that answers by a graph: its weights lie in ONNX Runtime, and cannot be trained, saved or changed.

    Its answers are those of one head, on the CPU in float32.
    """

    def __init__(self, session: Any, head: str, per_token: bool, names: dict[str, str]) -> None:
        nn.Module.__init__(self)
        self.session, self.head, self.per_token, self.names = session, head, per_token, names
        self.heads, self.weights = nn.ModuleDict({head: nn.Identity()}), {}
        self.register_buffer("place", torch.zeros(()), persistent=False)

    def outputs(self, batch: Batch, *, rounded: bool = False, **given: Any) -> dict[str, dict[str, Tensor]]:
        """Return the outputs of the head at the batch's targets (M, ...), or (M, K) of K candidates."""
        packed, index = batch.tokens.on_cpu(), batch.targets[self.head].index.cpu()
        found = computed(self.session, *padded(packed))
        row_T, place_T = torch.from_numpy(row_of(packed)), packed.positions
        at = index.clamp(min=0)
        made = {}
        for name, value in found.items():
            whole = torch.from_numpy(value)
            asked = whole[row_T[at], place_T[at]] if self.per_token else whole[row_T[at]]
            if index.dim() == 2:  # candidates that are not there score nothing, vectors that are not there are zero
                gone = index < 0 if self.per_token else (index < 0)[..., None]
                asked = asked.masked_fill(gone, float("-inf") if self.per_token else 0.0)
            made[self.names[name]] = asked
        return {self.head: made}

    def forward(self, batch: Batch, **given: Any) -> NoReturn:
        """Raise a GenusError: a graph has outputs only."""
        raise _fixed()

    def predicting(self, *ways: Prediction) -> None:
        """Return None: a graph predicts no tokens of a text."""

    def auxiliary_models(self) -> NoReturn:
        """Raise a GenusError: nothing lies within a graph."""
        raise _fixed()

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise a GenusError: the weights lie in the graph."""
        raise _fixed()

    @property
    def network(self) -> NoReturn:  # type: ignore[override]
        """Raise a GenusError: there is no network of modules."""
        raise _fixed()


def _fixed() -> GenusError:
    return GenusError("this folder holds a graph of ONNX Runtime, which answers (genus evaluate), and cannot be "
                      "trained, changed or exported; take the folder it was made of")  # fmt: skip


def padded(packed: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids, mask and segments (N, L) of packed sequences, padded on the right."""
    spans = packed.spans()
    longest = max(end - start for start, end in spans)
    ids_NL, mask_NL, segments_NL = (np.zeros((len(spans), longest), np.int64) for _ in range(3))
    segments = packed.facts.get("segment")
    for row, (start, end) in enumerate(spans):
        ids_NL[row, : end - start] = packed.ids[start:end].numpy()
        mask_NL[row, : end - start] = 1
        if segments is not None:
            segments_NL[row, : end - start] = segments[start:end].numpy()
    return ids_NL, mask_NL, segments_NL


def row_of(packed: Packed) -> NDArray[np.int64]:
    """Return (T,) the number of the sequence that each token is of, in the order of `padded`; 0 for padding."""
    found = np.zeros(len(packed.ids), np.int64)
    for row, (start, end) in enumerate(packed.spans()):
        found[start:end] = row
    return found
