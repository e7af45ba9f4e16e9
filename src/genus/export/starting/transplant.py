"""Initialization from a pretrained model, with its vocabulary or with transfer to a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError
from genus.model.embedding.growth import continued
from genus.model.head import OutputLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.export.folder import LoadedModel
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

NETWORK = "network."
"""Prefix of the network's tensors in a learner."""
ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")


def init_from(source: LoadedModel, learner: Learner, tokenizer: Tokenizer) -> list[str]:
    """Initialize a learner with all weights of the source that it has, and transfer embeddings to its vocabulary.

    Positions beyond the source's, and segments, repeat the source's vectors from the first.
    In the token embedding and the output bias, a shared piece keeps its row, a special token takes the row of its role,
    and a new piece gets the mean of the rows of the old pieces that its text is split into.

    Args:
        source: the pretrained model.
        learner: a newly built learner of the same architecture, for `tokenizer`; changed in place.
        tokenizer: the learner's tokenizer.

    Returns:
        The names of the learner's tensors that keep their random weights, such as those of a head the source lacks.

    Raises:
        GenusError: the architectures differ, or the vocabulary changes and the embedding has frequency clusters.
    """
    given, own = source.learner.state_dict() | continued(source.learner, learner), learner.tensors()
    if tokenizer.hash() != source.tokenizer.hash():
        if absent := [name for name in by_vocabulary(source.learner) if name not in given]:
            raise GenusError(f"{absent[0]} is made of clusters by frequency, so no other vocabulary can take it over: "
                             "start without --tokenizer")  # fmt: skip
        origin = source_rows(source.tokenizer, tokenizer)
        size = source.tokenizer.vocabulary.size
        given |= {
            name: _filled(means(given[name][:size], origin), own.get(name)) for name in by_vocabulary(source.learner)
        }
    inner = {name.removeprefix(NETWORK): tensor for name, tensor in given.items() if name.startswith(NETWORK)}
    heads = {name: tensor for name, tensor in given.items() if not name.startswith(NETWORK)}
    given = {f"{NETWORK}{name}": tensor for name, tensor in learner.network.adopted(inner).items()} | heads
    for name, tensor in given.items():
        if name in own and own[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(own[name].shape)}"
            raise GenusError(f"the model read has another architecture: {name} is {shapes}")
    learner.load_state_dict({name: tensor for name, tensor in given.items() if name in own}, strict=False)
    return [name for name in own if name not in given]


def _filled(rows: Tensor, own: Tensor | None) -> Tensor:
    """Return rows of the vocabulary, followed by the learner's own rows beyond them (padded vocabulary)."""
    return rows if own is None else torch.cat([rows, own[len(rows) :].to(rows)])


def source_rows(old: Tokenizer, new: Tokenizer) -> list[list[int]]:
    """Return, for every new id, the old ids whose mean initializes it; empty where all of its text is unknown there."""
    found: list[list[int]] = [[] for _ in new.pieces]
    same_kind = type(old.tokens) is type(new.tokens)  # equal strings are equal pieces only within one kind of tokenizer
    known = {piece: number for number, piece in enumerate(old.pieces)} if same_kind else {}
    fresh = [number for number, piece in enumerate(new.pieces) if piece not in known]
    for number, ids in zip(fresh, old.encode(_texts(new, fresh)), strict=True):
        found[number] = [] if set(ids) <= {old.vocabulary.roles.get("unk")} else ids
    for number, piece in enumerate(new.pieces):
        if piece in known:
            found[number] = [known[piece]]
    for role in ROLES:  # a token with several roles takes the row of the last one
        if role in new.vocabulary.roles and role in old.vocabulary.roles:
            found[new.vocabulary.roles[role]] = [old.vocabulary.roles[role]]
    return found


def means(rows: Tensor, origin: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean of the rows of every origin, and the mean of all rows where an origin is empty."""
    lengths = torch.tensor([len(ids) for ids in origin])
    into = torch.repeat_interleave(torch.arange(len(origin)), lengths)
    taken = torch.tensor([number for ids in origin for number in ids], dtype=torch.int64)
    sums = rows.new_zeros(len(origin), *rows.shape[1:]).index_add_(0, into, rows[taken])
    shape = (-1, *[1] * (rows.dim() - 1))
    return torch.where((lengths > 0).view(shape), sums / lengths.clamp(min=1).view(shape), rows.mean(0))


def by_vocabulary(learner: Learner) -> list[str]:
    """Return the names of the tensors with a row per vocabulary entry: token embedding and output layers."""
    embedding, state = learner.network.token_embedding, learner.state_dict()
    found = []
    for name, module in learner.named_modules():
        if module is embedding:
            found.append(f"{name}.weight")
        if isinstance(module, OutputLayer):
            found += [f"{name}.{own}" for own in module.by_vocabulary if f"{name}.{own}" in state]
    return found


def _texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the text of each piece inside a text: it is decoded after an anchor word, which is then removed."""
    vocabulary = tokenizer.vocabulary
    anchor = int((vocabulary.word_start & ~vocabulary.special).argmax())
    before = tokenizer.decode([anchor])
    return [tokenizer.decode([anchor, number]).removeprefix(before) for number in ids]
