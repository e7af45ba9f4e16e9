"""Odd values of every choice of a few members: refused in one line as the row is read, or planned and built."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from genus import catalog
from genus.cost import cost
from genus.errors import GenusError, UsageError
from genus.model.skeleton import skeleton
from genus.part import leaves
from genus.pipeline import refuse_too_large
from genus.train.run import Run
from small import shrunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.part import Part

VALUES: list[object] = [0, -1, 1, 3, 10**9, 10**30, 10**400, 1e308, math.inf, math.nan, 1e-300, 0.37]
VALUES += ["x", "", True, None, [], [0], {}, {"kind": "x"}]
FREE = ("published", "name", "finetuning", "kind")
ROWS = ["bert/tiny", "electra/tiny", "xlnet/tiny"]
ROWS += [pytest.param(name, marks=pytest.mark.slow) for name in catalog.names() if name not in ROWS]  # type: ignore[misc]


def odd(part: Part) -> Iterator[tuple[str, Part]]:
    """Yield the parts that one odd value leads to, with what was changed; the others are refused in one line."""
    for path, _ in leaves(part.to_json()):
        for value in () if path.startswith(FREE) else VALUES:
            try:
                made = part.override(path, value)
            except UsageError as error:
                line = str(error)
            else:
                yield f"{path}={value!r:.40}", made
                continue
            assert "\n" not in line, (path, value)
            assert path.split(".")[0] in line, (path, value)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_refused_or_built(name: str) -> None:
    for told, recipe in odd(shrunk(catalog.load(name))):
        try:
            refuse_too_large(recipe)
        except GenusError:
            continue
        try:
            cost(recipe)
            with skeleton():
                recipe.optimizer.build(recipe.learner())
            factors = [recipe.schedule.factor(spent) for spent in (0.0, 0.5, 1.0)]
        except Exception as error:
            if isinstance(error, UsageError) and "\n" not in str(error):
                continue  # what is known only when it is built, as the states of a teacher
            pytest.fail(f"{told}: {type(error).__name__}: {error}")
        assert all(map(math.isfinite, factors)), told


def test_settings_of_a_run_are_refused_or_taken() -> None:
    taken = [told for told, _ in odd(Run())]
    assert "evaluate_batches=1000000000" in taken
    assert "evaluate_batches=1000000000000000000000000000000" not in taken
