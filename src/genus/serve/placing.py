"""Where a served model computes: its learner on its device, laid out for few texts, and the queue of its passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.adapt.mixture import network_of
from genus.generate.reader import writing
from genus.model.cpu import cast_linear_weights, lay_by_columns
from genus.serve.batching import Batching
from genus.train.precision import number_format
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.objectives import Learner
    from genus.serve.limits import Limits
    from genus.serve.passes import Passes
    from genus.serve.served import Served
    from genus.train.run import Run


def place(model: LoadedModel, run: Run, *, is_base: bool) -> None:
    """Take a model to its device in evaluation mode; lay out its weights for passes of few texts.

    In half precision they are cast once, instead of in every pass: with bfloat16 MiniLM then answers a text of 126
    tokens in 73 % of the time, one of 14 in 71 % (Intel Xeon with AMX, one thread). In float32 they are laid by
    columns, but those of one that writes, as single rows are multiplied in another way
    (`genus.model.cpu.single_rows`). An adapted one shares the weights of its base.

    Args:
        model: as it was loaded.
        run: device and precision.
        is_base: whether adapters may share its weights; by their numbers they know it, so that these stay.
    """
    learner, device = model.learner, device_of_run(run)
    adapted = model.recipe.finetuning.adaptation is not None
    learner.eval().to(device)
    network = network_of(learner)
    wanted = computed_in(run)
    if network is None:
        return
    if wanted is not torch.float32 and not adapted and not is_base:
        cast_linear_weights(network, wanted)
    if wanted is torch.float32 and not adapted and writing(learner) is None:
        lay_by_columns(network)


def computed_in(run: Run) -> torch.dtype:
    """Return the format in which a run multiplies matrices on its device."""
    return number_format(run.precision, device_of_run(run))


def batching_of(learner: Learner, limits: Limits, run: Run, passes: Passes, beside: Served | None) -> Batching:
    """Return the queue of a learner's passes: that of its base where they can be mixed, else one of its own."""
    if beside is not None and beside.inference.join(beside.model.learner, learner):
        return beside.inference
    return Batching(limits, passes, run.precision)
