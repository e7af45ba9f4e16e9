"""Cloze sentences: the rank and the probability of the words that are expected in a gap."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.candidates import own_tokens
from genus.evaluate.fill import BLANK
from genus.evaluate.interval import Interval, bootstrapped_mean, wilson
from genus.evaluate.likelihood import find_predictor
from genus.evaluate.token_prediction import HiddenTokens
from genus.examples import Sequence as Tokens
from genus.inference.engine import Inference
from genus.tasks.table import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.evaluate.token_prediction import Predictor
    from genus.export.folder import LoadedModel

OWN = Path(__file__).parent / "cloze.jsonl"
"""The sentences that come with the package."""
BEST = (1, 10)
"""k of the share of sentences of which an expected word is among the k most probable tokens."""


@dataclass(frozen=True, slots=True)
class Cloze:
    """A sentence with one gap, and the words that are expected in it."""

    line: int
    text: str
    words: tuple[str, ...]
    kind: str

    @property
    def sides(self) -> tuple[str, str]:
        """What stands before the gap and after it."""
        before, after = BLANK.split(self.text)
        return before, after


@dataclass(frozen=True, slots=True)
class Expected:
    """What a model makes of an expected word."""

    word: str
    rank: int
    """Of its first token among all of the vocabulary, 1 for the most probable one."""
    probability: float
    """Of all its tokens."""
    tokens: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A sentence, with what a model makes of each expected word, and what it finds most probable."""

    cloze: Cloze
    expected: tuple[Expected, ...]
    told: str
    """The most probable token, in the place of the first word's first one."""

    @property
    def rank(self) -> int:
        """The rank of the best of the expected words."""
        return min(one.rank for one in self.expected)


def read_cloze(path: Path = OWN) -> list[Cloze]:
    """Return the sentences of a table with the columns `text`, `words` and, if there is one, `kind`.

    A gap is `___`, `[MASK]` or `<mask>`; `words` is a list, or one word.

    Raises:
        GenusError: the table cannot be read, is empty, or a row has no gap, several, or no words.
    """
    found = []
    for line, row in rows(path):
        text, words = row.get("text"), row.get("words")
        words = [words] if isinstance(words, str) else words
        if not isinstance(text, str) or len(BLANK.split(text)) != 2:
            raise GenusError(f"{path}, line {line}: expected a text with one gap, written ___, in the column 'text'")
        if not isinstance(words, list) or not words or not all(isinstance(one, str) and one.strip() for one in words):
            raise GenusError(f"{path}, line {line}: expected a list of words in the column 'words'")
        found.append(Cloze(line, text, tuple(words), str(row.get("kind") or "all")))
    if not found:
        raise GenusError(f"{path}: holds no rows")
    return found


def answer(model: LoadedModel, asked: Sequence[Cloze], precision: str = "float32") -> list[Answered]:
    """Return what a model makes of the words that are expected in gaps.

    A masked or permutation language model reads both sides; all tokens of a word are hidden at once:

        p(w) = Π_t p(w_t | the sentence with the tokens of w hidden)

    A causal model reads what stands before the gap, and nothing of what follows it:

        p(w) = Π_t p(w_t | before, w_1 ... w_(t-1))

    Raises:
        UsageError: the model predicts no tokens, or a sentence has more tokens than it has positions.
    """
    predictor = find_predictor(model.learner)
    causal = predictor.head.predicts == "following"
    works, tokens = [], []
    for one in asked:
        for word in one.words:
            work, ids = (_following if causal else _hidden)(model, predictor, one, word)
            works.append(work)
            tokens.append(ids)
    logits = cast("list[Tensor]", Inference(precision).run(works))
    told = iter([_expected(one, ids) for one, ids in zip(logits, tokens, strict=True)])
    found = []
    for one in asked:
        each = [(word, *next(told)) for word in one.words]
        expected = tuple(Expected(word, rank, chance, size) for word, rank, chance, size, _ in each)
        found.append(Answered(one, expected, model.tokenizer.decode([each[0][4]]).strip()))
    return found


def _hidden(model: LoadedModel, predictor: Predictor, one: Cloze, word: str) -> tuple[HiddenTokens, Any]:
    """Return what is asked of a model that reads both sides, and the ids of the word."""
    vocabulary, (before, after) = model.tokenizer.vocabulary, one.sides
    ids, own = own_tokens(model.tokenizer, before + word + after, len(before), len(before) + len(word))
    sequence = Tokens(*vocabulary.frame(ids))
    _check_length(model, one, len(sequence.ids))
    places = np.flatnonzero(~sequence.fixed)[own]
    return HiddenTokens.of(predictor, predictor.hide(sequence, places, vocabulary), vocabulary.pad), ids[own]


def _following(model: LoadedModel, predictor: Predictor, one: Cloze, word: str) -> tuple[HiddenTokens, Any]:
    """Return what is asked of a model that reads on, and the ids of the word."""
    vocabulary, before = model.tokenizer.vocabulary, one.sides[0]
    context = before.rstrip()
    text = before[len(context) :] + word
    alone, whole = model.tokenizer.encode([context, context + text], specials=False)
    same = next((n for n, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), min(len(alone), len(whole)))
    begins = vocabulary.begins or (() if same else (int(vocabulary.sep),))
    ids = np.array([*begins, *whole], np.int64)
    start = len(begins) + same
    if start == len(ids):
        raise UsageError(f"line {one.line}: the tokenizer leaves nothing of {word!r}; take another word")
    _check_length(model, one, len(ids) - 1)
    return HiddenTokens.of(predictor, predictor.read_on(ids, start), vocabulary.pad), ids[start:]


def _check_length(model: LoadedModel, one: Cloze, length: int) -> None:
    longest = model.recipe.model.max_length
    if longest is not None and length > longest:
        raise UsageError(f"line {one.line}: the sentence has {length} tokens, the model {longest} positions; cut it")


def _expected(logits_MV: Tensor, ids: Any) -> tuple[int, float, int, int]:
    """Return rank, probability and number of tokens of a word, and the most probable first token."""
    nats_MV = logits_MV.double().log_softmax(-1).cpu()
    first = nats_MV[0]
    rank = 1 + int((first > first[int(ids[0])]).sum())
    chance = float(nats_MV[range(len(ids)), ids.tolist()].sum().exp())
    return rank, chance, len(ids), int(first.argmax())


def by_kind(found: Sequence[Answered]) -> dict[str, dict[str, Interval]]:
    """Return precision at 1 and 10, and the mean reciprocal rank of the best word, of each kind and of all sentences.

    Intervals are of 95 %: Wilson's of shares, of a bootstrap of means.
    """
    groups: dict[str, list[Answered]] = defaultdict(list)
    for one in found:
        groups[one.cloze.kind].append(one)
    if len(groups) > 1:
        groups["all"] = [*found]
    return {
        kind: {
            **{f"precision@{k}": wilson(sum(one.rank <= k for one in some), len(some)) for k in BEST},
            "mean reciprocal rank": bootstrapped_mean([1 / one.rank for one in some]),
        }
        for kind, some in groups.items()
    }
