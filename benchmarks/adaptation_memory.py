"""Peak memory of fine-tuning a BERT base with all parameters, or few: `python benchmarks/adaptation_memory.py`.

Each kind is a process of its own: 3 updates of 8 texts of 128 tokens in float32 on the CPU, with AdamW. What it needed
before its first update is taken off, so that weights and libraries are not counted.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

import torch

from genus import catalog
from genus.adapt.adapters import Adapters
from genus.adapt.last_layers import LastLayers
from genus.adapt.lora import LoRA
from genus.batch import Batch, Packed, Targets
from genus.objectives.supervised.sequence import SequenceClassification

KINDS = {
    "full": None, "lora": LoRA(), "adapters": Adapters(), "last 2 layers": LastLayers(layers=2),
    "head": LastLayers(layers=0),
}  # fmt: skip
ROWS, LENGTH, UPDATES = 8, 128, 3
MB = 2**20


def peak() -> float:
    """Return the peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kind: str) -> dict[str, float]:
    """Train a few steps and return what it took, in MB and seconds."""
    recipe = catalog.load("bert/base")
    objective = SequenceClassification(labels=("a", "b"))
    stages = tuple(stage.whole() for stage in recipe.stages)
    recipe = replace(recipe, objectives=(objective,), model=recipe.model, stages=stages)
    torch.manual_seed(0)
    learner, adaptation = recipe.learner(), KINDS[kind]
    if adaptation is not None:
        adaptation.apply(learner, [name for name in learner.state_dict() if name.startswith("network.")])
    optimizer = recipe.finetuning.optimizer.build(learner)
    ids = torch.randint(5, 1000, (ROWS * LENGTH,))
    packed = Packed.laid(ids, [[LENGTH]] * ROWS, LENGTH, {"segment": torch.zeros_like(ids)})
    targets = Targets(torch.arange(ROWS) * LENGTH, torch.randint(2, (ROWS,)))
    batch = Batch({"tokens": packed}, {objective.target: targets})
    before, begun = peak(), time.perf_counter()
    for _ in range(UPDATES):
        step = learner(batch)
        learner.objective(step.sums, learner.counts(batch)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    states = [one for state in optimizer.state.values() for one in state.values() if isinstance(one, torch.Tensor)]
    return {
        "trained parameters": sum(weight.numel() for weight in learner.parameters() if weight.requires_grad),
        "optimizer state, MB": round(sum(one.nbytes for one in states) / MB, 1),
        "peak beside the weights, MB": round(peak() - before, 1),
        "seconds an update": round((time.perf_counter() - begun) / UPDATES, 2),
    }


def main() -> None:
    """Measure one kind, or print all."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    for kind in KINDS:
        found = subprocess.run([sys.executable, __file__, kind], check=True, capture_output=True, text=True).stdout
        print(f"{kind:15}", ", ".join(f"{name} {value:,}" for name, value in json.loads(found).items()))


if __name__ == "__main__":
    main()
