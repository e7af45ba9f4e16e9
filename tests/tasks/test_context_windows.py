"""Windows of long contexts: they have every token, their targets are the answers, their best spans are merged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.batch import IGNORE
from genus.errors import GenusError
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.tasks.answer import Outputs
from genus.tasks.dataset import LabeledRow
from genus.tasks.feed import Shuffled, by_length
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.windows import EncodedWindows, windows, with_most_context
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.wordpiece import WordPiece

if TYPE_CHECKING:
    from genus.tokens.tokenizer import Tokenizer

CONTEXT = "a cat and a saw and a dog and a hammer and a horse and pliers and a bird and a drill ."
WORDS = CONTEXT.split()
sizes = st.tuples(st.integers(0, 60), st.integers(1, 25), st.integers(1, 40))


@given(sizes)
def test_windows_have_every_token_and_are_those_of_the_released_code(size: tuple[int, int, int]) -> None:
    length, room, stride = size
    found = windows(length, room, stride)
    assert {token for first, count in found for token in range(first, first + count)} == set(range(length))
    assert all(count <= room for _, count in found)

    doc_spans, start_offset = [], 0  # run_squad.py, which has no window of an empty document
    while start_offset < length:
        count = min(length - start_offset, room)
        doc_spans.append((start_offset, count))
        if start_offset + count == length:
            break
        start_offset += min(count, stride)
    assert found == (doc_spans or [(0, 0)])


@given(sizes)
def test_a_token_has_the_most_context_in_one_window(size: tuple[int, int, int]) -> None:
    found = windows(*size)
    marks = with_most_context(found)

    def check_is_max_context(cur_span_index: int, position: int) -> bool:
        """As run_squad.py's."""
        best_score = best_span_index = None
        for span_index, (start, length) in enumerate(found):
            end = start + length - 1
            if position < start or position > end:
                continue
            score = min(position - start, end - position) + 0.01 * length
            if best_score is None or score > best_score:
                best_score, best_span_index = score, span_index
        return cur_span_index == best_span_index

    for number, (first, count) in enumerate(found):
        assert marks[number].tolist() == [check_is_max_context(number, token) for token in range(first, first + count)]
    times = [first + place for (first, _), mark in zip(found, marks, strict=True) for place in np.flatnonzero(mark)]
    assert sorted(times) == list(range(size[0]))


def framed(kind: str) -> Tokenizer:
    """Return a tokenizer whose words are tokens, by its template: BERT's, RoBERTa's, XLNet's."""
    texts = [f"{CONTEXT} where is it ?"] * 30
    parts: dict[str, Any] = {
        "bert": WordPiece(vocab_size=120, lowercase=True),
        "roberta": ByteBPE(vocab_size=400),
        "xlnet": Unigram(vocab_size=120, special_tokens=XLNET),
    }
    return parts[kind].train(texts)


def asked(
    answers: dict[str, int] | None, line: int = 1, context: str = CONTEXT, question: str = "where ?"
) -> LabeledRow:
    """Return a row whose answers are texts with their places; None: without a label."""
    if answers is None:
        return LabeledRow(line, (question, context), None)
    return LabeledRow(line, (question, context), tuple(answers) or ("",), tuple(answers.values()))


def encoded(
    tokenizer: Tokenizer, rows: list[LabeledRow], max_length: int = 18, **choices: Any
) -> tuple[EncodedWindows, SpanExtraction]:
    objective = SpanExtraction(**choices)
    return QuestionAnswering().encode(tokenizer, rows, objective, max_length), objective


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlnet"])
def test_candidates_are_the_null_position_and_the_tokens_of_the_context(kind: str) -> None:
    """Not those of the question, the separators or padding; the template is the tokenizer's own."""
    tokenizer = framed(kind)
    found, _ = encoded(tokenizer, [asked({"horse": CONTEXT.index("horse")}), asked(None, 2, context="a cat")])
    question, context = tokenizer.encode(["where ?", CONTEXT], specials=False)
    cls = tokenizer.vocabulary.cls
    for window in range(len(found)):
        ids, places = found.example(window).tokens.ids, found.candidates_of(window)
        assert ids[places[0]] == cls
        assert places[0] == (len(ids) - 1 if kind == "xlnet" else 0)
        expected = context if found.owner[window] == 0 else tokenizer.encode(["a cat"], specials=False)[0]
        first = found.first[window]
        assert ids[places[1:]].tolist() == expected[first : first + len(places) - 1]
        assert set(ids[: places[1]]) >= set(question) - {cls}
        assert len(ids) <= 18
    both = tokenizer.backend.encode("where ?", "a cat").ids
    assert found.example(len(found) - 1).tokens.ids.tolist() == both


def test_targets_are_answers_that_a_window_holds_whole() -> None:
    tokenizer = framed("bert")
    start = CONTEXT.index("horse and pliers")
    found, _ = encoded(
        tokenizer, [asked({"horse and pliers": start}), asked({}, 2), asked(None, 3)], null_threshold=0.0
    )
    answer = tokenizer.encode(["horse and pliers"], specials=False)[0]
    held = 0
    for window in range(len(found)):
        ids, (begin, end) = found.example(window).tokens.ids, found.labels[window].tolist()
        if found.owner[window] == 2:
            assert (begin, end) == (IGNORE, IGNORE)
        elif begin or end:
            assert ids[found.candidates_of(window)[begin : end + 1]].tolist() == answer
            held += 1
        else:
            text = " ".join(map(str, ids))
            assert found.owner[window] == 1 or " ".join(map(str, answer)) not in text
    assert held >= 2


def test_batches_have_each_window_and_its_candidates() -> None:
    tokenizer = framed("bert")
    rows = [asked({word: CONTEXT.index(f" {word} ") + 1}, line) for line, word in enumerate(WORDS[1:9:2], 1)]
    rows.append(asked({"cat": 2}, 9, context="a cat"))
    found, _ = encoded(tokenizer, rows)
    labels = np.full(found.labels.shape, -1)
    feed = Shuffled(found, 4, seed=1, few_shapes=True)
    batches = [(None, feed[number]) for number in range(6)]
    for chosen, batch in [*by_length(found), *batches]:
        targets, ids = batch.targets["span_extraction"], batch.tokens.ids
        real = targets.index >= 0
        assert targets.index.shape[1] == found.candidates
        assert (ids[targets.index[:, 0]] == tokenizer.vocabulary.cls).all()
        if chosen is None:
            assert targets.index.shape == (4, found.candidates)
            continue
        labels[found.target_slices(chosen)] = targets.label
        for window, places, there in zip(chosen, targets.index, real, strict=True):
            assert ids[places[there]].tolist() == found.example(window).tokens.ids[found.candidates_of(window)].tolist()
    assert labels.tolist() == found.labels.tolist()
    assert len({batch.tokens.ids.shape for _, batch in batches}) == 1


def write_predictions(
    found: EncodedWindows, row: int, logits: np.ndarray, longest: int, threshold: float | None
) -> dict:
    """run_squad.py's of one question, with all begins and ends in place of the 20 best."""
    prelim_predictions, score_null = [], math.inf
    context, places = found.rows[row].texts[1], found.places[row]
    spans = [
        (int(found.first[w]), len(found.texts[w][1]), logits[w].astype(float))
        for w in np.flatnonzero(found.owner == row)
    ]
    marks = with_most_context([(first, count) for first, count, _ in spans])
    for (first, count, one), mark in zip(spans, marks, strict=True):
        score_null = min(score_null, one[0, 0] + one[0, 1])
        for start in range(count):
            for end in range(start, count):
                if not mark[start] or end - start + 1 > longest:
                    continue
                text = context[places[first + start][0] : places[first + end][1]]
                at = places[first + start][0] + len(text) - len(text.lstrip())
                if not text.strip():  # its tokens are parts of words
                    continue
                prelim_predictions.append((one[start + 1, 0] + one[end + 1, 1], text.strip(), int(at)))
    prelim_predictions.sort(key=lambda one: one[0], reverse=True)
    nbest: list[tuple[float, str, int]] = []
    for one in prelim_predictions:
        if len(nbest) < 20 and one[1] not in [text for _, text, _ in nbest]:
            nbest.append(one)
    best = nbest[0]
    scores = [score for score, _, _ in nbest] + ([score_null] if threshold is not None else [])
    difference = score_null - best[0]
    none = threshold is not None and difference > threshold
    text, score, start = ("", score_null, 0) if none else (best[1], best[0], best[2])
    probability = math.exp(score) / sum(map(math.exp, scores))
    told = {"start": start, "end": start + len(text), "score": score, "probability": probability}
    return {"predicted": text, **told} | ({} if threshold is None else {"null_difference": difference})


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    longest=st.integers(1, 40),
    threshold=st.sampled_from([None, -2.0, 0.0, 3.0]),
    kind=st.sampled_from(["bert", "roberta", "xlnet"]),
)
def test_best_spans_are_merged_as_in_the_released_code(
    seed: int, longest: int, threshold: float | None, kind: str
) -> None:
    """Words occur twice in the context, so that spans have the same text."""
    rows = [asked({"cat": 2}), asked({}, 2, context=" A cat\nand a\tsaw "), asked(None, 3, context=CONTEXT[20:])]
    found, objective = encoded(TOKENIZERS[kind], rows, answer_length=longest, null_threshold=threshold, stride=4)
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(found), found.candidates, 2)).astype(np.float32)
    for row, (text, scores) in enumerate(found.answers(objective, Outputs(logits))):
        expected = write_predictions(found, row, logits, longest, threshold)
        assert text == expected.pop("predicted") == rows[row].texts[1][scores["start"] : scores["end"]]
        assert scores == pytest.approx(expected)


TOKENIZERS = {kind: framed(kind) for kind in ("bert", "roberta", "xlnet")}


def test_one_threshold_is_kept_and_the_other_is_tuned() -> None:
    rows = [asked({"cat": 2}), asked({}, 2), asked({"saw": 12}, 3), asked(None, 4)]
    found, objective = encoded(TOKENIZERS["bert"], rows, null_threshold=0.0)
    logits = np.zeros((len(found), found.candidates, 2), np.float32)
    for row, height in ((0, 2.0), (2, 1.5)):  # the answers' begins and ends; no other row has such
        for window in np.flatnonzero((found.owner == row) & (found.labels[:, 0] > 0)):
            logits[window, found.labels[window], (0, 1)] = height
    tuned = QuestionAnswering().tuned(objective, found, Outputs(logits))
    assert isinstance(tuned, SpanExtraction)
    assert tuned.null_threshold == -3.0  # of the least of the two answers
    assert [text for text, _ in found.answers(tuned, Outputs(logits))] == ["cat", "", "saw", ""]
    assert QuestionAnswering(null_threshold=0.0).tuned(objective, found, Outputs(logits)) is objective
    always = replace(objective, null_threshold=None)
    assert QuestionAnswering().tuned(always, found, Outputs(logits)) is always


def test_windows_are_near_each_other_in_short_sequences() -> None:
    """A third of a sequence, 128 tokens at most; a stride of one's own is at most a window."""
    tokenizer, context = TOKENIZERS["bert"], " ".join(WORDS * 40)
    for max_length, choices, expected in ((18, {}, 6), (384, {}, 128), (512, {}, 128), (18, {"stride": 100}, 13)):
        found, _ = encoded(tokenizer, [asked(None, context=context)], max_length, **choices)
        assert found.first[1] - found.first[0] == expected


def test_no_room_for_text() -> None:
    with pytest.raises(GenusError, match="max_length: 4 leaves no room"):
        encoded(TOKENIZERS["bert"], [asked(None)], 4)


def test_a_long_context_takes_memory_by_its_tokens() -> None:
    """A table of its windows and tokens would have 40 GB."""
    found = windows(1_000_000, 300, 200)
    assert sum(mark.sum() for mark in with_most_context(found)) == 1_000_000
