"""The recurrence of an LSTM over packed sequences: all sequences take a step at once, the longest ones to the end.

Time-major order: the first tokens of all sequences, then the second ones of those that have one, and so on, with the
longest sequences in front (PyTorch's `PackedSequence`). A step reads whole slices of it, without padding and masks.

Legend: F inner size of a feed-forward network or of an LSTM; O tokens in time-major order, without padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.batch import Packed

State = tuple[Tensor, Tensor]
"""Hidden states (..., H) and cells (..., F)."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The sequences of a packed stream in time-major order."""

    sizes: tuple[int, ...]
    """The number of sequences that take each step; it never grows."""
    index: Tensor
    """(O,) the place of each token on the packed axis, in time-major order."""
    sequences: Tensor
    """(N,) the number of the sequence in the stream, in the order of a step."""
    starts: Tensor
    """(N,) the place of its first token on the packed axis, in the order of a step."""

    @classmethod
    def of(cls, packed: Packed, *, backward: bool = False) -> Steps:
        """Return the steps of a stream, from the first token of each sequence on, or from the last one back."""
        return cls.over(packed.spans(), packed.ids.device, backward=backward)

    @classmethod
    def over(cls, sequences: Sequence[tuple[int, int]], device: torch.device, *, backward: bool = False) -> Steps:
        """Return the steps of sequences of which each begins and ends so on an axis of a device."""
        spans = np.array(sequences, dtype=np.int64).reshape(-1, 2)
        lengths = spans[:, 1] - spans[:, 0]
        order = np.argsort(-lengths, kind="stable")
        lengths, first = lengths[order], spans[order, int(backward)] - int(backward)
        sizes = np.cumsum(np.bincount(lengths)[:0:-1])[::-1].tolist()
        sign = -1 if backward else 1
        places = [first[:0], *(first[:size] + sign * step for step, size in enumerate(sizes))]
        index, numbers, starts = (
            torch.from_numpy(each).to(device, non_blocking=True)
            for each in (np.concatenate(places), order, spans[order, 0])
        )
        return cls(tuple(sizes), index, numbers, starts)

    def taken(self, x: Tensor) -> Tensor:
        """Return vectors (O, ...) in time-major order for those of the packed axis."""
        return x.index_select(0, self.index)

    def returned(self, x: Tensor, cells: int) -> Tensor:
        """Return vectors (`cells`, ...) on the packed axis for those in time-major order; 0 for padding."""
        return x.new_zeros(cells, *x.shape[1:]).index_copy(0, self.index, x)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the part (N, ...) of x (O, ...) in time-major order that each step reads or writes."""
        return torch.split(x, list(self.sizes))

    def before(self, begin: Tensor, states: Tensor) -> list[Tensor]:
        """Return the states (N, ...) before each step, of the sequences that take it, given those after it (O, ...)."""
        each = [begin, *self.split(states)[:-1]] if self.sizes else []
        return [state[:size] for state, size in zip(each, self.sizes, strict=True)]

    def last(self) -> Tensor:
        """Return (N,) the place of each sequence's last token in time-major order."""
        last, start = torch.zeros_like(self.sequences), 0
        for size in self.sizes:
            last[:size] = torch.arange(start, start + size, device=last.device)
            start += size
        return last


def step_by_step(
    gates_O4F: Tensor,
    begin: State,
    steps: Steps,
    recurrent: Callable[[Tensor], Tensor],
    out: Callable[[Tensor], Tensor],
) -> State:
    """Return hidden states (O, H) and cells (O, F): the definition, in which PyTorch's autograd follows every step.

    Args:
        gates_O4F: W x + b of every token, in the order of PyTorch's gates: input, forget, cell, output.
        begin: states before the first step, (N, H) and (N, F).
        steps: the time-major order.
        recurrent: the map U of hidden states, from (N, H) to (N, 4 F).
        out: the projection of o tanh(c), from (N, F) to (N, H).
    """
    h, c = begin
    hidden, cells = [h[:0]], [c[:0]]
    for gates in steps.split(gates_O4F):
        i, f, g, o = (gates + recurrent(h[: len(gates)])).chunk(4, -1)
        c = f.sigmoid() * c[: len(gates)] + i.sigmoid() * g.tanh()
        h = out(o.sigmoid() * c.tanh())
        hidden.append(h)
        cells.append(c)
    return torch.cat(hidden), torch.cat(cells)


class Recurrence(torch.autograd.Function):
    """`step_by_step` by the matrices of its maps, with back-propagation through time written out.

    The gradients of weights are one product over all tokens, and nothing but gates and states is kept. In bfloat16 the
    products alone are in that precision.
    """

    @staticmethod
    def forward(
        ctx: Any, gates_O4F: Tensor, h: Tensor, c: Tensor, u_H4F: Tensor, out_FH: Tensor | None, steps: Steps
    ) -> State:
        """Return hidden states (O, H) and cells (O, F), which have no gradient.

        Args:
            ctx: what the backward pass is given.
            gates_O4F: W x + b of every token.
            h: hidden states before the first step (N, H).
            c: cells before the first step (N, F).
            u_H4F: the matrix of the recurrent map.
            out_FH: the matrix of the projection; None: there is none, and H = F.
            steps: the time-major order.
        """
        size, wide = c.shape[-1], torch.promote_types(torch.float32, gates_O4F.dtype)
        activated, cells, squashed, inner = (
            gates_O4F.new_empty(len(gates_O4F), width, dtype=wide) for width in (4 * size, size, size, size)
        )
        hidden = inner if out_FH is None else gates_O4F.new_empty(len(gates_O4F), out_FH.shape[1], dtype=wide)
        parts = [gates_O4F, activated, activated[:, : 2 * size], *activated.chunk(4, 1), cells, squashed, inner, hidden]
        last_h, last_c = h.to(wide), c.to(wide)
        with torch.autocast(gates_O4F.device.type, enabled=False):
            for given, gates, both, i, f, g, o, cell, tanh, m, made in zip(*map(steps.split, parts), strict=True):
                last_h, last_c = last_h[: len(given)], last_c[: len(given)]
                torch.add(given, last_h.to(u_H4F.dtype) @ u_H4F, out=gates)
                both.sigmoid_(), g.tanh_(), o.sigmoid_()
                last_c = torch.mul(f, last_c, out=cell).addcmul_(i, g)
                last_h = torch.mul(o, torch.tanh(last_c, out=tanh), out=m)
                if out_FH is not None:
                    last_h = made.copy_(last_h.to(out_FH.dtype) @ out_FH)
        ctx.save_for_backward(h, c, u_H4F, out_FH, activated, cells, squashed, inner, hidden)
        ctx.steps, ctx.format = steps, gates_O4F.dtype
        ctx.mark_non_differentiable(cells)
        return hidden, cells

    @staticmethod
    def backward(ctx: Any, dhidden: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of gates and matrices; states before the first step have none."""
        h, c, u_H4F, out_FH, activated, cells, squashed, inner, hidden = ctx.saved_tensors
        steps, format, before_c = ctx.steps, u_H4F.dtype, ctx.steps.before(c.to(cells.dtype), cells)
        dgates, dh_OH = torch.empty_like(activated), dhidden.clone()
        back_4FH, back_HF = u_H4F.t().contiguous(), None if out_FH is None else out_FH.t().contiguous()
        later_h, later_c = dhidden[:0], cells[:0]
        parts = [*activated.chunk(4, 1), *dgates.chunk(4, 1), dgates, squashed, dh_OH]
        each = list(zip(*map(steps.split, parts), before_c, strict=True))
        with torch.autocast(dhidden.device.type, enabled=False):
            for i, f, g, o, di, df, dg, do, dgate, tanh, dh, last_c in reversed(each):
                dh[: len(later_h)] += later_h
                dm = dh if back_HF is None else (dh.to(format) @ back_HF).to(dh.dtype)
                dc = torch.ops.aten.tanh_backward(dm * o, tanh)
                dc[: len(later_c)] += later_c
                _sigmoid(dm * tanh, o, do)
                _sigmoid(dc * g, i, di)
                _sigmoid(dc * last_c, f, df)
                torch.ops.aten.tanh_backward.grad_input(dc * i, g, grad_input=dg)
                later_h, later_c = dgate.to(format) @ back_4FH, dc.mul_(f)
            before_h = torch.cat([h[:0].to(hidden.dtype), *steps.before(h.to(hidden.dtype), hidden)])
            du = before_h.to(format).t() @ dgates.to(format)
            dout = None if out_FH is None else inner.to(format).t() @ dh_OH.to(format)
        return dgates.to(ctx.format), None, None, du, dout, None


def _sigmoid(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    """Write the gradient before a sigmoid to `out`, given that after it and its value."""
    torch.ops.aten.sigmoid_backward.grad_input(gradient, value, grad_input=out)
