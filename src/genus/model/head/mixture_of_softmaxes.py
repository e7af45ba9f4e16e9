"""The mixture of softmaxes, an output layer whose log-probabilities are of no low rank (Yang et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.errors import UsageError
from genus.model.cost import ComponentCost, linear_cost
from genus.model.head import Output, OutputLayer
from genus.model.head.chunked_loss import drawn, in_chunks
from genus.part import Count

if TYPE_CHECKING:
    from genus.batch import Targets
    from genus.model import Model
    from genus.model.initialization import Initialization


class MixtureOfSoftmaxes(Output):
    """Mixture of softmaxes: p = Σ_k π_k softmax(W h_k), with π = softmax(U h) and h_k = tanh(V_k h).

    W is the token embedding (tied weights) or a matrix of its own. There is no bias (mesh_tensorflow,
    vocab_embeddings.py, MixtureOfSoftmaxes).

    Source: Yang et al. 2017, section 2.4.
    """

    softmaxes: Count
    """The number of softmaxes."""
    tied: bool = True
    """Whether W is the token embedding."""
    scaled: bool = False
    """Whether the inputs of W are divided by √E, for embeddings that are drawn √E times as large (T5)."""

    def size(self, model: Model) -> int:
        """Return E, the input dimension of the output matrix."""
        return model.embedding_width if self.tied else model.width

    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the module."""
        return MixtureOfSoftmaxesLayer(self, model.width, self.size(model), vocab_size)

    def cost(self, model: Model, vocab_size: int) -> ComponentCost:
        """Return the cost per target of the maps, and of a product with the output matrix for each softmax."""
        size, hidden = self.size(model), model.width
        products = ComponentCost(flops=2.0 * size * vocab_size, activations=size + vocab_size).repeated(self.softmaxes)
        maps = linear_cost(hidden, self.softmaxes * (size + 1), bias=False)
        return maps + products + ComponentCost((not self.tied) * size * vocab_size)


class MixtureOfSoftmaxesLayer(OutputLayer):
    """The module of a `MixtureOfSoftmaxes`."""

    by_vocabulary: ClassVar[tuple[str, ...]] = ("weight",)
    weight: Tensor
    """(V, E) output matrix; with tied weights it is the token embedding's parameter itself, set by `tie`."""

    def __init__(self, choice: MixtureOfSoftmaxes, hidden: int, size: int, vocab_size: int) -> None:
        super().__init__()
        self.tied, self.scale, self.number = choice.tied, size**-0.5 if choice.scaled else 1.0, choice.softmaxes
        self.prior = nn.Linear(hidden, choice.softmaxes, bias=False)
        self.latent = nn.Linear(hidden, choice.softmaxes * size, bias=False)
        self.register_parameter("weight", None)
        if not choice.tied:
            self.weight = nn.Parameter(torch.empty(vocab_size, size))

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the output matrix, unless it is tied: the embedding initializes a tied one."""
        if not self.tied:
            initialization.draw(self.weight, "output")

    def tie(self, embedding: nn.Module) -> None:
        """Tie the output matrix with the token embedding; `UsageError` if that consists of several tables."""
        if self.tied:
            if not isinstance(embedding.weight, nn.Parameter):
                raise UsageError("the token embedding is made of several tables, which a mixture of softmaxes cannot "
                                 "share; take a matrix of its own (tied=false)")  # fmt: skip
            self.weight = embedding.weight

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Forward pass: return log-probabilities (M, V), in float32 at least."""
        latent = torch.unflatten(self.latent(hidden_MH).tanh() * self.scale, -1, (self.number, -1))
        logits = F.linear(latent, self.weight)
        wide = torch.promote_types(torch.float32, logits.dtype)
        prior: Tensor = self.prior(hidden_MH).log_softmax(-1, dtype=wide)
        return (prior[:, :, None] + logits.log_softmax(-1, dtype=wide)).logsumexp(1)

    def loss(self, hidden_MH: Tensor, targets: Targets, *, sample: bool = False) -> dict[str, Tensor]:
        """Return `loss` and `correct`; `sampled` if requested."""
        rows = (hidden_MH, targets.label)
        nll_M, hit_M, token_M = in_chunks(lambda x, y: self._of(x, y, sample), self.number * len(self.weight), *rows)
        found = {"loss": targets.total(nll_M), "correct": targets.total(hit_M.to(nll_M.dtype)).detach()}
        return found | ({"sampled": token_M} if sample else {})

    def _of(self, hidden_MH: Tensor, label_M: Tensor, sample: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return for each target its negative log-likelihood, whether it is the argmax, and a sampled token."""
        logs_MV = self(hidden_MH)
        nll_M = -logs_MV.gather(1, label_M.clamp(min=0)[:, None])[:, 0]
        token_M = drawn(logs_MV) if sample else label_M
        return nll_M, logs_MV.detach().argmax(-1) == label_M, token_M
