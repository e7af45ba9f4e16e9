"""ByT5's tokenizer: the ids of transformers' class, its folders both ways, and bytes that are sentinels too."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hard_texts import HARD

from genus.tokens.algorithms.byt5 import BYT5, ByT5Bytes
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

transformers = pytest.importorskip("transformers")

MULTILINGUAL = [
    "Life is like a box of chocolates.",
    "La vie est comme une boîte de chocolat. Größe, naïve, façade",
    "ชีวิตก็เหมือนกล่องช็อกโกแลต",
    "人生就像一盒巧克力 人生はチョコレートの箱のようなものだ",
    "\u0627\u0644\u062d\u064a\u0627\u0629 \u0645\u062b\u0644 \u0639\u0644\u0628\u0629 жизнь как коробка конфет",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f9\U0001f1ed e\u0301 \ufb01",
    "\x00\x01\x1f\x7f\x80\x85\x9f\ufeff\u200b\u2028\ufffd\uffff",
    "  two  spaces\tand\r\nlines \n",
    "",
]
NAMES = [
    "a</s>b",
    "one <pad> two  <unk>\tthree",
    "<extra_id_0>",
    "The <extra_id_0> walks in<extra_id_12> park <extra_id_124>",
    "<extra_id_125> is no token, nor is <extra_id_-1>, < pad> or <PAD>",
    "<pad><pad> </s> <pad>",
    "\n </s>\u3000<extra_id_3> \u00a0</s>",
]


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return ByT5Bytes().train(["any text"])


@pytest.fixture(scope="module")
def theirs() -> Any:
    return transformers.ByT5Tokenizer()


@pytest.mark.parametrize("text", [*MULTILINGUAL, *NAMES, *HARD])
def test_ids_are_those_of_transformers(ours: Tokenizer, theirs: Any, text: str) -> None:
    """Of the text as it is read and of the backend; where no special token is named, each is a byte and 3."""
    expected = theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.encode([text]) == [expected]
    assert ours.backend.encode(text, add_special_tokens=False).ids == expected
    if not re.search("</s>|<pad>|<unk>|<extra_id_", text):
        assert expected == [byte + 3 for byte in text.encode()]
        assert ours.decode(expected) == theirs.decode(expected) == text


def test_special_tokens_and_templates(ours: Tokenizer, theirs: Any) -> None:
    vocabulary = ours.vocabulary
    assert ours.pieces[:3] == ["<pad>", "</s>", "<unk>"]
    assert (vocabulary.size, len(theirs)) == (384, 384)
    assert vocabulary.extra == {name: theirs.convert_tokens_to_ids(name) for name in BYT5.extra}
    first, second = ours.encode(["a b", "ü"])
    assert theirs("a b")["input_ids"] == [*first, 1]
    assert theirs("a b", "ü")["input_ids"] == [*first, 1, *second, 1]
    assert ours.backend.encode("a b", "ü").ids == [*first, 1, *second, 1]
    assert (vocabulary.begins, vocabulary.finishes, vocabulary.target_begins) == ((), (1,), (0,))


def test_sentinels_are_the_last_bytes(ours: Tokenizer) -> None:
    """As in the released code, whose vocabulary of 259 counts down from its last id; transformers' page says 258."""
    assert ours.vocabulary.sentinels.tolist() == list(range(258, 158, -1))
    assert not ours.vocabulary.special[ours.vocabulary.sentinels].any()
    assert ours.encode(["\u00ff"]) == [[0xC3 + 3, 0xBF + 3]]


def test_transformers_reads_our_folder(ours: Tokenizer, tmp_path: Path) -> None:
    """With its own class, and without a vocabulary file."""
    ours.save(tmp_path)
    assert not {"vocab.json", "merges.txt"} & {path.name for path in tmp_path.iterdir()}
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(read) is transformers.ByT5Tokenizer
    assert len(read) == 384
    for text in (*MULTILINGUAL, *NAMES):
        assert read(text, add_special_tokens=False)["input_ids"] == ours.encode([text])[0]


@pytest.mark.parametrize("how", ["written by transformers 5", "as released", "ours, without our choices"])
def test_folders_are_read(ours: Tokenizer, theirs: Any, tmp_path: Path, how: str) -> None:
    if how == "written by transformers 5":
        theirs.save_pretrained(tmp_path)
    elif how == "as released":
        named = {
            f"{role}_token": {"__type": "AddedToken", "content": name, "lstrip": False, "rstrip": False}
            for role, name in (("eos", "</s>"), ("unk", "<unk>"), ("pad", "<pad>"))
        }
        further = {"additional_special_tokens": list(BYT5.extra)}
        config = {**named, "extra_ids": 125, **further, "tokenizer_class": "ByT5Tokenizer"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        (tmp_path / "special_tokens_map.json").write_text(json.dumps({**named, **further}))
    else:
        ours.save(tmp_path)
        (tmp_path / "tokens.json").unlink()
    read = Tokenizer.load(tmp_path)
    assert read.tokens == ours.tokens
    assert (read.pieces, read.hash()) == (ours.pieces, ours.hash())
    assert read.encode(NAMES) == ours.encode(NAMES)


def test_other_bytes_are_read_as_such(tmp_path: Path) -> None:
    Bytes().train(["any text"]).save(tmp_path)
    (tmp_path / "tokens.json").unlink()
    assert type(Tokenizer.load(tmp_path).tokens) is Bytes


def test_names_are_text_where_text_is_not_trusted(ours: Tokenizer) -> None:
    text = "a </s> <extra_id_0>"
    assert ours.encode([text], specials=False) == [[byte + 3 for byte in text.encode()]]


def test_more_sentinels_than_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="there are 256 bytes, not 257"):
        ByT5Bytes(reused=257)
