"""Log-probability of each token of texts, by a causal language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.evaluate.likelihood import POSITIONS, Copies, Progress, Span, batches, find_predictor, fitting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer


def token_log_likelihoods(
    learner: Learner,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int | None = None,
    precision: str = "float32",
    positions: int = POSITIONS,
    progress: Progress | None = None,
) -> list[NDArray[np.float64]]:
    """Return log p(w_t | w_1 ... w_(t-1)) of each token of each text, in nats.

    Their sums are those of `log_likelihoods`. What the model has no positions for, at the right end, is left out.

    Args:
        learner: has a head that predicts the next token.
        tokenizer: the learner's own.
        texts: each is taken by itself.
        max_length: the model's number of positions, None if it is unlimited.
        precision: dtype of the forward pass, `float32` or `bfloat16`.
        positions: most token positions of a forward pass; at least one row.
        progress: called with the number of texts that are done, and of all.

    Raises:
        UsageError: the model does not predict the next token.
    """
    predictor, vocabulary = find_predictor(learner), tokenizer.vocabulary
    if predictor.head.predicts != "following":
        raise UsageError("log-probabilities token by token are those of a model that predicts the next token, as gpt2")
    room = None if max_length is None else max_length - max(0, len(vocabulary.begins) - 1)
    ids = [np.array(one, np.int64)[:room] for one in tokenizer.encode(texts, specials=False)]
    found = [np.zeros(0) for _ in texts]
    filled = [number for number, one in enumerate(ids) if len(one)]
    spans = fitting([Span(ids[number], 0) for number in filled], predictor, vocabulary, None)
    copies, done = Copies(predictor, vocabulary, spans), 0
    for length, rows in batches(copies.lengths, positions):
        examples = [[copies[number] for number in row.tolist()] for row in rows]
        logits_MV, label_M = predictor.logits(examples, length, vocabulary.pad, precision)
        own_M = logits_MV.gather(1, label_M[:, None])[:, 0] - logits_MV.logsumexp(1)
        ends = np.cumsum([spans[number].tokens for number in rows.examples.tolist()])
        for number, part in zip(rows.examples.tolist(), np.split(own_M.double().cpu().numpy(), ends[:-1]), strict=True):
            found[filled[number]] = part
        done += len(rows.examples)
        if progress is not None:
            progress(done, len(filled))
    return found
