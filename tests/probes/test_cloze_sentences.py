"""Words that are expected in a gap: ranks and probabilities beside those of the filled mask and of the next token."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.errors import GenusError, UsageError
from genus.evaluate.fill import fill_mask
from genus.evaluate.likelihood import log_likelihoods
from genus.probes.cloze import OWN, Cloze, answer, by_kind, read_cloze
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.wordpiece import WordPiece
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

CORPUS = ["the cat sat on the mat and the dog ran to the door . a bird sang in the old tree"] * 20
ASKED = [
    Cloze(1, "the cat sat on the ___ and the dog ran .", ("mat", "dog"), "a"),
    Cloze(2, "the dog ran to the [MASK].", ("old", "strange"), "a"),
    Cloze(3, "___ sat on the mat .", ("bird",), "b"),
]


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    tokens = WordPiece(vocab_size=60, lowercase=True)
    return in_float64(write_model(tmp_path_factory.mktemp("masked"), "bert/tiny", tokens, CORPUS, WIDE))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    tokens = ByteBPE(vocab_size=300, special_tokens=GPT2)
    return in_float64(write_model(tmp_path_factory.mktemp("causal"), "gpt2/tiny", tokens, CORPUS, WIDE))


def test_a_word_of_one_token_is_ranked_as_the_mask_is_filled(masked: LoadedModel) -> None:
    [[filled]] = [fill_mask(masked.learner, masked.tokenizer, ASKED[0].text, top=1_000)]
    found = answer(masked, ASKED[:1])[0]
    special = masked.tokenizer.vocabulary.special.sum()
    for one in found.expected:
        assert one.tokens == 1
        place = next(i for i, each in enumerate(filled) if each.token == one.word)
        assert filled[place].probability == pytest.approx(one.probability, rel=1e-4)
        assert place < one.rank <= place + 1 + special  # special tokens are none to fill in, and are ranked here
    assert found.rank == min(one.rank for one in found.expected)


def test_tokens_of_a_word_are_hidden_together(masked: LoadedModel) -> None:
    (found,) = answer(masked, [ASKED[1]])
    one = next(one for one in found.expected if one.tokens > 1)
    mask = " ".join(["[MASK]"] * one.tokens)
    filled = fill_mask(masked.learner, masked.tokenizer, ASKED[1].text.replace("[MASK]", mask), top=1_000)
    (ids,) = masked.tokenizer.encode([one.word], specials=False)
    pieces = [masked.tokenizer.decode([number]).strip() for number in ids]
    chances = [
        next(each.probability for each in place if each.token == piece)
        for place, piece in zip(filled, pieces, strict=True)
    ]
    assert one.probability == pytest.approx(math.prod(chances), rel=1e-3)


def test_a_causal_model_reads_what_stands_before(causal: LoadedModel) -> None:
    for asked in ASKED:
        (found,) = answer(causal, [asked])
        before = asked.sides[0].rstrip()
        for one in found.expected:
            text = (" " if before else "") + one.word
            (told,) = log_likelihoods(causal.learner, causal.tokenizer, [text], 128, contexts=[before])
            assert math.log(one.probability) == pytest.approx(told.nats, abs=1e-6)
            assert one.tokens == told.tokens
            assert (one.rank == 1 and one.tokens == 1) <= told.greedy
        other = Cloze(asked.line, asked.sides[0] + "___ something else", asked.words, asked.kind)
        assert [one.rank for one in answer(causal, [other])[0].expected] == [one.rank for one in found.expected]


def test_ranks_by_counting_more_probable_tokens(causal: LoadedModel) -> None:
    (found,) = answer(causal, [ASKED[1]])
    one, before = found.expected[0], ASKED[1].sides[0].rstrip()
    (first, *_) = causal.tokenizer.encode([" old"], specials=False)[0]
    (context,) = causal.tokenizer.encode([before], specials=False)
    from genus.evaluate.likelihood import Span, find_predictor, predicted

    predictor, vocabulary = find_predictor(causal.learner), causal.tokenizer.vocabulary
    spans = [Span(np.array([*context, token], np.int64), len(context)) for token in range(vocabulary.size)]
    nats, _ = predicted(predictor, vocabulary, spans, "float32")
    assert one.rank == 1 + int((nats > nats[first]).sum())


def test_a_permutation_language_model_reads_both_sides(tmp_path: Path) -> None:
    tokens = Unigram(vocab_size=60, lowercase=False, special_tokens=XLNET)
    model = in_float64(write_model(tmp_path, "xlnet/tiny", tokens, CORPUS, WIDE))
    before, after = answer(model, [ASKED[0], Cloze(1, ASKED[0].text.replace("dog", "cat"), ("mat",), "a")])
    assert before.expected[0].probability != after.expected[0].probability


def test_kinds_are_summed_up(masked: LoadedModel) -> None:
    found = answer(masked, ASKED)
    told = by_kind(found)
    assert told.keys() == {"a", "b", "all"}
    assert told["all"]["precision@10"].mean == pytest.approx(np.mean([one.rank <= 10 for one in found]))
    assert told["a"]["mean reciprocal rank"].mean == pytest.approx(np.mean([1 / one.rank for one in found[:2]]))


def test_the_sentences_of_the_package_are_of_all_kinds() -> None:
    found = read_cloze(OWN)
    kinds = {"facts", "syntax", "coreference", "topic", "sentiment", "reasoning", "arithmetic"}
    assert {one.kind for one in found} == kinds
    assert len({one.text for one in found}) == len(found)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "no gap", "words": ["a"]}, "expected a text with one gap"),
        ({"text": "___ two ___", "words": ["a"]}, "expected a text with one gap"),
        ({"text": "a ___", "words": []}, "expected a list of words"),
        ({"text": "a ___"}, "expected a list of words"),
    ],
)
def test_bad_rows_are_one_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    (tmp_path / "table.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(GenusError, match=message):
        read_cloze(tmp_path / "table.jsonl")


def test_a_sentence_that_is_too_long_is_refused(masked: LoadedModel) -> None:
    with pytest.raises(UsageError, match="line 7: the sentence has"):
        answer(masked, [Cloze(7, "the cat " * 400 + "___", ("mat",), "a")])
