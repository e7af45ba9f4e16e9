"""Modules on PyTorch's meta device: shapes and names without memory, for counting, or for weights that come next."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

DRAWS = {nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_}
"""What fills a tensor with random numbers."""


@contextmanager
def skeleton() -> Iterator[None]:
    """Context manager: modules that are built have tensors on the meta device, for which nothing is drawn.

    On that device PyTorch computes the shape of each draw in Python, by means of its compiler's modules, whose import
    takes longer than reading a small model.
    """
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Leaves tensors of the meta device as they are where they would be filled with random numbers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, unless it would draw numbers without memory."""
        given = kwargs or {}
        if func in DRAWS:
            tensor = args[0] if args else given["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **given)
