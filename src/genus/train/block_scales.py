"""Gradient scales of residual branches in a training step, in place of a loss scale."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from genus.errors import UsageError
from genus.model.gradient_scale import scale_gradients, scaled_branches
from genus.train.gradient_scaling import SkippingScale, multiply

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from genus.model.gradient_scale import GradientScale
    from genus.objectives import Learner, Sums
    from genus.train.parallel.local import LocalParameters
    from genus.train.step import StepResult
    from genus.train.world import World


class BlockScales(SkippingScale):
    """A gradient scale for every residual branch in float16; branches that share weights share a scale.

    An update is skipped if any gradient is not finite; then the scales of the branches whose own gradients were not
    finite fall, and those of all others grow. All processes decide alike. A run ends when every update was skipped for
    as long as it takes a scale to fall from its first value to the smallest.

    Source: Ramesh et al. 2021 (arXiv:2102.12092), appendix D, guideline 1; see `genus.model.gradient_scale`.
    """

    def __init__(self, precision: str, world: World, learner: Learner, local: LocalParameters) -> None:
        """Mark the learner's branches, which lie where they train.

        Args:
            precision: of the run.
            world: the processes.
            learner: network and heads, after they were distributed.
            local: what the optimizer has in place of parameters.

        Raises:
            UsageError: branches differ in their rule, or there are trained keys and values in front of a text.
        """
        super().__init__(precision, world)
        self.rule, branches = _branches(learner)
        places = _together(branches)
        theirs = {id(weight): id(own) for weight, own in local.pairs}
        self.place_of = {
            theirs.get(id(weight), id(weight)): place
            for branch, place in zip(branches, places, strict=True)
            for weight in branch.parameters()
        }
        """Number of the scale of each parameter that the optimizer has, by identity."""
        number, device = max(places) + 1, world.device
        self.scales = torch.full((number,), self.rule.initial, device=device)
        self.since = torch.full((number,), self.rule.window, device=device)
        """Updates since each scale fell."""
        self.in_a_row = torch.zeros((), device=device)
        self.used = self.scales.clone()
        """Scales of this step: times its micro-batches."""
        self.wrong = torch.zeros(number, dtype=torch.bool, device=device)
        for branch, place in zip(branches, places, strict=True):
            scale_gradients(branch, self.used[place])

    def forward_pass(self) -> AbstractContextManager[object]:
        """Return no autocast: branches have their own, and all else is in float32."""
        return nullcontext()

    def begin(self, micro_batches: int) -> None:
        """Multiply the scales by the number of micro-batches in the step of all processes."""
        (total,) = self.world.sum([float(micro_batches)])
        self.used.copy_(self.scales * total)

    @torch.no_grad()
    def unscale(self, parameters: Sequence[Tensor]) -> None:
        """Divide the gradients of each branch by its scale, and note which branches have one that is not finite."""
        groups: dict[int, list[Tensor]] = {}
        for weight in parameters:
            place = self.place_of.get(id(weight))
            if place is not None and weight.grad is not None and weight.grad.numel():
                groups.setdefault(place, []).append(weight.grad)
        self.wrong.zero_()
        for place, gradients in groups.items():
            multiply(gradients, 1.0 / self.used[place])
            largest = torch.stack(torch._foreach_norm(gradients, torch.inf))
            self.wrong[place] = ~largest.isfinite().all()
        self.wrong.copy_(self.world.any(self.wrong))

    def update(self, finite: Tensor) -> None:
        """Skip an update with a gradient that is not finite in any process, and set the next scales."""
        wrong = self.world.any(~finite) | self.wrong.any()
        scales, since = self.rule.updated(self.scales, self.since, self.wrong)
        self.scales.copy_(scales)
        self.since.copy_(since)
        self.in_a_row.copy_(torch.where(wrong, self.in_a_row + 1, 0))
        self.decide(wrong, self.in_a_row >= self.rule.longest_fall)

    def measured(self) -> Sums:
        """Return the smallest and the largest scale after the update, and the number of skipped updates until then."""
        small, large = self.scales.min(), self.scales.max()
        return {"gradient_scale/smallest": small, "gradient_scale/largest": large, "skipped_updates": self.skipped}

    def tensors(self) -> dict[str, Tensor]:
        """Return scales and counts."""
        return {"scales": self.scales, "since": self.since, "skipped": self.skipped, "in_a_row": self.in_a_row}

    def failure(self, result: StepResult) -> str:
        """Return that smaller scales do not help."""
        return f"float16's gradients were not finite in {self.rule.longest_fall:,} updates in a row"


def _branches(learner: Learner) -> tuple[GradientScale, list[nn.Module]]:
    """Return the one rule of a learner's scaled branches, and these."""
    found = list(scaled_branches(learner))
    rules = {rule for _, rule in found}
    if len(rules) > 1:
        raise UsageError("run.precision=float16: gradient scales of branches have one rule in all blocks of a model")
    if any(getattr(module, "prefix", None) is not None for module in learner.modules()):
        raise UsageError("run.precision=float16: the gradients of trained keys and values cannot be scaled branch by "
                         "branch; take precision=float32 or bfloat16")  # fmt: skip
    return found[0][1], [branch for branch, _ in found]


def _together(branches: Sequence[nn.Module]) -> list[int]:
    """Return the number of the scale of each branch: one for all that share weights with each other."""
    weights = [{id(weight) for weight in branch.parameters()} for branch in branches]
    places = list(range(len(branches)))
    for later, own in enumerate(weights):
        for earlier in range(later):
            if own & weights[earlier] and places[earlier] != places[later]:
                old, new = max(places[earlier], places[later]), min(places[earlier], places[later])
                places = [new if place == old else place for place in places]
    order = sorted(set(places))
    return [order.index(place) for place in places]
