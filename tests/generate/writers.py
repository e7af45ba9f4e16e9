"""Small models of random weights that generate, for the tests of this room."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from genus.batch import Batch
from genus.generate.engine import Engine
from genus.objectives import Learner
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.tokens.algorithms.byte_bpe import ByteBPE
from hand import equal_rows
from toys.decoder import DECODER

if TYPE_CHECKING:
    from genus.model.transformer import Transformer
    from genus.tokens.tokenizer import Tokenizer

PROMPTS = ["the cat", "naïve café", "the dog ran to the door .", "a", "東京", "mat mat mat mat"]
TEXTS = ["the cat sat on the mat and the dog ran to the door .", "naïve café — 東京 🙂 \N{GRINNING FACE}"] * 20


@dataclass(frozen=True)
class Writer:
    """A model that generates, with its tokenizer."""

    learner: Learner
    model: Transformer
    tokenizer: Tokenizer

    def engine(self, **choices: object) -> Engine:
        """Return an engine of it."""
        return Engine(self.learner, self.model, self.tokenizer, **choices)  # type: ignore[arg-type]


def writer(model: Transformer = DECODER, vocab_size: int = 275) -> Writer:
    """Return a writer in float64, whose logits differ enough for texts that differ."""
    tokenizer = ByteBPE(vocab_size=vocab_size).train(TEXTS)
    torch.manual_seed(0)
    wild = replace(model, initialization=replace(model.initialization, std=0.3))
    size = tokenizer.vocabulary.size
    learner = Learner(wild.build(size), {"causal_lm": CausalLM().build(wild, size)})
    return Writer(learner.double().eval(), wild, tokenizer)


def next_logits(one: Writer, ids: list[int]) -> Tensor:
    """Return the logits of what follows, reading everything."""
    with torch.no_grad():
        states = one.learner.network(Batch({"tokens": equal_rows(torch.tensor([ids]))}, {}))["tokens"]
        return cast("nn.Module", one.learner.heads["causal_lm"].lm_head)(states[-1:])[0]  # type: ignore[no-any-return]
