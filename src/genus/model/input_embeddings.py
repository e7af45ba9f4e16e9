"""Input embeddings that a network reads in place of those that it looks up: perturbed ones, or mixtures of the table's.

They are changed by hooks on the modules that look up tokens (`Network.token_embeddings`), before positions are added,
so that every network that looks up tokens can be given others, and none knows of it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from genus.batch import Batch
    from genus.model import Network

    Change = Callable[[nn.Module, str, Tensor], Tensor]
    """From the module that looks up, the name of a stream and its embeddings (T, E) to those that are read."""
    Places = Mapping[str, tuple[Tensor, Tensor]]
    """By stream: token positions on its packed axis, and the number of the probabilities that stand at each."""


@contextmanager
def changed_embeddings(network: Network, batch: Batch, change: Change) -> Iterator[None]:
    """Context manager: forward passes on this batch read what `change` returns in place of embeddings (T, E).

    Args:
        network: the network; no weight of it changes.
        batch: as it is given to the network: its streams are known by their tensors of ids.
        change: from what was looked up to what is read.
    """
    streams = {id(packed.ids): name for name, packed in batch.streams.items()}

    def changed(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
        name = streams.get(id(given[0]))
        return output if name is None else change(module, name, output)

    hooks = [module.register_forward_hook(changed) for module in network.token_embeddings]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def relaxed_embeddings(network: Network, batch: Batch, tokens_NV: Tensor, places: Places) -> Iterator[None]:
    """Context manager: forward passes on this batch read Σ_v π_v e_v at some places, which is differentiable by π.

    At a one-hot π that is the embedding that would be looked up.

    Source: Guo et al. 2021 (arXiv:2104.13733); released code, whitebox_attack.py: inputs_embeds.

    Args:
        network: whose embeddings e; they get no gradient.
        batch: as it is given to the network.
        tokens_NV: probabilities π of N tokens; V may be less than the rows of a padded table.
        places: where each of them stands.
    """
    every = torch.arange(tokens_NV.shape[1], device=tokens_NV.device)

    def relaxed(module: nn.Module, stream: str, output: Tensor) -> Tensor:
        if stream not in places:
            return output
        with torch.no_grad():
            table_VE: Tensor = module(every)
        at, number = places[stream]
        return output.index_copy(0, at, (tokens_NV @ table_VE).index_select(0, number).to(output.dtype))

    with changed_embeddings(network, batch, relaxed):
        yield
