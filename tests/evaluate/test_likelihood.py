"""Log-likelihoods against Hugging Face's classes, one masked copy at a time, and against a forward pass of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.errors import UsageError
from genus.evaluate.fill import fill_mask
from genus.evaluate.likelihood import log_likelihoods
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.export.folder import LoadedModel, load
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.word_level import WordLevel
from genus.tokens.algorithms.wordpiece import WordPiece
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.tokens import TokenizerConfig

FLOAT64 = 1e-9
"""Sums of tens of log-probabilities of a few nats, in another order: far above rounding, far below a wrong token."""
FLOAT32 = 1e-4
"""The same of 24 bits: Hugging Face's XLNet computes the encodings of distances in float32, and fails in others."""
CORPUS = ["the cat sat on the mat and the dog ran to the door . a bird sang in the old tree"] * 20
TEXTS = [
    "the cat sat on the mat",
    "a dog ran",
    "bird",
    "the old bird sat in the tree and the cat ran to the dog [MASK] .",
    "",
    "the dog sang to the cat, and the cat sang to the dog in the door of the old tree on the mat",
]
KINDS: dict[str, TokenizerConfig] = {
    "bert": WordPiece(vocab_size=100, lowercase=True),
    "roberta": ByteBPE(vocab_size=300),
    "electra": WordPiece(vocab_size=100, lowercase=True),
    "xlnet": Unigram(vocab_size=60, lowercase=False, special_tokens=XLNET),
    "reformer": WordPiece(vocab_size=100, lowercase=True),
    "linformer": ByteBPE(vocab_size=300),
    "ernie2": WordPiece(vocab_size=100, lowercase=True),
    "transformer-xl": WordLevel(vocab_size=100, min_frequency=1),
}
members = pytest.mark.parametrize("member", KINDS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of random weights, drawn so wide that their tokens differ by nats."""
    return {
        member: write_model(tmp_path_factory.mktemp(member), f"{member}/tiny", kind, CORPUS, WIDE)
        for member, kind in KINDS.items()
    }


def model(folders: dict[str, Path], member: str) -> LoadedModel:
    return in_float64(folders[member])


def nats(found: LoadedModel, texts: list[str], **how: Any) -> list[float]:
    return [one.nats for one in log_likelihoods(found.learner, found.tokenizer, texts, **how)]


@pytest.mark.parametrize(("member", "within"), [("bert", ""), ("roberta", ""), ("electra", "generator")])
def test_each_token_masked_in_turn_as_hugging_face_answers(folders: dict[str, Path], member: str, within: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[member])
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folders[member] / within, dtype=torch.float64).eval()
    texts = [text for text in TEXTS if "[MASK]" not in text]  # which is text to us
    expected = []
    for text in texts:
        given = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
        inner = (given.pop("special_tokens_mask")[0] == 0).nonzero()[:, 0].tolist()
        total = 0.0
        for place in inner:
            ids = given["input_ids"].clone()
            ids[0, place] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = theirs(**{**given, "input_ids": ids}).logits[0, place]
            total += float(logits.log_softmax(-1)[given["input_ids"][0, place]])
        expected.append(total)
    assert nats(model(folders, member), texts) == pytest.approx(expected, abs=FLOAT64)
    assert min(expected) < -10


@pytest.fixture(scope="module")
def query_stream(folders: dict[str, Path]) -> Callable[[np.ndarray, int], torch.Tensor]:
    """Hugging Face's log-probabilities of one token of a framed text, which no token attends to."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.XLNetLMHeadModel.from_pretrained(folders["xlnet"], dtype=torch.float32).eval()
    vocabulary = load(folders["xlnet"]).tokenizer.vocabulary

    def answer(text: np.ndarray, place: int) -> torch.Tensor:
        ids, segments, _ = vocabulary.frame(text)
        hidden, asked = torch.zeros(1, len(ids), len(ids)), torch.zeros(1, 1, len(ids))
        hidden[0, :, place] = asked[0, 0, place] = 1
        given = {"input_ids": torch.tensor(ids)[None], "token_type_ids": torch.tensor(segments)[None]}
        with torch.no_grad():
            logits = theirs(**given, perm_mask=hidden, target_mapping=asked, use_mems=False).logits[0, 0]
        return logits.log_softmax(-1)  # type: ignore[no-any-return]

    return answer


def test_each_token_last_in_the_order_as_hugging_face_answers(
    folders: dict[str, Path], query_stream: Callable[[np.ndarray, int], torch.Tensor]
) -> None:
    ours = model(folders, "xlnet")
    texts = [np.array(ids) for ids in ours.tokenizer.encode(TEXTS[:3])]
    expected = [sum(float(query_stream(ids, place)[ids[place]]) for place in range(len(ids))) for ids in texts]
    assert nats(ours, TEXTS[:3]) == pytest.approx(expected, rel=FLOAT32)


def test_a_mask_is_filled_from_the_query_stream(
    folders: dict[str, Path], query_stream: Callable[[np.ndarray, int], torch.Tensor]
) -> None:
    ours = model(folders, "xlnet")
    vocabulary = ours.tokenizer.vocabulary
    (ours_best,) = fill_mask(ours.learner, ours.tokenizer, "the cat ___ on the mat", top=3)
    ids = np.array(ours.tokenizer.encode(["the cat <mask> on the mat"])[0])
    chances = query_stream(ids, int(np.flatnonzero(ids == vocabulary.mask)[0])).exp()
    best = chances.masked_fill(torch.as_tensor(vocabulary.special), 0).topk(3)
    assert [one.probability for one in ours_best] == pytest.approx(best.values.tolist(), rel=FLOAT32)
    assert [one.token for one in ours_best] == [ours.tokenizer.decode([i]).strip() for i in best.indices.tolist()]


def test_a_causal_model_reads_on_from_a_separator(folders: dict[str, Path]) -> None:
    """Against a forward pass of the separator and the text, one at a time, of which every logit is taken."""
    ours = model(folders, "transformer-xl")
    vocabulary = ours.tokenizer.vocabulary
    expected = []
    for text in TEXTS[:4]:
        ids = np.array([vocabulary.sep, *ours.tokenizer.encode([text], specials=False)[0]])
        every = np.arange(len(ids))
        tokens = Sequence(ids, np.zeros_like(ids), np.zeros(len(ids), np.bool_))
        batch = pack([[Example({"tokens": tokens}, {"causal_lm": (every, ids)})]], len(ids), 0, streams=False)
        with torch.no_grad():
            logits = ours.learner.eval().outputs(batch)["causal_lm"]["logits"].log_softmax(-1)
        expected.append(float(logits[every[:-1], ids[1:]].sum()))
    assert nats(ours, TEXTS[:4]) == pytest.approx(expected, abs=FLOAT64)


@members
def test_neither_packing_nor_batches_nor_other_texts_change_anything(folders: dict[str, Path], member: str) -> None:
    ours = model(folders, member)
    alone = [nats(ours, [text], positions=1)[0] for text in TEXTS]  # a copy a batch
    for positions in (40, 10_000):
        assert nats(ours, TEXTS, positions=positions) == pytest.approx(alone, abs=FLOAT64)
    assert nats(ours, TEXTS[::-1])[::-1] == pytest.approx(alone, abs=FLOAT64)
    assert all(value < 0 for value, text in zip(alone, TEXTS, strict=True) if text)


@members
def test_tokens_and_bytes_are_counted(folders: dict[str, Path], member: str) -> None:
    ours = model(folders, member)
    texts = ["the café", ""]
    found = log_likelihoods(ours.learner, ours.tokenizer, texts)
    assert [one.tokens for one in found] == [len(ids) for ids in ours.tokenizer.encode(texts, specials=False)]
    assert [one.bytes for one in found] == [9, 0]
    assert found[1].nats == 0


def test_what_has_no_likelihood(folders: dict[str, Path]) -> None:
    ours = model(folders, "bert")
    long = ["the cat", "cat " * 600]
    with pytest.raises(UsageError, match="text 2 has 602 tokens with the special ones, the model 512 positions"):
        nats(ours, long, max_length=ours.recipe.model.max_length)
    del ours.learner.heads["masked_lm"]
    with pytest.raises(UsageError, match="predicts no tokens"):
        nats(ours, TEXTS)
