"""How a run is carried out: nothing here changes what is learned, up to rounding."""

from __future__ import annotations

from typing import Literal

from genus.part import Count, Fraction, Natural, Part


class Run(Part):
    """Where and how a run computes, and how often it saves, evaluates and reports."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` is CUDA where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 autocast where the device computes in it natively."""
    compile: bool = False
    """Compile the model with PyTorch's compiler: minutes at the start, then faster steps."""
    workers: Natural | None = None
    """Processes that prepare batches, 0 for none; None is 1 on a CPU and 4 on a GPU."""
    checkpoint_every: Count = 1000
    """Steps."""
    keep: Count = 3
    """How many of the newest checkpoints stay on disk."""
    evaluate_every: Count = 1000
    """Steps."""
    evaluate_batches: Count = 100
    """Micro-batches of one held-out evaluation, at most."""
    held_out: Fraction = 0.005
    """Fraction of the documents that is kept from training, for evaluation."""
    log_every: Count = 10
    """Steps."""
    tracker: Literal["auto", "tensorboard", "none"] = "auto"
    """What writes curves beside `metrics.jsonl`; `auto` is TensorBoard where it is installed."""
