"""ERNIE 2.0's tasks: capital letters, and every head against a slow transcription of its equation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import GenusError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.objectives.pretraining.labels import CapitalPrediction, cases
from genus.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Batch
    from genus.objectives import Learner

TOLERANCE = 1e-6
"""The heads take their softmax in float32, which has 24 bits; all before it is float64 here."""

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES += ["The", "the", "River", "river", "Obama", "42", ",", "##The", "##s", "an"]
WORDS = Vocabulary(
    size=len(PIECES), roles={"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
    special=np.arange(len(PIECES)) < 5,
    word_start=np.array([not piece.startswith("##") for piece in PIECES]),
    single=((2, None, 0), (None, 0, 0), (3, None, 0)),
    pair=((2, None, 0), (None, 0, 0), (3, None, 0), (None, 1, 1), (3, None, 1)),
    texts=tuple("" if piece.startswith("[") else piece.removeprefix("##") for piece in PIECES),
)  # fmt: skip


def shown(text: str) -> tuple[str, dict[str, int]]:
    """Return what the model sees of a text, and the label of every piece that has one, by place."""
    ids = np.array([PIECES.index(piece) for piece in text.split()])
    example = Example({"tokens": Sequence(*WORDS.frame(ids))}, {})
    found = CapitalPrediction().prepare_example(example, WORDS, np.random.default_rng(0))
    np.testing.assert_array_equal(example.tokens.ids[1:-1], ids)
    where, label = found.targets["capital_prediction"]
    seen = " ".join(PIECES[number] for number in found.tokens.ids[1:-1])
    return seen, dict(zip((where - 1).tolist(), label.tolist(), strict=True))


class TestCapitalPrediction:
    def test_the_model_sees_small_letters_and_is_asked_for_the_case(self) -> None:
        assert shown("The river , the River") == ("the river , the river", {0: 1, 1: 0, 3: 0, 4: 1})

    def test_what_has_no_small_form_or_no_letters_is_not_asked_for(self) -> None:
        assert shown("Obama 42 , an river ##s") == ("Obama 42 , an river ##s", {3: 0, 4: 0})

    def test_only_the_first_piece_of_a_word_has_a_case(self) -> None:
        assert shown("river ##The") == ("river ##The", {0: 0})

    def test_the_frame_stays(self) -> None:
        small, label = cases(WORDS)
        np.testing.assert_array_equal(small[:5], np.arange(5))
        assert (label[:5] == -1).all()

    def test_a_vocabulary_without_capitals_is_refused_in_one_line(self) -> None:
        uncased = replace(WORDS, texts=tuple(text.lower() for text in WORDS.texts))
        with pytest.raises(GenusError, match=r"set tokens\.lowercase=false") as error:
            cases(uncased)
        assert "\n" not in str(error.value)


CLASSES = {
    "capital_prediction": 2,
    "token_document": 2,
    "sentence_reordering": 1 + 2 + 6,
    "sentence_distance": 3,
    "discourse_relation": 28,
    "relevance": 3,
}
OF_TOKENS = {"capital_prediction", "token_document"}
LENGTHS = (9, 5, 12)
PLACES = (0, 9, 16)


def learner() -> Learner:
    """Return a tiny float64 learner in which every parameter is random."""
    changes = ["model.hidden=16", "model.attention.heads=2", "model.feedforward.size=24", "tokens.vocab_size=40"]
    torch.manual_seed(0)
    made = catalog.load("ernie2/tiny", changes).learner().double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


def batch(name: str) -> tuple[Batch, list[tuple[int, int]]]:
    """Return a packed batch for one task, and (place on the packed axis, label) of every target."""
    rng = np.random.default_rng(0)
    examples, expected = [], []
    for length, place in zip(LENGTHS, PLACES, strict=True):
        ids = rng.integers(5, 40, length)
        index = np.array([1, 3, 4]) if name in OF_TOKENS else np.array([0])
        label = rng.integers(0, CLASSES[name], len(index))
        expected += [(place + int(i), int(k)) for i, k in zip(index, label, strict=True)]
        sequence = Sequence(ids, ids * 0, np.zeros(length, dtype=bool))
        examples.append(Example({"tokens": sequence}, {name: (index, label)}))
    packed = pack([[examples[0], examples[1]], [examples[2]]], 16, 0, max_targets={name: 20})
    return replace(packed, heads=frozenset({name})), expected


def slow(made: Learner, hidden: Tensor, name: str, expected: list[tuple[int, int]]) -> float:
    """Return the summed loss, one target after the other: softmax(W h + b), h pooled as tanh(W h + b) for sequences."""
    head, pooler = made.heads[name].classes, made.network.pooler[0]
    total = 0.0
    for place, label in expected:
        state = hidden[place]
        if name not in OF_TOKENS:
            state = torch.tanh(pooler.weight @ state + pooler.bias)
        logits = head.weight @ state + head.bias
        total -= float(torch.log(torch.exp(logits) / torch.exp(logits).sum())[label])
    return total


@pytest.mark.parametrize("name", CLASSES)
def test_the_loss_of_a_task_is_its_equation(name: str) -> None:
    made, (packed, expected) = learner().eval(), batch(name)
    with torch.no_grad():
        hidden = made.network(packed)["tokens"]
        found = made(packed).sums
        exact = slow(made, hidden, name, expected)
    assert found.keys() == {name, f"{name}/correct"}
    assert made.heads[name].classes.out_features == CLASSES[name]
    assert made.counts(packed) == {name: len(expected)}
    assert float(found[name]) == pytest.approx(exact, rel=TOLERANCE)


@pytest.mark.parametrize("name", ["sentence_distance", "token_document"])
def test_only_the_heads_that_a_batch_names_learn_from_it(name: str) -> None:
    made, (packed, _) = learner(), batch(name)
    made.objective(made(packed).sums, made.counts(packed)).backward()
    reached = [one for one, parameter in made.named_parameters() if parameter.grad is not None]
    learned = {one.split(".")[1] for one in reached if one.startswith("heads.")}
    assert learned == {name}


def test_the_task_s_vector_is_added() -> None:
    """The same tokens as another task have the embeddings of that task, and only its vector gets a gradient."""
    made, (packed, _) = learner().eval(), batch("relevance")
    facts = {**packed.tokens.facts, "task": torch.full_like(packed.tokens.ids, 3)}
    other = replace(packed, streams={"tokens": replace(packed.tokens, facts=facts)})
    embed = made.network.embed
    difference = embed.total(other.tokens) - embed.total(packed.tokens)
    expected = embed.tasks.weight[3] - embed.tasks.weight[0]
    torch.testing.assert_close(difference, expected.expand_as(difference))
    made.objective(made(other).sums, made.counts(other)).backward()
    assert embed.tasks.weight.grad is not None
    assert embed.tasks.weight.grad.abs().sum(1).nonzero()[:, 0].tolist() == [3]
