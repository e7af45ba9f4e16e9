"""Batches in which tokens have probabilities in place of ids, for each of the models of an attack.

Θ has a row for each token that may change, those of all texts of a group one after another, and π is drawn from it S
times: the classifier, the encoder and the language model read each text S times, copy after copy, a copy a row.

Legend: S samples, E texts of a group, R = S E rows, N tokens that may change in all of them, T token positions, M
predicted tokens, V vocabulary, C classes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.attack.gumbel import expected_nll
from genus.evaluate.bert_score import greedy_recall
from genus.examples.feed.pack import pack
from genus.model.input_embeddings import relaxed_embeddings
from genus.objectives import device_of, evaluating
from genus.tasks.feed import batch_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.attack.target import Target
    from genus.attack.tokens import AttackedText
    from genus.batch import Batch
    from genus.evaluate.bert_score import BertScorer
    from genus.evaluate.token_prediction import Predictor
    from genus.model.input_embeddings import Places
    from genus.objectives import Learner
    from genus.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class Copies:
    """The texts of a group, each S times."""

    texts: Sequence[AttackedText]
    samples: int

    @property
    def starts(self) -> list[int]:
        """The first row of Θ of each text, and after the last one the number N of all."""
        found: list[int] = np.cumsum([0, *(int(text.movable.sum()) for text in self.texts)]).tolist()
        return found

    def rows(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield for each copy the index of its text, and (tokens,) the row of π of each of its tokens, -1 for none."""
        starts = self.starts
        for sample in range(self.samples):
            for number, text in enumerate(self.texts):
                own = text.rows
                yield number, np.where(own < 0, -1, own + sample * starts[-1] + starts[number])


@dataclass(frozen=True)
class Relaxed:
    """A batch of a learner in which some tokens have probabilities."""

    learner: Learner
    batch: Batch
    places: Places

    @contextmanager
    def reading(self, tokens_NV: Tensor) -> Iterator[None]:
        """Context manager: forward passes on the batch read π (S N, V), in evaluation mode and with gradients."""
        network = self.learner.network
        relaxed = relaxed_embeddings(network, self.batch, tokens_NV, self.places)
        with evaluating(self.learner), torch.enable_grad(), relaxed:
            yield


@dataclass(frozen=True)
class RelaxedTarget:
    """The copies as the classifier reads them."""

    relaxed: Relaxed
    head: str

    @classmethod
    def of(cls, target: Target, copies: Copies) -> RelaxedTarget:
        """Return the batch of the classifier, with all its streams and both orders of a pair."""
        encoded = target.encoded([text.example.texts for text in copies.texts])
        learner, name = target.model.learner, target.objective.name
        each = np.tile(np.arange(len(copies.texts)), copies.samples)
        batch = replace(batch_of(encoded, each), heads=frozenset({name})).to(device_of(learner))
        places = {}
        for stream, packed in batch.streams.items():
            numbered = []
            for number, row in copies.rows():
                attacked = copies.texts[number].example.attacked
                for order, sequence in enumerate(encoded.sequences(np.array([number])).tolist()):
                    texts = encoded.texts[sequence]
                    place = attacked if order == 0 else len(texts) - 1 - attacked
                    first = sum(map(len, texts[:place]))
                    piece = encoded.piece_numbers(sequence, stream) - first
                    numbered.append((np.where((piece >= 0) & (piece < len(row)), piece, -1), row))
            places[stream] = placed(numbered, packed.row_length, device_of(learner))
        return cls(Relaxed(learner, batch, places), name)

    def logits(self, tokens_NV: Tensor) -> Tensor:
        """Return the logits (R, C) of the copies that have these tokens (S N, V)."""
        with self.relaxed.reading(tokens_NV):
            (found,) = self.relaxed.learner.outputs(self.relaxed.batch)[self.head].values()
        return found


@dataclass(frozen=True)
class RelaxedEncoder:
    """The copies of the texts that change as the encoder reads them, beside the texts as they are."""

    relaxed: Relaxed
    encoder: BertScorer
    originals: Sequence[tuple[Tensor, Tensor]]
    """Weights (L,) and states (L, H) of each text."""
    copies: Copies

    @classmethod
    def of(cls, encoder: BertScorer, copies: Copies) -> RelaxedEncoder:
        """Return the batch of the encoder, which has the same vocabulary; what it has no positions for is cut."""
        sequences = encoder.sequences([text.ids.tolist() for text in copies.texts])
        numbered = []
        for number, row in copies.rows():
            own = np.cumsum(~sequences[number].fixed) - 1
            numbered.append((np.where(sequences[number].fixed, -1, own), row))
        batch = encoder.batch(sequences * copies.samples)
        device = device_of(encoder.learner)
        places = {"tokens": placed(numbered, batch.tokens.row_length, device)}
        with torch.no_grad(), evaluating(encoder.learner):
            plain = encoder.batch(sequences)
            states_TH = encoder.states(plain)
        originals = [
            (encoder.weights(one).to(device), states_TH[row * plain.tokens.row_length :][: len(one.ids)])
            for row, one in enumerate(sequences)
        ]
        return cls(Relaxed(encoder.learner, batch, places), encoder, originals, copies)

    def recall(self, tokens_NV: Tensor) -> Tensor:
        """Return the BERTScore recall (R,) of each copy that has these tokens, against the text as it is."""
        with self.relaxed.reading(tokens_NV):
            states_TH = self.encoder.states(self.relaxed.batch)
        number = len(self.copies.texts)
        states_SELH = states_TH.view(self.copies.samples, number, self.relaxed.batch.tokens.row_length, -1)
        each = [
            greedy_recall(original, states_SELH[:, place, : len(original)], weights)
            for place, (weights, original) in enumerate(self.originals)
        ]
        return torch.stack(each, 1).flatten()


@dataclass(frozen=True)
class RelaxedLanguageModel:
    """The copies of the texts that change as a causal language model reads them."""

    relaxed: Relaxed
    head: str
    label_M: Tensor
    """(M,) what stands at each place of the texts as they are."""
    row_M: Tensor
    """(M,) the row of π that stands there, -1 where the token stays."""
    copy_M: Tensor
    """(M,) the copy that it is of."""
    count_R: Tensor
    """(R,) tokens of each copy."""

    @classmethod
    def of(
        cls, predictor: Predictor, vocabulary: Vocabulary, copies: Copies, max_length: int | None
    ) -> RelaxedLanguageModel:
        """Return the batch of the language model, which has the same vocabulary; what it has no positions for is cut.

        Args:
            predictor: its head.
            vocabulary: its own, with the special tokens that it begins texts with.
            copies: of texts with a token at least.
            max_length: its positions; None: without an end.
        """
        begins = np.array(vocabulary.begins or (vocabulary.sep,), np.int64)
        first, room = len(begins), None if max_length is None else max_length + 1
        each = [np.concatenate([begins, text.ids])[:room] for text in copies.texts]
        examples = [predictor.read_on(ids, first) for ids in each]
        length = max(len(ids) - 1 for ids in each)
        batch = pack([[one] for one in examples * copies.samples], length, vocabulary.pad, streams=False)
        learner, numbered, rows, labels, owners, counts = predictor.learner, [], [], [], [], []
        for copy, (number, row) in enumerate(copies.rows()):
            ids = each[number]
            numbered.append((np.arange(len(ids) - 1) - first, row))
            read = len(ids) - first
            rows.append(row[:read])
            labels.append(ids[first:])
            owners.append(np.full(read, copy))
            counts.append(read)
        device = device_of(learner)
        batch = replace(batch, heads=frozenset({predictor.name})).to(device)
        places = {"tokens": placed(numbered, length, device)}
        label_M, row_M, copy_M = (torch.from_numpy(np.concatenate(one)).to(device) for one in (labels, rows, owners))
        count = torch.tensor(counts, dtype=torch.float32, device=device)
        return cls(Relaxed(learner, batch, places), predictor.name, label_M, row_M, copy_M, count)

    def nll(self, tokens_NV: Tensor) -> Tensor:
        """Return the negative log-likelihood (R,) in nats per token of each copy that has these tokens (S N, V)."""
        with self.relaxed.reading(tokens_NV):
            logits_MV = self.relaxed.learner.outputs(self.relaxed.batch)[self.head]["logits"]
        moves_M = self.row_M >= 0
        changed = expected_nll(logits_MV[moves_M], tokens_NV[self.row_M[moves_M]])
        stays = logits_MV[~moves_M][:, : tokens_NV.shape[1]].log_softmax(-1).gather(1, self.label_M[~moves_M, None])
        total_R = torch.zeros_like(self.count_R)
        total_R = total_R.index_add(0, self.copy_M[moves_M], changed)
        return total_R.index_add(0, self.copy_M[~moves_M], -stays[:, 0]) / self.count_R


def placed(
    numbered: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]], row_length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the token positions that have probabilities, and the number of these, of sequences with a row each.

    Args:
        numbered: of each sequence (L,) the number of each token among those of the text that changes, -1 for others,
            and (tokens of that text,) the row of π that each has, -1 for none.
        row_length: of the batch.
        device: of the answer.
    """
    positions, rows = [], []
    for place, (number_L, row) in enumerate(numbered):
        inside = np.flatnonzero(number_L >= 0)
        own = row[number_L[inside]]
        positions.append(place * row_length + inside[own >= 0])
        rows.append(own[own >= 0])
    return torch.from_numpy(np.concatenate(positions)).to(device), torch.from_numpy(np.concatenate(rows)).to(device)
