"""Tensor parallelism: the matrices of every layer split among processes, which compute each micro-batch together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, cast

import torch
from torch import Tensor, distributed, nn

from genus.errors import UsageError
from genus.model.roles import stacks, sublayers
from genus.model.split import (
    APART_OUTSIDE,
    ColumnLinear,
    Divisible,
    Entrance,
    Peers,
    RowLinear,
    VocabularyEmbedding,
    WholeWeights,
    draw_apart,
)
from genus.model.split_tokens import ByToken, SplitTokens, split_branch, split_stack
from genus.optim.pieces import Division, Piece, held, piece_of, set_piece
from genus.part import Count
from genus.train.parallel import Parallel
from genus.train.parallel.replicated import Replicated
from genus.train.parallel.sharded import begin_alike

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from torch.distributed.device_mesh import DeviceMesh

    from genus.model.split import Split
    from genus.train.world import World

TENSOR = "tensor"
"""Axis of the mesh along which matrices are split: the innermost one, of neighbors by rank."""
COLUMNS: dict[Split | int, tuple[int, int]] = {"column": (0, 0), "row": (1, -1), "vocabulary": (0, 0)}
"""Axes of weight and bias of a linear map that are split; -1: the bias is whole."""


class TensorParallel(Parallel):
    """Each of `size` processes holds some heads, inner units and tokens of every layer; groups of them share the data.

    Queries, keys, values and inner maps are split by their outputs, the maps after them by their inputs, embedding and
    output layer by the vocabulary. Two all-reduces a layer in each direction. Which modules can be split, and how, they
    say themselves (`split.Divisible`).

    Source: Shoeybi et al. 2019 (Megatron-LM), section 3; of `sequence`, Korthikanti et al. 2022, section 4.2.2.
    """

    size: Count = 2
    """Processes that split each matrix, neighbors by rank: those of one machine, as they exchange the most."""
    sequence: bool = False
    """Whether norms, dropout and residual connections between are split by tokens, so that each process keeps its share
    of their activations too (sequence parallelism); as much is sent as without."""
    data: Parallel = Replicated()
    """How the groups of processes share the rest of the work."""

    def __post_init__(self) -> None:
        """Check that matrices are split once (ValueError)."""
        if self.data.splits > 1:
            raise ValueError("data: matrices are split already; take Replicated or Sharded")

    @property
    def in_words(self) -> str:
        """The number of processes, and how their groups share the work."""
        what = f"{'matrices and tokens' if self.sequence else 'matrices'} split in {self.size}"
        return ", ".join(part for part in (what, self.data.in_words) if part)

    @property
    def splits(self) -> int:
        """The number of processes that compute a micro-batch."""
        return self.size

    @property
    def in_step(self) -> bool:
        """Whether the groups must keep step."""
        return self.data.in_step

    def axes(self, processes: int) -> dict[str, int]:
        """Return the axes of the groups and, within, of those that split; `UsageError` if sizes do not multiply."""
        if processes % self.size:
            raise UsageError(f"run.parallel.size: {processes} process{'es' if processes > 1 else ''} cannot be divided "
                             f"into groups of {self.size}; take a divisor of that")  # fmt: skip
        return {**self.data.axes(processes // self.size), TENSOR: self.size}

    def check(self, learner: nn.Module, device: str) -> None:
        """Check that every sub-layer can be split, into so many parts (UsageError)."""
        self.data.check(learner, device)
        for module in learner.modules():
            if isinstance(module, WholeWeights):
                raise UsageError(f"run.parallel: this model cannot be split, as {module.why_whole}; "
                                 "take parallel=Replicated")  # fmt: skip
        for name, branch in sublayers(learner):
            own = {step for path, _ in branch.named_parameters() for step in path.split(".")[:1]}
            if not own <= branch.shardings().keys():
                choice = getattr(branch, "choice", branch)
                raise UsageError(f"run.parallel: {name} is {type(choice).__name__}, which cannot be split among "
                                 "processes; take parallel=Sharded, or Replicated")  # fmt: skip
        for name, module, how, tensor, axis in _cuts(learner):
            unit = getattr(module, "unit", 1) if how == "column" else 1
            if tensor.shape[axis] % (unit * self.size):
                what = {"column": "heads" if unit > 1 else "outputs", "vocabulary": "tokens"}.get(str(how), "entries")
                hint = ", or pad the vocabulary (padded_vocab_size)" if how == "vocabulary" else ""
                raise UsageError(f"run.parallel.size: the {tensor.shape[axis] // unit} {what} of {name} cannot be "
                                 f"split in {self.size}; take a divisor of that{hint}")  # fmt: skip

        if self.sequence:
            _check_tokens(learner)

    def place(self, learner: nn.Module, world: World, mesh: DeviceMesh | None) -> nn.Module:
        """Split the matrices in place, and distribute what remains as `data` says."""
        if mesh is None or self.size == 1:
            return self.data.place(learner, world, mesh)
        begin_alike(learner)
        peers = Peers(mesh[TENSOR].get_group(), mesh[TENSOR].get_local_rank(), self.size)
        _split(learner, peers, world.device)
        for tensor in (*learner.parameters(), *learner.buffers()):
            if piece_of(tensor) is None:
                set_piece(tensor, Piece(tuple(tensor.shape), owner=peers.place == 0))
        shared = _split_tokens(learner, peers) if self.sequence else set()
        module = self.data.place(learner, world, mesh)
        for name, weight in learner.named_parameters():
            if name in shared:
                weight.of_tokens = peers.group  # type: ignore[attr-defined]
        return module

    def accumulate(self, module: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Return the context that the groups need."""
        return self.data.accumulate(module, last=last)

    def finish(self, module: nn.Module) -> None:
        """Sum the gradients of what each process computed for its own tokens: of norms and biases, all at once."""
        self.data.finish(module)
        found = [weight for weight in module.parameters() if hasattr(weight, "of_tokens") and weight.grad is not None]
        gradients = [held(weight.grad) for weight in found if weight.grad is not None]
        if not any(gradient.numel() for gradient in gradients):
            return
        whole = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(whole, group=found[0].of_tokens)
        for gradient, total in zip(gradients, torch.split(whole, [one.numel() for one in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))


def _cuts(learner: nn.Module) -> Iterator[tuple[str, nn.Module, Split | int, Tensor, int]]:
    """Yield name, owner, kind and axis of every cut of a tensor; a tensor may come several times, cut alike."""
    for path, module in learner.named_modules():
        for name, how in module.shardings().items() if isinstance(module, Divisible) else ():
            child, full = getattr(module, name), f"{path}.{name}".lstrip(".")
            if not isinstance(child, nn.Module):
                yield full, module, how, child, how if isinstance(how, int) else 0
                continue
            weight, bias = (1, -1) if isinstance(child, nn.Embedding) and how == "column" else COLUMNS[how]
            for own, axis in (("weight", weight), ("bias", bias)):
                tensor = getattr(child, own, None)
                if tensor is not None and axis >= 0:
                    yield full, module, how, tensor, axis


def _split(learner: nn.Module, peers: Peers, device: torch.device) -> None:
    """Cut tensors, put the pieces into all modules that hold them, and let the modules compute with pieces."""
    pieces: dict[int, tuple[Tensor, Tensor]] = {}
    for _, _, _, tensor, axis in _cuts(learner):
        if id(tensor) not in pieces:
            pieces[id(tensor)] = tensor, _cut(tensor, axis, peers, device)
    held_by = {id(owner) for owner in _owners(learner)}
    for path, module in learner.named_modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is None or id(tensor) not in pieces:
                    continue
                if id(module) not in held_by:
                    raise UsageError(f"run.parallel: {path} shares {name} with a layer that is split, and cannot be; "
                                     "take parallel=Sharded")  # fmt: skip
                store[name] = pieces[id(tensor)][1]
    _compute_in_pieces(learner, peers)


def _owners(learner: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules whose tensors are cut."""
    for module in learner.modules():
        if isinstance(module, Divisible):
            yield from (one for name in module.shardings() if isinstance(one := getattr(module, name), nn.Module))
            yield module


@torch.no_grad()
def _cut(tensor: Tensor, axis: int, peers: Peers, device: torch.device) -> Tensor:
    """Return this process's block of a tensor on a device, a parameter if the tensor is one."""
    division = Division(axis, tensor.shape[axis], peers.group, peers.place, peers.parts)
    own = tensor.detach().narrow(axis, division.first, division.held).clone().to(device)
    made = nn.Parameter(own, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else own
    set_piece(made, Piece(tuple(tensor.shape), (division,)))
    return made


def _compute_in_pieces(learner: nn.Module, peers: Peers) -> None:
    """Let linear maps, embeddings and output layers compute with their pieces, and sub-layers draw apart."""
    done: set[int] = set()
    for module in learner.modules():
        entrance = Entrance(peers)
        for name, how in module.shardings().items() if isinstance(module, Divisible) else ():
            child = getattr(module, name)
            if id(child) in done:
                continue
            done.add(id(child))
            if isinstance(child, nn.Linear):
                child.__class__ = ColumnLinear if how == "column" else RowLinear
                child.entrance = entrance  # type: ignore[assignment]
            elif how == "vocabulary" and isinstance(child, nn.Embedding):
                child.__class__ = VocabularyEmbedding
                cast("VocabularyEmbedding", child).peers = peers
            elif how == "vocabulary":
                module.peers = peers  # type: ignore[assignment]
    for number, (_, branch) in enumerate(sublayers(learner)):
        draw_apart(branch, number, peers)


def _check_tokens(learner: nn.Module) -> None:
    """Check that all layers can be split by tokens (UsageError)."""
    owners: dict[int, str] = {}
    for name, stack in stacks(learner):
        parts = [(name, stack), *((f"{name}.{number}", layer) for number, layer in stack.named_children())]
        for path, module in parts:
            if not isinstance(module, ByToken):
                _refuse_tokens(path, module, "which mixes them")
        for path, branch in sublayers(stack):
            if owners.setdefault(id(branch), name) != name:
                _refuse_tokens(f"{name}.{path}", branch, "which two stacks have")
            if not branch.gathers:
                _refuse_tokens(f"{name}.{path}", branch, "whose maps read more than its tokens, or parts of them")
    if not owners:
        raise UsageError("run.parallel.sequence: this model has no stack of layers; leave it out")


def _refuse_tokens(path: str, module: nn.Module, why: str) -> NoReturn:
    kind = type(getattr(module, "choice", module)).__name__
    raise UsageError(f"run.parallel.sequence: tokens cannot be split at {path}, {kind}, {why}; leave it out")


def _split_tokens(learner: nn.Module, peers: Peers) -> set[str]:
    """Split the stacks by tokens, and return the names of the parameters of which processes have shares of gradients.

    These are the parameters of stacks that are whole in every process.
    """
    whole: set[int] = set()
    for number, (_, stack) in enumerate(stacks(learner)):
        tokens = SplitTokens(peers)
        for _, branch in sublayers(stack):
            split_branch(branch, cast("RowLinear", branch.out).entrance, tokens)
        draw_apart(stack, number, peers, APART_OUTSIDE)
        split_stack(stack, tokens)
        whole |= {id(one) for one in stack.parameters() if not cast("Piece", piece_of(one)).divisions}
    return {name for name, weight in learner.named_parameters() if id(weight) in whole}
