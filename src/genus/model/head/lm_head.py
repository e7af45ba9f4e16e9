"""The language-model head: an optional transform, and a linear layer to the vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.errors import UsageError
from genus.model.activation import Activation, Gelu
from genus.model.cost import ComponentCost, linear_cost
from genus.model.cpu import few_rows_linear
from genus.model.head import Output, OutputLayer
from genus.model.head.chunked_loss import likelihood
from genus.model.head.split_vocabulary import split_likelihood
from genus.model.norm import LayerNorm, Norm
from genus.model.split import enter, join
from genus.part import Fraction, Part, Positive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.batch import Targets
    from genus.model import Model
    from genus.model.initialization import Initialization
    from genus.model.split import Peers, Split

VOCABULARY_MULTIPLE = 64
"""Multiple to which the vocabulary is padded on GPUs, where matrix products are fastest for such sizes."""


class Transform(Part):
    """Transform norm(f(W h + b)), H to E dimensions (BERT, released code, run_pretraining.py, get_masked_lm_output)."""

    activation: Activation = Gelu()
    norm: Norm = LayerNorm()

    def build(self, hidden: int, size: int) -> TransformLayer:
        """Return the module, from (M, H) to (M, E), with H = `hidden` and E = `size`."""
        return TransformLayer(self, hidden, size)

    def cost(self, hidden: int, size: int) -> ComponentCost:
        """Return the cost per target."""
        return linear_cost(hidden, size) + ComponentCost(activations=size) + self.norm.cost(size)


class TransformLayer(nn.Module):
    """The module of a `Transform`."""

    def __init__(self, choice: Transform, hidden: int, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, size)
        self.activation = choice.activation.build()
        self.norm = choice.norm.build(size)

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Forward pass: return (M, E) for (M, H)."""
        return self.norm(self.activation(self.dense(hidden_MH)))  # type: ignore[no-any-return]


class LMHead(Output):
    """Language-model head: logits W t(h) + b over the vocabulary, with t the transform, if any.

    W is the token embedding (tied weights) or a matrix of its own. Sources: BERT's and RoBERTa's code for tied weights
    after a transform, XLNet's for tied weights without one, Reformer's for a matrix of its own.
    """

    transform: Transform | None = None
    tied: bool = True
    """Whether W is the token embedding; if its dimension is not H, a transform is needed."""
    bias: Literal["learned", "constant", "none"] = "learned"
    """Whether b is trained, constant (that of the loaded model, else 0), or left out."""
    scaled: bool = False
    """Whether the inputs of W are divided by √E, as the embedding is drawn √E times as large (T5; Raffel et al. 2019,
    released code, mesh_tensorflow/transformer/transformer.py, for tied weights)."""

    def size(self, model: Model) -> int:
        """Return E, the input dimension of the output matrix."""
        return model.embedding_width if self.tied else model.width

    def check(self, model: Model) -> None:
        """Check that the states are as wide as the tied embedding, or that there is a transform (ValueError)."""
        if self.transform is None and self.size(model) != model.width:
            raise ValueError(
                f"the output matrix is the model's token embedding, {self.size(model)} wide, and hidden states are "
                f"{model.width} wide: give LMHead a transform, or a matrix of its own (tied=false)"
            )

    def build(self, model: Model, vocab_size: int) -> LMHeadLayer:
        """Return the module.

        Raises:
            UsageError: hidden states differ in dimension from the tied embedding, and there is no transform.
        """
        try:
            self.check(model)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return LMHeadLayer(self, model.width, self.size(model), vocab_size)

    def cost(self, model: Model, vocab_size: int) -> ComponentCost:
        """Return the cost per target of the transform and the product with the output matrix."""
        size = self.size(model)
        own = (not self.tied) * size * vocab_size + (self.bias == "learned") * vocab_size
        product = ComponentCost(own, 2.0 * size * vocab_size, size + vocab_size)
        return product if self.transform is None else self.transform.cost(model.width, size) + product


class LabelSmoothedLMHead(LMHead):
    """Language-model head whose loss is label-smoothed: (1 - ε) nll + ε · mean over the vocabulary of -log p.

    It takes ε from the label and gives ε / V to each of the V tokens (rows of padding included, see
    `Recipe.padded_vocab_size`). Metrics have the unsmoothed negative log-likelihood as `nll`, of which perplexity and
    bits per byte are computed.

    Source: Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4. Deviation: tensor2tensor
    (layers/common_layers.py, smoothing_cross_entropy) gives ε / (V - 1) to each token but the label, which is ε (V - 1)
    / V here, and subtracts a constant, the smallest possible loss.
    """

    smoothing: Fraction = 0.1
    """ε."""

    @property
    def likelihood_alone(self) -> bool:
        """Whether ε is 0."""
        return not self.smoothing

    def build(self, model: Model, vocab_size: int) -> LMHeadLayer:
        """Return the module."""
        made = super().build(model, vocab_size)
        made.smoothing = self.smoothing
        return made


class ZLossLMHead(LabelSmoothedLMHead):
    """Language-model head whose loss has a z-loss: z (log Z)² is added to the cross-entropy of each target.

    Z = Σ exp(logit) is the normalizer of the softmax, which is drawn to 1, so that logits do not drift away from 0.
    Metrics have the sum of z (log Z)² as `z_loss`, and the negative log-likelihood without it as `nll`, of which
    perplexity and bits per byte are computed. Labels are not smoothed unless ε is given.

    Source: T5's released code, test_data/operative_config.gin (z_loss) with mesh_tensorflow/transformer/transformer.py;
    Chowdhery et al. 2022 (PaLM), section 5. Deviation: T5's code leaves it out where a loss is evaluated, as metrics do
    here with `nll`; the loss of held-out text has it, as in T5X.
    """

    smoothing: Fraction = 0.0
    """ε (PaLM, section 5: no label smoothing; operative_config.gin: 0)."""
    z_loss: Positive = 1e-4
    """z (operative_config.gin: 0.0001; PaLM, section 5: 10^-4)."""

    @property
    def likelihood_alone(self) -> bool:
        """False."""
        return False

    def build(self, model: Model, vocab_size: int) -> LMHeadLayer:
        """Return the module."""
        made = super().build(model, vocab_size)
        made.z_loss = self.z_loss
        return made


class LMHeadLayer(OutputLayer):
    """The module of an `LMHead`."""

    by_vocabulary: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: Tensor
    """(V, E) output matrix; with tied weights it is the token embedding's parameter itself, set by `tie`."""
    bias: Tensor | None
    smoothing: float = 0.0
    """ε of label smoothing."""
    z_loss: float = 0.0
    """Weight of (log Z)²."""
    peers: Peers | None = None
    """The processes that split the vocabulary among them; None: this one holds all of it."""

    def __init__(self, choice: LMHead, hidden: int, size: int, vocab_size: int) -> None:
        super().__init__()
        self.tied, self.factor = choice.tied, size**-0.5 if choice.scaled else 1.0
        self.scale = self.factor
        self.transform = None if choice.transform is None else choice.transform.build(hidden, size)
        self.register_parameter("weight", None)
        if not choice.tied:
            self.weight = nn.Linear(size, vocab_size, bias=False).weight  # PyTorch's initialization
        if choice.bias == "constant":
            self.register_buffer("bias", torch.zeros(vocab_size))
        else:
            self.register_parameter("bias", nn.Parameter(torch.zeros(vocab_size)) if choice.bias == "learned" else None)

    def tie(self, embedding: nn.Module) -> None:
        """Tie the output matrix with the token embedding; `UsageError` if that consists of several tables."""
        if self.tied:
            if not isinstance(embedding.weight, nn.Parameter):
                raise UsageError(
                    "the token embedding is made of several tables, which LMHead cannot share: "
                    "take AdaptiveSoftmax, or a matrix of its own (tied=false)"
                )
            self.weight = embedding.weight

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by tokens."""
        own: dict[str, Split | int] = {"weight": "vocabulary"}
        return own if self.bias is None else own | {"bias": "vocabulary"}

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Forward pass: return logits (M, V)."""
        if self.peers is not None:
            return join(F.linear(enter(self.states(hidden_MH), self.peers), self.weight, self.bias), self.peers)
        return few_rows_linear(self.states(hidden_MH), self.weight, self.bias)

    def loss(self, hidden_MH: Tensor, targets: Targets, *, sample: bool = False) -> dict[str, Tensor]:
        """Return `loss` and `correct`; `nll` if there is more than the likelihood, `z_loss`, `sampled` if requested."""
        states_ME, smoothing, z_loss = self.states(hidden_MH), self.smoothing, self.z_loss
        if self.peers is not None:
            own = self.weight, self.bias, targets, self.peers
            return split_likelihood(states_ME, *own, sample=sample, smoothing=smoothing, z_loss=z_loss)
        filled, classes = self.filled(hidden_MH), len(self.weight)
        return likelihood(
            states_ME, *filled, targets, sample=sample, smoothing=smoothing, z_loss=z_loss, classes=classes
        )

    def states(self, hidden_MH: Tensor) -> Tensor:
        """Return the inputs (M, E) of the output matrix."""
        found_ME = hidden_MH if self.transform is None else self.transform(hidden_MH)
        return found_ME if self.scale == 1 else found_ME * self.scale

    def filled(self, hidden_MH: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output matrix and bias, on GPUs padded with tokens of logit -inf to a multiple of 64."""
        extra = extra_tokens(hidden_MH, len(self.weight))
        if not extra:
            return self.weight, self.bias
        bias = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias
        return F.pad(self.weight, (0, 0, 0, extra)), F.pad(bias, (0, extra), value=-torch.inf)

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the output matrix, unless it is tied: the embedding initializes a tied one."""
        self.scale = self.factor * initialization.output_scale
        if not self.tied:
            initialization.draw(self.weight, "output")


def extra_tokens(hidden: Tensor, vocab_size: int) -> int:
    """Return the number of tokens that pad the vocabulary to a multiple of `VOCABULARY_MULTIPLE`; 0 except on GPUs."""
    return -vocab_size % VOCABULARY_MULTIPLE if hidden.is_cuda else 0
