"""Completions of masked text.

Legend: M masks, V vocabulary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from genus.batch import IGNORE
from genus.errors import GenusError, UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.objectives import answering, device_of
from genus.train.precision import autocast

if TYPE_CHECKING:
    from torch import Tensor

    from genus.objectives import Head, Learner
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


def fill_mask(
    learner: Learner,
    tokenizer: Tokenizer,
    text: str,
    top: int = 5,
    max_length: int | None = None,
    precision: str = "float32",
) -> list[list[Completion]]:
    """Return the `top` most probable tokens for every mask of a text, the best first.

    Args:
        learner: with a masked-language-model head, or a whole model within that has one, as ELECTRA's generator.
        tokenizer: the learner's own.
        text: a mask is written as the tokenizer's mask token, `[MASK]`, `<mask>` or `___`; the names of other special
            tokens are text.
        top: how many tokens.
        max_length: the model's positions, None where they have no end.
        precision: of the forward pass, `float32` or `bfloat16`.

    Raises:
        UsageError: `top` below 1; the text has no mask, or more tokens than there are positions.
        GenusError: the model has no masked-language-model head.
    """
    if top < 1:
        raise UsageError(f"top: expected at least 1, got {top}")
    learner, head = _restorer(learner)
    target = cast("Head", learner.heads[head]).target
    mask = tokenizer.pieces[tokenizer.vocabulary.mask]
    text = BLANK.sub(lambda _: mask, text)
    if mask not in text:
        raise UsageError(f"{text!r} has no mask; write {mask} or ___ where a word is missing")
    example = _example(tokenizer, text, target)
    length = len(example.tokens.ids)
    if max_length is not None and length > max_length:
        raise UsageError(f"the text has {length} tokens, the model {max_length} positions; shorten it")
    chances_MV = _chances(learner, head, example, tokenizer, precision)
    values, ids = chances_MV.topk(min(top, chances_MV.shape[-1]))
    return [
        [_completion(tokenizer, text, mask, place, i, p) for i, p in zip(best, chances, strict=True)]
        for place, (best, chances) in enumerate(zip(ids.tolist(), values.tolist(), strict=True))
    ]


def _restorer(learner: Learner) -> tuple[Learner, str]:
    """Return the learner and the name of its head that fills masks: this one, or one of the whole models within."""
    for one in (learner, *(companion.learner for companion in learner.auxiliary_models().values())):
        for name, head in one.heads.items():
            if cast("Head", head).fills_masks:
                return one, name
    raise GenusError("this model has no masked-language-model head, nor a generator beside it; take a pretrained one")


def _example(tokenizer: Tokenizer, text: str, target: str) -> Example:
    """Return the framed text with a target without a label at every mask."""
    mask = tokenizer.pieces[tokenizer.vocabulary.mask]
    ids = np.array(tokenizer.encode([text], specials=(mask,))[0], np.int64)
    sequence = Sequence(*tokenizer.vocabulary.frame(ids))
    masks = np.flatnonzero(sequence.ids == tokenizer.vocabulary.mask)
    return Example({"tokens": sequence}, {target: (masks, np.full(len(masks), IGNORE))})


def _chances(learner: Learner, head: str, example: Example, tokenizer: Tokenizer, precision: str) -> Tensor:
    """Return probabilities (M, V); what special tokens would have is left out."""
    batch = pack([[example]], len(example.tokens.ids), tokenizer.vocabulary.pad, streams=False)
    batch, device = replace(batch, heads=frozenset({head})), device_of(learner)
    with answering(learner), autocast(precision, device):
        logits_MV = learner.outputs(batch.to(device))[head]["logits"]
    special = torch.as_tensor(tokenizer.vocabulary.special, device=device)
    return logits_MV.float()[:, : len(special)].softmax(-1).masked_fill(special, 0.0)


def _completion(tokenizer: Tokenizer, text: str, mask: str, place: int, token: int, probability: float) -> Completion:
    word, parts = tokenizer.decode([token]).strip(), text.split(mask)
    filled = mask.join(parts[: place + 1]) + word + mask.join(parts[place + 1 :])
    return Completion(word, probability, filled)
