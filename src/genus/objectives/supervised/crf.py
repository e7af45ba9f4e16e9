"""Linear-chain conditional random field (Lafferty et al. 2001; over LSTM states: Lample et al. 2016, section 2.2).

Legend: S sequences, L words of the longest, K tags, M words in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from genus.model.initialization import Initialization


class LinearChainCRF(nn.Module):
    """p(y | x) = exp s(x, y) / Σ_y' exp s(x, y'), s(x, y) = begin[y_1] + Σ_i P[i, y_i] + Σ_i A[y_i, y_i+1] + end[y_n].

    P are the scores of the tags of each word, A of one tag after another.
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.begin = nn.Parameter(torch.empty(tags))
        self.follow = nn.Parameter(torch.empty(tags, tags))
        self.end = nn.Parameter(torch.empty(tags))

    @torch.no_grad()
    def rescale(self, scale: float) -> None:
        """Multiply the scores of transitions in place: with scores P of as much, s(x, y) is `scale` times as large."""
        for parameter in self.parameters():
            parameter.mul_(scale)

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the scores of transitions."""
        for parameter in self.parameters():
            initialization.draw(parameter, "vector")

    def log_sums(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return (S,) log Σ_y exp s(x, y): the forward algorithm.

        Args:
            scores: P (S, L, K); -inf for a tag that a word is known not to have.
            lengths: (S,) number of words, at least 1.
        """
        total = self.begin + scores[:, 0]
        for place in range(1, scores.shape[1]):
            after = (total.unsqueeze(2) + self.follow).logsumexp(1) + scores[:, place]
            total = torch.where((place < lengths).unsqueeze(1), after, total)
        return (total + self.end).logsumexp(1)

    def losses(self, scores: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return (S,) -log p of the labels; words without one may have any tag (Tsuboi et al. 2008, section 3).

        Args:
            scores: P (S, L, K).
            lengths: (S,) number of words.
            labels: (S, L) tags, negative where a word has no label.
        """
        others = torch.arange(scores.shape[2], device=scores.device) != labels.unsqueeze(2)
        given = scores.masked_fill(others & (labels >= 0).unsqueeze(2), float("-inf"))
        return self.log_sums(scores, lengths) - self.log_sums(given, lengths)

    def log_marginals(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return log p(y_i | x) (S, L, K) by the forward-backward algorithm; past the end of a sequence anything."""
        before, after = [self.begin + scores[:, 0]], [self.end.expand(len(scores), -1)]
        for place in range(1, scores.shape[1]):
            before.append((before[-1].unsqueeze(2) + self.follow).logsumexp(1) + scores[:, place])
        for place in range(scores.shape[1] - 1, 0, -1):
            one = (self.follow + (scores[:, place] + after[-1]).unsqueeze(1)).logsumexp(2)
            after.append(torch.where((place < lengths).unsqueeze(1), one, self.end))
        return (torch.stack(before, 1) + torch.stack(after[::-1], 1)).log_softmax(2)

    def best(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return (S, L) the tags argmax_y s(x, y): the Viterbi algorithm; past the end of a sequence anything."""
        total, from_where = self.begin + scores[:, 0], []
        stay = torch.arange(scores.shape[2], device=scores.device).expand_as(total)
        for place in range(1, scores.shape[1]):
            best, tag = (total.unsqueeze(2) + self.follow).max(1)
            there = (place < lengths).unsqueeze(1)
            total = torch.where(there, best + scores[:, place], total)
            from_where.append(torch.where(there, tag, stay))
        path = [(total + self.end).argmax(1)]
        for tag in reversed(from_where):
            path.append(tag.gather(1, path[-1].unsqueeze(1)).squeeze(1))
        return torch.stack(path[::-1], 1)
