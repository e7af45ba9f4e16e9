"""Regional compilation of a network and its heads with torch.compile."""

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
    """Mark a module's method as excluded from compilation; `compile_learner` applies `torch.compiler.disable` to it.

    As a decorator, `torch.compiler.disable` would load the compiler wherever the class is defined, which takes as long
    as loading PyTorch itself.
    """
    method.uncompiled = True  # type: ignore[attr-defined]
    return method


def compile_learner(network: Network, heads: Iterable[nn.Module]) -> bool:
    """Regional compilation: compile a network's regions and its heads in place, each by itself, for static shapes.

    The layers of a stack are alike and are compiled once, so that compile time does not grow with their number. The
    names of parameters do not change. Where the compiler does not work, print the reason in one line on standard error
    and return False.
    """
    if problem := compiler_problem(next(network.parameters()).device):
        print(f"running without compilation, as PyTorch's compiler does not work here: {problem}", file=sys.stderr)
        return False
    # the compiler itself causes this warning
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
    for module in [*network.compile_units(), *heads]:
        for part in module.modules():
            _leave_alone(type(part))
        module.compile(dynamic=False)
    return True


def _leave_alone(kind: type[nn.Module]) -> None:
    """Apply `torch.compiler.disable` to the marked methods of a class of modules, once."""
    for base in kind.__mro__:
        for name, method in list(vars(base).items()):
            if getattr(method, "uncompiled", False):
                plain = torch.compiler.disable(method)  # type: ignore[no-untyped-call]
                plain.uncompiled = False
                setattr(base, name, plain)


def compiler_problem(device: torch.device) -> str | None:
    """Try torch.compile on the device: return one line on why it does not work; None if it works."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of PyTorch's own modules, which the compiler loads
            torch.compile(torch.neg)(torch.zeros(2, device=device))
    except Exception as error:  # whatever PyTorch, the C++ compiler or Triton raises: the run continues uncompiled
        return str(error).strip().partition("\n")[0]
    return None
