"""The name of a special token in a text is that token, or text like any other, as it is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hard_texts import HARD
from test_real_vocabularies import LLAMAS

from genus.tokens import SpecialTokens, TokenizerConfig
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.algorithms.sentencepiece_bpe import SentencePieceBPE
from genus.tokens.algorithms.unigram import Unigram
from genus.tokens.algorithms.word_level import WordLevel
from genus.tokens.algorithms.wordpiece import BERT, WordPiece
from genus.tokens.store import prepare
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["the cat sat [ MASK SEP ] < s / > eos unk pad mask | endoftext | begin of text", *HARD] * 4
KINDS: dict[str, TokenizerConfig] = {
    "wordpiece": WordPiece(vocab_size=400),
    "byte-level": ByteBPE(vocab_size=400),
    "as GPT-2": ByteBPE(vocab_size=400, special_tokens=GPT2),
    "unigram": Unigram(vocab_size=400),
    "sentencepiece": SentencePieceBPE(vocab_size=300),
    "bytes": Bytes(),
    "words": WordLevel(vocab_size=300, min_frequency=1),
}


@pytest.fixture(scope="module", params=[*KINDS, *LLAMAS])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param in KINDS:
        return KINDS[request.param].train(TEXTS)
    return Tokenizer.load(LLAMAS[request.param](tmp_path_factory.mktemp("llama")))


def test_the_names_of_special_tokens_are_text(tokenizer: Tokenizer) -> None:
    specials = tokenizer.tokens.special_tokens
    unknown = tokenizer.vocabulary.roles.get("unk")
    for name in specials.names():
        for text in (name, f"the {name} cat", f"a{name}b", f"{name}{name}"):
            [known], [plain] = tokenizer.encode([text]), tokenizer.encode([text], specials=False)
            assert set(np.flatnonzero(tokenizer.vocabulary.special)) & set(known), text
            assert not {i for i in plain if tokenizer.vocabulary.special[i] and i != unknown}, text


def test_other_texts_are_encoded_as_ever(tokenizer: Tokenizer) -> None:
    texts = [text for text in TEXTS if not any(name in text for name in tokenizer.tokens.special_tokens.names())]
    assert len(texts) > 40
    assert tokenizer.encode(texts, specials=False) == tokenizer.encode(texts)


def test_one_name_can_be_kept() -> None:
    tokenizer = KINDS["wordpiece"].train(TEXTS)
    [ids] = tokenizer.encode(["the [MASK] sat [SEP]"], specials=("[MASK]",))
    facts = tokenizer.vocabulary
    assert (ids.count(facts.mask), ids.count(facts.sep)) == (1, 0)


def test_a_corpus_is_read_as_its_choice_says(tmp_path: Path) -> None:
    text = "the cat [SEP] sat. [MASK] on the mat.\nthe [CLS] end"
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    hashes = set()
    for in_text in (True, False):
        tokenizer = WordPiece(vocab_size=200, special_tokens=replace(BERT, in_text=in_text)).train([*TEXTS, text])
        store = prepare([tmp_path / "corpus.jsonl"], tokenizer, tmp_path / str(in_text), workers=1)
        assert store.ids.tolist() == tokenizer.encode([text], specials=in_text)[0]
        assert tokenizer.vocabulary.special[store.ids].sum() == (3 if in_text else 0)
        hashes.add(tokenizer.hash())
    assert len(hashes) == 2


def test_a_template_is_of_texts_and_special_tokens() -> None:
    with pytest.raises(ValueError, match=r"single: '<s>' in '<s> \$A' is neither \$A, \$B nor a special token"):
        SpecialTokens(single="<s> $A")
    with pytest.raises(ValueError, match=r"pair: expected a template of \$A and \$B"):
        SpecialTokens(pair="$A")
    assert SpecialTokens(bos="<s>", extra=("<s>", "<x>")).names() == ["<s>", "<x>"]
