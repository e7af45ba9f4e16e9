"""A document is encoded whole: its stored ids are those of the whole text, cut where its sentences begin."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hard_texts import HARD, neighborhoods
from hypothesis import given, settings
from hypothesis import strategies as st
from test_real_vocabularies import LLAMAS, llama2, llama3
from tokenizers import AddedToken

from genus.text.sentences import split
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.algorithms.sentencepiece_bpe import SentencePieceBPE
from genus.tokens.algorithms.unigram import Unigram
from genus.tokens.algorithms.word_level import WordLevel
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.store import prepare
from genus.tokens.store.tokenize_corpus import boundaries
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = [
    'A title\nA sentence.  Another one!  \n\n   "Quoted," he said. (Yes?) x = 1 \n\n\n    y = 2  \nfoo() # no.\n\tbar',
    "Trailing spaces \n = Heading = \n \n Text follows .\r\nAnd a line of Windows.\r\n\r\nEnd",
    "\u4ed6\u8bf4\uff1a\u201c\u4f60\u597d\u3002\u201d\u6211\u4eec\u8d70\u3002123\u3002abc\u3002\u3002\uff01\u4e2d\u6587",
    "It ends here. <mask> and [SEP] too. </s>Then on.\n<s> x",
    "e\u0301. \u0301x? \u00a0y!\u2003z.\u3000w\u2028v",
    "\n".join(f"def f{n}(x):\n    return x + {n}  # no. {n}.\n\n" for n in range(6)),
    "Wait... what?! No. 5 is Dr. Who; e.g. this.",
    *(text for text in HARD if text.strip()),
]
KINDS = {
    "uncased": WordPiece(vocab_size=400),
    "cased": WordPiece(vocab_size=400, lowercase=False, strip_accents=False, split_cjk=False),
    "byte-level": ByteBPE(vocab_size=400),
    "byte-level after a space": ByteBPE(vocab_size=400, prefix_space=True),
    "unigram": Unigram(vocab_size=300),
    "sentencepiece": SentencePieceBPE(vocab_size=300),
    "bytes": Bytes(),
    "words": WordLevel(vocab_size=300, min_frequency=1),
}


@pytest.fixture(scope="module", params=[*KINDS, *LLAMAS])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param in KINDS:
        return KINDS[request.param].train(DOCUMENTS)
    return Tokenizer.load(LLAMAS[request.param](tmp_path_factory.mktemp("llama")))


def check(tokenizer: Tokenizer, text: str, cuts: list[int]) -> None:
    ids, offsets = tokenizer.encode_document(text, cuts)
    assert ids.tolist() == tokenizer.backend.encode(text, add_special_tokens=False).ids, repr(text)
    assert (len(offsets), offsets[0], offsets[-1]) == (len(cuts) + 2, 0, len(ids))
    assert (np.diff(offsets) >= 0).all()


@pytest.mark.parametrize("text", DOCUMENTS)
def test_ids_of_a_document_are_those_of_the_whole(tokenizer: Tokenizer, text: str) -> None:
    if text.strip() == text:
        check(tokenizer, text, boundaries(text, 0))
    check(tokenizer, text, list(range(1, len(text))))


@settings(max_examples=60)
@given(
    text=st.text(
        st.sampled_from(" \n\t\x1c\x85\u00a0\u2028ab'sI1.!?\u3002\u201d\u00e9\u0301\u4e2d<>mask[]"),
        min_size=2,
        max_size=40,
    ),
    data=st.data(),
)
def test_wherever_it_is_cut(tokenizer: Tokenizer, text: str, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(1, len(text) - 1), max_size=5))
    check(tokenizer, text, sorted(places))


@pytest.mark.parametrize("kind", ["uncased", "byte-level"])
def test_cuts_beside_any_character(kind: str) -> None:
    tokenizer = KINDS[kind].train(DOCUMENTS)
    for text in neighborhoods(step=97):
        check(tokenizer, text, [cut for cut in range(1, len(text)) if text[cut] == " " or text[cut - 1] == "\u3002"])


@pytest.mark.parametrize("kind", ["uncased", "byte-level"])
def test_added_tokens_across_the_end_of_a_sentence(kind: str) -> None:
    backend = KINDS[kind].train(DOCUMENTS).backend
    backend.add_tokens([AddedToken("a\u3002b", normalized=False), AddedToken("<end>", rstrip=True)])
    tokenizer = Tokenizer.of(KINDS[kind], backend)
    for text in ("xa\u3002by", "x<end> y", "x. <end>  y\u3002b"):
        check(tokenizer, text, list(range(1, len(text))))


def test_a_token_belongs_where_its_text_begins(tmp_path: Path) -> None:
    """The full stop and the line breaks after it are one piece of Llama 3's, of the sentence that they end."""
    tokenizer = Tokenizer.load(llama3(tmp_path))
    text = "The fox.\n\nThe dog"
    ids, offsets = tokenizer.encode_document(text, [8])
    assert tokenizer.decode(ids[: offsets[1]].tolist()) == "The fox.\n\n"
    assert tokenizer.decode(ids[offsets[1] :].tolist()) == "The dog"


def test_sentences_begin_with_their_white_space() -> None:
    for text in DOCUMENTS:
        if text.strip() != text:
            continue
        cuts = boundaries(text, 0)
        parts = [text[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(text)])]
        assert [part.strip() for part in parts] == [sentence.strip() for sentence in split(text)]
        assert not any(part[-1].isspace() for part in parts)
    assert boundaries("Title. So\nA text. End", 9) == [9, 17]


@pytest.mark.parametrize("make", [llama3, llama2])
def test_the_store_holds_the_ids_of_whole_documents(make: object, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    tokenizer = Tokenizer.load(make(tmp_path / "words"))  # type: ignore[operator]
    texts = [text.strip() for text in DOCUMENTS]
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    (tmp_path / "corpus.jsonl").write_text(lines, encoding="utf-8")
    store = prepare([tmp_path / "corpus.jsonl"], tokenizer, tmp_path / "store", workers=1)
    cuts = store.sentences[store.documents]
    assert [store.ids[start:stop].tolist() for start, stop in cuts] == tokenizer.encode(texts)
    apart = [[number for part in split(text) for number in tokenizer.encode([part])[0]] for text in texts]
    assert apart != tokenizer.encode(texts)
    assert store.documents[-1, 1] > len(texts) * 1.5
