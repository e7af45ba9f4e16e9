"""Closed sets of answers that no model could tell apart are refused in one line."""

from __future__ import annotations

import pytest

from generate.writers import TEXTS
from genus.errors import UsageError
from genus.generate import Request
from genus.generate.answers import Answers
from genus.generate.prompts import Prompts
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from toys.decoder import DECODER


def test_answers_that_are_the_same_tokens_are_refused() -> None:
    prompts = Prompts(WordPiece(vocab_size=100, lowercase=True).train(TEXTS), DECODER)
    with pytest.raises(UsageError, match="answers: ' Cat', ' cat': some are the same tokens; name them otherwise"):
        Answers.of(prompts, Request("the", answers=(" Cat", " cat")), 10)


def test_an_answer_that_begins_another_needs_an_end_token() -> None:
    """Of answers of which none begins another, it needs none."""
    request = Request("the", answers=(" cat", " cat sat"))
    bare = ByteBPE(vocab_size=275, special_tokens=SpecialTokens())
    without, with_end = (Prompts(tokens.train(TEXTS), DECODER) for tokens in (bare, ByteBPE(vocab_size=275)))
    assert not without.ends
    with pytest.raises(UsageError, match="' cat' is the beginning of another one, and the vocabulary has no end token"):
        Answers.of(without, request, 10)
    assert Answers.of(without, Request("the", answers=(" cat", " dog")), 10) is not None
    found = Answers.of(with_end, request, 10)
    assert found is not None
    begun = tuple(with_end.continuation("the", " cat"))
    assert with_end.ends[0] in found.allowed(begun)
    assert not found.complete(begun)
