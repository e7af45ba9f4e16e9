"""Mask filling: the most probable tokens of a masked language model for each mask of a text.

Legend: M masks, V vocabulary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.errors import GenusError, UsageError
from genus.evaluate.token_prediction import HiddenTokens, Predictor
from genus.examples import Sequence
from genus.inference.engine import Inference

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from torch import Tensor

    from genus.examples import Example
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

BLANK = re.compile(r"\[MASK\]|<mask>|_{3,}")
"""Spellings of a mask that a user may write with any tokenizer."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One predicted token for one mask."""

    token: str
    probability: float
    text: str
    """The whole text with this mask replaced by the token; other masks stay."""


def fill_mask(
    learner: Learner,
    tokenizer: Tokenizer,
    text: str,
    top: int = 5,
    max_length: int | None = None,
    engine: Inference | None = None,
) -> list[list[Completion]]:
    """Return the `top` most probable tokens for every mask of a text, most probable first; see `fill_masks`."""
    return fill_masks(learner, tokenizer, [text], top, max_length, engine)[0]


def fill_masks(
    learner: Learner,
    tokenizer: Tokenizer,
    texts: Several[str],
    top: int = 5,
    max_length: int | None = None,
    engine: Inference | None = None,
) -> list[list[list[Completion]]]:
    """Return for each text the `top` most probable tokens for every mask, most probable first.

    Args:
        learner: has a head of a masked or a permutation language model, or an auxiliary model that has one, such as
            ELECTRA's generator.
        tokenizer: the learner's own.
        texts: a mask is written as the tokenizer's mask token, `[MASK]`, `<mask>` or `___`; the names of other special
            tokens are treated as text.
        top: number of tokens per mask.
        max_length: the model's number of positions, None if it is unlimited.
        engine: makes the forward passes; None: one in float32.

    Raises:
        UsageError: `top` is below 1; a text has no mask, or more tokens than the model has positions.
        GenusError: the model has no such head.
    """
    if top < 1:
        raise UsageError(f"top: expected at least 1, got {top}")
    predictor = Predictor.find(learner, "masked", "permuted")
    if predictor is None:
        raise GenusError(
            "this model has no masked-language-model head, nor a generator beside it; take a pretrained one"
        )
    mask, pad = tokenizer.pieces[tokenizer.vocabulary.mask], tokenizer.vocabulary.pad
    texts = [BLANK.sub(lambda _: mask, text) for text in texts]
    hidden = [HiddenTokens.of(predictor, _example(predictor, tokenizer, text, max_length), pad) for text in texts]
    found = (engine or Inference()).run(hidden)
    return [_completions(tokenizer, text, logits, top) for text, logits in zip(texts, found, strict=True)]


def _completions(tokenizer: Tokenizer, text: str, logits_MV: Tensor, top: int) -> list[list[Completion]]:
    """Return the most probable tokens for each mask of a text."""
    mask, chances_MV = tokenizer.pieces[tokenizer.vocabulary.mask], _chances(logits_MV, tokenizer)
    values, ids = chances_MV.topk(min(top, chances_MV.shape[-1]))
    return [
        [_completion(tokenizer, text, mask, place, i, p) for i, p in zip(best, chances, strict=True)]
        for place, (best, chances) in enumerate(zip(ids.tolist(), values.tolist(), strict=True))
    ]


def _example(predictor: Predictor, tokenizer: Tokenizer, text: str, max_length: int | None) -> Example:
    """Return the text with special tokens, of which every mask is predicted.

    Raises:
        UsageError: it has no mask, or more tokens than the model has positions.
    """
    vocabulary = tokenizer.vocabulary
    mask = tokenizer.pieces[vocabulary.mask]
    if mask not in text:
        raise UsageError(f"{text!r} has no mask; write {mask} or ___ where a word is missing")
    ids = np.array(tokenizer.encode([text], specials=(mask,))[0], np.int64)
    sequence = Sequence(*vocabulary.frame(ids))
    if max_length is not None and len(sequence.ids) > max_length:
        raise UsageError(f"the text has {len(sequence.ids)} tokens, the model {max_length} positions; shorten it")
    return predictor.hide(sequence, np.flatnonzero(sequence.ids == vocabulary.mask), vocabulary)


def _chances(logits_MV: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Return token probabilities (M, V), with those of special tokens set to 0."""
    vocabulary = tokenizer.vocabulary
    special_V = torch.ones(logits_MV.shape[-1], dtype=torch.bool)  # rows beyond the tokenizer's tokens are none to show
    special_V[: vocabulary.size] = torch.as_tensor(vocabulary.special)
    return logits_MV.float().softmax(-1).masked_fill(special_V.to(logits_MV.device), 0.0)


def _completion(tokenizer: Tokenizer, text: str, mask: str, place: int, token: int, probability: float) -> Completion:
    word, parts = tokenizer.decode([token]).strip(), text.split(mask)
    filled = mask.join(parts[: place + 1]) + word + mask.join(parts[place + 1 :])
    return Completion(word, probability, filled)
