"""Random BigBirds of Hugging Face, read and written back: states, logits, gradients, weights; starting from RoBERTa.

Its random blocks are read off as it draws them, and given to ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from oracle import FLOAT32, Shape, reading, transformers
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

from genus import catalog, pipeline
from genus.batch import Batch, Packed
from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.layouts import layout_for
from genus.export.verify import verify
from genus.model.attention.block_sparse.layer import BlockSparseAttention, BlockSparseAttentionLayer
from genus.model.pooler import Pooler
from genus.model.skeleton import skeleton
from genus.objectives.supervised.sequence import SequenceClassification
from hand import equal_rows, stretches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.model.attention.block_sparse.layout import BlockLayout
    from genus.recipe import Recipe

FLOAT64 = 1e-12
"""The same sums with 53 bits, 1e-16: a wrong formula cannot hide here."""


@dataclass(frozen=True)
class BigBird(Shape):
    """BigBird with BERT's tokenizer, which is as good as any here."""

    block: int
    random: int

    def config(self, **more: Any) -> Any:
        sizes = {"block_size": self.block, "num_random_blocks": self.random}
        sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return transformers.BigBirdConfig(**self.settings() | sizes | more)


SHAPES = [
    BigBird("bert", 1, 8, 2, 16, 30, 80, "gelu_new", 2, 1e-12, 4, 2),
    BigBird("bert", 2, 24, 3, 40, 101, 80, "gelu", 2, 1e-12, 4, 1),
    BigBird("bert", 3, 32, 4, 96, 64, 80, "relu", 3, 1e-6, 4, 3),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.layers}-{shape.random}")
ROWS = ((48, 11, 3), (61, 5), (45, 17), (66,))
"""Of 4 tokens a block: 12, 16, 12 (one of them cut short) and 17 blocks, and short ones that are seen in full."""
LENGTH = 66


def packed(rows: Sequence[Sequence[int]], shape: Shape) -> Batch:
    """Return random sequences, several a row, each row filled up by a dead one."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(oracle.SPECIAL, shape.vocab, (len(rows) * LENGTH,), generator=generator)
    found = Packed.laid(ids, rows, LENGTH)
    return Batch({"tokens": replace(found, facts={"segment": found.positions % 2})}, {})


def drawn(model: Any, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return the blocks that each layer of theirs draws for a sequence (A, B - 2, R), in training."""
    found: list[np.ndarray] = []
    original = BigBirdBlockSparseAttention._bigbird_block_rand_mask_with_head

    def record(self: Any, **arguments: Any) -> Any:
        blocks = original(self, **arguments)
        found.append(np.stack(blocks))
        return blocks

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(BigBirdBlockSparseAttention, "_bigbird_block_rand_mask_with_head", record)
        fresh(model).train()(ids[None])
    return found


def fresh(model: Any) -> Any:
    """Return a copy: a short sequence turns a model of theirs to full attention for good."""
    copy = type(model)(model.config).to(model.dtype)
    copy.load_state_dict(model.state_dict())
    return copy


def impose(learner: Any, tables: dict[int, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give our layers the blocks that theirs draw for sequences of as many blocks."""

    def draw(self: BlockSparseAttentionLayer, layout: BlockLayout) -> torch.Tensor:
        number = self.choice.seed
        out = torch.full((len(layout.place), self.choice.heads, self.choice.random_blocks), -1)
        for x, (place, count) in enumerate(zip(layout.place.tolist(), layout.count.tolist(), strict=True)):
            if 0 < place < count - 1:
                table = tables.get(count)
                inside = [b for b in range(1, count - 1) if abs(b - place) > 1]
                full = torch.tensor((inside + [-1] * self.choice.random_blocks)[: self.choice.random_blocks])
                out[x] = full if table is None else torch.from_numpy(table[number][:, place - 1])
        return out

    monkeypatch.setattr(BlockSparseAttentionLayer, "draw", draw)


@shapes
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)], ids=str)
def test_block_sparse_states_logits_and_gradients(
    tmp_path: Path, shape: BigBird, dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = oracle.build(shape, "BigBirdForMaskedLM").to(dtype)
    found = reading(tmp_path, oracle.build(shape, "BigBirdForMaskedLM"), shape)
    learner = found.learner.to(dtype)
    batch = packed(ROWS, shape)
    spans = stretches(batch.tokens)
    long = {-(-(b - a) // 4): batch.tokens.ids[a:b] for a, b in spans if b - a > 4 * (5 + 2 * shape.random)}
    impose(learner, {count: drawn(model, ids, monkeypatch) for count, ids in long.items()}, monkeypatch)

    hidden = learner.network(batch)["tokens"]
    logits = learner.heads["masked_lm"].lm_head(hidden)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    for a, b in spans:
        one = fresh(model).train()
        ids = batch.tokens.ids[a:b][None]
        expected = one(ids, token_type_ids=batch.tokens.facts["segment"][a:b][None], output_hidden_states=True)
        assert oracle.relative(hidden[a:b], expected.hidden_states[-1][0]) <= bound
        assert oracle.relative(logits[a:b], expected.logits[0]) <= bound
        (expected.logits[0] * weights[a:b]).sum().backward()
        for name, parameter in one.named_parameters():
            if parameter.grad is not None:
                total = dict(model.named_parameters())[name]
                total.grad = parameter.grad if total.grad is None else total.grad + parameter.grad

    (logits * weights).sum().backward()
    oracle.same_gradients(found, model, bound=3 * bound)


@shapes
def test_full_attention_of_short_sequences(tmp_path: Path, shape: BigBird) -> None:
    """What they call `original_full`, and turn to by themselves up to 5 + 2r blocks."""
    model = oracle.build(shape, "BigBirdForMaskedLM", attention_type="original_full")
    sparse = oracle.build(shape, "BigBirdForMaskedLM")
    sparse.load_state_dict(model.state_dict())
    learner = reading(tmp_path, sparse, shape).learner.eval()
    hidden = learner.network(oracle.packed(shape))["tokens"]
    expected = model(**oracle.padded(shape), output_hidden_states=True)
    assert oracle.relative(oracle.in_order(hidden), oracle.live(expected.hidden_states[-1])) <= FLOAT32


KINDS = {
    "Model": {},
    "ForPreTraining": {},
    "ForMaskedLM": {},
    "ForSequenceClassification": {"num_labels": 4, "classifier_dropout": 0.2},
    "ForSequenceClassification ": {"num_labels": 1, "classifier_dropout": 0.2},
}


@shapes
@pytest.mark.parametrize(("kind", "more"), KINDS.items(), ids=KINDS)
def test_from_there_to_here_and_back(tmp_path: Path, shape: BigBird, kind: str, more: dict[str, Any]) -> None:
    model = oracle.build(shape, f"BigBird{kind.strip()}", **more)
    found = reading(tmp_path / "theirs", model, shape)
    if "Sequence" in kind:
        oracle.same_classes(found.learner, model, shape)
    oracle.there_and_back(
        tmp_path / "ours",
        found,
        model,
        free={"random_focus", "random_seed", "dtype"},  # keys of ours
        unused={"bert.pooler.weight", "bert.pooler.bias"} if "Sequence" in kind else set(),
    )
    assert max(verify(tmp_path / "ours", found.learner).values()) <= FLOAT32


def test_a_row_goes_out_without_the_pooler_that_it_has_not(tmp_path: Path) -> None:
    recipe = small(tokens := oracle.tokenizer(tmp_path, "bert", 64))
    learner = recipe.learner()
    save(tmp_path / "out", recipe, learner, tokens)
    _, problems = transformers.BigBirdForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert problems["missing_keys"] == {"bert.pooler.weight", "bert.pooler.bias"}
    assert not problems["unexpected_keys"]
    again = load(tmp_path / "out").recipe.model.to_json()["attention"]
    assert again == recipe.model.to_json()["attention"]


@pytest.mark.parametrize("name", ["bigbird/base", "bigbird/large"])
def test_the_same_number_of_parameters(name: str) -> None:
    recipe = catalog.load(name).override("model.pooler", Pooler().to_json())
    _, config = layout_for(recipe, ["masked_lm"]) or pytest.fail("no layout")
    settings = transformers.BigBirdConfig(**config, vocab_size=recipe.tokens.vocab_size)
    published = {"block_size": 64, "num_random_blocks": 3, "max_position_embeddings": 4096, "vocab_size": 50_358}
    assert published.items() <= settings.to_dict().items()
    with skeleton():
        model, learner = transformers.BigBirdForMaskedLM(settings), recipe.learner()
    for ours, official in ((learner, model), (learner.network, model.bert)):
        assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in official.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_type": "sparse"}, "attention_type = 'sparse' has no counterpart here"),
        ({"use_bias": False}, "use_bias = False has no counterpart here"),
        ({"attention_type": "original_full", "use_bias": False}, "use_bias = False has no counterpart here"),
        ({"rescale_embeddings": True}, "rescale_embeddings = True has no counterpart here"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    model = oracle.build(SHAPES[0], "BigBirdModel", **{k: v for k, v in changes.items() if k != "attention_type"})
    model.config.update(changes)
    with pytest.raises(GenusError, match=message):
        reading(tmp_path, model, SHAPES[0])


def test_the_classifier_has_a_layer_with_the_activation_of_the_network(tmp_path: Path) -> None:
    model = oracle.build(SHAPES[2], "BigBirdForSequenceClassification", num_labels=3)
    recipe = reading(tmp_path, model, SHAPES[2]).recipe
    assert isinstance(recipe.objectives[0], SequenceClassification)
    choices = recipe.model.to_json()
    assert choices["pooler"]["activation"] == choices["feedforward"]["activation"] == {"kind": "Relu"}
    assert (
        layout_for(
            replace(recipe, model=recipe.model.override("pooler", Pooler().to_json())), ["sequence_classification"]
        )
        is None
    )


def small(tokenizer: Any, **changes: Any) -> Recipe:
    """Return `bigbird/tiny` with blocks of 4, as wide as the middle one of RoBERTa's shapes."""
    sizes = {
        "layers": 2,
        "hidden": 24,
        "feedforward": {"size": 40},
        "attention": {"heads": 3, "block_size": 4, "num_global_tokens": 4},
    }
    recipe = catalog.load("bigbird/tiny").overlay({"model": sizes | changes})
    return replace(recipe, tokens=tokenizer.tokens)


def test_it_starts_from_roberta(tmp_path: Path) -> None:
    """The 40 positions of RoBERTa serve 512; short sequences are given the very same states, whatever their segment."""
    shape = oracle.ROBERTA[1]
    model = oracle.build(replace(shape, segments=1, activation="gelu_new"), "RobertaForMaskedLM")
    model.save_pretrained(tmp_path)
    tokenizer = oracle.tokenizer(tmp_path, "roberta", shape.vocab)
    eps = {"norm": {"eps": 1e-5}, "embedding": {"norm": {"eps": 1e-5}}}
    recipe, learner = pipeline.from_pretrained(small(tokenizer, **eps), tokenizer, tmp_path)
    assert isinstance(recipe.model.attention, BlockSparseAttention)  # type: ignore[attr-defined]
    state, old = learner.state_dict(), model.state_dict()
    positions = state["network.embed.positions.table.weight"]
    assert positions.shape == (512, 24)
    expected = old["roberta.embeddings.position_embeddings.weight"][2:]
    assert all(torch.equal(positions[p], expected[p % 40]) for p in range(512))
    assert torch.equal(*state["network.embed.segments.weight"])
    ids = torch.randint(4, shape.vocab - 1, (1, 26), generator=torch.Generator().manual_seed(0))
    batch = Batch({"tokens": equal_rows(ids, {"segment": torch.arange(26) % 2})}, {})
    hidden = learner.eval().network(batch)["tokens"]
    assert oracle.relative(hidden, model(ids, output_hidden_states=True).hidden_states[-1][0]) <= FLOAT32


def test_a_start_of_another_size_is_one_line(tmp_path: Path) -> None:
    for shape, heads in ((oracle.ROBERTA[2], 8), (oracle.ROBERTA[0], 2)):
        oracle.build(shape, "RobertaForMaskedLM").save_pretrained(tmp_path)
        tokenizer = oracle.tokenizer(tmp_path, "roberta", shape.vocab)
        with pytest.raises(GenusError, match=f"the model read has {heads} attention heads, not 3"):
            pipeline.from_pretrained(small(tokenizer), tokenizer, tmp_path)


def test_another_bigbird_is_started_from_as_it_is(tmp_path: Path) -> None:
    tokenizer = oracle.tokenizer(tmp_path, "bert", SHAPES[1].vocab)
    source = reading(tmp_path, oracle.build(SHAPES[1], "BigBirdForMaskedLM"), SHAPES[1])
    recipe, learner = pipeline.from_pretrained(
        small(tokenizer).override("stages.0.max_length", 80), tokenizer, tmp_path
    )
    assert recipe.model == source.recipe.model
    given = source.learner.state_dict()
    assert all(torch.equal(x, given[name]) for name, x in learner.state_dict().items())
