"""The Transformer beside `torch.nn.Transformer`: with the same weights the same states, losses and gradients.

Theirs reads padded and masked batches, ours the same pairs packed, several in a row.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from genus.batch import IGNORE
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.encoder_decoder import EncoderDecoder, mirrored
from genus.model.position.sinusoidal import Sinusoidal
from genus.objectives import Learner
from genus.recipes.transformer import ATTENTION, BASE, EMBEDDING, ENCODER, UNITS

if TYPE_CHECKING:
    from genus.batch import Batch

HIDDEN, INNER, HEADS, LAYERS, VOCABULARY, PAD = 32, 48, 4, 2, 61, 0
SMOOTHING = 0.1
DOUBLE = 1e-10
"""Relative, of float64: the same sums in another order."""
SINGLE = 1e-6
"""Relative, of the loss, which is computed in float32."""
LENGTHS = [(5, 7), (1, 3), (9, 2), (4, 4), (12, 11), (3, 6)]
"""Of each source and target."""
ROWS = [[0, 1, 2], [3, 5], [4]]
"""Which pairs share a row."""
NAMES = {"attention": "self_attn", "cross": "multihead_attn"}


def model(bias: bool) -> EncoderDecoder:
    """Return the row's model, narrow and without dropout; `bias` gives attention the biases that PyTorch's has."""
    encoder = replace(
        ENCODER,
        layers=LAYERS,
        hidden=HIDDEN,
        attention=replace(ATTENTION, heads=HEADS, bias=bias),
        feedforward=replace(UNITS, size=INNER),
        embedding=replace(EMBEDDING, dropout=0.0),
        dropout=0.0,
    )
    return mirrored(encoder, Sinusoidal())


def learner(bias: bool) -> Learner:
    torch.manual_seed(0)
    made = model(bias)
    (objective,) = BASE.objectives
    built = Learner(made.build(VOCABULARY), {objective.name: objective.build(made, VOCABULARY)}).double()
    with torch.no_grad():  # vectors too, so that none is at its identity
        for name, tensor in built.named_parameters():
            if tensor.dim() == 1:
                tensor.copy_(torch.randn_like(tensor) * 0.3 + name.endswith("norm.weight"))
    return built


def pairs() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randint(1, VOCABULARY, (a,)), torch.randint(1, VOCABULARY, (b,))) for a, b in LENGTHS]


def packed(batch: list[tuple[Tensor, Tensor]]) -> Batch:
    """Return the pairs packed, with the next token as the target of each."""
    (objective,) = BASE.objectives
    examples = [
        Example({"source": plain(source), "tokens": plain(target)}, {objective.name: following(target)})
        for source, target in batch
    ]
    rows = [[examples[number] for number in row] for row in ROWS]
    return pack(rows, {"source": 16, "tokens": 13}, PAD)


def plain(ids: Tensor) -> Sequence:
    return Sequence(ids.numpy(), np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_))


def following(ids: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(len(ids) - 1), ids[1:].numpy()


def attention_weights(
    ours: nn.Module, theirs: nn.MultiheadAttention, gradient: bool = False
) -> list[tuple[Tensor, ...]]:
    """Return (ours, theirs) of all tensors of an attention, or of their gradients."""
    maps = [ours.query, ours.key, ours.value]
    kinds = ["weight", "bias"] if ours.out.bias is not None else ["weight"]  # type: ignore[union-attr]
    found: list[tuple[Tensor, ...]] = []
    for kind in kinds:
        joint, out = getattr(theirs, f"in_proj_{kind}"), getattr(theirs.out_proj, kind)
        parts = (joint.grad if gradient else joint).chunk(3)
        own = [getattr(one, kind) for one in [*maps, ours.out]]
        if gradient:
            own, out = [one.grad for one in own], out.grad
        found += list(zip(own, [*parts, out], strict=True))
    return found


def all_weights(ours: Learner, theirs: nn.Transformer, gradient: bool = False) -> list[tuple[Tensor, ...]]:
    """Return (ours, theirs) of all tensors of the layers, or of their gradients."""
    found: list[tuple[Tensor, ...]] = []
    for side in ("encoder", "decoder"):
        for own, other in zip(getattr(ours.network, side).layers, getattr(theirs, side).layers, strict=True):
            attentions = ["attention", "cross"] if side == "decoder" else ["attention"]
            for name in attentions:
                found += attention_weights(getattr(own, name), getattr(other, NAMES[name]), gradient)
            norms = [getattr(own, f"{name}_norm") for name in (*attentions, "feedforward")]
            modules = [(own.feedforward.inner, other.linear1), (own.feedforward.out, other.linear2)]
            modules += [(norm, getattr(other, f"norm{number}")) for number, norm in enumerate(norms, 1)]
            for mine, their in modules:
                for kind in ("weight", "bias"):
                    both = getattr(mine, kind), getattr(their, kind)
                    found.append(tuple(one.grad for one in both) if gradient else both)
    return found


def torchs(ours: Learner) -> nn.Transformer:
    """Return PyTorch's module with our weights, without the norms that it has after the last layers."""
    made = nn.Transformer(
        HIDDEN, HEADS, LAYERS, LAYERS, INNER, dropout=0.0, activation="relu", layer_norm_eps=1e-6, batch_first=True
    ).double()
    made.encoder.norm = made.decoder.norm = None
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if name.endswith("proj_bias") or name.endswith("proj.bias"):
                tensor.zero_()
        for own, other in all_weights(ours, made):
            other.copy_(own)
    return made


def embedded(table: Tensor, ids: Tensor) -> Tensor:
    """Return table[ids] √d plus sinusoids (Vaswani et al. 2017, sections 3.4 and 3.5), the sines before the cosines."""
    place = torch.arange(ids.shape[1]).double()[:, None]
    angle = place / 10_000 ** (torch.arange(0, HIDDEN, 2).double() / HIDDEN)
    return F.embedding(ids, table) * math.sqrt(HIDDEN) + torch.cat([angle.sin(), angle.cos()], 1)


@pytest.mark.parametrize("bias", [False, True])
def test_states_losses_and_gradients_are_those_of_torchs(bias: bool) -> None:
    ours, batch = learner(bias), pairs()
    theirs = torchs(ours).train()
    table = ours.network.token_embedding.weight.detach().clone().requires_grad_()
    source, target = (
        pad_sequence(list(side), batch_first=True, padding_value=PAD) for side in zip(*batch, strict=True)
    )
    missing = source == PAD
    states = theirs(
        embedded(table, source),
        embedded(table, target),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.float64) < 0,
        src_key_padding_mask=missing,
        tgt_key_padding_mask=target == PAD,
        memory_key_padding_mask=missing,
    )
    label = torch.where(target[:, 1:] == PAD, IGNORE, target[:, 1:])
    logits = states[:, :-1] @ table.T
    loss = F.cross_entropy(logits.flatten(0, 1), label.flatten(), label_smoothing=SMOOTHING, reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    own = ours.train()(packed(batch)).sums
    own["sequence_to_sequence"].backward()
    assert own["sequence_to_sequence"].item() == pytest.approx(loss.item(), rel=SINGLE)
    layout = packed(batch).tokens
    found = ours.network(packed(batch))["tokens"]
    order = [number for row in ROWS for number in row]
    assert [end - start for start, end in layout.spans()] == [LENGTHS[number][1] for number in order]
    for (start, end), number in zip(layout.spans(), order, strict=True):
        torch.testing.assert_close(found[start:end], states[number, : end - start], rtol=DOUBLE, atol=DOUBLE)
    gradients = all_weights(ours, theirs, gradient=True)
    gradients.append((ours.network.token_embedding.weight.grad, table.grad))  # type: ignore[arg-type]
    largest = max(float(other.abs().max()) for _, other in gradients)  # those of biases of keys are 0
    for mine, other in gradients:
        torch.testing.assert_close(mine, other, rtol=SINGLE, atol=SINGLE * largest)


def test_one_matrix_is_both_embeddings_and_the_output() -> None:
    made = learner(bias=False)
    tables = [name for name, tensor in made.named_parameters() if tensor.shape[0] == VOCABULARY]
    assert tables == ["network.encoder.embed.tokens.weight"]
    (head,) = made.heads.values()
    assert head.lm_head.weight is made.network.decoder.embed.tokens.weight  # type: ignore[union-attr]
