"""Probabilities in place of tokens: at one-hot ones all models read the text itself, and gradients reach them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
from test_whole_way import each, smallest

from genus import catalog
from genus.attack import Example
from genus.attack.gbda import GBDA, Search, attacked_texts
from genus.attack.relaxation import Copies, RelaxedEncoder, RelaxedLanguageModel, RelaxedTarget
from genus.attack.target import Target
from genus.attack.tokens import AttackedText
from genus.evaluate.likelihood import log_likelihoods
from genus.examples import Example as Read
from genus.examples import Sequence
from genus.examples.feed.pack import pack
from genus.export.folder import LoadedModel
from genus.model.input_embeddings import relaxed_embeddings
from genus.objectives import answering
from genus.tasks.classification import Classification
from genus.tasks.start import Start
from small import documents, of_texts, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.attack.models import Models
    from genus.batch import Batch
    from genus.tasks.dataset import LabeledRow

SAMPLES = 2
ROUNDING = 1e-4
"""Of logits in float32: embeddings are the same to the last digit or two, and attention sums rows of other lengths."""


def one_hot(copies: Copies, vocab_size: int, changed: dict[int, int] | None = None) -> torch.Tensor:
    """Return the tokens of the texts as probabilities, with other ones at some rows of Θ."""
    ids = np.concatenate([text.ids[text.movable] for text in copies.texts])
    for row, new in (changed or {}).items():
        ids[row] = new
    return torch.nn.functional.one_hot(torch.from_numpy(ids), vocab_size).float().repeat(copies.samples, 1)


def examples(target: Target, texts: list[tuple[str, ...]], attacked: int) -> Copies:
    several = [Example(number, one, 0, attacked) for number, one in enumerate(texts)]
    made = [
        AttackedText.of(one, target.model.tokenizer, len(target.encoded([one.texts]).texts[0][attacked]))
        for one in several
    ]
    return Copies(made, SAMPLES)


@pytest.mark.parametrize("member", each())
def test_every_member_reads_the_text_itself_at_one_hot_tokens(member: str) -> None:
    recipe = shrunk(catalog.load(smallest(member)))
    if not of_texts(recipe):
        pytest.skip("reads images too")
    tokenizer = recipe.tokens.train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    task = Classification()
    objective = task.objective(["a", "b", "c"]).continued(recipe.objectives, recipe.model)
    start = Start(recipe, tokenizer)
    tuned = start.fine_tuned(objective, recipe.finetuning)
    model = LoadedModel(tuned, start.build(tuned, 0), start.reader(objective, recipe.finetuning))
    target = Target.of(model, task.resolved_for(objective), member)
    texts = [(documents()[0][:60],), (documents()[1][:35],)]
    copies = examples(target, texts, 0)
    relaxed = RelaxedTarget.of(target, copies)
    tokens = one_hot(copies, model.tokenizer.vocabulary.size).requires_grad_()
    logits = relaxed.logits(tokens)
    expected = target.logits(texts * SAMPLES)
    assert logits.detach().numpy() == pytest.approx(expected, abs=ROUNDING * max(1.0, float(np.abs(expected).max())))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), tokens)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(-1) > 0).float().mean() > 0.5, "of most tokens; some attention reads a part of a text"
    assert all(parameter.grad is None for parameter in model.learner.parameters())


def test_states_are_equal_to_a_millionth(target: Target, vocabulary: Any) -> None:
    network = target.model.learner.network
    ids = np.array(vocabulary.encode(["the cat, a saw and zebra."])[0], np.int64)
    sequence = Sequence(*vocabulary.vocabulary.frame(ids))
    batch: Batch = pack([[Read({"tokens": sequence}, {})]], len(sequence.ids), 0, streams=False)
    every = torch.arange(len(sequence.ids))
    tokens = torch.nn.functional.one_hot(batch.tokens.ids, vocabulary.vocabulary.size).float()
    with answering(target.model.learner):
        plain = network(batch)["tokens"]
        with relaxed_embeddings(network, batch, tokens, {"tokens": (every, every)}):
            relaxed = network(batch)["tokens"]
        mixed_tokens = tokens.clone()
        mixed_tokens[3] = 0.5 * tokens[3] + 0.5 * tokens[5]
        with relaxed_embeddings(network, batch, mixed_tokens, {"tokens": (every, every)}):
            mixed = network(batch)["tokens"]
        again = network(batch)["tokens"]
    assert relaxed.numpy() == pytest.approx(plain.numpy(), abs=1e-6)
    assert not torch.allclose(mixed, plain, atol=1e-3)
    assert torch.equal(again, plain), "the hooks are gone"


CASES: dict[str, tuple[Any, str, list[tuple[str, ...]], int]] = {
    "the second of a pair": (
        Classification(texts=("one", "two")), "bert/tiny",
        [("A cat and a dog.", "The river, a stone."), ("A saw.", "a drill and a letter")], 1,
    ),
    "the first of a pair": (
        Classification(texts=("one", "two")), "bert/tiny", [("A cat and a dog.", "The river."), ("a saw", "a bird")], 0,
    ),
    "a pair in both orders": (
        Classification(texts=("one", "two"), symmetric=True), "bert/tiny",
        [("A cat and a dog.", "The river, a stone."), ("A saw.", "a drill and a letter")], 1,
    ),
    "a text that is read twice": (Classification(), "bart/tiny", [("A cat and a dog.",), ("the saw",)], 0),
    "a decoder": (Classification(), "gpt2/tiny", [("A cat and a dog.",), ("the saw",)], 0),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_probabilities_stand_where_the_tokens_do(case: str, classifier: Callable[..., Target]) -> None:
    """Another token at any place gives the logits of the text with that token there, and of no other text."""
    task, member, texts, attacked = CASES[case]
    target = classifier(task, member)
    copies = examples(target, texts, attacked)
    relaxed = RelaxedTarget.of(target, copies)
    size = target.model.tokenizer.vocabulary.size
    plain = target.logits(texts)
    tokens = one_hot(copies, size)
    assert relaxed.logits(tokens).numpy(force=True) == pytest.approx(np.tile(plain, (SAMPLES, 1)), abs=1e-5)
    horse = target.model.tokenizer.encode(["horse"])[0][0]
    starts = copies.starts
    for row in range(starts[-1]):
        owner = int(np.searchsorted(starts, row, side="right")) - 1
        own = copies.texts[owner].ids[copies.texts[owner].movable].copy()
        own[row - starts[owner]] = horse
        changed = [*texts]
        changed[owner] = copies.texts[owner].example.changed(copies.texts[owner].written(own.tolist()))
        expected = target.logits(changed)
        found = relaxed.logits(one_hot(copies, size, {row: horse})).numpy(force=True)
        assert found == pytest.approx(np.tile(expected, (SAMPLES, 1)), abs=1e-5), copies.texts[owner].written(
            own.tolist()
        )


def test_likelihood_and_similarity_are_those_of_the_texts(models: Models, quiet: list[LabeledRow]) -> None:
    several = [Example(number, row.texts, 0, 0) for number, row in enumerate(quiet[:3])]
    copies = Copies(attacked_texts(models, several), SAMPLES)
    size = models.target.model.tokenizer.vocabulary.size
    assert models.fluency is not None
    assert models.predictor is not None
    language_model = RelaxedLanguageModel.of(models.predictor, models.fluency.tokenizer.vocabulary, copies, 64)
    encoder = RelaxedEncoder.of(models.encoder, copies)
    zebra = models.target.model.tokenizer.encode(["zebra"])[0][0]
    for changed in ({}, {2: zebra, copies.starts[1] + 1: zebra}):
        tokens = one_hot(copies, size, changed)
        texts = []
        for number, text in enumerate(copies.texts):
            ids = text.ids[text.movable].copy()
            for row, new in changed.items():
                if copies.starts[number] <= row < copies.starts[number + 1]:
                    ids[row - copies.starts[number]] = new
            texts.append(text.written(ids.tolist()))
        known = log_likelihoods(models.fluency.learner, models.fluency.tokenizer, texts)
        expected = [-one.nats / one.tokens for one in known] * SAMPLES
        assert language_model.nll(tokens).tolist() == pytest.approx(expected, rel=1e-4)
        recalls = [one.recall for one in models.encoder(texts, [one.text for one in several])]
        assert encoder.recall(tokens).tolist() == pytest.approx(recalls * SAMPLES, abs=1e-5)
        assert (min(recalls) == pytest.approx(1.0, abs=1e-5)) == (not changed)


def test_the_loss_of_a_text_does_not_depend_on_its_neighbors(models: Models, quiet: list[LabeledRow]) -> None:
    """The gradient of Θ is that of each text alone."""
    several = [Example(number, row.texts, 1, 0) for number, row in enumerate(quiet[:3])]
    choice, texts = GBDA(batch=2), attacked_texts(models, several)
    together = Search.of(choice, models, texts)
    theta = together.beginning()
    tokens = (theta + torch.randn(2, *theta.shape, generator=torch.Generator().manual_seed(0))).softmax(-1)
    tokens.requires_grad_()
    (every,) = torch.autograd.grad(together.loss(tokens), tokens)
    starts = Copies(texts, 1).starts
    for number, text in enumerate(texts):
        alone = Search.of(choice, models, [text])
        own = tokens.detach()[:, starts[number] : starts[number + 1]].requires_grad_()
        (gradient,) = torch.autograd.grad(alone.loss(own), own)
        assert torch.allclose(gradient, every[:, starts[number] : starts[number + 1]], atol=1e-4)
        assert gradient.abs().sum() > 0
