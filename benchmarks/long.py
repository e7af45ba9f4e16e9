"""From which length on an attention is faster, and takes less memory, than full attention.

    python benchmarks/long.py                                             # on the CPU, 512 to 16,384 tokens
    python benchmarks/long.py --attention bigbird/base --attention linformer/base --lengths 512 2048 8192
    python benchmarks/long.py --device cuda

One step of one layer, forward and backward, in float32 without dropout, of one sequence that fills a row. An attention
is named by a row of the catalog, `NAME@2` for that of the row's layer 2; it is given the heads of this benchmark and,
where it hangs on it, the length. Layers that take turns are told apart so.

Full attention is taken twice: by the fused kernel, which keeps no probabilities, and with them written out, as it is
where they are dropped out (and was when the papers were written); this only up to the length that the memory bears.
Time on a CPU is processor time on one thread, the least of several steps, so that other work counts little; on a GPU it
is the clock's. Memory on a CPU is the peak of the bytes of all live tensors, inputs and weights included, as seen
between PyTorch's operations: what an operation takes within itself is not seen. On a GPU it is the allocator's peak.
A crossover is where the lines between measured lengths, on logarithmic axes, meet for the last time.
"""

from __future__ import annotations

import argparse
import math
import time
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genus import catalog
from genus.batch import Packed
from genus.files import write_json
from genus.model.attention import plan as attention_plan
from genus.model.attention.plan import Context
from genus.model.cpu import tune_cpu_process
from genus.model.transformer import Transformer
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.model.attention import Attention, AttentionLayer

RESULTS = Path(__file__).parent / "results"
FULL = "bert/base"
WRITTEN_OUT = "bert/base, written out"
LARGEST = 4096
"""Longest sequence of which probabilities are written out."""
OTHERS = ("bigbird/base", "bigbird/base-etc", "linformer/base", "reformer/enwik8@0", "reformer/enwik8@2")
LENGTHS = (512, 1024, 2048, 4096, 8192, 16_384)
PATIENCE = 0.5
"""Seconds of steps after which no further one is made."""
STEPS = 3


@dataclass(frozen=True)
class Measured:
    """One attention at one length."""

    attention: str
    length: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Crossover:
    """The length from which on one attention stays below full attention; None where it never does."""

    attention: str
    full: str
    faster: int | None
    smaller: int | None


class LiveBytes(TorchDispatchMode):
    """The bytes of the tensors that are alive, and their peak."""

    def __init__(self, alive: Sequence[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()
        for tensor in alive:
            self.count(tensor)

    def count(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it is freed."""
        storage = tensor.untyped_storage()
        if id(storage) not in self.known:
            self.known.add(id(storage))
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, id(storage), storage.nbytes())

    def forget(self, key: int, size: int) -> None:
        """Count a storage no longer."""
        self.known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attention", action="append", help="a row's; may be repeated")
    parser.add_argument("--lengths", type=int, nargs="*", default=list(LENGTHS))
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    tune_cpu_process()
    torch.set_num_threads(1)
    device, names = torch.device(options.device), [FULL, WRITTEN_OUT, *(options.attention or OTHERS)]
    found: dict[str, list[Measured]] = {name: [] for name in names}
    for length in options.lengths:
        for name in names:
            if name == WRITTEN_OUT and length > LARGEST:
                continue
            attention_plan.MATH_LENGTH = LARGEST if name == WRITTEN_OUT else 0
            row = FULL if name == WRITTEN_OUT else name
            layer = fitted(row, options.hidden, options.heads, length).build(options.hidden).to(device)
            one = measure(name, layer, options.hidden, length, device)
            found[name].append(one)
            print(f"{length:>7,}  {name:<24} {1e3 * one.seconds:>10,.1f} ms {one.bytes / 1e6:>10,.1f} MB", flush=True)
        crossed = [crossover(found[full], found[name]) for name in names[2:] for full in (FULL, WRITTEN_OUT)]
        told = {"hidden": options.hidden, "heads": options.heads}
        told |= {"recipes": {name: catalog.load(name.partition("@")[0]).hash() for name in (FULL, *names[2:])}}
        told |= {"crossovers": [asdict(one) for one in crossed]}
        told |= {"results": [asdict(row) for name in names for row in found[name]]}
        write_json(options.out or RESULTS / f"long-{device.type}.json", {**surroundings(device), **told})
    for met in crossed:
        print(f"{met.attention} against {met.full}: faster {said(met.faster)}, smaller {said(met.smaller)}")


def fitted(name: str, hidden: int, heads: int, length: int) -> Attention:
    """Return the attention of a row, or of one of its layers, for other heads and a length."""
    row, _, number = name.partition("@")
    model = catalog.load(row).model
    if not isinstance(model, Transformer):
        raise SystemExit(f"{row}: has no attention that could be taken alone")
    attention = model.attention.of_layer(int(number or 0))
    choices = attention.to_json()
    wanted: dict[str, object] = {"heads": heads, "size": hidden // heads, "dropout": 0.0, "length": length}
    wanted |= {"visibility": "Full", "buckets": [max(2, 2 * length // int(choices.get("chunk", length)))]}
    return attention.overlay({key: value for key, value in wanted.items() if key in choices})


def measure(name: str, layer: AttentionLayer, hidden: int, length: int, device: torch.device) -> Measured:
    """Time a step, then take its memory."""
    place = torch.arange(length, device=device)
    packed = Packed.laid(place * 0, [[length]], length)
    x, back = (torch.randn(length, hidden, device=device) for _ in range(2))

    def step() -> None:
        layer.zero_grad()
        given = x.detach().requires_grad_()
        layer(given, layer.plan(Context(packed))).backward(back)

    seconds = clock(step, device)
    held = [x, back, place, packed.positions, packed.offsets]
    return Measured(name, length, seconds, memory(step, held, layer, device))


def clock(step: Callable[[], None], device: torch.device) -> float:
    """Return the least time of several steps; the first one is not counted unless it takes long."""
    spent: list[float] = []
    while len(spent) <= STEPS and sum(spent) < PATIENCE:
        begin = time.process_time() if device.type == "cpu" else time.perf_counter()
        step()
        if device.type != "cpu":
            torch.cuda.synchronize(device)
        spent.append((time.process_time() if device.type == "cpu" else time.perf_counter()) - begin)
    return min(spent)


def memory(step: Callable[[], None], given: Sequence[Tensor], layer: nn.Module, device: torch.device) -> int:
    """Return the peak of the bytes that a step has alive."""
    layer.zero_grad()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device)
    with LiveBytes([*given, *layer.parameters()]) as alive:
        step()
    return alive.peak


def crossover(full: Sequence[Measured], other: Sequence[Measured]) -> Crossover:
    """Return from which length on the other stays below."""
    lengths, pairs = [one.length for one in full], list(zip(full, other, strict=False))
    faster = below(lengths, [math.log(b.seconds / a.seconds) for a, b in pairs])
    smaller = below(lengths, [math.log(b.bytes / a.bytes) for a, b in pairs])
    return Crossover(other[0].attention, full[0].attention, faster, smaller)


def below(lengths: Sequence[int], ratios: Sequence[float]) -> int | None:
    """Return the length at which the logarithms of ratios fall below 0 for good, None where they do not."""
    if ratios[-1] >= 0:
        return None
    last = max((place for place, ratio in enumerate(ratios) if ratio >= 0), default=None)
    if last is None:
        return lengths[0]
    share = ratios[last] / (ratios[last] - ratios[last + 1])
    return round(lengths[last] * (lengths[last + 1] / lengths[last]) ** share)


def said(length: int | None) -> str:
    """Return a crossover in words."""
    return "nowhere" if length is None else f"from {length:,} tokens on"


if __name__ == "__main__":
    main()
