"""The language-model head: an optional transform, and a linear map to the vocabulary.

Legend: M targets, H hidden size, E width of the output matrix, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.errors import UsageError
from genus.model.activation import Activation, Gelu
from genus.model.cost import ComponentCost, linear_cost
from genus.model.head import Output, OutputLayer
from genus.model.head.chunked_loss import likelihood
from genus.model.norm import LayerNorm, Norm
from genus.part import Part

if TYPE_CHECKING:
    from genus.batch import Targets
    from genus.model import Model
    from genus.model.initialization import Initialization

VOCABULARY_MULTIPLE = 64
"""Matrix products on GPUs are fastest where sizes are multiples of this."""


class Transform(Part):
    """norm(f(W h + b)), from H numbers to E (BERT, released code, run_pretraining.py, get_masked_lm_output)."""

    activation: Activation = Gelu()
    norm: Norm = LayerNorm()

    def build(self, hidden: int, size: int) -> TransformLayer:
        """Return the module."""
        return TransformLayer(self, hidden, size)

    def demand(self, hidden: int, size: int) -> ComponentCost:
        """Return parameters, FLOPs and memory per target."""
        return linear_cost(hidden, size) + ComponentCost(activations=size) + self.norm.cost(size)


class TransformLayer(nn.Module):
    """The module of a `Transform`."""

    def __init__(self, choice: Transform, hidden: int, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, size)
        self.activation = choice.activation.build()
        self.norm = choice.norm.build(size)

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Return (M, E)."""
        return self.norm(self.activation(self.dense(hidden_MH)))  # type: ignore[no-any-return]


class LMHead(Output):
    """Logits W t(h) + b over the vocabulary, with t the transform, if any, and W the token embedding or its own matrix.

    Sources: BERT's and RoBERTa's code for a tied matrix behind a transform, XLNet's for a tied one alone, Reformer's
    for a matrix of its own.
    """

    transform: Transform | None = None
    tied: bool = True
    """Whether W is the token embedding; states that are wider than it need a transform."""
    bias: Literal["learned", "constant", "none"] = "learned"
    """Whether b learns, stays what a model that was read came with (0 otherwise), or is left out."""

    def size(self, model: Model) -> int:
        """Return E."""
        return model.embedding_width if self.tied else model.width

    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the module.

        Raises:
            UsageError: hidden states are of another width than the embedding, and there is no transform.
        """
        if self.transform is None and self.size(model) != model.width:
            raise UsageError(
                f"the output matrix is the token embedding, {self.size(model)} wide, and hidden states are "
                f"{model.width} wide: give LMHead a transform, or a matrix of its own (tied=false)"
            )
        return LMHeadLayer(self, model.width, self.size(model), vocab_size)

    def cost(self, model: Model, vocab_size: int) -> ComponentCost:
        """Return the transform and the product with the matrix."""
        size = self.size(model)
        own = (not self.tied) * size * vocab_size + (self.bias == "learned") * vocab_size
        product = ComponentCost(own, 2.0 * size * vocab_size, size + vocab_size)
        return product if self.transform is None else self.transform.demand(model.width, size) + product


class LMHeadLayer(OutputLayer):
    """The module of an `LMHead`."""

    by_vocabulary: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: Tensor
    """(V, E); the very parameter of the token embedding where it is tied, which `tie` sets."""
    bias: Tensor | None

    def __init__(self, choice: LMHead, hidden: int, size: int, vocab_size: int) -> None:
        super().__init__()
        self.tied = choice.tied
        self.transform = None if choice.transform is None else choice.transform.build(hidden, size)
        self.register_parameter("weight", None)
        if not choice.tied:
            self.weight = nn.Linear(size, vocab_size, bias=False).weight  # as PyTorch draws it
        if choice.bias == "constant":
            self.register_buffer("bias", torch.zeros(vocab_size))
        else:
            self.register_parameter("bias", nn.Parameter(torch.zeros(vocab_size)) if choice.bias == "learned" else None)

    def tie(self, embedding: nn.Module) -> None:
        """Take the parameter of the embedding as the output matrix."""
        if self.tied:
            if not isinstance(embedding.weight, nn.Parameter):
                raise UsageError(
                    "the token embedding is made of several tables, which LMHead cannot share: "
                    "take AdaptiveSoftmax, or a matrix of its own (tied=false)"
                )
            self.weight = embedding.weight

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Return logits (M, V)."""
        return F.linear(self.states(hidden_MH), self.weight, self.bias)

    def loss(self, hidden_MH: Tensor, targets: Targets, *, sample: bool = False) -> dict[str, Tensor]:
        """Return `loss` and `correct`, and `sampled` where asked for."""
        return likelihood(self.states(hidden_MH), *self.filled(hidden_MH), targets, sample=sample)

    def states(self, hidden_MH: Tensor) -> Tensor:
        """Return what the output matrix is applied to (M, E)."""
        return hidden_MH if self.transform is None else self.transform(hidden_MH)

    def filled(self, hidden_MH: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return matrix and bias; where the device likes it, filled up with tokens of logit -inf."""
        extra = extra_tokens(hidden_MH, len(self.weight))
        if not extra:
            return self.weight, self.bias
        bias = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias
        return F.pad(self.weight, (0, 0, 0, extra)), F.pad(bias, (0, extra), value=-torch.inf)

    def init_weights(self, initialization: Initialization) -> None:
        """Draw a matrix of its own; a tied one is the embedding's to draw."""
        if not self.tied:
            initialization.draw(self.weight, "output")


def extra_tokens(hidden: Tensor, vocab_size: int) -> int:
    """Return how many tokens fill a vocabulary up to a size that the device's kernels like."""
    return -vocab_size % VOCABULARY_MULTIPLE if hidden.is_cuda else 0
