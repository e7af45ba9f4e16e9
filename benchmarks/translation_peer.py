"""`torch.nn.Transformer` in the loop of PyTorch's tutorial, at a row's size, and as a network that our engine reads.

The tutorial is pytorch/tutorials, beginner_source/translation_transformer.py, of the same language pair: shuffled pairs
padded to the longest of a batch, embeddings times sqrt(d) with sinusoids, its module with its defaults (dropout of 0.1
in attention and feed-forward too, norms after the last layers), matrices from Xavier's uniform distribution, Adam. What
it has from the row, so that both differ in the loop alone: sizes, vocabulary, one matrix for both embeddings and the
output, label smoothing, learning rate and its schedule, and as many target tokens a batch. Masks go by lengths, since
the decoder's first token here is the padding token.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from genus.batch import IGNORE, Batch, Packed
from genus.examples.blocks import whole
from genus.model import Network, States
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.encoder_decoder import EncoderDecoder
from genus.model.feedforward.mlp import MLP
from genus.objectives import Learner
from genus.optim.adamw import AdamW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.recipe import Recipe
    from genus.tokens.store import Store
    from genus.tokens.tokenizer import Tokenizer

    Pair = tuple[Tensor, Tensor]

DROPOUT = 0.1
"""The default of `torch.nn.Transformer`."""
LONGEST = 5_000
"""Positions of the tutorial's table."""


class PaddedTransformer(Network):
    """The tutorial's network: one embedding, sinusoids, `nn.Transformer`; logits are products with the embedding."""

    def __init__(self, model: EncoderDecoder, vocab_size: int) -> None:
        super().__init__()
        attention, units = model.encoder.attention, model.encoder.feedforward
        assert isinstance(attention, MultiHeadAttention)
        assert isinstance(units, MLP)
        self.hidden = model.width
        self.embed = nn.Embedding(vocab_size, self.hidden)
        self.transformer = nn.Transformer(
            self.hidden,
            attention.heads,
            model.encoder.layers,
            model.decoder.layers,
            units.size,
            dropout=DROPOUT,
            batch_first=True,
        )
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        self.dropout = nn.Dropout(DROPOUT)
        self.register_buffer("positions", sinusoids(LONGEST, self.hidden), persistent=False)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The embedding of both sides (V, H)."""
        return self.embed

    def embedded(self, ids: Tensor) -> Tensor:
        """Return the inputs of the layers (N, L, H) of ids (N, L)."""
        place = cast("Tensor", self.positions)[: ids.shape[1]]
        return self.dropout(self.embed(ids) * math.sqrt(self.hidden) + place)  # type: ignore[no-any-return]

    def states(self, source: Tensor, target: Tensor, no_source: Tensor, no_target: Tensor) -> Tensor:
        """Return the decoder's states (N, L, H) of padded ids; `no_...` are true where there is padding."""
        ahead = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        return self.transformer(  # type: ignore[no-any-return]
            self.embedded(source),
            self.embedded(target),
            tgt_mask=ahead,
            src_key_padding_mask=no_source,
            tgt_key_padding_mask=no_target,
            memory_key_padding_mask=no_source,
        )

    def forward(self, batch: Batch, *, layers: bool = False, **given: Any) -> States:
        """Return the states of packed sequences, which are padded for the time of the forward pass."""
        source, no_source, _ = padded(batch.streams["source"])
        target, no_target, index = padded(batch.tokens)
        found = self.states(source, target, no_source, no_target)
        states = found.new_zeros(batch.tokens.ids.numel(), self.hidden)
        states[index[~no_target]] = found[~no_target]
        return States({"tokens": states})


def sinusoids(length: int, size: int) -> Tensor:
    """Return the table (length, size) of the tutorial, whose sines and cosines take turns."""
    angle = torch.arange(length)[:, None] * torch.exp(-torch.arange(0, size, 2) * math.log(10_000) / size)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def padded(packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids (N, L) of packed sequences, where there is padding (N, L), and each token's index (N, L)."""
    length = packed.lengths_of_entries().long()
    start = packed.offsets[:-1].long()[length > 0]
    length = length[length > 0]
    step = torch.arange(int(length.max()))
    index = (start[:, None] + step).clamp(max=packed.ids.numel() - 1)
    return packed.ids[index], step >= length[:, None], index


def learner(recipe: Recipe, vocab_size: int) -> Learner:
    """Return the network with the head of a recipe's objective, whose matrix is the embedding, from its seed."""
    assert isinstance(recipe.model, EncoderDecoder)
    torch.manual_seed(recipe.seed)
    (objective,) = recipe.objectives
    network = PaddedTransformer(recipe.model, vocab_size)
    return Learner(network, {objective.name: objective.build(recipe.model, vocab_size)})


def pairs_of(recipe: Recipe, store: Store, tokenizer: Tokenizer) -> list[Pair]:
    """Return all pairs that a recipe learns from, with their special tokens."""
    vocabulary, form = tokenizer.vocabulary, recipe.examples
    plan = form.plan(whole(store), store, vocabulary, recipe.stages[0].limits, 0, 0)
    found = (form.read(plan, index, store, vocabulary).streams for index in range(len(plan)))
    return [(torch.from_numpy(one["source"].ids), torch.from_numpy(one["tokens"].ids)) for one in found]


def collated(batch: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the ids of both sides (N, L), padded, and where there is padding."""
    sides = [pad_sequence(list(side), batch_first=True) for side in zip(*batch, strict=True)]
    gaps = [
        pad_sequence([torch.zeros(len(ids), dtype=torch.bool) for ids in side], batch_first=True, padding_value=True)
        for side in zip(*batch, strict=True)
    ]
    return sides[0], sides[1], gaps[0], gaps[1]


def train(made: Learner, recipe: Recipe, pairs: Sequence[Pair], *, tokens: int, autocast: bool) -> dict[str, Any]:
    """Train for the seconds of a recipe's budget; return what it took.

    Args:
        made: what `learner` returned.
        recipe: gives optimizer, schedule, label smoothing and seconds.
        pairs: the training text.
        tokens: about how many real target tokens a batch shall have.
        autocast: whether products are in bfloat16, as the row's are where the processor has them.
    """
    network, choice = cast("PaddedTransformer", made.network), recipe.optimizer
    assert isinstance(choice, AdamW)
    optimizer = torch.optim.Adam(made.parameters(), lr=choice.lr, betas=choice.betas, eps=choice.eps)
    smoothing = recipe.objectives[0].output.label_smoothing  # type: ignore[attr-defined]
    loss_of = nn.CrossEntropyLoss(ignore_index=IGNORE, label_smoothing=smoothing)
    size = max(1, round(tokens * len(pairs) / sum(len(target) for _, target in pairs)))
    order = torch.Generator().manual_seed(recipe.seed)
    loader = DataLoader(pairs, size, shuffle=True, collate_fn=collated, generator=order)  # type: ignore[arg-type]
    seen = cells = steps = 0
    begun, seconds = time.perf_counter(), recipe.budget.amount
    made.train()
    while True:
        for source, target, no_source, no_target in loader:
            spent = (time.perf_counter() - begun) / seconds
            if spent >= 1:
                padding = 1 - seen / cells
                return {"tokens": seen, "steps": steps, "seconds": spent * seconds, "padding": padding, "pairs": size}
            for group in optimizer.param_groups:
                group["lr"] = choice.lr * recipe.schedule.factor(spent)
            with torch.autocast("cpu", enabled=autocast):
                states = network.states(source, target[:, :-1], no_source, no_target[:, :-1])
                logits = states @ network.embed.weight.T
            label = target[:, 1:].masked_fill(no_target[:, 1:], IGNORE)
            loss = loss_of(logits.float().flatten(0, 1), label.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen, cells, steps = seen + int((~no_target).sum()), cells + no_target.numel(), steps + 1
