"""Pairs of sentences: differences beside those of likelihoods computed one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from genus.errors import GenusError
from genus.evaluate.likelihood import log_likelihoods
from genus.probes.pairs import OWN, Compared, Pair, by_kind, compare, read_pairs
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens import TokenizerConfig

CORPUS = ["the cat sat on the mat and the dog ran to the door . a bird sang in the old tree"] * 20
PAIRS = [Pair(1, "the {} sat on the mat", "cat", "dog", "a"), Pair(2, "{} ran", "bird", "dog", "a", "the {}")]
ROWS: dict[str, TokenizerConfig] = {
    "gpt2/tiny": ByteBPE(vocab_size=300, special_tokens=GPT2), "bert/tiny": WordPiece(vocab_size=60, lowercase=True)
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_differences_are_those_of_likelihoods(tmp_path: Path, row: str) -> None:
    model = in_float64(write_model(tmp_path, row, ROWS[row], CORPUS, WIDE))

    def nats(text: str) -> float:
        return log_likelihoods(model.learner, model.tokenizer, [text], 128)[0].nats

    one, other = compare(model, PAIRS)
    assert one.nats == pytest.approx(nats("the cat sat on the mat") - nats("the dog sat on the mat"), abs=1e-9)
    neutral = nats("the bird") - nats("the dog")
    assert other.nats == pytest.approx(nats("bird ran") - nats("dog ran") - neutral, abs=1e-9)


def test_words_that_are_the_same_do_not_differ(tmp_path: Path) -> None:
    model = in_float64(write_model(tmp_path, "gpt2/tiny", ROWS["gpt2/tiny"], CORPUS, WIDE))
    assert compare(model, [Pair(1, "the {} sat", "cat", "cat", "a", "{} ran")])[0].nats == 0


def test_kinds_have_means_and_shares() -> None:
    found = [Compared(Pair(1, "{}", "a", "b", kind), nats) for kind, nats in (("x", 2.0), ("x", -1.0), ("y", 3.0))]
    told = by_kind(found)
    assert told["x"]["difference, nats"].mean == 0.5
    assert told["x"]["first likelier"].mean == 0.5
    assert (told["y"]["difference, nats"].low, told["y"]["first likelier"].runs) == (None, 1)


def test_the_table_of_the_package() -> None:
    found = read_pairs(OWN)
    assert len(found) == 36
    assert all(one.neutral for one in found)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"template": "no hole", "one": "a", "other": "b"}, "expected one {} in the column 'template'"),
        ({"template": "{}", "one": "a"}, "expected a text in the column 'other'"),
        ({"template": "{}", "one": "a", "other": "b", "neutral": "x"}, "expected one {} in the column 'neutral'"),
    ],
)
def test_bad_rows_of_pairs_are_one_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    (tmp_path / "table.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(GenusError, match=message):
        read_pairs(tmp_path / "table.jsonl")
