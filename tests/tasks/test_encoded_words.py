"""Words are encoded as the tokenizers library encodes split text, and each has its target at its first piece."""

import gzip
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import pre_tokenizers

from genus.errors import GenusError
from genus.objectives.supervised.token import TokenClassification
from genus.tasks.answer import Outputs
from genus.tasks.dataset import LabeledRow
from genus.tasks.feed import Shuffled, by_length
from genus.tasks.words import EncodedWords, encode_words
from genus.text.normalization import ThaiNormalization
from genus.tokens import TokenizerConfig
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.algorithms.presegmented_words import CUT, SPACE, PresegmentedWords
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.unigram_no_spaces import UnigramNoSpaces
from genus.tokens.algorithms.word_level import WordLevel
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.tokenizer import Tokenizer

ENGLISH = ["EU rejects German call to boycott British lamb .", "Peter Blackburn 's call cost $ 1,000.50 in BRUSSELS !"]
THAI = ["สงสัย|ติด|หวัด|นก| |อีก|คน|ยัง|น่า|ห่วง", "นาย|สมชาย| |ไป|กรุงเทพ|วันที่| |3|มกราคม"]
SENTENCES = {"english": [line.split() for line in ENGLISH], "thai": [line.split("|") for line in THAI]}
NOTHING = "\u200b"
"""A zero-width space, of which most tokenizers leave nothing."""
KINDS: dict[str, tuple[TokenizerConfig, str]] = {
    "wordpiece": (WordPiece(vocab_size=90, lowercase=True), "english"),
    "byte bpe": (ByteBPE(vocab_size=290), "english"),
    "unigram": (Unigram(vocab_size=60), "english"),
    "unigram, framed at its end": (Unigram(vocab_size=60, lowercase=False, special_tokens=XLNET), "english"),
    "words": (WordLevel(vocab_size=30, min_frequency=1), "english"),
    "unigram without spaces": (UnigramNoSpaces(vocab_size=60, normalization=ThaiNormalization(words=None)), "thai"),
    "words by a dictionary": (PresegmentedWords(vocab_size=20, min_frequency=1), "thai"),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def trained(kind: str) -> tuple[Tokenizer, list[list[str]]]:
    """Return a tokenizer and sentences, the last of which holds a word of which nothing may be left."""
    part, language = KINDS[kind]
    if language == "thai":
        pytest.importorskip("pythainlp")
    sentences = SENTENCES[language]
    space = " " if language == "english" else ""
    tokenizer = part.train([space.join(words) for words in sentences] * 20)
    return tokenizer, [*sentences, [*sentences[0][:2], NOTHING, *sentences[1][-3:]]]


def encoded(tokenizer: Tokenizer, sentences: list[list[str]], max_length: int = 64) -> EncodedWords:
    """Encode sentences of words that are labeled with their own numbers."""
    rows = [LabeledRow(line, tuple(words), None) for line, words in enumerate(sentences, 1)]
    return encode_words(tokenizer, rows, np.arange(sum(map(len, sentences))), "token_classification", max_length)


def reference(tokenizer: Tokenizer) -> Callable[[list[str]], tokenizers.Encoding]:
    """Return the library, as it encodes text that is split into words, set as Hugging Face's classes set it."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    if isinstance(tokenizer.tokens, ByteBPE):
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)

    def encode(words: list[str]) -> tokenizers.Encoding:
        if isinstance(tokenizer.tokens, PresegmentedWords):
            words = [
                CUT.join(SPACE if cut == " " else cut for cut in tokenizer.tokens.segmenter.words(w)) for w in words
            ]
        if isinstance(tokenizer.tokens, UnigramNoSpaces):
            words = [tokenizer.tokens.normalization.clean(word) for word in words]
        return backend.encode(words, is_pretokenized=True)

    return encode


@kinds
def test_ids_and_first_pieces_are_the_library_s(kind: str) -> None:
    tokenizer, sentences = trained(kind)
    ours, library, before = encoded(tokenizer, sentences), reference(tokenizer), 0
    assert len(ours) == len(sentences)
    for number, words in enumerate(sentences):
        theirs, example = library(words), ours.example(number)
        index, label = example.targets["token_classification"]
        assert example.tokens.ids.tolist() == theirs.ids
        first = {word: place for place, word in reversed(list(enumerate(theirs.word_ids))) if word is not None}
        assert dict(zip((label - before).tolist(), index.tolist(), strict=True)) == first
        before += len(words)
    assert ours.lengths.tolist() == [len(ours.example(number).tokens.ids) for number in range(len(ours))]


@kinds
def test_words_stand_from_target_to_target(kind: str) -> None:
    """Where a vocabulary knows all, they are read back from the pieces."""
    tokenizer, sentences = trained(kind)
    words = [word for sentence in sentences for word in sentence]
    ours = encoded(tokenizer, sentences)
    for number in range(len(ours)):
        sequence, (index, label) = ours.example(number).tokens, ours.example(number).targets["token_classification"]
        ends = [*index[1:], np.flatnonzero(~sequence.fixed).max() + 1]
        for first, end, which in zip(index, ends, label, strict=True):
            pieces = sequence.ids[first:end]
            if tokenizer.vocabulary.unk not in pieces:
                both = (tokenizer.decode(pieces.tolist()), words[which])
                found, expected = (re.sub(f"[ {NOTHING}]", "", text).lower() for text in both)
                assert found == expected


@pytest.mark.parametrize("kind", ["unigram without spaces", "words by a dictionary"])
def test_a_space_is_a_word_where_it_is_a_token(kind: str) -> None:
    tokenizer, _ = trained(kind)
    ours = encoded(tokenizer, [["นก", " ", "อีก"]])
    assert ours.seen.tolist() == [0, 1, 2]
    assert tokenizer.pieces[ours.texts[0][0][ours.firsts[0][1]]] == SPACE


def test_a_byte_model_reads_the_spaces_between_words() -> None:
    tokenizer = Bytes().train(["a"])
    ours = encoded(tokenizer, [["no", "man"]])
    ids, (index, _) = ours.example(0).tokens.ids, ours.example(0).targets["token_classification"]
    assert (ids[:-1] - 2).astype(np.uint8).tobytes() == b" no man"
    assert index.tolist() == [0, 3]


@kinds
@pytest.mark.parametrize("max_length", [5, 9])
def test_long_sentences_are_cut_between_words(kind: str, max_length: int) -> None:
    tokenizer, sentences = trained(kind)
    whole, cut = encoded(tokenizer, sentences), encoded(tokenizer, sentences, max_length)
    assert cut.seen.tolist() == whole.seen.tolist() == cut.labels.tolist()
    assert cut.lengths.max() <= max_length
    room = max_length - tokenizer.vocabulary.framing(1)
    sizes = {}
    for number in range(len(cut)):
        (ids,), firsts = cut.texts[number], cut.firsts[number]
        assert firsts[0] == 0
        sizes |= dict(
            zip(cut.labels[cut.target_slices(np.array([number]))].tolist(), np.diff([*firsts, len(ids)]), strict=True)
        )
    parts = [cut.labels[cut.target_slices(np.array([number]))] for number in range(len(cut))]
    sentence = np.repeat(np.arange(len(sentences)), [len(words) for words in sentences])
    for left, right in itertools.pairwise(parts):
        held = sum(sizes[word] for word in left.tolist())
        assert sentence[left[-1]] != sentence[right[0]] or held + sizes[right[0]] > room


@pytest.mark.shared
@pytest.mark.parametrize(
    ("vocabulary", "data"),
    [("bert-base-cased", "conll2003"), ("roberta-base", "conll2003"), ("bert-base-multilingual-cased", "thainer_1.3")],
)
def test_real_sentences_with_published_vocabularies(shared: Path, vocabulary: str, data: str) -> None:
    tokenizer = Tokenizer.load(shared / "vocab" / vocabulary)
    with gzip.open(shared / "data" / data / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        sentences = [json.loads(line)["tokens"] for line in itertools.islice(file, 300)]
    ours, library = encoded(tokenizer, sentences, 10_000), reference(tokenizer)
    for number, words in enumerate(sentences):
        theirs = library(words)
        assert ours.example(number).tokens.ids.tolist() == theirs.ids
        first = {word: place for place, word in reversed(list(enumerate(theirs.word_ids))) if word is not None}
        assert sorted(first.values()) == ours.example(number).targets["token_classification"][0].tolist()


def test_no_room_for_text() -> None:
    tokenizer, sentences = trained("wordpiece")
    with pytest.raises(GenusError, match="max_length: 2 leaves no room"):
        encoded(tokenizer, sentences, 2)


def test_batches_hold_every_target_once() -> None:
    tokenizer, sentences = trained("byte bpe")
    ours = encoded(tokenizer, sentences, 12)
    assert not ours.warnings
    found = np.full(len(ours.labels), -1)
    for chosen, batch in by_length(ours):
        found[ours.target_slices(chosen)] = batch.targets["token_classification"].label
    assert found.tolist() == ours.labels.tolist()
    feed = Shuffled(ours, len(ours), seed=1)
    assert sorted(feed[0].targets["token_classification"].label.tolist()) == ours.labels.tolist()


def test_words_without_a_piece_have_the_usual_tag() -> None:
    tokenizer, sentences = trained("wordpiece")
    rows = [LabeledRow(1, tuple(sentences[-1]), ("X", "Y", "Y", "X", "X", "X")), LabeledRow(2, (NOTHING,), None)]
    ours = encode_words(tokenizer, rows, np.array([0, 1, 1, 0, 0, 0, -100]), "token_classification", 64)
    assert ours.seen.tolist() == [0, 1, 3, 4, 5]
    assert ours.warnings == ["the tokenizer leaves nothing of 2 of 7 words, which get the usual tag"]
    tag = TokenClassification(labels=("X", "Y"), usual="Y")
    outputs = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], np.float32))
    (first, chances), second = ours.answers(tag, Outputs(outputs))
    assert first == ["X", "Y", "Y", "X", "X", "Y"]
    assert chances == [pytest.approx(0.9), pytest.approx(0.8), None, *[pytest.approx(x) for x in (0.9, 0.9, 0.6)]]
    assert second == (["Y"], [None])
    truth, predicted = ours.for_metrics(tag, Outputs(outputs), "tags")
    assert (truth.tolist(), predicted.tolist()) == ([rows[0].label], [first])
    assert json.dumps(first)


def test_no_sentences_at_all_have_no_targets() -> None:
    tokenizer, _ = trained("wordpiece")
    ours = encoded(tokenizer, [[NOTHING], [NOTHING, NOTHING]])
    assert (len(ours), len(ours.labels)) == (0, 0)
    tag, outputs = TokenClassification(labels=("A", "B")), Outputs(np.empty((0, 2), np.float32))
    assert [tags for tags, _ in ours.answers(tag, outputs)] == [
        ["O"],
        ["O", "O"],
    ]
