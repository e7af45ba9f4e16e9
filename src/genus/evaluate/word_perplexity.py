"""Perplexity per word of text in WikiText's form, from the likelihoods of subwords."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.likelihood import POSITIONS, Progress, Span, find_predictor, predicted

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

STRIDE = 32
"""Subwords that each window but the first predicts (Megatron-LM, tasks/main.py: --overlapping-eval)."""
LARGEST = 700.0
"""Largest number whose exp is taken, since exp of a larger one overflows."""
AS_WRITTEN: tuple[tuple[str, str], ...] = (
    ("s '", "s'"),
    (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."),
    (" : ", ": "), (" ; ", "; "), (r" \. ", ". "), (" ! ", "! "), (r" \? ", "? "), (" , ", ", "),
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"), (r"\[\s*([^\]]*?)\s*\]", r"[\1]"), (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r'"\s*([^"]*?)\s*"', r'"\1"'), (r"'\s*([^']*?)\s*'", r"'\1'"),
    ("= = = =", "===="), ("= = =", "==="), ("= =", "=="),
    (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"), (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
)  # fmt: skip
"""What becomes of WikiText's tokens, in this order (Megatron-LM, tasks/zeroshot_gpt/detokenizer.py). A rule of it that
fits no text, for years after an apostrophe between slashes, is left out."""


@dataclass(frozen=True, slots=True)
class WordPerplexity:
    """The likelihood of a text, and the sizes by which it is divided."""

    nats: float
    """Σ log p over the subwords but the first."""
    subwords: int
    """How many were predicted: all but the first."""
    words: int
    """Words of the original text and ends of lines, but the first."""

    @property
    def per_word(self) -> float:
        """Perplexity per word: exp(-nats / words)."""
        return math.exp(min(-self.nats / self.words, LARGEST))

    @property
    def per_subword(self) -> float:
        """Perplexity per subword: exp(-nats / subwords)."""
        return math.exp(min(-self.nats / self.subwords, LARGEST))


def detokenized(text: str) -> str:
    """Return a text in WikiText's form as it would be written: without spaces before punctuation, `@-@` as `-`."""
    for pattern, written in AS_WRITTEN:
        text = re.sub(pattern, written, text)
    return text


def word_perplexity(
    learner: Learner,
    tokenizer: Tokenizer,
    text: str,
    window: int,
    stride: int = STRIDE,
    precision: str = "float32",
    positions: int = POSITIONS,
    progress: Progress | None = None,
) -> WordPerplexity:
    """Return the perplexity per word of a text in WikiText's form, by a causal language model of subwords.

        exp(-1 / T_o Σ_(t=2..T) log P(w_t | those before it in its window))

    T_o is the number of original words, with an end of line as one, T that of subwords w of the detokenized text. Both
    leave out the first. It compares models of different vocabularies, as the tables of Megatron-LM and Turing-NLG do
    ("adjusted" perplexity). The text is read in windows: the first predicts `window` subwords, each further one
    `stride` subwords, from the `window - stride` and more before each.

    Source: Megatron-LM, tasks/zeroshot_gpt/datasets.py and evaluate.py, which counts words as
    `text.strip().split(" ")`: 245,566 in WikiText-103's test text, whose published size is 245,569.

    Args:
        learner: has a head that predicts the next token.
        tokenizer: the learner's own.
        text: as in `wiki.test.tokens`, with its spaces and ends of lines.
        window: subwords that are read at once: the model's number of positions, or fewer.
        stride: subwords by which a window is moved, at most `window`.
        precision: dtype of the forward pass, `float32` or `bfloat16`.
        positions: most token positions of a forward pass; at least one window.
        progress: called with the number of windows that are done, and of all.

    Raises:
        UsageError: the model does not predict the next token, or `stride` is not between 1 and `window`.
        GenusError: the text has fewer than two words.
    """
    if not 1 <= stride <= window:
        raise UsageError(f"stride: expected 1 to {window}, the window, got {stride}")
    predictor = find_predictor(learner)
    if predictor.head.predicts != "following":
        raise UsageError("perplexity per word is that of a model that predicts the next token, as gpt2; of one that "
                         "reads both sides there is only a pseudo-likelihood")  # fmt: skip
    words = len(text.strip().split(" ")) - 1
    ids = np.array(tokenizer.encode([detokenized(text)], specials=False)[0], np.int64)
    if words < 1 or len(ids) < 2:
        raise GenusError("the text has fewer than two words; give one in the form of wiki.test.tokens")
    nats, _ = predicted(predictor, tokenizer.vocabulary, windows(ids, window, stride), precision, positions, progress)
    return WordPerplexity(float(nats.sum()), len(ids) - 1, words)


def windows(ids: np.ndarray[tuple[int], np.dtype[np.int64]], window: int, stride: int) -> list[Span]:
    """Return windows over a text, which together predict each token but the first, once."""
    last = len(ids) - 1
    found = [Span(ids[: window + 1], 1)]
    for begin in range(window, last, stride):
        first = begin + stride - window
        found.append(Span(ids[first : begin + stride + 1], begin + 1 - first))
    return found
