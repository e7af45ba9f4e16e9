"""Run settings (device, precision, workers, intervals), which change the result only by rounding."""

from __future__ import annotations

from typing import Literal

from genus.part import Count, Fraction, Natural, Part
from genus.train.parallel import Parallel
from genus.train.parallel.replicated import Replicated


class Run(Part):
    """Run settings: device and precision, and how often a run saves, evaluates and reports."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` is CUDA where there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16", "float8"] = "auto"
    """`auto` is bfloat16 autocast where the device is faster with it, else float32; float16 is for devices without
    bfloat16, and scales gradients; float8 is bfloat16 with the linear maps of layers in 8 bits while a run trains."""
    parallel: Parallel = Replicated()
    """How the processes that `torchrun` starts share the work and the memory."""
    recompute: Literal["nothing", "layers", "selected"] = "nothing"
    """Activations that are computed again in the backward pass, in place of being kept: none; all within a layer, of
    which its input is kept; all but the outputs of products with weights."""
    compile: bool = False
    """Compile the model with `torch.compile`: minutes at the start, then faster steps."""
    threads: Count | None = None
    """Threads of a process that computes on the CPU; None is PyTorch's choice, one for each core."""
    workers: Natural | None = None
    """Worker processes that prepare batches, 0 for none; None is 1 on a CPU and 4 on a GPU."""
    checkpoint_every: Count = 1000
    """Steps between checkpoints."""
    keep: Count = 3
    """Number of the newest checkpoints that stay on disk."""
    evaluate_every: Count = 1000
    """Steps between held-out evaluations."""
    evaluate_batches: Count = 100
    """Largest number of micro-batches in a held-out evaluation."""
    held_out: Fraction = 0.005
    """Fraction of the documents that is held out of training for evaluation."""
    log_every: Count = 10
    """Steps between rows of `metrics.jsonl`."""
    noise_scale: bool = False
    """Measure the gradient noise scale, in steps of several micro-batches: the batch that it suggests, in rows."""
    tracker: Literal["auto", "tensorboard", "none"] = "auto"
    """Writer of training curves beside `metrics.jsonl`; `auto` is TensorBoard where it is installed."""
