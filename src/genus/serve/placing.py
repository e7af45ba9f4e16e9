"""Where a served model computes: its learner on its device, laid out for few texts, and the thread of its passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.adapt.mixture import network_of
from genus.generate.reader import writing
from genus.model.cpu import lay_by_columns
from genus.serve.batching import Batching
from genus.train.precision import number_format
from genus.train.world import device_of_run

if TYPE_CHECKING:
    import threading

    from genus.objectives import Learner
    from genus.serve.limits import Limits
    from genus.serve.served import Served
    from genus.train.run import Run


def place(learner: Learner, run: Run, *, adapted: bool) -> None:
    """Take a learner to its device in evaluation mode; lay out its weights for passes of few texts.

    One that writes stays as it is, as single rows are multiplied in another way (`genus.model.cpu.single_rows`), and an
    adapted one, which shares the weights of its base.
    """
    device = device_of_run(run)
    learner.eval().to(device)
    network = network_of(learner)
    if network is None or adapted or number_format(run.precision, device) is not torch.float32:
        return
    if writing(learner) is None:
        lay_by_columns(network)


def batching_of(learner: Learner, limits: Limits, run: Run, lock: threading.Lock, beside: Served | None) -> Batching:
    """Return the thread of a learner's passes: that of its base where they can be mixed, else one of its own."""
    if beside is not None and beside.inference.join(beside.model.learner, learner):
        return beside.inference
    return Batching(limits, lock, run.precision)
