"""The ways of a GPU against the definition; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus.model.attention.kernels import attend, attend_reference
from genus.model.attention.masks import AttentionMask, Banded, Causal, Full, Prefix
from genus.model.attention.plan import Side, plan_attention
from genus.model.compile import compile_learner

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.batch import Batch, Packed
    from genus.model.transformer import Transformer
    from genus.objectives import Learner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

HALF = 0.02
"""A few units of bfloat16's 8 bits, on numbers of size 1."""
LOSS = 0.01
"""Relative: a loss in bfloat16 against float32."""
ROWS = [[12, 20, 5], [30], [1, 2, 3, 26], [9, 23]]
LENGTH = 40


@pytest.mark.parametrize(
    "visibility", [Full(), Causal(), Banded(width=5), Prefix()], ids=lambda rule: type(rule).__name__
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_attention_and_its_gradients(
    make_packed: Callable[..., Packed], visibility: AttentionMask, dtype: torch.dtype
) -> None:
    device = torch.device("cuda")
    packed = make_packed(ROWS, LENGTH, torch.ones(160, dtype=torch.long)).to(device)
    packed = replace(packed, facts={**packed.facts, "prefix": (packed.positions < 4) & (packed.sequence >= 0)})
    side = Side.of(packed)
    plan = plan_attention(side, side, visibility, dtype, packed=packed)
    assert (plan.kernel == "varlen") == (dtype is not torch.float32)
    drawn = [torch.randn(160, 2, 64, device=device, dtype=dtype) for _ in range(3)]
    ours = [x.clone().requires_grad_() for x in drawn]
    exact = [x.double().requires_grad_() for x in drawn]
    out, definition = attend(*ours, plan), attend_reference(*exact, side, side, visibility)
    real = (packed.sequence >= 0)[:, None, None]
    torch.testing.assert_close(out.double() * real, definition * real, atol=HALF, rtol=HALF)
    weights = torch.randn_like(definition) * real
    (out.double() * weights).sum().backward()
    (definition * weights).sum().backward()
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, atol=3 * HALF, rtol=3 * HALF)  # type: ignore[union-attr]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what it deprecates
def test_losses_equal_those_of_the_cpu(
    make_batch: Callable[..., Batch],
    make_encoder: Callable[..., Transformer],
    make_learner: Callable[..., Learner],
    compiled: bool,
) -> None:
    """Variable-length attention and the filled-up vocabulary together, without a wait for the device on the way."""
    batch = make_batch(ROWS, LENGTH)
    wanted = make_learner(make_encoder())(batch).sums
    learner = make_learner(make_encoder()).cuda()
    if compiled:
        assert compile_learner(learner.network, learner.heads.values())
    on_device = batch.to(torch.device("cuda"))
    with torch.autocast("cuda", torch.bfloat16):
        learner(on_device)
        torch.cuda.set_sync_debug_mode("error")
        try:
            sums = learner(on_device).sums
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for name in ("masked_lm", "next_sentence"):
        torch.testing.assert_close(sums[name].cpu().float(), wanted[name], rtol=LOSS, atol=0)


def test_no_document_reaches_another(
    make_batch: Callable[..., Batch], make_encoder: Callable[..., Transformer], make_learner: Callable[..., Learner]
) -> None:
    network = make_learner(make_encoder()).network.cuda().eval()
    batch = make_batch(ROWS, LENGTH).to(torch.device("cuda"))
    start, stop = batch.tokens.spans()[1]
    ids = batch.tokens.ids.clone()
    ids[start:stop] = ids[start:stop] % 60 + 3
    other = replace(batch, streams={"tokens": replace(batch.tokens, ids=ids)})
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        before, after = network(batch)["tokens"], network(other)["tokens"]
    moved = torch.ones(len(before), dtype=torch.bool, device="cuda")
    moved[start:stop] = False
    assert torch.equal(before[moved], after[moved])
    assert not torch.equal(before[~moved], after[~moved])
