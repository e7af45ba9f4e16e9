"""Evaluation on held-out text: losses, perplexity and bits per byte, summed in constant memory."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import torch

from genus.train.memory import Memories
from genus.train.precision import autocast
from genus.train.step import means
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from genus.batch import Batch
    from genus.objectives import Learner, Step, Sums
    from genus.train.run import Run

LARGEST = 700.0
"""Largest loss in nats whose exp is taken, since exp of a larger one overflows."""


@torch.no_grad()
def evaluate(
    learner: Learner,
    batches: Iterable[Batch],
    run: Run,
    *,
    bytes_of: Callable[[Batch], Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """Return the metrics of a learner on the first `run.evaluate_batches` held-out batches.

    The metrics are each loss `name` in nats per target, its further sums per target (`masked_lm/correct` is the masked
    accuracy), and `loss`, the training objective. Token losses also have `name/perplexity` = exp(name) and
    `name/bits_per_byte` = total nats / (ln 2 x total bytes of the predicted text), both of `name/nll` where the loss
    has more, as label smoothing or a z-loss. Every process evaluates all batches.

    Recurrent memory is carried from batch to batch. Random draws of the forward pass, such as a generator's samples,
    are seeded by the batch number, so that they are equal in every call; the global random state is restored.

    Args:
        learner: the learner, on the run's device.
        batches: the same batches in every call, for comparable metrics.
        run: the device, the precision and the number of batches.
        bytes_of: returns, for each token loss, the UTF-8 bytes of the text that a batch's targets stand for.
    """
    device = device_of_run(run)
    sums: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    training = learner.training
    memories = Memories()
    learner.eval()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for number, batch in enumerate(islice(batches, run.evaluate_batches)):
            counts.update(_numbers(learner.counts(batch)))
            sizes.update(bytes_of(batch) if bytes_of else {})
            torch.manual_seed(number)
            batch = memories.given(batch.to(device), learner.network, 0)
            with autocast(run.precision, device):
                step: Step = learner(batch)
            memories.keep(batch, 0, step.memory)
            sums.update(_numbers(step.sums))
    learner.train(training)
    totals, numbers = _tensors(sums), _tensors(counts)
    found = {"loss": learner.objective(totals, numbers).item()} | means(totals, numbers)
    for name, size in sizes.items():
        nats = f"{name}/nll" if f"{name}/nll" in sums else name
        found[f"{name}/perplexity"] = math.exp(min(found[nats], LARGEST))
        found[f"{name}/bits_per_byte"] = sums[nats] / (math.log(2) * max(1.0, size))
    return found


def mixed(found: Mapping[str, Mapping[str, float]], shares: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a mixture from those of its sources: means by the share of the tokens of each.

    Perplexity is exp of the mean loss, and bits per byte are the mean bits divided by the mean bytes of a target.
    """
    each = [(shares[source], metrics) for source, metrics in found.items()]
    names = [name for name in each[0][1] if all(name in metrics for _, metrics in each)]
    whole = {name: sum(share * metrics[name] for share, metrics in each) for name in names}
    for loss in [name.removesuffix("/perplexity") for name in names if name.endswith("/perplexity")]:
        bits = f"{loss}/bits_per_byte"
        nats = [(share, math.log(metrics[f"{loss}/perplexity"]), metrics[bits]) for share, metrics in each]
        whole[f"{loss}/perplexity"] = math.exp(sum(share * loss_of for share, loss_of, _ in nats))
        size = sum(share * loss_of / of_byte for share, loss_of, of_byte in nats if of_byte)
        whole[bits] = sum(share * loss_of for share, loss_of, _ in nats) / size if size else 0.0
    return whole


def _numbers(values: Sums) -> dict[str, float]:
    return {name: value.item() for name, value in values.items()}


def _tensors(values: Mapping[str, float]) -> Sums:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
