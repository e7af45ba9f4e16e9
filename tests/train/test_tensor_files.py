"""Pieces on disk: what several processes wrote is read as a whole, and in other pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor, nn

from genus.optim.adafactor import Adafactor, AdafactorOptimizer
from genus.optim.pieces import Division, Piece, set_piece
from genus.train.snapshot import MODEL, OPTIMIZER, restore, settings_of, taken_together
from genus.train.tensor_files import SavedTensors

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = {"matrix": torch.arange(15.0).view(5, 3), "vector": torch.arange(4.0), "number": torch.tensor(7.0)}
STATE: dict[str, dict[str, Any]] = {
    "matrix": {"updates": 3, "rows": torch.arange(5.0)[:, None], "columns": torch.arange(3.0)[None]},
    "vector": {"updates": 3, "second": torch.arange(4.0) + 1},
}
AXES = {"rows": 0, "columns": 1}
"""The axis along which each of the averages is long."""
GROUP = cast("Any", None)


class Holder:
    """Stands for a learner: what one of several processes holds of the weights, divided along an axis."""

    def __init__(self, place: int, parts: int, axis: int) -> None:
        self.weights = {name: nn.Parameter(tensor.clone()) for name, tensor in WEIGHTS.items()}
        divided = [name for name in ("matrix", "vector") if WEIGHTS[name].ndim > axis]
        for name in divided:
            division = Division(axis, WEIGHTS[name].shape[axis], GROUP, place, parts)
            own = WEIGHTS[name].narrow(axis, division.first, division.held).clone()
            self.weights[name] = nn.Parameter(own)
            set_piece(self.weights[name], Piece(tuple(WEIGHTS[name].shape), (division,)))
        self.optimizer = AdafactorOptimizer([{"params": list(self.weights.values()), "lr": 1.0}], Adafactor(lr=1.0))
        for name, values in STATE.items():
            self.optimizer.state[self.weights[name]] = {
                key: self._cut(name, key, value, division, axis) if name in divided else value
                for key, value in values.items()
            }

    def _cut(self, name: str, key: str, value: Any, division: Division, axis: int) -> Any:
        division = Division(axis, WEIGHTS[name].shape[axis], GROUP, division.place, division.parts)
        if not isinstance(value, Tensor) or AXES.get(key, axis) != axis:
            return value
        return value.narrow(axis, division.first, division.held).clone()

    def held(self) -> dict[str, Tensor]:
        return dict(self.weights)

    def empty(self) -> Holder:
        """Return the holder with weights of 0 and an optimizer without state."""
        for weight in self.weights.values():
            weight.data.zero_()
        self.optimizer.state.clear()
        return self


def write(folder: Path, parts: int, axis: int) -> None:
    for place in range(parts):
        holder = Holder(place, parts, axis)
        for name, file in taken_together(cast("Any", holder), holder.optimizer, {}, place, parts).items():
            if file.tensors:
                file.write(folder / name)


def same(found: Holder, wanted: Holder) -> None:
    for name, weight in wanted.weights.items():
        assert torch.equal(found.weights[name], weight), name
        own, other = found.optimizer.state[found.weights[name]], wanted.optimizer.state[weight]
        assert own.keys() == other.keys()
        for key, value in other.items():
            assert own[key].equal(value) if isinstance(value, Tensor) else own[key] == value, (name, key)


@pytest.mark.parametrize(("parts", "axis"), [(1, 0), (2, 0), (3, 0), (8, 0), (2, 1)])
@pytest.mark.parametrize(("others", "other"), [(1, 0), (2, 0), (3, 0), (2, 1)])
def test_pieces_are_read_in_other_pieces(parts: int, axis: int, others: int, other: int, tmp_path: Path) -> None:
    """With 8 processes some hold nothing; averages over the divided axis are written once."""
    write(tmp_path, parts, axis)
    kept = settings_of(Holder(0, parts, axis).optimizer)
    for place in range(others):
        holder = Holder(place, others, other).empty()
        with SavedTensors(tmp_path, MODEL) as model, SavedTensors(tmp_path, OPTIMIZER) as moments:
            assert model.shapes == {name: tuple(tensor.shape) for name, tensor in WEIGHTS.items()}
            restore(cast("Any", holder), holder.optimizer, model, moments, kept)
        same(holder, Holder(place, others, other))


def test_a_missing_piece_is_told(tmp_path: Path) -> None:
    write(tmp_path, 3, 0)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with SavedTensors(tmp_path, MODEL) as model, pytest.raises(ValueError, match="matrix is not there as a whole"):
        model.whole("matrix")
