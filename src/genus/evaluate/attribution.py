"""Source attribution: under which control code a text is likely, and how likely the codes are given the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.likelihood import Span, find_predictor, predicted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a text says of one control code."""

    code: str
    probability: float
    """p(code | text), over the codes that were asked."""
    nats: float
    """log p(text | code)."""
    perplexity: float
    """exp(-nats / tokens of the text), by which CTRL's released code ranks."""


def attribute(
    learner: Learner,
    tokenizer: Tokenizer,
    text: str,
    codes: Sequence[str],
    max_length: int | None = None,
    prior: Sequence[float] | None = None,
    precision: str = "float32",
) -> list[Attribution]:
    """Return control codes by their probability given a text, the most probable first.

        p(c | x) = p(x | c) p(c) / Σ_c' p(x | c') p(c')

    Code and text are tokenized apart, as `CodedDocuments` has them; the code is given. A text that is too long is cut
    into pieces, the same for all codes, each read after the code; their log-likelihoods are added.

    Source: Keskar et al. 2019 (CTRL, arXiv:1909.05858) on source attribution; released code, source_attribution.py,
    which ranks codes by the perplexity of the text after them, that is under equal priors.

    Args:
        learner: has a head that predicts the next token, and was trained with the codes.
        tokenizer: the learner's own.
        text: the text.
        codes: the control codes, as training had them.
        max_length: the model's number of positions, None if it is unlimited.
        prior: p(c) of each code, up to a factor; None: equal.
        precision: dtype of the forward pass, `float32` or `bfloat16`.

    Raises:
        UsageError: the model does not predict the next token; there is no code, an empty one, or one twice; a prior
            that is not positive.
        GenusError: the text has no tokens, or a code leaves no room for it.
    """
    predictor = find_predictor(learner)
    if predictor.head.predicts != "following":
        raise UsageError("source attribution needs a model that predicts the next token, such as ctrl")
    in_text = tokenizer.tokens.special_tokens.in_text
    heads = [np.array(ids, np.int64) for ids in tokenizer.encode(codes, specials=in_text)]
    if not codes or len({*codes}) < len(codes) or any(not len(head) for head in heads):
        raise UsageError(
            f"codes: expected one or more, each once and none empty, got {', '.join(map(repr, codes)) or 'none'}"
        )
    weights = np.ones(len(codes)) if prior is None else np.array(prior, np.float64)
    if len(weights) != len(codes) or not (weights > 0).all():
        raise UsageError(f"prior: expected a number above 0 for each of {len(codes)} codes")
    (ids,) = tokenizer.encode([text], specials=False)
    if not ids:
        raise GenusError("the text has no tokens; give a word")
    pieces = _pieces(np.array(ids, np.int64), heads, max_length)
    spans = [Span(np.append(head, piece), len(head)) for head in heads for piece in pieces]
    nats = predicted(predictor, tokenizer.vocabulary, spans, precision)[0].reshape(len(codes), -1).sum(1)
    joint = nats + np.log(weights)
    probability = np.exp(joint - np.logaddexp.reduce(joint))
    perplexity = np.exp(np.minimum(-nats / len(ids), 700))
    found = zip(codes, probability.tolist(), nats.tolist(), perplexity.tolist(), strict=True)
    return sorted((Attribution(*one) for one in found), key=lambda one: -one.probability)


def _pieces(ids: np.ndarray, heads: list[np.ndarray], max_length: int | None) -> list[np.ndarray]:
    """Return a text in pieces that have room after the longest code."""
    if max_length is None:
        return [ids]
    longest = max(map(len, heads))
    room = max_length - longest + 1  # the last token is predicted and not read
    if room < 1:
        raise GenusError(
            f"a control code has {longest} tokens, and the model {max_length} positions; take shorter codes"
        )
    return [ids[first : first + room] for first in range(0, len(ids), room)]
