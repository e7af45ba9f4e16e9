"""Log-likelihoods of texts after a context, against Hugging Face's classes, a token at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from genus.errors import UsageError
from genus.evaluate.likelihood import Likelihood, log_likelihoods
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.wordpiece import WordPiece
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.tokens import TokenizerConfig

transformers = pytest.importorskip("transformers")

FLOAT64 = 1e-9
"""Sums of tens of log-probabilities of a few nats, in another order: far above rounding, far below a wrong token."""
CORPUS = ["the cat sat on the mat and the dog ran to the door . a bird sang in the old tree"] * 20
PAIRS = [
    ("the cat sat on", " the mat"),
    ("the cat sat on the", " old tree and sang"),
    ("a dog ran to the d", "oor ."),  # a token reaches across the boundary
    ("", "a bird sang"),
    ("the bird", " in"),
]
KINDS: dict[str, TokenizerConfig] = {
    "gpt2": ByteBPE(vocab_size=300, special_tokens=GPT2),
    "bert": WordPiece(vocab_size=100, lowercase=True),
    "xlnet": Unigram(vocab_size=60, lowercase=False, special_tokens=XLNET),
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


def conditional(found: LoadedModel, pairs: list[tuple[str, str]], **how: Any) -> list[Likelihood]:
    contexts, texts = ([pair[side] for pair in pairs] for side in (0, 1))
    return log_likelihoods(found.learner, found.tokenizer, texts, contexts=contexts, **how)


def shared(one: list[int], other: list[int]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


def test_each_token_after_all_before_it_as_hugging_face_answers(folders: dict[str, Path]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["gpt2"])
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folders["gpt2"], dtype=torch.float64).eval()
    expected, greedy = [], []
    for context, text in PAIRS:
        whole = tokenizer(context + text)["input_ids"]
        start = shared(tokenizer(context)["input_ids"], whole) if context else 0
        if start == 0:
            whole, start = [tokenizer.eos_token_id, *whole], 1
        total, best = 0.0, True
        for place in range(start, len(whole)):
            with torch.no_grad():
                logits = theirs(torch.tensor([whole[:place]])).logits[0, -1]
            total += float(logits.log_softmax(-1)[whole[place]])
            best &= int(logits.argmax()) == whole[place]
        expected.append(total)
        greedy.append(best)
    found = conditional(model(folders, "gpt2"), PAIRS)
    assert [one.nats for one in found] == pytest.approx(expected, abs=FLOAT64)
    assert [one.greedy for one in found] == greedy
    assert [one.bytes for one in found] == [len(text) for _, text in PAIRS]


def test_each_token_of_the_text_masked_in_turn_as_hugging_face_answers(folders: dict[str, Path]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    theirs = transformers.BertForMaskedLM.from_pretrained(folders["bert"], dtype=torch.float64).eval()
    expected = []
    for context, text in PAIRS:
        alone = tokenizer(context, add_special_tokens=False)["input_ids"]
        inner = tokenizer(context + text, add_special_tokens=False)["input_ids"]
        whole, start = [tokenizer.cls_token_id, *inner, tokenizer.sep_token_id], shared(alone, inner)
        total = 0.0
        for place in range(1 + start, 1 + len(inner)):
            ids = list(whole)
            ids[place] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = theirs(torch.tensor([ids])).logits[0, place]
            total += float(logits.log_softmax(-1)[whole[place]])
        expected.append(total)
    assert [one.nats for one in conditional(model(folders, "bert"), PAIRS)] == pytest.approx(expected, abs=FLOAT64)


@members
def test_without_a_context_it_is_the_likelihood_of_the_text(folders: dict[str, Path], member: str) -> None:
    ours = model(folders, member)
    assert conditional(ours, [("", "the cat sat")]) == log_likelihoods(ours.learner, ours.tokenizer, ["the cat sat"])


@members
def test_neither_packing_nor_other_texts_change_anything(folders: dict[str, Path], member: str) -> None:
    ours = model(folders, member)
    alone = [conditional(ours, [pair], positions=1)[0].nats for pair in PAIRS]
    for positions in (30, 10_000):
        found = [one.nats for one in conditional(ours, PAIRS, positions=positions)]
        assert found == pytest.approx(alone, abs=FLOAT64)
    backwards = [one.nats for one in conditional(ours, PAIRS[::-1])]
    assert backwards[::-1] == pytest.approx(alone, abs=FLOAT64)


def test_a_token_across_the_boundary_counts_to_the_text(folders: dict[str, Path]) -> None:
    ours = model(folders, "gpt2")
    context, text = PAIRS[2]
    alone, whole = ours.tokenizer.encode([context, context + text], specials=False)
    assert whole[: len(alone)] != alone
    found = conditional(ours, [PAIRS[2]])[0]
    assert found.tokens == len(whole) - shared(alone, whole)
    end = [ours.tokenizer.decode([number]) for number in whole[-found.tokens :]]
    assert "".join(end).endswith("door .")


@members
def test_a_context_too_long_is_refused_or_loses_its_left_end(folders: dict[str, Path], member: str) -> None:
    ours = model(folders, member)
    long, right = "the dog ran to " * 30 + "the door", "to the door"
    with pytest.raises(UsageError, match=r"row 7 has .* the model 20 positions; shorten it, or drop the left end"):
        conditional(ours, [(long, " .")], max_length=20, names=["row 7"])
    found = conditional(ours, [(long, " .")], max_length=20, cut_contexts=True)[0]
    total = len(ours.tokenizer.encode([long + " ."], specials=False)[0])
    framing = ours.tokenizer.vocabulary.framing(1)
    assert found.cut == total + (framing if member != "gpt2" else -1) - 20
    short = conditional(ours, [(right, " .")], max_length=20, cut_contexts=True)[0]
    assert (short.cut, short.tokens) == (0, found.tokens)
    with pytest.raises(UsageError, match="shorten it"):
        conditional(ours, [("a", " the old tree" * 20)], max_length=20, cut_contexts=True)
