"""MASS: which fragment is masked, what the decoder gets of it, and the paper's likelihood written out slowly."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from genus.catalog import load
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.encoder_decoder import EncoderDecoder
from genus.objectives.masking.fragments import FragmentMasking
from genus.objectives.masking.spans import SpanMasking
from genus.objectives.masking.tokens import TokenMasking, WholeWordMasking
from genus.objectives.pretraining.masked_seq_to_seq import MaskedSeqToSeq
from genus.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.objectives import Learner
    from genus.objectives.masking import Masking
    from genus.recipe import Recipe

PAD, MASK, END, SPECIALS, SIZE = 0, 1, 2, 3, 300
WORDS = Vocabulary(
    size=SIZE,
    roles={"pad": PAD, "mask": MASK, "eos": END},
    special=np.arange(SIZE) < SPECIALS,
    word_start=(np.arange(SIZE) < SPECIALS) | (np.arange(SIZE) % 2 == 0),
    single=((None, 0, 0), (END, None, 0)),
    pair=((None, 0, 0), (END, None, 0), (None, 1, 0), (END, None, 0)),
    target=((END, None, 0), (None, 0, 0), (END, None, 0)),
)
SHARES = st.floats(0.05, 0.95)
MASKINGS = st.one_of(
    st.builds(FragmentMasking, rate=SHARES, block=st.sampled_from([None, 1, 5, 16]), ends=st.floats(0, 0.5)),
    st.builds(TokenMasking, rate=SHARES, specials=st.booleans(), rounding=st.sampled_from(["nearest", "up"])),
    st.builds(TokenMasking, rate=SHARES, rounding=st.just("stochastic"), max_predictions=st.integers(1, 9)),
    st.builds(WholeWordMasking, rate=SHARES),
    st.builds(SpanMasking, rate=SHARES),
)


def sequence(length: int, seed: int = 0) -> Sequence:
    """Return different tokens and the end token, so many in all."""
    ids = SPECIALS + np.random.default_rng(seed).permutation(SIZE - SPECIALS)[: length - 1]
    return Sequence(*WORDS.frame(ids))


def made(masking: Masking, length: int, seed: int = 0) -> tuple[NDArray[np.int64], Example]:
    """Return a text, and the example that is made of it."""
    whole = sequence(length)
    rng = np.random.default_rng(seed)
    return whole.ids, MaskedSeqToSeq(masking=masking).prepare_example(Example({"tokens": whole}, {}), WORDS, rng)


@given(masking=MASKINGS, length=st.integers(1, 60), seed=st.integers(0, 9))
def test_each_masked_token_is_predicted_from_the_one_before(masking: Masking, length: int, seed: int) -> None:
    """As it was, at its own position; nothing else is in the decoder, and lengths were known."""
    text, example = made(masking, length, seed)
    source, tokens = example.streams["source"], example.tokens
    index, label = example.targets["masked_seq_to_seq"]
    assert tokens.positions is not None
    assert (np.diff(tokens.positions) > 0).all()
    assert (text[tokens.positions] == tokens.ids).all()
    assert (text[tokens.positions + 1] == label).all()
    assert index.tolist() == list(range(len(tokens.ids)))
    changed = np.flatnonzero(source.ids != text)
    assert set(changed[changed > 0].tolist()) <= set((tokens.positions + 1).tolist())
    told = MaskedSeqToSeq(masking=masking).lengths({"tokens": np.array([length])}, WORDS)
    assert len(source.ids) == told["source"][0] == length
    assert len(tokens.ids) <= told["tokens"][0]


@given(rate=SHARES, length=st.integers(2, 60), seed=st.integers(0, 9), ends=st.floats(0, 0.5))
def test_a_fragment_is_consecutive(rate: float, length: int, seed: int, ends: float) -> None:
    """round(rate x L) tokens after the first, as the released code counts, but one at least."""
    _, example = made(FragmentMasking(rate=rate, ends=ends), length, seed)
    size = min(max(1, round(rate * length)), length - 1)
    assert example.tokens.positions is not None
    assert len(example.tokens.ids) == size
    assert (np.diff(example.tokens.positions) == 1).all()


@given(rate=SHARES, length=st.integers(1, 150), seed=st.integers(0, 9), block=st.integers(1, 64))
def test_a_fragment_of_every_block(rate: float, length: int, seed: int, block: int) -> None:
    """Blocks begin after the first token; the last may be shorter; each gives its share, rounded down."""
    _, example = made(FragmentMasking(rate=rate, block=block), length, seed)
    assert example.tokens.positions is not None
    within = example.tokens.positions // block
    for number in range(math.ceil((length - 1) / block)):
        places = example.tokens.positions[within == number]
        room = min(block, length - 1 - number * block)
        assert len(places) == int(rate * room)
        assert (np.diff(places) == 1).all()


@pytest.mark.parametrize("ends", [0.0, 0.2])
def test_where_fragments_begin(ends: float) -> None:
    """Anywhere, all as likely; but for a share at the beginning and as much at the end."""
    draws, starts = 4000, Counter[int]()
    for seed in range(draws):
        positions = made(FragmentMasking(rate=0.5, ends=ends), 8, seed)[1].tokens.positions
        assert positions is not None
        starts[int(positions[0])] += 1
    expected = (1 - 2 * ends) / 4 + np.array([ends, 0, 0, ends])
    np.testing.assert_allclose([starts[place] / draws for place in range(4)], expected, atol=0.03)
    assert sum(starts.values()) == sum(starts[place] for place in range(4))


def test_shares_of_masks_and_random_tokens() -> None:
    """80 % masks, 10 % random tokens, 10 % as they were; the decoder reads and predicts the tokens themselves."""
    counts: Counter[str] = Counter()
    for seed in range(400):
        text, example = made(FragmentMasking(), 100, seed)
        assert example.tokens.positions is not None
        for place in (example.tokens.positions + 1).tolist():
            shown = int(example.streams["source"].ids[place])
            counts["mask" if shown == MASK else "kept" if shown == text[place] else "random"] += 1
    total = sum(counts.values())
    assert total == 400 * 50
    assert counts["mask"] / total == pytest.approx(0.8, abs=0.01)
    assert counts["random"] / total == pytest.approx(0.1, abs=0.01)


def test_the_example_of_the_paper() -> None:
    """Figure 1: of eight tokens the third to the sixth are masked; 3, 4, 5 are read at their positions."""
    ids = np.arange(8) + 10
    example = Example({"tokens": Sequence(ids, 0 * ids, np.zeros(8, np.bool_))}, {})
    masking = FragmentMasking(rate=0.5, mask=1.0, random=0.0)
    found = next(
        one
        for one in (
            MaskedSeqToSeq(masking=masking).prepare_example(example, WORDS, np.random.default_rng(seed))
            for seed in range(50)
        )
        if one.targets["masked_seq_to_seq"][1][0] == 12
    )
    assert found.streams["source"].ids.tolist() == [10, 11, MASK, MASK, MASK, MASK, 16, 17]
    assert found.targets["masked_seq_to_seq"][1].tolist() == [12, 13, 14, 15]
    assert found.tokens.ids.tolist() == [11, 12, 13, 14]  # released code: the token before the fragment comes first
    assert found.tokens.positions is not None
    assert found.tokens.positions.tolist() == [1, 2, 3, 4]


def test_a_decoder_with_fewer_positions_is_refused() -> None:
    row = load("mass/tiny")
    with pytest.raises(UsageError, match="keeps the positions of a source in the decoder, which has 70"):
        row.overlay({"model": {"decoder": {"embedding": {"position": {"length": 70}}}}})


def of_pytorch(sizes: dict[str, Any], width: int, inner: int, eps: float, decoder: bool) -> nn.Module:
    """Return PyTorch's own stack of post-norm layers."""
    kind = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    layer = kind(width, sizes["heads"], inner, 0.0, "gelu", eps, batch_first=True).double()
    if decoder:
        return nn.TransformerDecoder(layer, sizes["layers"])
    return nn.TransformerEncoder(layer, sizes["layers"], enable_nested_tensor=False)


def fill(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy the weights of our layers into PyTorch's, which keep queries, keys and values as one matrix."""
    for there, here in zip(theirs.layers, ours.layers, strict=True):  # type: ignore[arg-type, call-overload]
        pairs = [(there.self_attn, here.attention, there.norm1, here.attention_norm)]
        last = there.norm2
        if here.cross is not None:
            pairs.append((there.multihead_attn, here.cross, there.norm2, here.cross_norm))
            last = there.norm3
        for attention, own, norm, own_norm in pairs:
            maps = (own.query, own.key, own.value)
            attention.in_proj_weight.data = torch.cat([one.weight for one in maps])
            attention.in_proj_bias.data = torch.cat([one.bias for one in maps])
            attention.out_proj.load_state_dict(own.out.state_dict())
            norm.load_state_dict(own_norm.state_dict())
        there.linear1.load_state_dict(here.feedforward.inner.state_dict())
        there.linear2.load_state_dict(here.feedforward.out.state_dict())
        last.load_state_dict(here.feedforward_norm.state_dict())


def slow(recipe: Recipe, learner: Learner, source: list[int], text: list[int], fragment: list[int]) -> Tensor:
    """Return -Σ log P(x_t | x without the fragment, x of the fragment before t), of one text by itself.

    The decoder has the whole length of the text, as in the paper: where nothing is predicted its inputs are mask
    tokens, which no place of the fragment attends to.
    """
    model, network = recipe.model, learner.network
    assert isinstance(model, EncoderDecoder)
    scaled = "Scaled" in type(model.encoder.embedding).__name__
    sizes = {"layers": model.encoder.layers, "heads": model.encoder.attention.heads}  # type: ignore[attr-defined]
    inner, eps = model.encoder.feedforward.size, model.encoder.norm.eps  # type: ignore[attr-defined]
    sides = [of_pytorch(sizes, model.width, inner, eps, decoder) for decoder in (False, True)]
    for theirs, ours in zip(sides, (network.encoder, network.decoder), strict=True):
        fill(theirs, ours)

    def embedded(side: nn.Module, ids: list[int]) -> Tensor:
        table, places = side.embed.tokens.weight, side.embed.positions
        rows = [table[one] * (math.sqrt(model.width) if scaled else 1.0) for one in ids]
        x = torch.stack([row + places.table.weight[at + places.offset] for at, row in enumerate(rows)])
        return nn.functional.layer_norm(x, (model.width,), side.embed.norm.weight, side.embed.norm.bias, eps)[None]

    memory = sides[0].eval()(embedded(network.encoder, source))
    inputs, length = [MASK] * len(text), len(text)
    for place in fragment:
        inputs[place - 1] = text[place - 1]
    reads = {place - 1 for place in fragment}
    hidden = torch.tensor([[not (k in reads and k <= q) and k != q for k in range(length)] for q in range(length)])
    states = sides[1].eval()(embedded(network.decoder, inputs), memory, tgt_mask=hidden)[0]
    head = learner.heads["masked_seq_to_seq"].lm_head
    total = torch.zeros((), dtype=torch.float64)
    for place in fragment:
        logits = network.decoder.embed.tokens.weight @ states[place - 1]
        logits = logits if head.bias is None else logits + head.bias
        total = total - logits.log_softmax(0)[text[place]]
    return total


@pytest.mark.parametrize("name", ["mass/tiny", "mass/1024"])
def test_the_loss_is_the_papers_equation(name: str) -> None:
    """Of several packed texts, against each by itself in PyTorch's own layers, in float64."""
    own = {"layers": 2, "hidden": 32, "dropout": 0.0, "attention": {"heads": 4, "dropout": 0.0}}
    own |= {"feedforward": {"size": 48, "dropout": 0.0}, "embedding": {"dropout": 0.0}}
    crossing = own | {"cross": {"heads": 4, "dropout": 0.0}}
    recipe = load(name).overlay({"tokens": {"vocab_size": SIZE}, "model": {"encoder": own, "decoder": crossing}})
    torch.manual_seed(0)
    learner = recipe.learner().double().eval()
    for weight in learner.parameters():
        nn.init.normal_(weight, std=0.2)
    objective = replace(recipe.objectives[0], masking=FragmentMasking(block=8))  # type: ignore[call-arg]
    rng = np.random.default_rng(1)
    texts = [sequence(length, seed) for seed, length in enumerate((9, 14, 20))]
    examples = [objective.prepare_example(Example({"tokens": one}, {}), WORDS, rng) for one in texts]
    batch = pack([examples[:2], examples[2:]], {"tokens": 14, "source": 24}, PAD)
    found = learner(batch).sums["masked_seq_to_seq"].double()
    with torch.no_grad():
        expected = sum(
            slow(recipe, learner, example.streams["source"].ids.tolist(), text.ids.tolist(),
                 (example.tokens.positions + 1).tolist())
            for text, example in zip(texts, examples, strict=True)
        )  # fmt: skip
    states = learner.network(batch)
    assert states["tokens"].dtype == torch.float64
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-6, atol=0)  # losses are float32
