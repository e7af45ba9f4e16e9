"""Regional compilation of a learner with torch.compile."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genus.model import Network


M = TypeVar("M", bound="Callable[..., Any]")


def uncompiled(method: M) -> M:
    """Mark a module's method as one that the compiler is to leave alone: `compile_learner` tells it so.

    `torch.compiler.disable` as a decorator would load the compiler, which takes as long as PyTorch itself, wherever the
    class is defined.
    """
    method.uncompiled = True  # type: ignore[attr-defined]
    return method


def compile_learner(network: Network, heads: Iterable[nn.Module]) -> bool:
    """Compile a network's regions and the heads over it in place, each by itself, for static shapes.

    The layers of a stack are alike and are compiled once, so that the time it takes does not grow with their number.
    Names of parameters stay as they are. Where this machine cannot compile, one line on standard error says why, and
    False is returned.
    """
    if problem := compiler_problem(next(network.parameters()).device):
        print(f"running without compilation, as PyTorch's compiler does not work here: {problem}", file=sys.stderr)
        return False
    # the compiler itself looks at what it then warns of
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
    for module in [*network.compile_units(), *heads]:
        for part in module.modules():
            _leave_alone(type(part))
        module.compile(dynamic=False)
    return True


def _leave_alone(kind: type[nn.Module]) -> None:
    """Tell the compiler which methods of a class of modules it is to leave alone, once."""
    for base in kind.__mro__:
        for name, method in list(vars(base).items()):
            if getattr(method, "uncompiled", False):
                plain = torch.compiler.disable(method)  # type: ignore[no-untyped-call]
                plain.uncompiled = False
                setattr(base, name, plain)


def compiler_problem(device: torch.device) -> str | None:
    """Return one line on why PyTorch's compiler does not work here, found by trying; None where it works."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's own modules, as the compiler loads them
            torch.compile(torch.neg)(torch.zeros(2, device=device))
    except Exception as error:  # whatever PyTorch, the C++ compiler or Triton raises: the run goes on without
        return str(error).strip().partition("\n")[0]
    return None
