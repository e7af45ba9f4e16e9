"""Candidate words for a masked place: how probable each of some words is there, of whatever number of tokens.

Legend: M tokens of a candidate, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.fill import BLANK
from genus.evaluate.token_prediction import Predictor
from genus.examples import Sequence

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray

    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Candidate:
    """One word for the masked place."""

    word: str
    nats: float
    """Σ log p over its tokens."""
    tokens: int
    """Number of its tokens."""
    probability: float
    """Its share among the candidates."""


def score_candidates(
    learner: Learner,
    tokenizer: Tokenizer,
    text: str,
    words: Several[str],
    max_length: int | None = None,
    precision: str = "float32",
) -> list[Candidate]:
    """Return candidate words for the one mask of a text, most probable first.

        nats(w) = Σ_t log p(w_t | text with w in its place, w_t masked)

    That is the part of the pseudo-log-likelihood (Salazar et al. 2020, arXiv:1910.14659, section 2) that is the word's
    own; of a single token it is the log-probability that `fill_mask` gives. A word of more tokens has more terms.

    Args:
        learner: has a head of a masked or a permutation language model, or an auxiliary model that has one.
        tokenizer: the learner's own.
        text: with one mask, as the tokenizer's mask token, `[MASK]`, `<mask>` or `___`.
        words: the candidates.
        max_length: the model's number of positions, None if it is unlimited.
        precision: dtype of the forward pass, `float32` or `bfloat16`.

    Raises:
        UsageError: there is no candidate, or one that the tokenizer leaves nothing of; the text has no mask or several,
            or more tokens than the model has positions.
        GenusError: the model has no such head.
    """
    predictor = Predictor.find(learner, "masked", "permuted")
    if predictor is None:
        raise GenusError(
            "this model has no masked-language-model head, nor a generator beside it; take a pretrained one"
        )
    mask = tokenizer.pieces[tokenizer.vocabulary.mask]
    parts = BLANK.sub(lambda _: mask, text).split(mask)
    if len(parts) != 2:
        raise UsageError(f"{text!r} has {len(parts) - 1} masks; candidates are for one, written {mask} or ___")
    if not words:
        raise UsageError("there is no candidate; give words")
    found = [(word, *_nats(predictor, tokenizer, parts, word, max_length, precision)) for word in words]
    nats = np.array([each for _, each, _ in found])
    shares = np.exp(nats - nats.max())
    scored = [Candidate(*one, share) for one, share in zip(found, (shares / shares.sum()).tolist(), strict=True)]
    return sorted(scored, key=lambda candidate: -candidate.nats)


def _nats(
    predictor: Predictor, tokenizer: Tokenizer, parts: Several[str], word: str, max_length: int | None, precision: str
) -> tuple[float, int]:
    """Return the sum of log-probabilities of a word's tokens, and their number."""
    before, after = parts
    ids, own = own_tokens(tokenizer, before + word + after, len(before), len(before) + len(word))
    sequence = Sequence(*tokenizer.vocabulary.frame(ids))
    length = len(sequence.ids)
    if max_length is not None and length > max_length:
        raise UsageError(f"the text has {length} tokens with {word!r}, the model {max_length} positions; shorten it")
    places = np.flatnonzero(~sequence.fixed)[own]
    copies = [[predictor.hide(sequence, place[None], tokenizer.vocabulary)] for place in places]
    logits_MV, label_M = predictor.logits(copies, length, tokenizer.vocabulary.pad, precision)
    log_M = logits_MV.double().log_softmax(-1).gather(1, label_M[:, None])
    return float(log_M.sum()), len(own)


def own_tokens(
    tokenizer: Tokenizer, text: str, start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids (T,) of a text, and the places (M,) of those that have some of its characters [start, stop).

    Raises:
        UsageError: the tokenizer leaves nothing of these.
    """
    ids, spans = tokenizer.encode_with_offsets(text)
    own = np.flatnonzero((spans[:, 0] < stop) & (spans[:, 1] > start))
    if not len(own):
        raise UsageError(f"the tokenizer leaves nothing of the candidate {text[start:stop]!r}; take another")
    return ids.astype(np.int64), own
