"""Language model of a caption and then of its image's codes (DALL-E, stage two)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples import Example
from genus.examples.formats.captioned_codes import IMAGE_TOKENS, TEXT_TOKENS
from genus.model.attention.image_masks import ImageMask
from genus.model.embedding.codes import TextThenCodes
from genus.model.head.lm_head import LMHead  # a choice is read by its annotation
from genus.objectives import Head, Objective
from genus.part import Count, Fraction, parts_within

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.objectives import Prediction, Sums
    from genus.tokens.vocabulary import Vocabulary


class TextThenImageLM(Objective):
    """Cross-entropy of a caption's tokens and of its image's codes, each per token of its kind, as a weighted sum.

    w (-Σ ln p(text token)) / text tokens + (1 - w) (-Σ ln p(code)) / codes, over a batch. Text and codes have an
    output matrix each: text is predicted among pieces, and codes among codes. Padding of the text is no target.

    Source: Ramesh et al. 2021, section 2.2; BPE dropout: there, and Provilkov et al. 2019, algorithm 1.
    """

    causal: ClassVar[bool | None] = True

    text: Count = 256
    """Places of the text."""
    grid: Count = 32
    """Codes of each side of an image."""
    codes: Count = 8192
    """Size of the codebook."""
    text_weight: Fraction = 0.125
    """w (section 2.2: 1/8, and 7/8 for the image)."""
    bpe_dropout: Fraction = 0.1
    """Probability that a merge of the caption's tokens is left out, in training (section 2.2: 10 %)."""
    output: LMHead = LMHead(tied=False, bias="none")
    """The output layers, of text and of codes."""

    @property
    def in_words(self) -> str:
        """What is predicted."""
        return "next token of a caption, then of its image's codes"

    @property
    def requires(self) -> frozenset[str]:
        """Both targets, which the format gives."""
        return frozenset({TEXT_TOKENS, IMAGE_TOKENS})

    @property
    def losses(self) -> tuple[str, ...]:
        """Those of text and image."""
        return TEXT_TOKENS, IMAGE_TOKENS

    @property
    def token_losses(self) -> frozenset[str]:
        """That of the text."""
        return frozenset({TEXT_TOKENS})

    @property
    def drops_merges(self) -> bool:  # type: ignore[override]
        """Whether there is dropout of merges."""
        return self.bpe_dropout > 0

    @property
    def measured(self) -> Objective:
        """The objective without dropout of merges."""
        return self.overlay({"bpe_dropout": 0.0})

    @property
    def target(self) -> str:
        """Name of the targets of which outputs are asked: codes."""
        return IMAGE_TOKENS

    def check(self, model: Model) -> None:
        """Check that masks and positions are those of this text and image (ValueError)."""
        super().check(model)
        if self.output.tied:
            raise ValueError("objectives: text and codes have output matrices of their own; set output.tied=false")
        laid = {(mask.text, mask.grid) for mask in parts_within(model, ImageMask)}  # type: ignore[type-abstract]
        known = {(one.text, one.codes) for one in parts_within(model, TextThenCodes)} == {(self.text, self.codes)}
        if not known or laid - {(self.text, self.grid)} or model.max_length != self.text + self.grid**2:
            raise ValueError(
                f"objectives: TextThenImageLM has {self.text} tokens of text and {self.grid} x {self.grid} codes of "
                f"{self.codes:,}, and parts of the model others; set text, grid and codes alike everywhere"
            )

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example, with dropout of merges in its text."""
        if not self.bpe_dropout or vocabulary.merges is None:
            return example
        tokens = example.tokens
        begin, rest = tokens.ids[: self.text], tokens.ids[self.text :]
        text = begin[(begin < vocabulary.size) & ~tokens.fixed[: self.text]]
        dropped = vocabulary.merges.dropped(text.tolist(), self.bpe_dropout, rng)
        ids, _, fixed = vocabulary.frame(dropped[: self.text - vocabulary.framing(1)])
        empty = self.text - len(ids)
        tokens = replace(
            tokens,
            ids=np.concatenate([ids, np.full(empty, vocabulary.size), rest]).astype(np.int64),
            fixed=np.concatenate([fixed, np.ones(empty, dtype=np.bool_), tokens.fixed[self.text :]]),
        )
        targets = example.targets | {TEXT_TOKENS: (np.arange(len(ids) - 1), ids[1:])}
        return Example({"tokens": tokens}, targets)

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return those of each example: all of its text but the first token, and all codes."""
        return {TEXT_TOKENS: sequences * (self.text - 1), IMAGE_TOKENS: sequences * self.grid**2}

    def build(self, model: Model, vocab_size: int) -> TextThenImageHead:
        """Build the head: both output layers."""
        return TextThenImageHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of both output layers, each at its share of the tokens."""
        image = self.grid**2
        whole = self.text + image
        of_text = self.output.cost(model, vocab_size).scaled((self.text - 1) / whole)
        return of_text + self.output.cost(model, self.codes).scaled(image / whole)

    def weights(self) -> dict[str, float]:
        """Return w and 1 - w."""
        return {TEXT_TOKENS: self.text_weight, IMAGE_TOKENS: 1.0 - self.text_weight}


class TextThenImageHead(Head):
    """The module of `TextThenImageLM`."""

    predicts: Prediction | None = "image"

    def __init__(self, choice: TextThenImageLM, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.target = choice.target
        self.text_head = choice.output.build(model, vocab_size)
        self.image_head = choice.output.build(model, choice.codes)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the numbers of tokens of both kinds."""
        return {name: batch.targets[name].count() for name in (TEXT_TOKENS, IMAGE_TOKENS)}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (M, V) over codes at the targets."""
        targets = batch.targets[self.target]
        return {"logits": self.image_head(states[targets.stream][targets.index])}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return both losses in nats, and how many tokens have the highest logit."""
        sums: Sums = {}
        for name, layer in ((TEXT_TOKENS, self.text_head), (IMAGE_TOKENS, self.image_head)):
            targets = batch.targets[name]
            found = layer.loss(states[targets.stream][targets.index], targets)
            sums[name] = found.pop("loss")
            sums |= {f"{name}/{metric}": value for metric, value in found.items()}
        return sums
