"""Token classification by a bidirectional LSTM over the states of words, with or without a conditional random field.

The head of feature-based taggers: Devlin et al. 2018, section 5.3, two layers of 768 over frozen states; Lample et al.
2016 and Peters et al. 2018, section 4, with a conditional random field.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from genus.batch import IGNORE
from genus.model.cost import ComponentCost, linear_cost
from genus.model.head.chunked_loss import classified
from genus.model.layer_mix import LayerMix, chosen_states  # a choice is read by its annotation
from genus.model.lstm import LSTM
from genus.model.lstm_layer import LSTMLayer
from genus.model.recurrence import Steps
from genus.objectives import Head, Sums
from genus.objectives.supervised.crf import LinearChainCRF
from genus.objectives.supervised.token import TokenClassification
from genus.part import Count, Natural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.batch import Batch, Packed, Targets
    from genus.model import Model, Network, States
    from genus.model.cost import ExampleLengths

Spans = list[tuple[int, int]]
"""Where the words of each sequence begin and end among all words."""


class RecurrentTokenClassification(TokenClassification):
    """Token classification: P = W LSTM(d(h)) + b over the words of a sequence, h: first pieces' states, d: dropout.

    Without layers of an LSTM, P = W d(h) + b. h is of the last layer, or made of several by `mix`. The loss is
    -Σ log softmax(P)[tag], or with `crf` -log p(tags | P) of `LinearChainCRF`. Words are decided on one by one, or with
    `crf` as the sequence's best tags together.
    """

    of_one_sequence: ClassVar[bool] = False
    teachable: ClassVar[bool] = False

    layers: Natural = 2
    """Layers of the LSTM, of which each reads both directions of the one below; 0: none."""
    size: Count = 768
    """Dimension of a direction's states."""
    crf: bool = False
    mix: LayerMix | None = None
    """How the head reads several layers of the network; None: it reads the last one."""

    def width(self, model: Model) -> int:
        """Return the dimension of h."""
        return model.width if self.mix is None else self.mix.width(model.width)

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the LSTM, the linear layer and the random field."""
        return RecurrentHead(self, model)

    def layer(self, inputs: int) -> LSTM:
        """Return the choice of one layer."""
        return LSTM(layers=1, hidden=self.size, inputs=inputs, directions=2, dropout=self.rate)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token, as if each were the first of a word."""
        total = linear_cost(2 * self.size if self.layers else self.width(model), self.outputs, self.biased)
        for layer in range(self.layers):
            inputs = 2 * self.size if layer else self.width(model)
            both = linear_cost(inputs, 4 * self.size) + linear_cost(self.size, 4 * self.size, bias=False)
            total = total + both.repeated(2)
        return total + ComponentCost(self.crf * self.outputs * (self.outputs + 2))

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the tag (M,) of each word: the most probable, or that of the best path, which is the last column."""
        return outputs[:, -1].astype(np.int64) if self.crf else super().decide(outputs)

    def certainty(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the probability (M,) of the tag that is decided on; of a random field the marginal one."""
        if not self.crf:
            return super().certainty(outputs)
        return np.asarray(np.exp(outputs[np.arange(len(outputs)), self.decide(outputs)]))


class RecurrentHead(Head):
    """LSTM over the words of each sequence, a linear layer, and a random field or none."""

    per = "token"

    def __init__(self, choice: RecurrentTokenClassification, model: Model) -> None:
        super().__init__()
        self.choice, self.target, (self.loss,) = choice, choice.target, choice.losses
        self.mix = None if choice.mix is None else choice.mix.build()
        sizes = [choice.width(model), *[2 * choice.size] * choice.layers]
        self.layers = nn.ModuleList(LSTMLayer(choice.layer(inputs), 0) for inputs in sizes[:-1])
        self.dropout = nn.Dropout(choice.rate)
        self.classes = nn.Linear(sizes[-1], choice.outputs, bias=choice.biased)
        self.crf = LinearChainCRF(choice.outputs) if choice.crf else None
        model.initialize(self)

    @property
    def reads_layers(self) -> bool:  # type: ignore[override]
        """Whether it reads several layers."""
        return self.mix is not None

    def compile_units(self) -> list[nn.Module]:
        """Return nothing: a compiler would write out every step."""
        return []

    @torch.no_grad()
    def rescale(self, scale: float, shift: float) -> None:
        """Change the linear layer in place, so that every score y becomes scale y + shift; see `LinearHead`.

        Of a random field the scores of paths become as much larger, and as every path has as many words, shifts cancel.
        """
        if self.crf is not None:
            self.crf.rescale(scale)
        for parameter in self.classes.parameters():
            parameter.mul_(scale)
        if self.choice.biased:
            self.classes.bias.add_(shift)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of labeled words."""
        return {self.loss: batch.targets[self.target].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (M, K).

        Of a random field these are log-probabilities of words' tags; beside them are P (M, K) and the best `path` (M,).
        """
        targets = batch.targets[self.target]
        spans = sequences(targets, batch.tokens)
        scores_MK = self._scores(states, targets, spans)
        if self.crf is None:
            return {"logits": scores_MK}
        logits_MK = scores_MK.float().clone()
        path_M = logits_MK.new_zeros(len(logits_MK))
        if spans:
            padded, lengths = _padded(logits_MK, spans)
            words = torch.arange(padded.shape[1], device=padded.device) < lengths.unsqueeze(1)
            logits_MK[: spans[-1][1]] = self.crf.log_marginals(padded, lengths)[words]
            path_M[: spans[-1][1]] = self.crf.best(padded, lengths)[words].float()
        return {"logits": logits_MK, "scores": scores_MK.float(), "path": path_M}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss, summed over words; without a random field also the number of right tags."""
        targets = batch.targets[self.target]
        spans = sequences(targets, batch.tokens)
        scores_MK = self._scores(states, targets, spans).float()
        if self.crf is None:
            total, correct = classified(scores_MK, targets)
            return {self.loss: total, f"{self.loss}/correct": correct}
        padded, lengths = _padded(scores_MK, spans)
        labels, _ = _padded(targets.label, spans)
        return {self.loss: self.crf.losses(padded, lengths, labels.masked_fill(labels == IGNORE, -1)).sum()}

    def _scores(self, states: States, targets: Targets, spans: Spans) -> Tensor:
        """Return P (M, K); for padding targets anything."""
        x = self._read(states, targets)
        steps = [Steps.over(spans, x.device, backward=backward) for backward in (False, True)]
        for layer in self.layers:
            begin = x.new_zeros(len(spans), self.choice.size)
            found, _ = layer([each.taken(x) for each in steps], [(begin, begin)] * 2, steps)
            x = torch.cat([each.returned(h, len(x)) for each, h in zip(steps, found, strict=True)], -1)
        scores: Tensor = self.classes(self.dropout(x))
        return scores

    def _read(self, states: States, targets: Targets) -> Tensor:
        """Return h (M, ...) of words."""
        index = targets.index.clamp(min=0)
        if self.choice.mix is None or self.mix is None:
            return states[targets.stream][index]
        mixed: Tensor = self.mix(*(one[index] for one in chosen_states(states, self.choice.mix.layers)))
        return mixed


def sequences(targets: Targets, packed: Packed) -> Spans:
    """Return the first and last target of each sequence, given that targets stand in the order of tokens.

    Padding targets follow; they point to the first token, as only the first target can.
    """
    index = targets.on_cpu().index.cpu().numpy()
    there = len(index) and int(((index > 0) | (np.arange(len(index)) == 0)).sum())
    ends = np.array([end for _, end in packed.spans()], np.int64)
    of = np.searchsorted(ends, index[:there], side="right")
    cuts = [0, *(np.flatnonzero(np.diff(of)) + 1).tolist(), there]
    return [(begin, end) for begin, end in itertools.pairwise(cuts) if end > begin]


def _padded(values: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    """Return values (M, ...) by sequence (S, L, ...), padded with those of the first word, and lengths (S,)."""
    begins, ends = (torch.tensor([span[side] for span in spans], device=values.device) for side in (0, 1))
    lengths = ends - begins
    places = torch.arange(int(lengths.max()), device=values.device)
    return values[torch.where(places < lengths.unsqueeze(1), begins.unsqueeze(1) + places, 0)], lengths
