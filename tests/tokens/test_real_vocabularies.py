"""Released vocabularies of other families, and tokenizers like Llama's, are read, give their ids, and are written."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hard_texts import HARD
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from genus.tokens.algorithms.pretrained import PretrainedTokenizer
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDERS = {
    "openai-gpt": ("EndOfWordBPE", 40_478, {"unk": "<unk>", "eos": "\n</w>"}),
    "gpt2": ("ByteBPE", 50_257, dict.fromkeys(("unk", "bos", "eos"), "<|endoftext|>")),
    "roberta-base": ("ByteBPE", 50_265, {"bos": "<s>", "cls": "<s>", "sep": "</s>", "mask": "<mask>", "pad": "<pad>"}),
    "t5": ("Unigram", 32_100, {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}),
    "albert-base-v2": ("Unigram", 30_000, {"cls": "[CLS]", "mask": "[MASK]", "pad": "<pad>"}),
    "xlnet-base-cased": ("Unigram", 32_000, {"bos": "<s>", "eos": "</s>", "cls": "<cls>", "sep": "<sep>"}),
    "deberta-v3": ("Unigram", 128_001, {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}),
    "clip": ("EndOfWordByteBPE", 49_408, {"bos": "<|startoftext|>", "eos": "<|endoftext|>"}),
    "bert-base-uncased": ("WordPiece", 30_522, {"cls": "[CLS]", "mask": "[MASK]"}),
    "bert-base-multilingual-cased": ("WordPiece", 119_547, {"cls": "[CLS]", "mask": "[MASK]"}),
}
CORPUS = [
    f"The quick brown fox no. {n} jumps over the lazy dogs; doesn't it? D\u00e9j\u00e0 vu: {n * n}\n" for n in range(80)
]
TEXTS = [*HARD, *CORPUS[:5], "Hello world, it's na\u00efve!"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def llama3(folder: Path) -> Path:
    """Write a folder like Llama 3's: byte-level BPE behind its pattern, and 20 reserved special tokens."""
    backend = Backend(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    ends = ["So it ends.\n\n"] * 90
    backend.train_from_iterator([*CORPUS, *ends], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    first = ["<|begin_of_text|>", "<|end_of_text|>"]
    backend.add_special_tokens([*first, *(f"<|reserved_special_token_{n}|>" for n in range(20))])
    frame = processors.TemplateProcessing(
        single=f"{first[0]} $A",
        pair=f"{first[0]} $A {first[0]}:1 $B:1",
        special_tokens=[(first[0], backend.token_to_id(first[0]))],
    )
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), frame])
    backend.save(str(folder / "tokenizer.json"))
    config = {"bos_token": first[0], "eos_token": first[1], "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def llama2(folder: Path) -> Path:
    """Write a folder like Llama 2's: sentencepiece's BPE with a byte for what is no piece, and no pre-tokenizer."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learned = Backend(models.BPE(unk_token="<unk>"))
    learned.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    learned.train_from_iterator([text[:40] for text in CORPUS], trainers.BpeTrainer(vocab_size=150))
    model = json.loads(learned.to_str())["model"]
    pieces = {piece: number for number, piece in enumerate([*names, *model["vocab"]])}
    merges = [tuple(merge) for merge in model["merges"]]
    backend = Backend(models.BPE(pieces, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = learned.normalizer
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in names[:3]])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    backend.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>", "pad_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


LLAMAS = {"llama3": llama3, "llama2": llama2}


def framed(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.vocabulary.frame(np.array(tokenizer.encode([text])[0], np.int64))[0].tolist()


def goes_round(tokenizer: Tokenizer, folder: Path, texts: Sequence[str] = TEXTS) -> Any:
    """Save it: it is read here as it was, with our own choices and without, and by transformers to the same ids."""
    transformers = pytest.importorskip("transformers")
    tokenizer.save(folder)
    for _ in range(2):
        again = Tokenizer.load(folder)
        assert again.tokens == tokenizer.tokens
        assert (again.hash(), again.encode(texts)) == (tokenizer.hash(), tokenizer.encode(texts))
        (folder / "tokens.json").unlink(missing_ok=True)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = [np.array(ids, np.int64) for ids in tokenizer.encode(texts)]
    for number, (text, second) in enumerate(zip(texts, reversed(texts), strict=True), 1):
        assert theirs(text)["input_ids"] == framed(tokenizer, text), text
        if not second:  # which transformers takes for no second text
            continue
        both = theirs(text, second, return_token_type_ids=True)
        ids, segments, _ = tokenizer.vocabulary.frame(encoded[number - 1], encoded[-number])
        assert (both["input_ids"], both["token_type_ids"]) == (ids.tolist(), segments.tolist()), (text, second)
    roles = {role: theirs.convert_ids_to_tokens(number) for role, number in tokenizer.vocabulary.roles.items()}
    assert {role: str(getattr(theirs, f"{role}_token")) for role in roles} == roles
    return theirs


@pytest.mark.shared
@pytest.mark.parametrize("name", FOLDERS)
def test_a_released_vocabulary_goes_round(name: str, shared: Path, tmp_path: Path) -> None:
    kind, size, roles = FOLDERS[name]
    tokenizer = Tokenizer.load(shared / "vocab" / name)
    assert (type(tokenizer.tokens).__name__, tokenizer.vocabulary.size) == (kind, size)
    assert roles.items() <= tokenizer.tokens.special_tokens.roles().items()
    goes_round(tokenizer, tmp_path)


BERT_PAIR = ["[CLS]", 0, "[SEP]", 1, "[SEP]"], [0, 0, 0, 1, 1]
PAIRS = {
    "bert-base-uncased": BERT_PAIR,
    "albert-base-v2": BERT_PAIR,
    "deberta-v3": BERT_PAIR,
    "roberta-base": (["<s>", 0, "</s>", "</s>", 1, "</s>"], [0] * 6),
    "xlnet-base-cased": ([0, "<sep>", 1, "<sep>", "<cls>"], [0, 0, 1, 1, 2]),
    "t5": ([0, "</s>", 1, "</s>"], [0] * 4),
    "gpt2": ([0, 1], [0, 0]),
}
"""Pairs of texts as released: special tokens and the places of both texts, and the segment of each."""


@pytest.mark.shared
@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_framed_as_released(name: str, shared: Path) -> None:
    tokenizer, (frame, numbers) = Tokenizer.load(shared / "vocab" / name), PAIRS[name]
    texts = tokenizer.encode(["Hello world, it's", "The dog ran."])
    ids, segments, _ = tokenizer.vocabulary.frame(*(np.array(text, np.int64) for text in texts))
    parts = [texts[one] if isinstance(one, int) else [tokenizer.backend.token_to_id(one)] for one in frame]
    assert ids.tolist() == [number for part in parts for number in part]
    expected = [segment for part, segment in zip(parts, numbers, strict=True) for _ in part]
    assert segments.tolist() == expected


@pytest.mark.shared
@pytest.mark.parametrize("name", ["openai-gpt", "clip"])
def test_ids_are_those_of_transformers_own_classes(name: str, shared: Path, tmp_path: Path) -> None:
    """Of the vocabulary and merges alone, as they were released."""
    transformers = pytest.importorskip("transformers")
    names = {"openai-gpt": ("vocab.json", "merges.txt"), "clip": ("encoder.json", "vocab.bpe")}[name]
    for theirs, ours in zip(names, ("vocab.json", "merges.txt"), strict=True):
        shutil.copy(shared / "vocab" / name / theirs, tmp_path / ours)
    kind = transformers.CLIPTokenizer if name == "clip" else transformers.OpenAIGPTTokenizer
    expected = [kind.from_pretrained(tmp_path)(text)["input_ids"] for text in TEXTS]
    legacy = Tokenizer.load(tmp_path)
    assert [framed(legacy, text) for text in TEXTS] == expected
    assert Tokenizer.load(shared / "vocab" / name).encode(TEXTS) == legacy.encode(TEXTS)
    legacy.save(tmp_path / "again")
    (tmp_path / "again" / "tokenizer.json").unlink()
    assert [kind.from_pretrained(tmp_path / "again")(text)["input_ids"] for text in TEXTS] == expected


@pytest.mark.shared
def test_sentinels_come_after_the_pieces_of_t5(shared: Path, tmp_path: Path) -> None:
    whole = Tokenizer.load(shared / "vocab" / "t5")
    shutil.copy(shared / "vocab" / "t5" / "spiece.model", tmp_path / "spiece.model")
    released = Tokenizer.load(tmp_path)
    assert released.tokens == whole.tokens
    assert released.pieces == whole.pieces
    assert (released.pieces[32_099], released.pieces[32_000]) == ("<extra_id_0>", "<extra_id_99>")
    text = "Thank you <extra_id_0> me to <extra_id_1> party."
    assert released.encode([text])[0].count(32_099) == whole.encode([text])[0].count(32_099) == 1
    ids, _, fixed = whole.vocabulary.frame_target(np.array([5, 6]))
    assert (ids.tolist(), fixed.tolist(), whole.vocabulary.target_framing) == (
        [0, 5, 6, 1],
        [True, False, False, True],
        2,
    )
    whole.save(tmp_path / "again")
    from genus.tokens.files.sentencepiece import read_model

    assert len(read_model(tmp_path / "again" / "spiece.model").texts) == 32_000


@pytest.mark.shared
def test_deberta_gives_sentencepiece_s_ids(shared: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(shared / "vocab" / "deberta-v3" / "spm.model"))
    ours = Tokenizer.load(shared / "vocab" / "deberta-v3")
    texts = [text for text in TEXTS if not set(text) & set("\x0b\x0c\x1c\x1d\x1e\x1f\x85\x00<[")]
    assert len(texts) > 20
    assert ours.encode(texts) == [theirs.encode(text) for text in texts]
    assert ours.vocabulary.mask == 128_000


@pytest.mark.parametrize("make", [llama3, llama2])
def test_a_tokenizer_like_llama_s_is_adopted_whole(make: Any, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    folder = make(tmp_path / "theirs")
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer.load(folder)
    assert isinstance(tokenizer.tokens, PretrainedTokenizer)
    assert [framed(tokenizer, text) for text in TEXTS] == [backend.encode(text).ids for text in TEXTS]
    facts = tokenizer.vocabulary
    assert facts.roles.keys() == ({"bos", "eos"} if make is llama3 else {"bos", "eos", "unk"})
    assert (facts.pad, facts.sep) == (0, facts.roles["eos"])
    assert facts.special.sum() == (22 if make is llama3 else 3)
    assert facts.whole(7) == 6
    words = [tokenizer.pieces[number] for number in tokenizer.encode(["the lazy dogs"])[0] if facts.word_start[number]]
    assert len(words) >= 2
    theirs = goes_round(tokenizer, tmp_path / "ours")
    assert theirs.bos_token_id == facts.roles["bos"]
    assert not (tmp_path / "ours" / "vocab.json").exists()
