"""Transparent attention: each layer of a decoder attends to a mixture of its own of all layers of the encoder.

Bapna et al. 2018, section 4. In formulas, N and M are the numbers of the encoder's and the decoder's layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.batch import Batch
from genus.model.attention.plan import Source
from genus.model.cost import ComponentCost
from genus.model.encoder_decoder import EncoderDecoder, EncoderDecoderNetwork

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model import Network, States
    from genus.model.cost import ExampleLengths


class TransparentEncoderDecoder(EncoderDecoder):
    """An encoder-decoder whose decoder layer m attends to z_m = Σ_n s_nm h_n, with s_m = softmax(w_m) over n = 0 to N.

    h_0 are the encoder's embeddings, h_n the states of layer n, the last of them after the final norm. The N + 1 times
    M numbers w are learned; they begin as N(0, 1 / (N + 1)).

    Source: Bapna et al. 2018, section 4; mesh_tensorflow, released code, transformer_layers.py,
    TransparentEncDecAttention. Left out: dropout of w.
    """

    def __post_init__(self) -> None:
        """Check that the encoder keeps the states of every layer (ValueError)."""
        super().__post_init__()
        if not self.encoder.stack.keeps_states:
            kind = type(self.encoder.stack).__name__
            raise ValueError(f"encoder.stack: a decoder that sees all layers needs the states of each, and {kind} "
                             "keeps none; take Unshared")  # fmt: skip

    @property
    def in_words(self) -> str:
        """Both sides, and that attention is transparent."""
        return f"{super().in_words}; transparent attention"

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights."""
        return TransparentNetwork(self, vocab_size)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of an encoder-decoder and of M sums over N + 1 states of each token of the source."""
        weights = (self.encoder.layers + 1) * self.decoder.layers
        kept = (self.encoder.layers + 1 + self.decoder.layers) * self.encoder.width
        sums = ComponentCost(weights, 2.0 * weights * self.encoder.width, kept)
        return super().cost(vocab_size, lengths) + sums.scaled(lengths["source"] / lengths["tokens"])


class TransparentNetwork(EncoderDecoderNetwork):
    """The module of a `TransparentEncoderDecoder`."""

    def __init__(self, choice: TransparentEncoderDecoder, vocab_size: int) -> None:
        super().__init__(choice, vocab_size)
        self.mixture = nn.Parameter(torch.empty(choice.encoder.layers + 1, choice.decoder.layers))
        nn.init.normal_(self.mixture, std=(choice.encoder.layers + 1) ** -0.5)

    def source_of(self, packed: Packed) -> tuple[Source, dict[str, Tensor]]:
        """Return the states that each layer of the decoder attends to, and the encoder's auxiliary losses."""
        states: States = self.encoder(Batch({"tokens": packed}, {}), layers=True)
        assert states.layers is not None
        every = torch.stack([*states.layers[:-1], states["tokens"]])
        mixed = torch.einsum("nm,nth->mth", self.mixture.softmax(0).to(every.dtype), every)
        return Source(packed, states["tokens"], tuple(mixed.unbind())), states.losses
