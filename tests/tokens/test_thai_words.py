"""Tokenizers for a script without spaces: words, syllables and pieces, a space as a token, cleaning in front."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from genus.text.normalization import SPACE, ThaiNormalization
from genus.text.segment import DictionaryWords, Segmenter
from genus.tokens.algorithms.presegmented_words import CUT, PresegmentedWords
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["\u0e01\u0e32\u0e14\u0e33 \u0e1a\u0e34\u0e19 AB", "\u0e01\u0e32\u0e02\u0e32\u0e27"] * 5


class Twos(Segmenter):
    """A plug-in: two characters are a word."""

    def words(self, text: str) -> list[str]:
        parts = [part for part in text.replace(" ", "\n \n").split("\n") if part]
        return [part[i : i + 2] for part in parts for i in range(0, len(part), 2)]


KINDS = {
    "plug-in": PresegmentedWords(vocab_size=40, segmenter=Twos(), normalization=ThaiNormalization(words=None)),
    "words": PresegmentedWords(vocab_size=40, normalization=ThaiNormalization(words=None)),
    "syllables": PresegmentedWords(vocab_size=40, segmenter=DictionaryWords(units="syllables")),
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param != "plug-in":
        pytest.importorskip("pythainlp")
    return KINDS[request.param].train(TEXTS)


def test_ids_are_those_of_the_words(trained: Tokenizer) -> None:
    assert trained.pieces[:6] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>", SPACE]
    [ids] = trained.encode([TEXTS[0]])
    assert trained.decode(ids) == (TEXTS[0].lower() if trained.tokens.normalization else TEXTS[0])  # type: ignore[attr-defined]
    assert ids.count(5) == 2
    assert trained.encode(["\u0e2e\u0e2e"])[0] == [3]


def test_a_special_token_in_a_text_is_that_token(trained: Tokenizer) -> None:
    assert trained.vocabulary.mask in trained.encode([f"\u0e01\u0e32<mask>{TEXTS[1]}"])[0]


def test_a_text_cut_beforehand_is_read_by_the_file_alone(trained: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    trained.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    choice = trained.tokens
    assert isinstance(choice, PresegmentedWords)
    clean = TEXTS[0] if choice.normalization is None else choice.normalization.clean(TEXTS[0])
    cut = CUT.join(SPACE if word == " " else word for word in choice.segmenter.words(clean))
    assert theirs.encode(cut, add_special_tokens=False) == trained.encode([TEXTS[0]])[0]


def test_it_reloads_and_travels(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    for again in (Tokenizer.load(tmp_path), pickle.loads(pickle.dumps(trained))):
        assert again.tokens == trained.tokens
        assert again.hash() == trained.hash()
        assert again.encode(TEXTS) == trained.encode(TEXTS)


def test_the_hash_tells_cleanings_and_segmenters_apart() -> None:
    kinds = [KINDS["plug-in"], PresegmentedWords(vocab_size=40, segmenter=Twos())]
    small = [kind.train(["\u0e01\u0e32\u0e14\u0e33"] * 5) for kind in kinds]
    assert small[0].pieces == small[1].pieces
    assert small[0].hash() != small[1].hash()


def test_fewer_than_so_many_times_is_unknown() -> None:
    counted = PresegmentedWords(vocab_size=40, segmenter=Twos(), min_frequency=3).train(["aa"] * 3 + ["bb"] * 2)
    assert counted.pieces[6:] == ["aa"]
