"""Training few parameters: the slot `Adaptation`, which freezes a pretrained learner and adds what is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from genus.errors import UsageError
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor, nn

    from genus.model import Network
    from genus.objectives import Learner


class Adaptation(Part, ABC):
    """A choice of what is trained of a pretrained network, beside the task's head, which always is."""

    merges: ClassVar[bool] = False
    """Whether what is trained can be folded into the network's own weights."""

    @property
    def in_front(self) -> int:
        """The number of positions that it takes in front of each text."""
        return 0

    @property
    def settled(self) -> Adaptation:
        """The adaptation as it is saved, without what only training needs."""
        return self

    def apply(self, learner: Learner, given: Collection[str]) -> None:
        """Freeze a learner in place, but for what it did not get from pretraining, and add what is trained.

        Args:
            learner: with its pretrained weights; random draws are PyTorch's global generator's.
            given: names of the pretrained tensors. All others, as those of a new head or pooler, are trained.

        Raises:
            UsageError: the network has no place for this adaptation, or nothing is left to train.
        """
        first = learner.first_names()
        known = {first[name] for name in given if name in first}
        for name, parameter in learner.named_parameters():
            parameter.requires_grad_(first[name] not in known)
        kind = type(self).__name__
        try:
            self.extend(learner)
        except UsageError as error:
            raise UsageError(f"finetuning.adaptation: {kind}: {error}") from None
        if not any(parameter.requires_grad for parameter in learner.parameters()):
            raise UsageError(f"finetuning.adaptation: {kind} trains nothing here, as this task has no head of its own")

    @abstractmethod
    def extend(self, learner: Learner) -> None:
        """Add what is trained to a learner that is frozen, or let some of its own parameters be trained.

        Raises:
            UsageError: the network has no place for it; the message says why.
        """

    def settle(self, learner: Learner) -> None:
        """Change an adapted learner in place to what `settled` says, without changing its outputs."""

    def merge(self, learner: Learner) -> None:
        """Fold what was added to an adapted learner into its own weights, in place.

        Raises:
            UsageError: it cannot be folded in.
        """
        if not self.merges:
            raise UsageError(f"{type(self).__name__} cannot be merged: what it adds is no change of the weights that "
                             "are there; keep the adapter beside its base")  # fmt: skip


def trained(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a learner without frozen parameters; a shared tensor has the first of its names."""
    frozen = {id(parameter) for parameter in module.parameters() if not parameter.requires_grad}
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in frozen:
            found.setdefault(id(tensor), (name, tensor.detach()))
    return dict(found.values())


def of_all(learner: Learner) -> str:
    """Return a line on how many parameters are trained; "" if all are."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in learner.parameters()]
    every, own = sum(size for size, _ in sizes), sum(size for size, own in sizes if own)
    return "" if own == every else f"{own:,} of {every:,} parameters are trained ({own / every:.2%})"


def train(modules: Collection[nn.Module]) -> None:
    """Let all parameters of modules be trained."""
    for module in modules:
        module.requires_grad_(True)


def attach(module: nn.Module, name: str, added: nn.Module) -> None:
    """Make a module the child of another under a name, on its device, if none of that name is there.

    Raises:
        UsageError: a module of that name is there: the learner is adapted already.
    """
    if hasattr(module, name):
        raise UsageError("the learner is adapted already; merge or leave the first adaptation")
    device = next((parameter.device for parameter in module.parameters()), None)
    module.add_module(name, added if device is None else added.to(device))


def detach(module: nn.Module, name: str, called: Any) -> nn.Module:
    """Take a child that was attached from a module, with the hook that calls it, and return it."""
    found = module.get_submodule(name)
    delattr(module, name)
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key in [key for key, hook in hooks.items() if hook is called]:
            del hooks[key]
    return found


def refuse_shared(network: Network, maps: Collection[nn.Module]) -> None:
    """Refuse to merge into maps that share a weight, as each would be changed by the update of the other.

    Raises:
        UsageError: two of them share one.
    """
    weights = [module.get_parameter("weight") for module in maps]
    if len({id(weight) for weight in weights}) < len(weights):
        raise UsageError(f"{type(network).__name__}: maps that share a weight have updates of their own, which cannot "
                         "be merged; keep the adapter beside its base")  # fmt: skip
