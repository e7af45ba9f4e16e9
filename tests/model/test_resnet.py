"""CLIP's residual network: against the released forward pass written out, statistics, counts, and wrong choices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genus import catalog
from genus.batch import Batch, Packed
from genus.cost import cost
from genus.errors import UsageError
from genus.images.decode import patches
from genus.model.discrete_vae import DiscreteVAE
from genus.model.resnet import MOMENTUM, ResNet
from genus.model.two_towers import TwoTowers

if TYPE_CHECKING:
    from torch import Tensor

SMALL = ResNet(blocks=(2, 1, 1), channels=4, grid=2, heads=2, size=6, residual_gain=1.0)
SIDE = 32
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
"""Of float64."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture
def network() -> Any:
    """A network of which no number is 0 or 1, in float64."""
    torch.manual_seed(0)
    made: Any = SMALL.build(1).double()
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            tensor.add_(0.2 * torch.rand_like(tensor) if "var" in name else 0.2 * torch.randn_like(tensor))
    return made


def squares(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, SIDE, SIDE, 3), dtype=np.uint8)


def packed(images: np.ndarray, row_length: int = 5, choice: ResNet = SMALL) -> Batch:
    """Return images, each after a class token, as many in a row as fit."""
    cut = [np.concatenate([np.zeros((1, 3 * choice.patch**2), np.uint8), patches(one, choice.patch)]) for one in images]
    each = row_length // len(cut[0])
    rows = [np.concatenate(cut[first : first + each]) for first in range(0, len(cut), each)]
    filled = [np.pad(row, ((0, row_length - len(row)), (0, 0))) for row in rows]
    laid = Packed.laid(
        torch.zeros(len(rows) * row_length, dtype=torch.long), [[len(cut[0])] * each] * len(rows), row_length
    )
    return Batch({"tokens": replace(laid, pixels=torch.from_numpy(np.concatenate(filled)))}, {})


def standardized(images: np.ndarray) -> Tensor:
    """Return images (N, 3, S, S) as released code normalizes them (clip.py, `_transform`)."""
    mean, std = (torch.tensor(one, dtype=torch.float64)[:, None, None] for one in (MEAN, STD))
    return (torch.from_numpy(images).double().permute(0, 3, 1, 2) / 255 - mean) / std


def released(weights: dict[str, Tensor], images: np.ndarray, training: bool) -> Tensor:
    """Return the vectors of images as ModifiedResNet computes them (released code, model.py), convolution by
    convolution."""
    x = standardized(images)

    def step(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight, norm = weights[f"{name}.convolution.weight"], f"{name}.norm."
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance = weights[f"{norm}running_mean"], weights[f"{norm}running_var"]
        if training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return x * weights[f"{norm}weight"][:, None, None] + weights[f"{norm}bias"][:, None, None]

    for number, stride in ((0, 2), (2, 1), (4, 1)):  # a ReLU after each
        x = step(x, f"stem.{number}", stride).relu()
    x, number = F.avg_pool2d(x, 2), 0
    for group, blocks in enumerate((2, 1, 1)):
        for place in range(blocks):
            halves, name = group > 0 and place == 0, f"blocks.{number}"
            inner = step(step(x, f"{name}.narrow").relu(), f"{name}.spatial").relu()
            inner = step(F.avg_pool2d(inner, 2) if halves else inner, f"{name}.wide")
            skip = F.avg_pool2d(x, 2) if halves else x
            if f"{name}.skip.convolution.weight" in weights:
                skip = step(skip, f"{name}.skip")
            x, number = (inner + skip).relu(), number + 1
    x = x.flatten(2).permute(2, 0, 1)
    x = torch.cat([x.mean(0, keepdim=True), x]) + weights["pooling.positions"][:, None]
    bias = torch.cat([weights[f"pooling.{one}.bias"] for one in ("query", "key", "value")])
    each: dict[str, Any] = {
        f"{one[0]}_proj_weight": weights[f"pooling.{one}.weight"] for one in ("query", "key", "value")
    }
    pooled, _ = F.multi_head_attention_forward(
        x, x, x, x.shape[-1], SMALL.heads, None, bias, None, None, False, 0.0,
        weights["pooling.out.weight"], weights["pooling.out.bias"], training=training,
        use_separate_proj_weight=True, need_weights=False, **each,
    )  # fmt: skip
    return pooled[0]


@pytest.mark.parametrize("training", [False, True])
def test_vectors_and_gradients_are_those_of_the_released_code(network: Any, training: bool) -> None:
    """In training the running statistics move by a tenth to those of the batch, of unbiased variance."""
    network.train(training)
    images, before = squares(6), {name: one.clone() for name, one in network.state_dict().items()}
    weights = {name: one.requires_grad_("running" not in name) for name, one in before.items()}
    ours, theirs = network(packed(images))["tokens"].view(6, 5, -1), released(weights, images, training)
    torch.testing.assert_close(ours[:, 0], theirs, **EXACT)
    assert not ours[:, 1:].any()
    ours[:, 0].square().sum().backward()
    theirs.square().sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        largest = parameter.grad.abs().max()
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-7, atol=1e-9 * float(largest + 1))
    moved = {name: not torch.equal(one, before[name]) for name, one in network.named_buffers()}
    assert all(moved.values()) if training else not any(moved.values())
    if training:
        first = F.conv2d(standardized(images), before["stem.0.convolution.weight"], stride=2, padding=1)
        for name, value in (("mean", first.mean((0, 2, 3))), ("var", first.var((0, 2, 3)))):
            kept = before[f"stem.0.norm.running_{name}"]
            found = network.state_dict()[f"stem.0.norm.running_{name}"]
            torch.testing.assert_close(found, (1 - MOMENTUM) * kept + MOMENTUM * value.detach(), **EXACT)


def test_a_pass_without_gradients_sees_the_batch_and_remembers_nothing(network: Any) -> None:
    """So gradient caching, which runs each batch twice, counts it once."""
    batch, before = packed(squares(4)), {name: one.clone() for name, one in network.named_buffers()}
    with torch.no_grad():
        without = network.train()(batch)["tokens"]
    assert all(torch.equal(one, before[name]) for name, one in network.named_buffers())
    torch.testing.assert_close(network(batch)["tokens"], without, **EXACT)


def test_images_of_a_row_do_not_meet(network: Any) -> None:
    network.eval()
    alone = network(packed(squares(4)))["tokens"].view(4, 5, -1)[:, 0]
    together = network(packed(squares(4), row_length=13))["tokens"].view(2, 13, -1)
    torch.testing.assert_close(together[:, [0, 5]].flatten(0, 1), alone, **EXACT)
    assert not together[:, 10:].any()


@pytest.mark.parametrize(
    ("name", "millions"),
    [("rn50", 102.01), ("rn101", 119.69), ("rn50x4", 178.3), ("rn50x16", 290.98), ("rn50x64", 623.26)],
)
def test_parameters_are_those_of_open_clip(name: str, millions: float) -> None:
    """Its docs/model_profile.csv, column mparams."""
    assert round(cost(catalog.load(f"clip/{name}")).parameters / 1e6, 2) == millions


def test_flops_are_those_that_pytorch_counts(network: Any) -> None:
    batch = packed(squares(3))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network.eval()(batch)
    assert 3 * 5 * SMALL.cost(1, {"tokens": 5}).flops == pytest.approx(counter.get_total_flops(), rel=0.001)


def test_residual_branches_begin_at_0() -> None:
    """As released, so that gradients reach their convolutions from the second update on."""
    made: Any = replace(SMALL, residual_gain=0.0).build(1)
    assert not any(block.wide.norm.weight.any() for block in made.blocks)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"blocks": ()}, "blocks: expected the numbers of 1 to 6 groups, got 0"),
        ({"channels": 5}, "channels: 5 are no multiple of 2"),
        ({"heads": 5}, "heads: 5 do not divide 64 feature maps"),
    ],
)
def test_wrong_choices(change: dict[str, Any], line: str) -> None:
    with pytest.raises((ValueError, UsageError), match=line):
        replace(SMALL, **change)


def test_what_does_not_fit_is_refused(network: Any) -> None:
    recipe: Any = catalog.load("clip/tiny")
    with pytest.raises((ValueError, UsageError), match="DiscreteVAE has no state of a whole image"):
        TwoTowers(text=recipe.model.text, image=DiscreteVAE())
    with pytest.raises((ValueError, UsageError), match="vectors of 1000, and the model's own projection of the stream"):
        catalog.load("clip/rn50", ["objectives.0.size=1000"])
    with pytest.raises(ValueError, match="a network of images was given a text"):
        network(Batch({"tokens": Packed.laid(torch.zeros(5, dtype=torch.long), [[5]], 5)}, {}))
    with pytest.raises(UsageError, match="keeps no hidden states"):
        network(packed(squares(1)), layers=True)
