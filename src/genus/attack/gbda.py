"""The gradient-based distributional attack: a distribution of texts is found by gradients, and texts are drawn from it.

Legend: S samples, E texts of a group, N tokens that may change in all of them, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.attack import Attack, Attempt
from genus.attack.gumbel import gumbel_noise, gumbel_softmax, margin_loss
from genus.attack.relaxation import Copies, RelaxedEncoder, RelaxedLanguageModel, RelaxedTarget
from genus.attack.tokens import AttackedText, replaceable
from genus.errors import UsageError
from genus.examples.keys import ATTACK, generator
from genus.objectives import device_of
from genus.part import Count, NotNegative, Positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.attack import Example, Progress
    from genus.attack.models import Models
    from genus.tokens.tokenizer import Tokenizer

AT_ONCE = 10
"""Samples that the classifier is asked about in one forward pass."""
VALUES = 1 << 25
"""Probabilities of a group of texts, over all samples: 128 MiB in float32, of which there are several in a step."""


class GBDA(Attack):
    """The gradient-based distributional attack, with Adam on Θ, one row of log-probabilities for each token.

        L = mean over samples of max(φ_y - max_k≠y φ_k + κ, 0) - λ_sim R_BERT(x, π) + λ_perp NLL(π)

    π are Gumbel-softmax samples of Θ, which the classifier, an encoder and a causal language model read as mixtures of
    their embeddings; they share one vocabulary. Θ begins as `initial` at the tokens of the text and 0 elsewhere. Then
    texts are drawn from softmax(Θ) until one fools the classifier, which reads their characters.

    Source: Guo et al. 2021 (arXiv:2104.13733); every default is that of the released code, whitebox_attack.py, with the
    samples of its README. Deviations: tokens without a letter or a digit do not change, and no token becomes a special
    one or a part of a character; the negative log-likelihood is of the text alone, without [CLS] and [SEP].
    """

    iterations: Count = 100
    """Updates of Θ (num_iters)."""
    batch: Count = 10
    """S, Gumbel-softmax samples of an update (batch_size)."""
    lr: Positive = 0.3
    """Adam's learning rate (lr)."""
    initial: Positive = 15.0
    """Log-probability at the text's own tokens, up to a constant (initial_coeff)."""
    kappa: NotNegative = 5.0
    """κ, by which another class is to lead (kappa)."""
    similarity: NotNegative = 1.0
    """λ_sim, weight of the BERTScore recall (lam_sim)."""
    fluency: NotNegative = 1.0
    """λ_perp, weight of the negative log-likelihood in nats per token (lam_perp)."""
    temperature: Positive = 1.0
    """τ of the Gumbel-softmax (F.gumbel_softmax without tau)."""
    samples: Count = 100
    """Most texts that are drawn at the end (README: --gumbel_samples 100)."""

    def check(self, models: Models) -> None:
        """Refuse a language model or an encoder of another vocabulary than the classifier's.

        Raises:
            UsageError: it is such, or the language model predicts no next token.
        """
        target = models.target.model.tokenizer
        if self.fluency and models.fluency is not None:
            check_vocabulary("--fluency", models.fluency.tokenizer, target,
                             "genus pretrain gpt2/mini TEXT --tokenizer MODEL --out FOLDER")  # fmt: skip
            if models.predictor is None:
                raise UsageError("--fluency: this model does not predict the next token; take a causal one, such as "
                                 "gpt2/mini")  # fmt: skip
        if self.similarity:
            check_vocabulary("--encoder", models.encoder.tokenizer, target, "leave it out, for the classifier's own")

    def groups(self, models: Models, examples: Sequence[Example]) -> list[list[Example]]:
        """Return as many neighbors together as fit the memory."""
        size, held = models.target.model.tokenizer.vocabulary.size, 0
        found: list[list[Example]] = []
        lengths = [len(ids) for ids in models.target.model.tokenizer.encode([one.text for one in examples])]
        for example, length in zip(examples, lengths, strict=True):
            own = self.batch * min(length, models.target.model.recipe.finetuning.max_length) * size
            if not found or held + own > VALUES:
                found.append([])
                held = 0
            found[-1].append(example)
            held += own
        return found

    def attempts(self, models: Models, examples: Sequence[Example], progress: Progress) -> list[Attempt]:
        """Return the attempt on each example, whose distributions are found together."""
        texts = attacked_texts(models, examples)
        able = [text for text in texts if text.movable.any()]
        found = {}
        if able:
            theta_NV = Search.of(self, models, able).found(progress)
            for text, (first, last) in zip(able, pairwise(Copies(able, 1).starts), strict=True):
                distribution = Distribution(text, theta_NV[first:last].cpu().softmax(-1), self.seed)
                found[text.example.number] = self._drawn(models, distribution)
        return [found.get(one.number) or Attempt.unchanged(one) for one in examples]

    def _drawn(self, models: Models, distribution: Distribution) -> Attempt:
        """Return the attempt of the first text that fools the classifier, or of the last one that was drawn."""
        example, asked, text = distribution.text.example, 0, distribution.text.example.text
        while asked < self.samples:
            several = distribution(asked, min(AT_ONCE, self.samples - asked))
            told = models.target.told([example.changed(one) for one in several])
            wrong = np.flatnonzero(told != example.label)
            last = int(wrong[0]) if len(wrong) else len(several) - 1
            text, asked = several[last], asked + last + 1
            if len(wrong):
                break
        return Attempt(text, asked, distribution)


@dataclass(frozen=True, eq=False)
class Search:
    """The search for Θ of a group of texts."""

    choice: GBDA
    texts: Sequence[AttackedText]
    target: RelaxedTarget
    label_R: Tensor
    encoder: RelaxedEncoder | None
    language_model: RelaxedLanguageModel | None
    vocab_size: int

    @classmethod
    def of(cls, choice: GBDA, models: Models, texts: Sequence[AttackedText]) -> Search:
        """Return the search, with what of the loss has a weight."""
        copies, model = Copies(texts, choice.batch), models.target.model
        labels = torch.tensor([text.example.label for text in texts] * choice.batch, device=device_of(model.learner))
        predictor = models.predictor if choice.fluency else None
        return cls(
            choice,
            texts,
            RelaxedTarget.of(models.target, copies),
            labels,
            RelaxedEncoder.of(models.encoder, copies) if choice.similarity else None,
            None
            if predictor is None or models.fluency is None
            else RelaxedLanguageModel.of(
                predictor, models.fluency.tokenizer.vocabulary, copies, models.fluency.recipe.model.max_length
            ),
            model.tokenizer.vocabulary.size,
        )

    def beginning(self) -> Tensor:
        """Return Θ (N, V) as it begins: -inf for tokens that no other may become."""
        vocabulary = self.texts[0].vocabulary
        able_V = torch.from_numpy(replaceable(vocabulary))
        own_N = torch.from_numpy(np.concatenate([text.ids[text.movable] for text in self.texts]))
        theta_NV = torch.zeros(len(own_N), self.vocab_size).masked_fill(~able_V, float("-inf"))
        return theta_NV.scatter(1, own_N[:, None], self.choice.initial).to(self.label_R.device)

    def loss(self, tokens_SNV: Tensor) -> Tensor:
        """Return L, summed over texts, of samples π (S, N, V): each text's gradient is that of its own loss."""
        tokens_NV = tokens_SNV.flatten(0, 1)
        each_R = margin_loss(self.target.logits(tokens_NV), self.label_R, self.choice.kappa)
        if self.encoder is not None:
            each_R = each_R - self.choice.similarity * self.encoder.recall(tokens_NV)
        if self.language_model is not None:
            each_R = each_R + self.choice.fluency * self.language_model.nll(tokens_NV)
        return each_R.sum() / self.choice.batch

    def found(self, progress: Progress) -> Tensor:
        """Return Θ (N, V) after the updates."""
        choice, device = self.choice, self.label_R.device
        theta_NV = self.beginning().requires_grad_()
        adam = torch.optim.Adam([theta_NV], lr=choice.lr)
        draws = [keyed(choice.seed, text.example.number, 0, device) for text in self.texts]
        sizes = np.diff(Copies(self.texts, 1).starts).tolist()
        for step in range(choice.iterations):
            noise = [gumbel_noise(choice.batch, n, self.vocab_size, g) for n, g in zip(sizes, draws, strict=True)]
            tokens_SNV = gumbel_softmax(theta_NV, torch.cat(noise, 1), choice.temperature)
            (theta_NV.grad,) = torch.autograd.grad(self.loss(tokens_SNV), theta_NV)
            adam.step()
            progress((step + 1) / choice.iterations)
        return theta_NV.detach()


@dataclass(frozen=True, eq=False)
class Distribution:
    """The distribution of texts that was found for one: each token is drawn by itself."""

    text: AttackedText
    chances_KV: Tensor
    """Probabilities of each token that may change, on the CPU."""
    seed: int

    def __call__(self, first: int, number: int) -> list[str]:
        """Return samples [first, first + number) of an endless sequence of texts, always the same."""
        blocks = range(first // AT_ONCE, (first + number - 1) // AT_ONCE + 1)
        drawn = [ids for block in blocks for ids in self._block(block)]
        skipped = first - blocks[0] * AT_ONCE
        return [self.text.written(ids) for ids in drawn[skipped : skipped + number]]

    def _block(self, block: int) -> list[list[int]]:
        rng = keyed(self.seed, self.text.example.number, 1 + block, torch.device("cpu"))
        found: list[list[int]] = torch.multinomial(self.chances_KV, AT_ONCE, replacement=True, generator=rng).T.tolist()
        return found


def keyed(seed: int, number: int, block: int, device: torch.device) -> torch.Generator:
    """Return PyTorch's generator of an example's draws."""
    return torch.Generator(device).manual_seed(int(generator(seed, ATTACK, block, number).integers(1 << 63)))


def attacked_texts(models: Models, examples: Sequence[Example]) -> list[AttackedText]:
    """Return the texts that change, in the tokens that the classifier reads."""
    encoded = models.target.encoded([one.texts for one in examples])
    found = []
    for number, one in enumerate(examples):
        sequence = int(encoded.sequences(np.array([number]))[0])
        kept = len(encoded.texts[sequence][one.attacked])
        found.append(AttackedText.of(one, models.target.model.tokenizer, kept))
    return found


def check_vocabulary(option: str, own: Tokenizer, target: Tokenizer, remedy: str) -> None:
    """Refuse a vocabulary that is not the classifier's.

    Raises:
        UsageError: it is another one.
    """
    if own.pieces != target.pieces:
        raise UsageError(f"{option}: its vocabulary ({len(own.pieces):,} pieces) is not that of the model that is "
                         f"attacked ({len(target.pieces):,}), whose tokens it has to read; {remedy}")  # fmt: skip
