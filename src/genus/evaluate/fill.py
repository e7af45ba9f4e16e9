"""Completions of masked text.

Legend: M masks, V vocabulary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.batch import IGNORE
from genus.errors import GenusError, UsageError
from genus.examples import Example, Sequence
from genus.examples.pack import pack
from genus.objectives.masked import MaskedHead

if TYPE_CHECKING:
    from torch import Tensor

    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

BLANK = re.compile(r"\[MASK\]|<mask>|_{3,}")
"""How a user may write a mask, whatever the tokenizer's own is."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One token in the place of one mask."""

    token: str
    probability: float
    text: str
    """The whole text with the token in the mask's place; other masks stay masks."""


def fill(
    learner: Learner, tokenizer: Tokenizer, text: str, top: int = 5, max_length: int | None = None
) -> list[list[Completion]]:
    """Return the `top` most probable tokens for every mask of a text, the best first.

    Args:
        learner: with a masked-language-model head, or a whole model within that has one, as ELECTRA's generator.
        tokenizer: the learner's own.
        text: a mask is written as the tokenizer's mask token, `[MASK]`, `<mask>` or `___`; the names of other special
            tokens are text.
        top: how many tokens.
        max_length: the model's positions, None where they have no end.

    Raises:
        UsageError: `top` below 1; the text has no mask, or more tokens than there are positions.
        GenusError: the model has no masked-language-model head.
    """
    if top < 1:
        raise UsageError(f"top: expected at least 1, got {top}")
    learner, head = _restorer(learner)
    mask = tokenizer.pieces[tokenizer.vocabulary.mask]
    text = BLANK.sub(lambda _: mask, text)
    if mask not in text:
        raise UsageError(f"{text!r} has no mask; write {mask} or ___ where a word is missing")
    example = _example(tokenizer, text)
    length = len(example.tokens.ids)
    if max_length is not None and length > max_length:
        raise UsageError(f"the text has {length} tokens, the model {max_length} positions; shorten it")
    chances_MV = _chances(learner, head, example, tokenizer)
    values, ids = chances_MV.topk(min(top, chances_MV.shape[-1]))
    return [
        [_completion(tokenizer, text, mask, place, i, p) for i, p in zip(best, chances, strict=True)]
        for place, (best, chances) in enumerate(zip(ids.tolist(), values.tolist(), strict=True))
    ]


def _restorer(learner: Learner) -> tuple[Learner, MaskedHead]:
    """Return the learner and its head that restore masked tokens: this one, or one of the whole models within."""
    for one in (learner, *(companion.learner for companion in learner.companions().values())):
        for head in one.heads.values():
            if isinstance(head, MaskedHead):
                return one, head
    raise GenusError("this model has no masked-language-model head, nor a generator beside it; take a pretrained one")


def _example(tokenizer: Tokenizer, text: str) -> Example:
    """Return the framed text with a target without a label at every mask."""
    mask = tokenizer.pieces[tokenizer.vocabulary.mask]
    ids = np.array(tokenizer.encode([text], specials=(mask,))[0], np.int64)
    sequence = Sequence(*tokenizer.vocabulary.frame(ids))
    masks = np.flatnonzero(sequence.ids == tokenizer.vocabulary.mask)
    return Example({"tokens": sequence}, {"masked": (masks, np.full(len(masks), IGNORE))})


def _chances(learner: Learner, head: MaskedHead, example: Example, tokenizer: Tokenizer) -> Tensor:
    """Return probabilities (M, V); what special tokens would have is left out."""
    batch = pack([[example]], len(example.tokens.ids), tokenizer.vocabulary.pad, streams=False)
    embedding_VE = learner.network.token_embedding.weight
    batch, training = batch.to(embedding_VE.device), learner.training
    learner.eval()
    with torch.no_grad():
        hidden_TH = learner.network(batch)["tokens"]
        logits_MV: Tensor = head.tokens(hidden_TH[batch.targets["masked"].index], embedding_VE)
    learner.train(training)
    special_V = torch.ones(logits_MV.shape[-1], dtype=torch.bool)  # rows beyond the tokenizer's tokens are none to show
    special_V[: tokenizer.vocabulary.size] = torch.as_tensor(tokenizer.vocabulary.special)
    return logits_MV.float().softmax(-1).masked_fill(special_V.to(logits_MV.device), 0.0)


def _completion(tokenizer: Tokenizer, text: str, mask: str, place: int, token: int, probability: float) -> Completion:
    word, parts = tokenizer.decode([token]).strip(), text.split(mask)
    filled = mask.join(parts[: place + 1]) + word + mask.join(parts[place + 1 :])
    return Completion(word, probability, filled)
