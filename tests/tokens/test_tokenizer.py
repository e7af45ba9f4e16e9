"""Tokenizers are trained, saved and read back as they were, by us and by the Hugging Face library."""

from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from read_back import read_by_hugging_face, removals, same_again

from genus.errors import GenusError
from genus.tokens import SpecialTokens, TokenizerConfig
from genus.tokens.algorithms.byte_bpe import GPT2, ROBERTA, ByteBPE
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.algorithms.wordpiece import BERT, WordPiece
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    f"The quick brown fox no. {n} jumps over dogs, isn't it? D\u00e9j\u00e0 vu: \u4e2d\u6587 \u0e01\u0e34\u0e19\n"
    for n in range(60)
]
KINDS: dict[str, TokenizerConfig] = {
    "uncased": WordPiece(vocab_size=300),
    "cased": WordPiece(vocab_size=300, lowercase=False),
    "thai": WordPiece(vocab_size=300, strip_accents=False, split_cjk=False),
    "bytes": ByteBPE(vocab_size=400),
    "bytes after a space": ByteBPE(vocab_size=400, prefix_space=True),
}
SENTENCE = "A quick D\u00c9J\u00c0 vu: \u4e2d\u6587, \u0e01\u0e34\u0e19 foxes' dogs."


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param].train(TEXTS)


@removals
def test_reloads_as_trained(trained: Tokenizer, tmp_path: Path, removed: tuple[str, ...]) -> None:
    same_again(trained, tmp_path, removed, SENTENCE)


def test_the_hugging_face_library_reads_it(trained: Tokenizer, tmp_path: Path) -> None:
    theirs = read_by_hugging_face(trained, tmp_path, SENTENCE)
    facts = trained.vocabulary
    assert theirs.model_max_length == 128
    assert len(theirs) == facts.size
    named = (theirs.pad_token_id, theirs.unk_token_id, theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id)
    assert named == (facts.pad, facts.unk, facts.cls, facts.sep, facts.mask)


def test_the_hugging_face_library_fills_masks_alike(trained: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    trained.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = f"The quick {trained.tokens.special_tokens.mask} fox"
    assert trained.encode([text])[0] == theirs(text, add_special_tokens=False)["input_ids"]


def test_ids_of_special_tokens() -> None:
    wordpiece, bytes_ = KINDS["uncased"].train(TEXTS), KINDS["bytes"].train(TEXTS)
    assert wordpiece.pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert bytes_.pieces[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert bytes_.pieces[-1] == "<mask>"
    assert np.flatnonzero(wordpiece.vocabulary.special).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(bytes_.vocabulary.special).tolist() == [0, 1, 2, 3, bytes_.vocabulary.size - 1]


def test_vocabularies_are_no_larger_than_asked(trained: Tokenizer) -> None:
    assert trained.tokens.vocab_size == len(trained.pieces) == trained.backend.get_vocab_size()
    assert trained.tokens.vocab_size <= 400
    many = "".join(map(chr, range(0x4E00, 0x4F00)))
    assert WordPiece(vocab_size=100).train([many]).tokens.vocab_size <= 100


def test_word_starts(trained: Tokenizer) -> None:
    [ids] = trained.encode(["The quick brown fox\njumps over"])
    starts = trained.vocabulary.word_start[ids]
    starts[0] = True  # byte-level: nothing stands before the first word
    words = [trained.decode(word.tolist()).strip() for word in np.split(np.array(ids), np.flatnonzero(starts)[1:])]
    assert [word.lower() for word in words] == ["the", "quick", "brown", "fox", "jumps", "over"]
    assert trained.vocabulary.word_start[trained.vocabulary.special].all()


def test_bytes_decode_to_the_text() -> None:
    tokenizer = KINDS["bytes"].train(TEXTS)
    assert tokenizer.decode(tokenizer.encode([SENTENCE])[0]) == SENTENCE


def test_accents() -> None:
    """Thai vowels are combining marks, which BERT's normalizer drops: where told to, or where a text has few marks."""
    kept, dropped = KINDS["thai"].train(TEXTS), KINDS["uncased"].train(["The quick brown fox jumps over."] * 9)
    assert "\u0e34" in kept.decode(kept.encode(["\u0e01\u0e34\u0e19"])[0])
    assert "\u0e34" not in dropped.decode(dropped.encode(["\u0e01\u0e34\u0e19"])[0])


def test_the_hash_changes_with_the_tokenization() -> None:
    hashes = {kind.train(TEXTS).hash() for kind in KINDS.values()}
    hashes.add(KINDS["uncased"].train(TEXTS[:2]).hash())
    hashes.add(
        WordPiece(vocab_size=300, special_tokens=_replace(BERT, pair="[CLS] $A [SEP] $B [SEP]")).train(TEXTS).hash()
    )
    assert len(hashes) == len(KINDS) + 2


@pytest.mark.parametrize("kind", ["gpt2", "uncased", "cased"])
def test_what_the_hugging_face_library_writes_again_is_the_same_tokenizer(kind: str, tmp_path: Path) -> None:
    """It writes an empty prefix of pieces where there is none, which changes no id."""
    trained = (KINDS | {"gpt2": ByteBPE(vocab_size=400, special_tokens=GPT2)})[kind].train(TEXTS)
    read_by_hugging_face(trained, tmp_path / "ours", SENTENCE).save_pretrained(tmp_path / "theirs")
    shutil.copy(tmp_path / "ours" / "tokens.json", tmp_path / "theirs")
    assert Tokenizer.load(tmp_path / "theirs").hash() == trained.hash()


def test_pickling_leaves_the_tables_behind() -> None:
    tokenizer = KINDS["uncased"].train(TEXTS)
    size = len(pickle.dumps(tokenizer))
    ids = tokenizer.encode(TEXTS)
    assert len(pickle.dumps(tokenizer)) == size
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXTS) == ids


def test_truncation_in_a_foreign_file_does_not_count(tmp_path: Path) -> None:
    tokenizer = KINDS["uncased"].train(TEXTS)
    ids = tokenizer.encode([SENTENCE])
    tokenizer.save(tmp_path)
    tokenizer.backend.enable_truncation(4)
    tokenizer.backend.enable_padding(length=8)
    tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode([SENTENCE]) == ids


def test_special_tokens_of_other_names(tmp_path: Path) -> None:
    names = ["<blank>", "<other>", "<start>", "<end>", "<hole>"]
    (tmp_path / "vocab.txt").write_text("\n".join([*names, "a", "##b"]), encoding="utf-8")
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    entries: dict[str, Any] = dict(zip(roles, names, strict=True)) | {
        "mask_token": {"content": "<hole>", "lstrip": False}
    }
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(entries), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.tokens.special_tokens.pair == "<start> $A <end> $B:1 <end>:1"
    assert tokenizer.encode(["AB <hole> ?"]) == [[5, 6, 4, 1]]


def test_errors_are_one_line(tmp_path: Path) -> None:
    check_error("there is no tokenizer.json", tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nword", encoding="utf-8")
    with pytest.raises(GenusError, match="no mask token; name it as mask_token in special_tokens_map") as caught:
        _ = Tokenizer.load(tmp_path).vocabulary.mask
    assert "\n" not in str(caught.value)
    (tmp_path / "special_tokens_map.json").write_text('{"mask_token": "[MASK]"}', encoding="utf-8")
    check_error("no mask token '\\[MASK\\]'; name it as mask_token in special_tokens_map.json", tmp_path)
    (tmp_path / "special_tokens_map.json").unlink()
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    check_error("vocab.txt: cannot be read as a vocabulary", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{", encoding="utf-8")
    check_error("tokenizer_config.json: cannot be read as JSON", tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ', encoding="utf-8")
    check_error("tokenizer.json: cannot be read as a tokenizer", tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "tokenizer.json").write_text(
        '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}'
    )
    adopted = Tokenizer.load(tmp_path)  # as it is, whatever it is
    assert (type(adopted.tokens).__name__, adopted.encode(["aa"])) == ("PretrainedTokenizer", [[0, 0]])


@pytest.mark.parametrize(
    "content", ["", '{"kind": "Bytes"', "[]", '{"kind": "Bytes", "vocab_size": 0}', '{"kind": "Byts"}']
)
def test_damaged_choices_are_one_line_with_their_file(content: str, tmp_path: Path) -> None:
    Bytes().train(["a"]).save(tmp_path)
    (tmp_path / "tokens.json").write_text(content)
    check_error("tokens.json: cannot be read as the choices of a tokenizer", tmp_path)


@pytest.mark.parametrize("kind", ["uncased", "bytes"])
def test_training_needs_text(kind: str) -> None:
    with pytest.raises(GenusError, match="the corpus is empty"):
        KINDS[kind].train([" ", "\n"])


def test_a_byte_vocabulary_holds_the_bytes() -> None:
    with pytest.raises(ValueError, match="vocab_size: expected at least 261"):
        ByteBPE(vocab_size=260)
    tokenizer = ByteBPE(vocab_size=261).train(TEXTS)
    assert tokenizer.tokens.vocab_size == 261
    assert tokenizer.decode(tokenizer.encode([SENTENCE])[0]) == SENTENCE


def test_parts_are_read_back_from_json() -> None:
    for part in KINDS.values():
        assert TokenizerConfig.from_json(part.to_json()) == part
    assert ByteBPE(vocab_size=300).special_tokens == ROBERTA


def check_error(message: str, folder: Path) -> None:
    with pytest.raises(GenusError, match=message) as caught:
        Tokenizer.load(folder)
    assert "\n" not in str(caught.value)


def _replace(part: SpecialTokens, **changes: object) -> SpecialTokens:
    return part.overlay(changes)


def test_the_same_texts_give_the_same_vocabulary() -> None:
    """The library alone does not promise it: it walks through hash tables."""
    words, endings = ("walk", "talk", "wünsch", "น้ำ"), ("", "s", "ed", "ing")
    texts = [" ".join(f"{word}{ending}" for word in words for ending in endings)]
    first, *others = (WordPiece(vocab_size=60, min_frequency=1).train(iter(texts)).pieces for _ in range(5))
    assert all(other == first for other in others)
