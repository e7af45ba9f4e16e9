"""BERTScore: similarity of two texts by greedy matching of the contextual embeddings of their tokens.

Source: Zhang et al. 2020 (arXiv:1904.09675), section 3; released code, bert_score/utils.py (greedy_cos_idf,
get_idf_dict), as which special tokens can be matched and have no weight. Scores are not rescaled by a baseline.

Legend: L and K tokens of two texts, special ones included; T token positions; H size of a state; V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.layer_mix import chosen_states
from genus.objectives import answering, device_of
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

POSITIONS = 8192
"""Token positions of a forward pass: enough to keep a processor busy, few enough for its memory."""


@dataclass(frozen=True, slots=True)
class BertScore:
    """Precision P, recall R and F1 = 2 P R / (P + R) of a candidate against a reference."""

    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, precision: float, recall: float) -> BertScore:
        """Return the scores; F1 is 0 where P + R is."""
        both = precision + recall
        return cls(precision, recall, 2 * precision * recall / both if both else 0.0)


@dataclass(frozen=True, slots=True)
class ReadText:
    """A text as the encoder reads it."""

    weights_L: Tensor
    """Weight of each token, summing to 1; 0 for special tokens, and everywhere in a text without another token."""
    states_LH: Tensor

    @property
    def mean_H(self) -> Tensor:
        """The mean state of the tokens that have a weight."""
        chosen = self.weights_L > 0
        return self.states_LH[chosen].mean(0) if chosen.any() else torch.zeros_like(self.states_LH[0])


@dataclass(frozen=True, eq=False)
class BertScorer:
    """Compares texts by the states of an encoder, or of a decoder."""

    learner: Learner
    tokenizer: Tokenizer
    """The learner's own."""
    max_length: int
    """Tokens of a text, special ones included, after which it is cut."""
    layer: int = -1
    """Number of the layer whose states are compared: 0 are the embeddings, -1 is the last. The authors chose one for
    each model by people's judgements, such as 9 of the 12 of BERT-base (released code, model2layers)."""
    references: tuple[str, ...] = ()
    """Texts by whose tokens idf weights are counted; none: all tokens have the same weight."""
    precision: str = "float32"
    """Dtype of the forward pass, as in `Run.precision`."""

    @cached_property
    def weights_V(self) -> Tensor:
        """(V,) weight of each token: its idf among the references."""
        size = self.tokenizer.vocabulary.size
        if not self.references:
            return torch.ones(size)
        documents = self.tokenizer.encode(list(self.references), specials=False)
        return torch.from_numpy(inverse_document_frequency(documents, size)).float()

    def __call__(self, candidates: Several[str], references: Several[str]) -> list[BertScore]:
        """Return the scores of each candidate against the reference of its place; 0 where either has no token.

        Raises:
            UsageError: the model reads a source beside its text, or has no such layer.
        """
        read = iter(self.read([*candidates, *references]))
        one, other = ([next(read) for _ in texts] for texts in (candidates, references))
        return [bert_score(candidate, reference) for candidate, reference in zip(one, other, strict=True)]

    def read(self, texts: Several[str]) -> list[ReadText]:
        """Return the texts as the encoder reads them; equal ones are read once.

        Raises:
            UsageError: the model reads a source beside its text, or has no such layer.
        """
        distinct = list(dict.fromkeys(texts))
        sequences = self.sequences(self.tokenizer.encode(distinct, specials=False))
        lengths, known = [len(one.ids) for one in sequences], dict[str, ReadText]()
        order = sorted(range(len(distinct)), key=lambda place: -lengths[place])
        while order:
            length = lengths[order[0]]
            number = max(1, POSITIONS // length)
            chosen, order = order[:number], order[number:]
            batch = self.batch([sequences[place] for place in chosen])
            with answering(self.learner), autocast(self.precision, device_of(self.learner)):
                states_TH = self.states(batch)
            for row, place in enumerate(chosen):
                states = states_TH[row * length : row * length + lengths[place]]
                known[distinct[place]] = ReadText(self.weights(sequences[place]).to(states.device), states)
        return [known[text] for text in texts]

    def sequences(self, texts: Iterable[Several[int]]) -> list[Sequence]:
        """Return texts, given as ids, with special tokens, cut to `max_length`; of nothing at all, one of padding."""
        vocabulary, found = self.tokenizer.vocabulary, []
        room = self.max_length - vocabulary.framing(1)
        for ids in texts:
            framed = Sequence(*vocabulary.frame(np.array(ids[:room], np.int64)))
            nothing = Sequence(np.array([vocabulary.pad]), np.zeros(1, np.int64), np.ones(1, np.bool_))
            found.append(framed if len(framed.ids) else nothing)
        return found

    def batch(self, sequences: Several[Sequence]) -> Batch:
        """Return sequences as a batch, each in a row of its own, as long as the longest."""
        rows = [[Example({"tokens": one}, {})] for one in sequences]
        length = max(len(one.ids) for one in sequences)
        return pack(rows, length, self.tokenizer.vocabulary.pad, streams=False).to(device_of(self.learner))

    def states(self, batch: Batch) -> Tensor:
        """Return the states (T, H) that are compared, in float32.

        Raises:
            UsageError: there is no such layer.
        """
        if self.layer == -1:
            last: Tensor = self.learner.network(batch)["tokens"]
            return last.float()
        return chosen_states(self.learner.network(batch, layers=True), [self.layer])[0].float()

    def weights(self, sequence: Sequence) -> Tensor:
        """Return the weights (L,) of a sequence: idf over its sum, or equal ones where no token has any."""
        own_L = torch.from_numpy(~sequence.fixed).float()
        weights_L = self.weights_V[torch.from_numpy(sequence.ids)] * own_L
        weights_L = weights_L if weights_L.sum() > 0 else own_L
        return weights_L / weights_L.sum().clamp(min=1e-12)


def check_encoder(model: Model, name: str) -> None:
    """Refuse a model that does not read a text by itself.

    Raises:
        UsageError: it reads a source beside its text, or images.
    """
    if extra := model.streams - {"tokens"}:
        raise UsageError(f"{name}: reads a {min(extra)} beside its text, and is not compared by; take an encoder or a "
                         "decoder")  # fmt: skip


def inverse_document_frequency(documents: Several[Several[int]], vocab_size: int) -> NDArray[np.float64]:
    """Return the idf (V,) of each token: log (N + 1) / (n + 1), with n of N documents that have it.

    Source: Zhang et al. 2020, section 3, importance weighting; released code, bert_score/utils.py: get_idf_dict.
    """
    counts = Counter(token for document in documents for token in {*document})
    found = np.zeros(vocab_size)
    found[list(counts)] = list(counts.values())
    weights: NDArray[np.float64] = np.log((len(documents) + 1) / (found + 1))
    return weights


def bert_score(candidate: ReadText, reference: ReadText) -> BertScore:
    """Return the scores of two texts; 0 where either has no token besides special ones."""
    if not (candidate.weights_L.any() and reference.weights_L.any()):
        return BertScore(0.0, 0.0, 0.0)
    recall = greedy_recall(reference.states_LH, candidate.states_LH, reference.weights_L)
    precision = greedy_recall(candidate.states_LH, reference.states_LH, candidate.weights_L)
    return BertScore.of(precision.item(), recall.item())


def greedy_recall(of_LH: Tensor, among_KH: Tensor, weights_L: Tensor) -> Tensor:
    """Return R = Σ_i w_i max_j cos(x_i, y_j), of the states x of one text among the states y of another.

    It is differentiable, and y may have further axes in front, which R then has: those of several texts. The precision
    is the same with the two texts exchanged.

    Args:
        of_LH: x.
        among_KH: y, (..., K, H).
        weights_L: w.
    """
    cosines_LK = F.normalize(of_LH, dim=-1) @ F.normalize(among_KH, dim=-1).transpose(-1, -2)
    return (cosines_LK.amax(-1) * weights_L).sum(-1)
