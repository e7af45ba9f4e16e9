"""A loss of a whole update: cached gradients equal those of one pass, whatever the micro-batches, and dropout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import UsageError
from genus.objectives.pooling import First, Last, Mean, Pooling
from genus.objectives.similarity.info_nce import InfoNCE
from genus.objectives.similarity.scores import CoSENT, CosineRegression
from genus.objectives.similarity.triplet import Triplet
from genus.objectives.supervised.embedding import SentenceEmbedder
from genus.tasks.dataset import LabeledRow
from genus.tasks.feed import Shuffled
from genus.tasks.sentence_embedding import SentenceEmbedding
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.train.run import Run
from genus.train.step import TrainStep
from genus.train.world import World
from small import shrunk

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.objectives.similarity import SimilarityLoss
    from genus.recipe import Recipe
    from genus.tasks.embedded_rows import EmbeddedRows
    from genus.tokens.tokenizer import Tokenizer

WORDS = ["the", "old", "river", "carries", "a", "letter", "in", "winter", "and", "small", "numbers", "remember"]
BATCH = 8


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return WordPiece(vocab_size=120, lowercase=True).train([" ".join(WORDS)] * 20)


def rows(texts: int, *, scored: bool = False) -> list[LabeledRow]:
    draw = np.random.default_rng(0)
    made = []
    for number in range(BATCH):
        several = [" ".join(draw.choice(WORDS, draw.integers(1, 9))) for _ in range(texts)]
        made.append(LabeledRow(number, tuple(several), f"{number / BATCH}" if scored else several[1]))
    return made


def model(dropout: float) -> Recipe:
    recipe = shrunk(catalog.load("bert/tiny"))
    return replace(recipe, model=recipe.model.overlay({"dropout": dropout, "embedding": {"dropout": dropout}}))


def encoded(tokenizer: Tokenizer, loss: SimilarityLoss, texts: int) -> EmbeddedRows:
    columns = ("anchor", "positive", "negative", "other")[:texts]
    task = SentenceEmbedding(texts=columns, loss=loss, label="score" if loss.scored else "")
    return task.encode(tokenizer, rows(texts, scored=loss.scored), SentenceEmbedder(loss=loss), 24)


def learner_of(recipe: Recipe, tokenizer: Tokenizer, objective: SentenceEmbedder) -> Learner:
    torch.manual_seed(1)
    tokens = replace(recipe.tokens, vocab_size=tokenizer.vocabulary.size)
    return replace(recipe, tokens=tokens, objectives=(objective,)).learner()


def step_of(learner: Learner, recipe: Recipe, size: int = 1) -> TrainStep:
    run = Run(device="cpu", precision="float32")
    return TrainStep(learner, recipe.finetuning.optimizer, run, World(0, size, torch.device("cpu")), seed=3)


def gradients(
    recipe: Recipe, tokenizer: Tokenizer, loss: SimilarityLoss, texts: int, accumulate: int, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], float]:
    """Return the gradient of one update that is divided into so many micro-batches, and its loss."""
    learner = learner_of(recipe, tokenizer, SentenceEmbedder(loss=loss, normalize=True)).to(dtype)
    feed = Shuffled(encoded(tokenizer, loss, texts), BATCH // accumulate, seed=0)
    step, batches = step_of(learner, recipe), {number: feed[number] for number in range(accumulate)}
    learner.train()
    counts = {"sentence_embedder": torch.tensor(BATCH)}
    sums = step._gradients(batches, 0, counts)
    found = {name: one.grad.clone() for name, one in learner.named_parameters() if one.grad is not None}
    assert found
    return found, float(learner.objective(sums, counts))


LOSSES = [(InfoNCE(), 2), (InfoNCE(symmetric=True), 3), (Triplet(), 4), (CosineRegression(), 2), (CoSENT(), 2)]


@pytest.mark.parametrize(("loss", "texts"), LOSSES)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_dividing_an_update_changes_no_gradient(
    tokenizer: Tokenizer, loss: SimilarityLoss, texts: int, dtype: torch.dtype, close: float
) -> None:
    whole, expected = gradients(model(0.0), tokenizer, loss, texts, 1, dtype)
    for accumulate in (2, 4, 8):
        divided, found = gradients(model(0.0), tokenizer, loss, texts, accumulate, dtype)
        assert found == pytest.approx(expected, rel=1e-6)  # sums of losses are kept in float32
        assert divided.keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(
                divided[name], gradient, rtol=0, atol=close * max(1.0, float(gradient.abs().max()))
            )


@pytest.mark.parametrize(("loss", "texts"), LOSSES)
def test_with_dropout_it_is_the_gradient_of_one_graph_over_all_micro_batches(
    tokenizer: Tokenizer, loss: SimilarityLoss, texts: int
) -> None:
    """Dropout is drawn by micro-batch, so the reference keeps the graphs of all of them, and has one loss."""
    recipe = model(0.2)
    learner = learner_of(recipe, tokenizer, SentenceEmbedder(loss=loss)).double().train()
    feed = Shuffled(encoded(tokenizer, loss, texts), 2, seed=0)
    batches = {number: feed[number] for number in range(4)}
    vectors, head = [], learner.heads["sentence_embedder"]
    for number, batch in batches.items():
        key = np.random.SeedSequence((3, 0, number))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))
        vectors.append(head.outputs(learner.network, learner.network(batch), batch)["vectors"])
    total = head.joint_loss(vectors, [batch.targets["sentence_embedder"] for batch in batches.values()]) / BATCH
    total.backward()
    expected = {name: one.grad.clone() for name, one in learner.named_parameters() if one.grad is not None}
    learner.zero_grad()
    step_of(learner, recipe)._gradients(batches, 0, {"sentence_embedder": torch.tensor(BATCH)})
    for name, gradient in expected.items():
        torch.testing.assert_close(learner.get_parameter(name).grad, gradient, rtol=0, atol=1e-12)
    still, _ = gradients(model(0.0), tokenizer, loss, texts, 4, torch.float64)
    assert any((expected[name] - one).abs().max() > 1e-4 for name, one in still.items())  # dropout did something


class FakeTransformer(torch.nn.Module):
    """What a loss of sentence-transformers asks of a model: vectors of padded token ids, here by our learner."""

    def __init__(self, learner: Learner, vectors: Any) -> None:
        super().__init__()
        self.learner, self.vectors = learner, vectors

    def __getitem__(self, index: int) -> Any:
        return self

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": self.vectors(features["input_ids"])}


def test_it_equals_the_cached_loss_of_sentence_transformers(tokenizer: Tokenizer) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    loss, recipe = InfoNCE(), model(0.0)
    found, value = gradients(recipe, tokenizer, loss, 3, 4, torch.float64)
    learner = learner_of(recipe, tokenizer, SentenceEmbedder(loss=loss, normalize=True)).double()
    all_rows = encoded(tokenizer, loss, 3)

    def vectors(numbers: torch.Tensor) -> torch.Tensor:
        """Embed texts by their place in the table, given as ids of one token."""
        from genus.batch import Targets
        from genus.examples.feed.pack import pack

        examples = [all_rows.example(int(number)) for number in numbers[:, 0]]
        batch = pack([[one] for one in examples], 24, tokenizer.vocabulary.pad, streams=False)
        index = torch.arange(len(examples)) * 24
        batch = replace(batch, targets={"sentence_embedder": Targets(index, index)})
        head = learner.heads["sentence_embedder"]
        return head.outputs(learner.network, learner.network(batch), batch)["vectors"]

    columns = [torch.arange(column, 3 * BATCH, 3)[:, None] for column in range(3)]
    features = [{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in columns]
    cached = losses.CachedMultipleNegativesRankingLoss(FakeTransformer(learner, vectors), mini_batch_size=3)
    reference = cached(features, torch.zeros(BATCH))
    reference.backward()
    assert value == pytest.approx(reference.item(), rel=1e-6)
    for name, gradient in found.items():
        torch.testing.assert_close(learner.get_parameter(name).grad, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", [Mean(), First(), Last()])
def test_poolings_are_those_of_padded_rows(tokenizer: Tokenizer, pooling: Pooling) -> None:
    """Against sentence-transformers' module on the same states, padded."""
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    recipe = model(0.0)
    learner = learner_of(recipe, tokenizer, SentenceEmbedder(pooling=pooling)).eval()
    batch = Shuffled(encoded(tokenizer, InfoNCE(), 2), BATCH, seed=0)[0]
    states = learner.network(batch)
    found = learner.heads["sentence_embedder"].outputs(learner.network, states, batch)["vectors"].flatten(0, 1)
    starts = batch.targets["sentence_embedder"].index.flatten().tolist()
    spans = {start: states["tokens"][start:end] for start, end in batch.tokens.spans()}
    padded = torch.nn.utils.rnn.pad_sequence([spans[start] for start in starts], batch_first=True, padding_value=7.0)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(spans[start])) for start in starts], batch_first=True)
    mode = {"Mean": "mean", "First": "cls", "Last": "lasttoken"}[type(pooling).__name__]
    given = {"token_embeddings": padded, "attention_mask": mask.long()}
    expected = modules.Pooling(padded.shape[-1], pooling_mode=mode)(given)["sentence_embedding"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_several_processes_are_refused(tokenizer: Tokenizer) -> None:
    recipe = model(0.0)
    with pytest.raises(UsageError, match="compares all examples of an update"):
        step_of(learner_of(recipe, tokenizer, SentenceEmbedder()), recipe, size=2)
