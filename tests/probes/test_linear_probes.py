"""Linear probes: the classifier beside scikit-learn's, states beside `features`, and labels that a layer has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus.errors import GenusError
from genus.evaluate.logistic_regression import fitted
from genus.probes import linear
from genus.probes.linear import Labeled, predicted, probe_layers
from genus.tasks.features import feature_blocks, number_of_layers
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

CORPUS = ["the cat sat on the mat and the dog ran to the door . a bird sang in the old tree"] * 20
WORDS = CORPUS[0].split()


def texts(number: int, seed: int) -> Labeled:
    draw = np.random.default_rng(seed)
    made = [" ".join(draw.choice(WORDS, 6)) for _ in range(number)]
    return Labeled(made, ["cat" if "cat" in text else "none" for text in made])


def test_the_classifier_is_that_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(0)
    x, noise = draw.normal(size=(200, 8)), draw.normal(size=(200, 3))
    truth = (x @ draw.normal(size=(8, 3)) + noise).argmax(1)
    weight, bias = fitted(torch.from_numpy(x), torch.from_numpy(truth), 3)
    theirs = sklearn.LogisticRegression(C=1.0, tol=1e-8, max_iter=2_000).fit(x, truth)
    ours = (torch.from_numpy(x) @ weight.T + bias).softmax(1).numpy()
    assert np.abs(ours - theirs.predict_proba(x)).max() < 1e-3


def test_a_dimension_that_never_changes_is_no_harm() -> None:
    draw = np.random.default_rng(1)
    x = np.concatenate([draw.normal(size=(60, 3)), np.ones((60, 1))], 1).astype(np.float32)
    truth = (x[:, 0] > 0).astype(np.int64)
    assert (predicted(x[:40], truth[:40], x[40:], 2) == truth[40:]).mean() > 0.9


@pytest.mark.parametrize(
    ("row", "tokens"),
    [
        ("bert/tiny", WordPiece(vocab_size=60, lowercase=True)),
        ("gpt2/tiny", ByteBPE(vocab_size=300, special_tokens=GPT2)),
    ],
)
def test_every_layer_is_probed_on_its_own_states(tmp_path: Path, row: str, tokens: object) -> None:
    model = in_float64(write_model(tmp_path, row, tokens, CORPUS, WIDE))  # type: ignore[arg-type]
    train, test = texts(80, 0), texts(40, 1)
    found = probe_layers(model, train, test)
    assert [*found.accuracy] == [*range(number_of_layers(model) + 1)]
    assert found.classes == ["cat", "none"]
    usual = max(("cat", "none"), key=train.labels.count)
    assert found.majority.mean == test.labels.count(usual) / 40
    for layer, one in found.accuracy.items():
        sides = [
            np.concatenate([block.vectors for block in feature_blocks(model, some.texts, (layer,))])
            for some in (train, test)
        ]
        truth = [np.array([found.classes.index(label) for label in some.labels]) for some in (train, test)]
        told = predicted(sides[0], truth[0], sides[1], 2)
        assert one.mean == pytest.approx((told == truth[1]).mean())
    assert found.accuracy[0].mean > found.majority.mean  # the mean of embeddings says which words there are


def test_labels_that_no_state_tells_are_told_as_often_as_by_chance(tmp_path: Path) -> None:
    model = in_float64(write_model(tmp_path, "bert/tiny", WordPiece(vocab_size=60, lowercase=True), CORPUS, WIDE))
    draw, train, test = np.random.default_rng(3), texts(150, 0), texts(150, 1)
    of_nothing = [Labeled(one.texts, draw.choice(["a", "b"], 150).tolist()) for one in (train, test)]
    found = probe_layers(model, *of_nothing)
    assert all(abs(one.mean - 0.5) < 4 * 0.5 / 150**0.5 for one in found.accuracy.values())


def test_tables_that_say_nothing_are_refused(tmp_path: Path) -> None:
    model = in_float64(write_model(tmp_path, "bert/tiny", WordPiece(vocab_size=60, lowercase=True), CORPUS, WIDE))
    with pytest.raises(GenusError, match="the training table has one label"):
        probe_layers(model, Labeled(["a", "b"], ["x", "x"]), Labeled(["a"], ["x"]))
    with pytest.raises(GenusError, match="the label 'z' is in no training row"):
        probe_layers(model, Labeled(["a", "b"], ["x", "y"]), Labeled(["a"], ["z"]))
    assert linear.PENALTY == 1
