"""float8 linear maps: the products of layers with their weights in 8 bits, by torchao, beside autocast to bfloat16."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch

from genus.errors import UsageError, library
from genus.model.roles import linear_maps

if TYPE_CHECKING:
    from torch import nn

    from genus.objectives import Learner
    from genus.train.run import Run

CAPABILITY = (8, 9)
"""Least compute capability of a GPU with products in float8 (Ada Lovelace); `torch._scaled_mm` asks for it."""
UNIT = 16
"""Both sizes of a product in float8 are multiples of this (`torch._scaled_mm`)."""


def check_float8(run: Run, device: torch.device) -> None:
    """Check that a run in float8 can be one.

    Raises:
        UsageError: the device has no products in float8, or matrices are split among processes.
        GenusError: torchao is missing.
    """
    if run.precision != "float8":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"a {device.type.upper()}"
        raise UsageError(f"run.precision=float8: {name} has no products in float8, as GPUs of compute capability "
                         f"{'.'.join(map(str, CAPABILITY))} have; take precision=bfloat16")  # fmt: skip
    if run.parallel.splits > 1:
        raise UsageError("run.precision=float8: matrices that are split among processes are not in float8; take "
                         "parallel=Sharded, or precision=bfloat16")  # fmt: skip
    _torchao()


def convert_linear_maps(learner: Learner) -> list[str]:
    """Let the linear maps of layers multiply in float8 in training, in place, and return their names in the network.

    Inputs, weights and gradients are scaled by the largest number of each tensor, and cast to e4m3, gradients to e5m2;
    weights stay in float32, under the names that they have. Embeddings, norms, attention itself and heads are as in
    bfloat16, and so are maps whose sizes are no multiples of 16.

    Source: Micikevicius et al. 2022 (arXiv:2209.05433), section 3; torchao's tensorwise dynamic scaling.
    """
    chosen = {
        name: module
        for name, _, module in linear_maps(learner.network)
        if module.in_features % UNIT == 0 and module.out_features % UNIT == 0
    }
    wanted = {id(module) for module in chosen.values()}

    def converted(module: nn.Module, name: str) -> bool:
        return id(module) in wanted

    float8 = _torchao()
    config = float8.Float8LinearConfig(pad_inner_dim=True)  # of gradients of weights: the number of tokens
    float8.convert_to_float8_training(learner.network, module_filter_fn=converted, config=config)
    return [*chosen]


def _torchao() -> Any:
    """Return torchao's module of float8, without what it says of its other kernels as it is imported (GenusError)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            return library("torchao.float8", "precision=float8", "float8")
        finally:
            logging.disable(logging.NOTSET)
