"""Inference: what is asked together is answered as what is asked alone, whatever is in the pass."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus import catalog
from genus.evaluate.fill import BLANK
from genus.evaluate.token_prediction import HiddenTokens, Predictor
from genus.examples import Sequence
from genus.export.folder import fitting_tokenizer
from genus.inference.engine import ROW, Inference, plan, row_of
from genus.tasks.answer import works
from genus.tasks.choice import Choice
from genus.tasks.classification import Classification
from genus.tasks.dataset import LabeledRow
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.tagging import Tagging
from small import documents

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.tasks import Task
    from genus.tasks.encode import EncodedTexts
    from genus.tokens.tokenizer import Tokenizer

TEXTS = ["the old river", "seven stones carry the long letter in winter " * 8, "a", "", "letters " * 30]
ROWS = {
    Classification: [LabeledRow(n, (text,), None) for n, text in enumerate(TEXTS, 1)],
    Tagging: [LabeledRow(n, tuple(text.split()) or ("a",), None) for n, text in enumerate(TEXTS, 1)],
    Choice: [LabeledRow(1, ("river", "old", "new"), None), LabeledRow(2, ("stone", "a", "b", "c " * 50), None)],
    QuestionAnswering: [LabeledRow(n, ("who", text), None) for n, text in enumerate(TEXTS, 1) if text],
}
EXACT = 1e-10


def asked(name: str, kind: type[Task], labels: tuple[str, ...] = ("x", "y", "z")) -> tuple[Learner, EncodedTexts]:
    """Return a small learner of random float64 weights with the head of a task, and its encoded rows."""
    recipe = catalog.load(f"{name}/tiny")
    tokenizer: Tokenizer = replace(recipe.tokens, vocab_size=300).train(documents())
    task = kind()
    objective = task.objective(labels).continued(recipe.objectives, recipe.model)
    recipe = replace(recipe, tokens=tokenizer.tokens, objectives=(objective,))
    tokenizer = fitting_tokenizer(tokenizer, recipe.model, (objective,))
    torch.manual_seed(0)
    learner = recipe.learner().double().eval()
    return learner, task.encode(tokenizer, ROWS[kind], objective, 96)


@pytest.mark.parametrize("name", ["bert", "xlnet", "bigbird", "linformer", "reformer", "gpt", "lstm", "genus", "t5"])
def test_texts_of_all_lengths_are_answered_as_alone(name: str) -> None:
    learner, encoded = asked(name, Classification)
    together = Inference().run(asked_of := works(learner, encoded))
    alone = [Inference().run([work])[0] for work in asked_of]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=EXACT)
    assert len({one.tobytes() for one in alone}) == len(alone)


@pytest.mark.parametrize("kind", [Tagging, Choice, QuestionAnswering])
def test_targets_of_several_tokens_are_answered_as_alone(kind: type[Task]) -> None:
    labels = ("O", "B-x", "I-x") if kind is Tagging else ()
    learner, encoded = asked("bert", kind, labels)
    passes = [work.learner for work in works(learner, encoded)]
    assert len(passes) > 1
    together = Inference().forward(works(learner, encoded))
    for work, one in zip(works(learner, encoded), together, strict=True):
        np.testing.assert_allclose(one, Inference().run([work])[0], atol=EXACT)


def test_requests_of_other_widths_share_a_pass() -> None:
    """A question with two choices beside one with three, each encoded by itself: as two requests that meet."""
    learner, _ = asked("bert", Choice)
    recipe = catalog.load("bert/tiny")
    tokenizer = replace(recipe.tokens, vocab_size=300).train(documents())
    objective = Choice().objective(())
    single = [Choice().encode(tokenizer, [row], objective, 96) for row in ROWS[Choice]]
    both = [work for encoded in single for work in works(learner, encoded)]
    found = Inference().forward(both)
    assert [one.shape for one in found] == [(1, 2), (1, 3)]
    for work, one in zip(both, found, strict=True):
        np.testing.assert_allclose(one, Inference().run([work])[0], atol=EXACT)


@pytest.mark.parametrize("name", ["bert", "xlnet", "electra"])
def test_masks_of_several_texts_are_filled_as_alone(name: str) -> None:
    recipe = catalog.load(f"{name}/tiny")
    tokenizer = replace(recipe.tokens, vocab_size=300).train(documents())
    torch.manual_seed(0)
    learner = replace(recipe, tokens=tokenizer.tokens).learner().double().eval()
    predictor = Predictor.find(learner, "masked", "permuted")
    assert predictor is not None
    mask, vocabulary = tokenizer.pieces[tokenizer.vocabulary.mask], tokenizer.vocabulary
    asked_of = []
    for text in ("the ___ river", "___ stones in ___ winter", "a ___"):
        given = BLANK.sub(lambda _: mask, text)
        sequence = Sequence(*vocabulary.frame(np.array(tokenizer.encode([given], specials=(mask,))[0], np.int64)))
        places = np.flatnonzero(sequence.ids == vocabulary.mask)
        asked_of.append(HiddenTokens.of(predictor, predictor.hide(sequence, places, vocabulary), vocabulary.pad))
    for work, one in zip(asked_of, Inference().forward(asked_of), strict=True):
        torch.testing.assert_close(one, Inference().run([work])[0], atol=EXACT, rtol=0)


def test_a_pass_has_texts_of_like_length_and_a_bounded_number_of_tokens() -> None:
    learner, encoded = asked("bert", Classification)
    few = [replace(work, lengths={"tokens": [n]}) for n in (5, 128, 129, 500, 256) for work in works(learner, encoded)]
    for chosen in plan(few, 300):
        lengths = [few[i].lengths["tokens"][0] for i in chosen]
        assert len({row_of(n) for n in lengths}) == 1
        assert sum(lengths) <= 300 or len(lengths) == 1
    assert sorted(i for chosen in plan(few, 300) for i in chosen) == [*range(len(few))]
    assert [row_of(n) for n in (1, ROW, ROW + 1, 256, 257)] == [128, 128, 256, 256, 512]


def test_threads_get_their_own_answers() -> None:
    learner, encoded = asked("bert", Classification)
    asked_of = works(learner, encoded)
    expected = Inference().run(asked_of)
    wrong: list[int] = []

    def ask(number: int) -> None:
        for _ in range(5):
            (one,) = Inference().run([asked_of[number]])
            if not np.allclose(one, expected[number], atol=EXACT):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked_of))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
