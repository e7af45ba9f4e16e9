"""Substitution of words in order of their importance, by what a masked language model proposes.

Legend: W words of a text, M masked places, V vocabulary, C classes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.attack import Attack, Attempt
from genus.attack.tokens import replaceable
from genus.errors import UsageError
from genus.evaluate.bert_score import bert_score
from genus.evaluate.token_prediction import HiddenTokens, Predictor
from genus.examples import Example as Read
from genus.examples import Sequence as Tokens
from genus.inference.engine import Inference
from genus.part import Count, Share, SomeShare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.attack import Example, Progress
    from genus.attack.models import Models
    from genus.export.folder import LoadedModel
    from genus.tokens.vocabulary import Vocabulary

Word = tuple[int, int]
"""First character, and the one after the last."""
WORD = re.compile("[^\\W_]+(?:['\u2019][^\\W_]+)*")
"""Letters and digits, with apostrophes within."""


class Substitution(Attack):
    """Words are replaced, the most important first, each by the candidate that lowers the label's probability most.

    A word's importance is p_y(x) - p_y(x without it), and where another class k is told then, p_k of that less p_k(x)
    more. Its candidates are what a masked language model deems most probable at its place, given the text with it. Of
    those of a word, the most similar text that fools the classifier ends the attack.

    Source: Li et al. 2020 (arXiv:2004.09984, BERT-Attack), released code, bertattack.py and cmd.txt, for importance,
    candidates, their number and the share of words; Jin et al. 2020 (arXiv:1907.11932, TextFooler), released code,
    attack_classification.py, for the bound of similarity and the choice of the most similar text. Deviations: there a
    word becomes [UNK] for its importance, and is left out here, as not every vocabulary has such a token; candidates
    of a word of several pieces are those of one mask in its place, where BERT-Attack combines pieces; no list of stop
    words, which is of one language; similarity is BERTScore, before the classifier is asked.
    """

    candidates: Count = 48
    """Of each word (cmd.txt: --k 48)."""
    similarity: Share = 0.8
    """Least BERTScore F1 of the whole text; ours: TextFooler's 0.7 is of another encoder (--sim_score_threshold)."""
    words: SomeShare = 0.4
    """Most words that change, as a share (bertattack.py, attack: 0.4)."""
    queries: Count = 500
    """Most texts that the classifier is asked about (ours)."""

    def check(self, models: Models) -> None:
        """Refuse to attack without a masked language model.

        Raises:
            UsageError: there is none, or it predicts no masked tokens.
        """
        if models.masked is None:
            raise UsageError("--attack substitution: name a masked language model that proposes words with --masked")
        if "mask" not in models.masked.tokenizer.vocabulary.roles or masked_head(models.masked) is None:
            raise UsageError("--masked: this model predicts no masked tokens; take a masked language model, such as "
                             "bert/mini")  # fmt: skip

    def groups(self, models: Models, examples: Sequence[Example]) -> list[list[Example]]:
        """Return each example by itself."""
        return [[one] for one in examples]

    def attempts(self, models: Models, examples: Sequence[Example], progress: Progress) -> list[Attempt]:
        """Return the attempt on each example."""
        assert models.masked is not None
        return [self._attempt(models, models.masked, one, progress) for one in examples]

    def _attempt(self, models: Models, masked: LoadedModel, example: Example, progress: Progress) -> Attempt:
        words = [match.span() for match in WORD.finditer(example.text)][: self.queries]
        if not words:
            return Attempt.unchanged(example)
        search = GreedySearch(models, example)
        order = search.by_importance(words)
        proposed = proposals(masked, example.text, words, self.candidates)
        most, changed = max(1, int(self.words * len(words))), 0
        for place, number in enumerate(order):
            if changed == most or search.asked >= self.queries:
                break
            fooled, better = search.replaced(words[number], proposed[number], self)
            changed += better
            if fooled:
                break
            progress((place + 1) / len(order))
        return Attempt(search.text, search.asked)


class GreedySearch:
    """The text as it was changed so far, and how often the classifier was asked."""

    def __init__(self, models: Models, example: Example) -> None:
        self.models, self.example, self.text = models, example, example.text
        self.original = models.encoder.read([example.text])[0]
        self.asked = -1
        """Texts that the classifier was asked about, without the text as it is, of which it was known to be right."""
        self.before_C = self._chances([example.text])[0]
        self.chance = float(self.before_C[example.label])
        self.shifts: list[tuple[int, int]] = []
        """Where words of the original text were replaced, and by how many characters the text grew there."""

    def _chances(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities (N, C) of the classes of texts."""
        logits = self.models.target.logits([self.example.changed(text) for text in texts]).astype(np.float64)
        raised = np.exp(logits - logits.max(-1, keepdims=True))
        self.asked += len(texts)
        found: NDArray[np.float64] = raised / raised.sum(-1, keepdims=True)
        return found

    def by_importance(self, words: Sequence[Word]) -> list[int]:
        """Return the words by number, the most important first."""
        text, label = self.example.text, self.example.label
        without = self._chances([text[:start] + text[stop:] for start, stop in words])
        told = without.argmax(-1)
        flips = np.where(told != label, without.max(-1) - self.before_C[told], 0.0)
        importance = self.before_C[label] - without[:, label] + flips
        order: list[int] = np.argsort(-importance, kind="stable").tolist()
        return order

    def replaced(self, word: Word, proposed: Sequence[str], choice: Substitution) -> tuple[bool, bool]:
        """Replace a word of the original text, if that helps; return whether the classifier errs, and whether it did.

        Args:
            word: its characters in the original text.
            proposed: candidates, the most probable first.
            choice: the bounds.
        """
        moved = sum(by for at, by in self.shifts if at < word[0])
        start, stop = word[0] + moved, word[1] + moved
        texts = [self.text[:start] + other + self.text[stop:] for other in proposed]
        similar = [bert_score(read, self.original).f1 for read in self.models.encoder.read(texts)]
        able = [place for place, one in enumerate(similar) if one >= choice.similarity]
        able = able[: choice.queries - self.asked]
        if not able:
            return False, False
        chances = self._chances([texts[place] for place in able])
        wrong = [place for place, told in zip(able, chances.argmax(-1), strict=True) if told != self.example.label]
        least = int(chances[:, self.example.label].argmin())
        if wrong:
            chosen = max(wrong, key=lambda place: similar[place])
        elif chances[least, self.example.label] < self.chance:
            chosen = able[least]
        else:
            return False, False
        self.text, self.chance = texts[chosen], float(chances[able.index(chosen), self.example.label])
        self.shifts.append((word[0], len(proposed[chosen]) - (stop - start)))
        return bool(wrong), True


def masked_head(model: LoadedModel) -> Predictor | None:
    """Return the head of a masked language model; None where there is none."""
    return Predictor.find(model.learner, "masked")


def proposals(model: LoadedModel, text: str, words: Sequence[Word], number: int) -> list[list[str]]:
    """Return candidates for each word of a text, the most probable first, none of which is the word itself.

    A word of one piece stays in the text that the model reads; in place of one of several pieces stands a mask. Words
    that the model has no positions for have none.

    Args:
        model: a masked language model.
        text: the text.
        words: its words.
        number: most candidates of a word.
    """
    predictor, vocabulary = masked_head(model), model.tokenizer.vocabulary
    assert predictor is not None
    room = model.recipe.model.max_length or model.recipe.finetuning.max_length
    room -= vocabulary.framing(1)
    found_ids, spans = model.tokenizer.encode_with_offsets(text)
    ids, spans = found_ids[:room].astype(np.int64), spans[:room]
    pieces = [np.flatnonzero((spans[:, 0] < stop) & (spans[:, 1] > start)) for start, stop in words]
    works, owners = [], []
    single = [place for place, own in enumerate(pieces) if len(own) == 1]
    if single:
        works.append(_read(predictor, vocabulary, ids, np.array([int(pieces[place][0]) for place in single])))
        owners += single
    for place, own in enumerate(pieces):
        if len(own) > 1:
            one = np.concatenate([ids[: own[0]], [vocabulary.mask], ids[own[-1] + 1 :]])
            works.append(_read(predictor, vocabulary, one, own[:1]))
            owners.append(place)
    logits: list[Tensor] = Inference().run([HiddenTokens.of(predictor, one, vocabulary.pad) for one in works])
    able_V = torch.from_numpy(replaceable(vocabulary) & vocabulary.word_start)
    proposed: list[list[str]] = [[] for _ in words]
    for place, logits_V in zip(owners, (one for several in logits for one in several), strict=True):
        start, stop = words[place]
        proposed[place] = _best(logits_V.float().cpu(), able_V, vocabulary.texts, text[start:stop], number)
    return proposed


def _read(predictor: Predictor, vocabulary: Vocabulary, ids: NDArray[np.int64], at_M: NDArray[np.int64]) -> Read:
    """Return the example in which a model predicts places of a text that it reads as it is."""
    framed = Tokens(*vocabulary.frame(ids))
    places = np.flatnonzero(~framed.fixed)[at_M]
    return Read({"tokens": framed}, {predictor.head.target: (places, framed.ids[places])})


def _best(logits_V: Tensor, able_V: Tensor, texts: Sequence[str], word: str, number: int) -> list[str]:
    """Return the most probable words but the word itself, written with a capital where it is."""
    able_V = torch.nn.functional.pad(able_V, (0, len(logits_V) - len(able_V)))
    order = logits_V.masked_fill(~able_V, float("-inf")).argsort(descending=True)[: number + 1].tolist()
    found = [texts[token] for token in order if able_V[token] and texts[token].lower() != word.lower()]
    if word[:1].isupper():
        found = [one[:1].upper() + one[1:] for one in found]
    return found[:number]
