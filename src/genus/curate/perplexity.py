"""Perplexity by a language model as a filter."""

from __future__ import annotations

import math
import multiprocessing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.curate import DocumentStep, Outcome, Removal
from genus.errors import UsageError
from genus.part import Count, NotNegative

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genus.curate.document import Document
    from genus.evaluate.likelihood import Span
    from genus.export.folder import LoadedModel

LARGEST = 700.0
"""Largest number whose exp is taken, since exp of a larger one overflows."""
DIGITS = 6
"""Significant digits of a perplexity."""


class Perplexity(DocumentStep):
    """Keep documents whose perplexity by a causal language model is between two bounds, both included.

        exp(-1 / T Σ_t log p(w_t | those before it in its window)),  T tokens of the model's tokenizer

    A text longer than the model reads is cut into windows, each of which begins with the last half of the one before.
    The perplexity goes along with the document as `perplexity`, and the report has its distribution, from which bounds
    can be chosen in a run that keeps all.

    Source: CCNet (Wenzek et al. 2019, arXiv:1911.00359, section 3.4), where a 5-gram model of Wikipedia judges, and
    bounds are those of equal thirds.
    """

    model: str
    """Folder of a run or of a model, such as `gpt2/mini` pretrained on good text."""
    between: tuple[NotNegative, NotNegative | None] = (0.0, None)
    """Least and largest perplexity of a document that stays; none: there is no largest."""
    window: Count = 1024
    """Most tokens that are read at once, fewer if the model reads fewer."""

    def __post_init__(self) -> None:
        """Check that the bounds are in order."""
        low, high = self.between
        if high is not None and low > high:
            raise ValueError(f"between: no perplexity is at least {low:g} and at most {high:g}")

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the model."""
        return tuple(sorted(str(path) for path in folder_of(self.model).glob("*") if path.is_file()))

    def check(self) -> None:
        """Check that the model can be read, and predicts the next token."""
        loaded.cache_clear()  # a file may have changed
        predictor(self.model)

    def outcomes(self, documents: Sequence[Document]) -> Iterable[Outcome]:
        """Return each document, unless its perplexity is out of bounds."""
        low, high = self.between
        for document, perplexity in zip(documents, self.measured([one.text for one in documents]), strict=True):
            rule = "too_low" if perplexity < low else "too_high" if high is not None and perplexity > high else None
            outcome = Outcome(document.text) if rule is None else Outcome("", Removal(rule, document.text))
            outcome.facts["perplexity"] = float(f"{perplexity:.{DIGITS}g}")
            outcome.group = range_of(perplexity)
            yield outcome

    def measured(self, texts: Sequence[str]) -> list[float]:
        """Return the perplexity of each text; of one without a token it is 1."""
        from genus.evaluate.likelihood import fitting, predicted

        found, judge = loaded(self.model), predictor(self.model)
        longest = found.recipe.model.max_length
        window = min(self.window, longest or self.window)
        spans: list[Span] = []
        owners: list[int] = []
        for number, ids in enumerate(found.tokenizer.encode(texts, specials=False)):
            own = windows(np.array(ids, np.int64), max(1, window - len(found.tokenizer.vocabulary.begins)))
            spans += own
            owners += [number] * len(own)
        nats, _ = predicted(judge, found.tokenizer.vocabulary, fitting(spans, judge, found.tokenizer.vocabulary, None),
                            "float32")  # fmt: skip
        total, tokens = np.zeros(len(texts)), np.zeros(len(texts))
        np.add.at(total, owners, nats)
        np.add.at(tokens, owners, [span.tokens for span in spans])
        means = np.minimum(-total / np.maximum(tokens, 1), LARGEST)
        return [math.exp(mean) for mean in means.tolist()]


def windows(ids: np.ndarray[Any, np.dtype[np.int64]], window: int) -> list[Span]:
    """Return spans that predict each token once: the first `window` at once, then half a window after a half."""
    from genus.evaluate.likelihood import Span

    found = [Span(ids[:window], 0)] if len(ids) else []
    stride = max(1, window // 2)
    for begin in range(window, len(ids), stride):
        first = max(0, begin + stride - window)
        found.append(Span(ids[first : begin + stride], begin - first))
    return found


def range_of(value: float) -> str:
    """Return the range of a number between two of 1, 2, 5, 10, 20, 50 and so on, its lower end included."""
    power = 10 ** math.floor(math.log10(value))
    low = max(step * power for step in (1, 2, 5) if step * power <= value)
    following = {1: 2, 2: 5, 5: 10}[round(low / power)]
    return f"{low:g} to {following * power:g}"


def folder_of(model: str) -> Path:
    """Return the folder of a model, which in that of a run is `model`."""
    return Path(model, "model") if Path(model, "model").is_dir() else Path(model)


def predictor(model: str) -> Any:
    """Return the head of a model that predicts the next token.

    Raises:
        GenusError: the model cannot be read.
        UsageError: it predicts no next token.
    """
    from genus.evaluate.likelihood import find_predictor

    found = find_predictor(loaded(model).learner)
    if found.head.predicts != "following":
        raise UsageError(f"Perplexity.model: {model} does not predict the next token; take a language model, as gpt2")
    return found


@cache
def loaded(model: str) -> LoadedModel:
    """Return a model, on a GPU if there is one; a worker process computes in one thread."""
    import torch

    from genus.export.folder import load

    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    found = load(folder_of(model))
    if torch.cuda.is_available():
        found.learner.to("cuda")
    return found
