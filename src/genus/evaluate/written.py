"""Metrics of written texts against references: exact match, BLEU, chrF, ROUGE, SQuAD's answers, spans of names.

The truth (N,) holds a tuple of references for each text, any of which is right; the predictions (N,) hold texts.
"""

from __future__ import annotations

import re
import string
from abc import abstractmethod
from collections import Counter
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from genus.errors import GenusError
from genus.evaluate.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MISSING = "{name} is computed by the library {library}: pip install 'genus[eval]'"
ARTICLES = re.compile(r"\b(a|an|the)\b")
BETWEEN_SPANS = "$$"
"""What separates spans of names in a text (released code of mT5, multilingual_t5/preprocessors.py, wikiann)."""


class Written(Metric):
    """A metric of written texts."""

    judges: ClassVar[str] = "written texts"


class MeanScore(Written):
    """The mean over texts of a score of each by itself."""

    @abstractmethod
    def score(self, references: tuple[str, ...], text: str) -> float:
        """Return the score of one text."""

    def summands(self, truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[Any]:
        """Return the score of each text, and 1 (N, 2)."""
        found = [(float(self.score(several, text)), 1.0) for several, text in _pairs(truth, predicted)]
        return np.array(found).reshape(len(found), 2)

    def of_sums(self, sums_K: NDArray[Any]) -> float:
        """Return the mean score, 0 for no texts."""
        total, texts = sums_K.tolist()
        return total / texts if texts else 0.0

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the mean score."""
        return _mean(self.score(several, text) for several, text in _pairs(truth, predicted))


class ExactMatch(MeanScore):
    """Exact match: the fraction of texts that equal a reference, but for white space around them."""

    def score(self, references: tuple[str, ...], text: str) -> float:
        """Return 1 where the text equals a reference, else 0."""
        return float(text.strip() in {one.strip() for one in references})


class CorpusScore(Written):
    """A score of the whole corpus in percent, by sacrebleu."""

    @abstractmethod
    def scorer(self) -> Any:
        """Return sacrebleu's metric."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the score from 0 to 100."""
        return float(self.scorer().corpus_score(predicted.tolist(), _streams(truth)).score)

    def signature(self, truth: NDArray[Any]) -> str:
        """Return sacrebleu's signature of a score for so many references."""
        scorer = self.scorer()
        scorer.corpus_score([""] * len(truth), _streams(truth))  # which it knows when it has counted them
        return str(scorer.get_signature())


class Bleu(CorpusScore):
    """BLEU of the corpus in percent, by sacrebleu with its defaults (Papineni et al. 2002; Post 2018)."""

    tokenize: Literal["13a", "intl", "char", "none", "zh"] = "13a"
    """How sacrebleu cuts words: `13a` as in WMT; T5 reports `intl`."""

    def scorer(self) -> Any:
        """Return sacrebleu's BLEU."""
        return _sacrebleu(self.name).BLEU(tokenize=self.tokenize)


class ChrF(CorpusScore):
    """chrF of the corpus in percent, by sacrebleu: F2 of n-grams of characters (Popović 2015)."""

    words: Literal[0, 2] = 0
    """Longest n-grams of words that count too; 2: chrF++ (Popović 2017)."""

    @property
    def name(self) -> str:
        """The metric's key in results: `chrf`."""
        return "chrf"

    def scorer(self) -> Any:
        """Return sacrebleu's chrF."""
        return _sacrebleu(self.name).CHRF(word_order=self.words)


class Rouge1(Written):
    """ROUGE-1: mean F1 of words, with Porter's stemmer, by rouge-score (Lin 2004); the best reference counts."""

    kind: ClassVar[str] = "rouge1"

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the mean F1."""
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError:
            raise GenusError(MISSING.format(name=self.name, library="rouge-score")) from None
        scorer = RougeScorer([self.kind], use_stemmer=True)
        return _mean(
            max(scorer.score(_by_sentence(one), _by_sentence(text))[self.kind].fmeasure for one in several)
            for several, text in _pairs(truth, predicted)
        )

    def signature(self, truth: NDArray[Any]) -> str:
        """Return what was computed, by which version."""
        return f"{self.kind}|stemmer:yes|refs:best|version:{metadata.version('rouge-score')}"


class Rouge2(Rouge1):
    """ROUGE-2: mean F1 of pairs of words, as `Rouge1`."""

    kind: ClassVar[str] = "rouge2"


class RougeL(Rouge1):
    """ROUGE-L: mean F1 by the longest common subsequence of words, as `Rouge1`."""

    kind: ClassVar[str] = "rougeL"


class RougeLsum(Rouge1):
    """ROUGE-Lsum: mean F1 by the longest common subsequences of sentences, which ` . ` ends (as T5 has it)."""

    kind: ClassVar[str] = "rougeLsum"


class AnswerExactMatch(MeanScore):
    """Exact match of short answers without case, punctuation and articles (Rajpurkar et al. 2016, section 6.1)."""

    def score(self, references: tuple[str, ...], text: str) -> float:
        """Return 1 where the answer equals a reference, else 0."""
        return float(answer(text) in {answer(one) for one in references})


class AnswerF1(MeanScore):
    """F1 of the words of short answers, compared as by `AnswerExactMatch`; the best reference counts.

    As in evaluate-v2.0.py, an answer and a reference of which nothing is compared are equal, and have 1; in
    evaluate-v1.1.py they have 0, though they are an exact match.
    """

    def score(self, references: tuple[str, ...], text: str) -> float:
        """Return the F1 of the answer for the best reference."""
        return max(_shared(answer(one).split(), answer(text).split()) for one in references)


class SpanF1(Written):
    """F1 of names written as `PER: John Smith $$ LOC: Paris`: 2 TP / (2 TP + FP + FN) over all texts.

    Each name counts as often as it stands there. What is none is not counted: it is neither right nor wrong.

    Source: released code of mT5, multilingual_t5/evaluation/metrics.py, span_f1. Deviation: a name may hold a colon,
    where that code counts none.
    """

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether a reference holds a name."""
        return any(spans(several[0]) for several in truth)

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the F1 by the first reference, 0 where there are no names."""
        both = [(spans(several[0]), spans(text)) for several, text in _pairs(truth, predicted)]
        right = sum((true & found).total() for true, found in both)
        total = sum(true.total() + found.total() for true, found in both)
        return 2 * right / total if total else 0.0


def answer(text: str) -> str:
    """Return a short answer in lower case, without punctuation and articles, in single spaces."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", plain).split())


def spans(text: str) -> Counter[tuple[str, str]]:
    """Return the names of a text, each with its kind, such as ("PER", "John Smith")."""
    parts = (part.partition(":") for part in text.split(BETWEEN_SPANS))
    return Counter((kind.strip(), name.strip()) for kind, _, name in parts if name.strip())


def _shared(true: Sequence[str], found: Sequence[str]) -> float:
    """Return the F1 of two bags of words; equal ones have 1, also where both are empty."""
    if not true or not found:
        return float(true == found)
    both = (Counter(true) & Counter(found)).total()
    return 2 * both / (len(true) + len(found))


def _pairs(truth: NDArray[Any], predicted: NDArray[Any]) -> zip[tuple[tuple[str, ...], str]]:
    return zip(truth.tolist(), predicted.tolist(), strict=True)


def _mean(values: Any) -> float:
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else 0.0


def _streams(truth: NDArray[Any]) -> list[list[str | None]]:
    """Return the references as sacrebleu takes them: the first of each text, the second, ..., None where none is."""
    most = max((len(several) for several in truth), default=0)
    return [[several[place] if place < len(several) else None for several in truth] for place in range(most)]


def _by_sentence(text: str) -> str:
    """Return a text with a sentence a line (released code of T5, t5/evaluation/metrics.py, rouge)."""
    return text.replace(" . ", " .\n")


def _sacrebleu(name: str) -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise GenusError(MISSING.format(name=name, library="sacrebleu")) from None
    return metrics


def referenced(texts: Sequence[tuple[str, ...]]) -> NDArray[Any]:
    """Return references as the metrics take them: an array (N,) of tuples."""
    found = np.empty(len(texts), dtype=object)
    found[:] = texts
    return found
