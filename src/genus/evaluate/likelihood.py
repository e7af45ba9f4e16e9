"""Log-likelihoods of texts, by any language model; of models that read both sides, the pseudo-log-likelihood.

Legend: E examples, M predicted tokens; else docs/names.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.evaluate.token_prediction import Predictor
from genus.examples import Sequence
from genus.examples.feed.bins import PackedRows
from genus.examples.streams import successive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray

    from genus.examples import Example
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

POSITIONS = 2048
"""Token positions of a forward pass: enough to keep a processor busy, few enough for the logits of all of them."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The log-likelihood of a text, and the sizes by which it can be divided."""

    nats: float
    """Σ log p over the tokens."""
    tokens: int
    """Number of tokens, special tokens of the template left out."""
    bytes: int
    """Number of bytes of the text in UTF-8."""


def log_likelihoods(
    learner: Learner,
    tokenizer: Tokenizer,
    texts: Several[str],
    max_length: int | None = None,
    precision: str = "float32",
    positions: int = POSITIONS,
) -> list[Likelihood]:
    """Return the log-likelihood of each text, in nats, by the language-model head of a learner.

        log P(w_1 ... w_n) = Σ_t log p(w_t | w_1 ... w_(t-1))           of a causal model
        PLL(w_1 ... w_n) = Σ_t log p(w_t | w_1 ... w_(t-1), w_(t+1) ... w_n)   of one that reads both sides

    The second is the pseudo-log-likelihood of Salazar et al. 2020 (arXiv:1910.14659, section 2): each token of the text
    is masked in turn, while all others and the special tokens of the template stay; nothing is normalized, so it is
    no probability of the text, and texts are compared by it within one model. A permutation language model predicts
    the token from its query stream, last in the order. A causal model reads the token that separates documents first,
    and predicts the first token from it; special tokens at the end are not predicted.

    Names of special tokens in a text are treated as text; an unknown word has the likelihood of the unknown token.

    Args:
        learner: has a head that predicts tokens, or an auxiliary model that has one, such as ELECTRA's generator.
        tokenizer: the learner's own.
        texts: each is taken by itself.
        max_length: the model's number of positions, None if it is unlimited.
        precision: dtype of the forward pass, `float32` or `bfloat16`.
        positions: most token positions of a forward pass, into which masked copies are packed; at least one row.

    Raises:
        UsageError: the learner has no such head, or a text has more tokens than the model has positions.
    """
    predictor = Predictor.find(learner, "masked", "permuted", "following")
    if predictor is None:
        raise UsageError("this model predicts no tokens: it has no language-model head; take a pretrained one")
    copies = Copies(predictor, tokenizer, texts)
    copies.check(max_length)
    nats = np.zeros(len(texts))
    for length, rows in batches(copies.lengths, positions):
        examples = [[copies[number] for number in row.tolist()] for row in rows]
        logits_MV, label_M = predictor.logits(examples, length, tokenizer.vocabulary.pad, precision)
        chances_M = logits_MV.gather(1, label_M[:, None])[:, 0] - logits_MV.logsumexp(1)
        np.add.at(nats, copies.owners(rows.examples), chances_M.double().cpu().numpy())
    sizes = zip(nats.tolist(), copies.texts, texts, strict=True)
    return [Likelihood(each, len(ids), len(text.encode())) for each, ids, text in sizes]


class Copies:
    """The examples of texts: a copy for each token of a text, in which it is masked; of a causal model one copy.

    Examples are made when they are asked for, so that only their lengths are in memory.
    """

    def __init__(self, predictor: Predictor, tokenizer: Tokenizer, texts: Several[str]) -> None:
        self.predictor, self.vocabulary = predictor, tokenizer.vocabulary
        self.texts = [np.array(ids, np.int64) for ids in tokenizer.encode(texts, specials=False)]
        self.causal = predictor.head.predicts == "following"
        tokens = np.array([len(ids) for ids in self.texts], np.int64)
        copies = np.minimum(tokens, 1) if self.causal else tokens
        self.text = np.repeat(np.arange(len(tokens)), copies)
        """(E,) the number of each example's text."""
        self.place = np.arange(len(self.text)) - np.repeat(np.cumsum(copies) - copies, copies)
        """(E,) the token that is masked in it."""
        self.lengths = tokens[self.text] + (0 if self.causal else self.vocabulary.framing(1))
        """(E,) length of each example in tokens."""

    def __getitem__(self, number: int) -> Example:
        """Return an example."""
        ids = self.texts[self.text[number]]
        if self.causal:
            return self.predictor.read_on(ids, self.vocabulary)
        sequence = Sequence(*self.vocabulary.frame(ids))
        hidden = np.flatnonzero(~sequence.fixed)[[self.place[number]]]
        return self.predictor.hide(sequence, hidden, self.vocabulary)

    def owners(self, examples_E: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the text (M,) of each target of some examples, in their order."""
        each = self.lengths[examples_E] if self.causal else 1
        return np.repeat(self.text[examples_E], each)

    def check(self, max_length: int | None) -> None:
        """Refuse a text that is longer than the model's positions (UsageError)."""
        if max_length is None or self.lengths.max(initial=0) <= max_length:
            return
        longest = int(self.lengths.argmax())
        raise UsageError(
            f"text {self.text[longest] + 1} has {self.lengths[longest]} tokens with the special ones, the model "
            f"{max_length} positions; shorten it"
        )


def batches(lengths: NDArray[np.int64], positions: int) -> Iterator[tuple[int, PackedRows]]:
    """Yield all examples in batches of at most so many token positions, the longest first: row length, and rows.

    A row is as long as the longest example of its batch, and holds as many of the next ones as fit.
    """
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        length = int(lengths[order[0]])
        number = max(1, positions // length)
        rows = successive(lengths[order[: number * length]], length)
        end = int(rows.offsets[: number + 1][-1])
        chosen, order = np.split(order, [end])
        yield length, PackedRows(chosen, rows.offsets[: number + 1])
