"""All that runs allow to be said: laws of one and two variables, and how to share out compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError
from genus.scale.allocation import ALIKE, Allocation, from_budgets, from_frontier, from_law, frontier
from genus.scale.fit import Fit, fit
from genus.scale.laws import Chinchilla, Kaplan, PowerLaw, Saturating
from genus.scale.points import notices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.scale.laws import Law, Of
    from genus.scale.points import Measured, Point


@dataclass
class Report:
    """What was fitted, and why the rest was not."""

    runs: int
    notices: list[str]
    laws: dict[str, Fit] = field(default_factory=dict)
    allocations: dict[str, Allocation] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "runs": self.runs,
            "notices": self.notices,
            "laws": {name: one.to_json() for name, one in self.laws.items()},
            "allocations": {name: vars(one) for name, one in self.allocations.items()},
            "missing": self.missing,
        }


def report(runs: Sequence[Measured]) -> Report:
    """Fit every law that runs allow.

    L(N) is fitted to the least loss of each size, L(D) to that of each amount of data, L(C) to the frontier of all
    curves; the joint laws to the last evaluation of every run that has ended.
    """
    ended = [run for run in runs if run.finished]
    points = [run.last for run in ended]
    made = Report(len(ended), notices(runs))
    laws: dict[str, tuple[Law, Callable[[], Sequence[Point]]]] = {
        "L(N)": (PowerLaw(of="parameters"), lambda: least(points, "parameters")),
        "L(D)": (PowerLaw(of="tokens"), lambda: least(points, "tokens")),
        "L(C)": (PowerLaw(of="flops"), lambda: frontier(ended, bins=100)),
        "L(N), what remains": (Saturating(of="parameters"), lambda: least(points, "parameters")),
        "L(N, D), Chinchilla": (Chinchilla(), lambda: points),
        "L(N, D), Kaplan": (Kaplan(), lambda: points),
    }
    for name, (law, taken) in laws.items():
        made.missing |= _kept(made.laws, name, lambda law=law, taken=taken: fit(law, taken()))  # type: ignore[misc]
    shares: dict[str, Callable[[], Allocation]] = {
        "1, frontier of the curves": lambda: from_frontier(ended),
        "2, minima at each budget": lambda: from_budgets(ended),
    }
    if "L(N, D), Chinchilla" in made.laws:
        shares["3, law"] = lambda: from_law(made.laws["L(N, D), Chinchilla"])
    for name, share in shares.items():
        made.missing |= _kept(made.allocations, name, share)
    return made


def best_law(runs: Sequence[Measured], law: Law | None = None) -> Fit:
    """Return the fit by which runs are predicted: the law that is asked for, else Chinchilla's, else L(N) or L(D).

    Raises:
        GenusError: there are too few runs for any.
    """
    points = [run.last for run in runs if run.finished]
    if law is not None:
        return fit(law, points if len(law.inputs) > 1 else least(points, law.inputs[0]))
    reasons = []
    for one in (Chinchilla(), Saturating(of="parameters"), PowerLaw(of="parameters"), PowerLaw(of="tokens")):
        try:
            return best_law(runs, one)
        except GenusError as error:
            reasons.append(str(error))
    raise GenusError(reasons[-1])


def least(points: Sequence[Point], of: Of) -> list[Point]:
    """Return, of points that are about the same in one respect, that with the least loss."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: float(getattr(point, of))):
        if found and getattr(point, of) <= getattr(found[-1], of) * (1 + ALIKE):
            found[-1] = min(found[-1], point, key=lambda one: one.loss)
        else:
            found.append(point)
    return found


def _kept(into: dict[str, Any], name: str, make: Callable[[], Any]) -> dict[str, str]:
    """Put what is made into a table; return why not by its name."""
    try:
        into[name] = make()
    except GenusError as error:
        return {name: str(error)}
    return {}
