"""Starting from a model that has been read, with its vocabulary or a new one."""

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

ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")


def init_from(source: LoadedModel, learner: Learner, tokenizer: Tokenizer) -> list[str]:
    """Copy every weight of the source for which the learner has a place; rows of the vocabulary are carried over.

    Positions past the source's, and segments, take its vectors over again from the first.
    Of the token embedding and the output bias, a shared piece keeps its row, a special token takes the row of its role,
    and a new piece gets the mean of the rows of the old pieces that its text falls into.

    Args:
        source: what has been read.
        learner: freshly built, of the same architecture, for `tokenizer`; changed in place.
        tokenizer: the learner's.

    Returns:
        The names of the learner's tensors that keep their fresh weights, such as those of a head that the source lacks.

    Raises:
        GenusError: the architectures differ.
    """
    given, own = source.learner.state_dict() | continued(source.learner, learner), learner.tensors()
    if tokenizer.hash() != source.tokenizer.hash():
        if absent := [name for name in _by_vocabulary(source.learner) if name not in given]:
            raise GenusError(f"{absent[0]} is made of clusters by frequency, so no other vocabulary can take it over: "
                             "start without --tokenizer")  # fmt: skip
        origin = source_rows(source.tokenizer, tokenizer)
        size = source.tokenizer.vocabulary.size
        given |= {
            name: _filled(means(given[name][:size], origin), own.get(name)) for name in _by_vocabulary(source.learner)
        }
    for name, tensor in given.items():
        if name in own and own[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(own[name].shape)}"
            raise GenusError(f"the model read has another architecture: {name} is {shapes}")
    learner.load_state_dict({name: tensor for name, tensor in given.items() if name in own}, strict=False)
    return [name for name in own if name not in given]


def _filled(rows: Tensor, own: Tensor | None) -> Tensor:
    """Return rows of the vocabulary, and after them the own ones where these are more than the tokens."""
    return rows if own is None else torch.cat([rows, own[len(rows) :].to(rows)])


def source_rows(old: Tokenizer, new: Tokenizer) -> list[list[int]]:
    """Return, for every new id, the old ids whose mean it starts from; none where the old one cannot read its text."""
    found: list[list[int]] = [[] for _ in new.pieces]
    same_kind = type(old.tokens) is type(new.tokens)  # only within one kind is the same string the same piece
    known = {piece: number for number, piece in enumerate(old.pieces)} if same_kind else {}
    fresh = [number for number, piece in enumerate(new.pieces) if piece not in known]
    for number, ids in zip(fresh, old.encode(_texts(new, fresh)), strict=True):
        found[number] = [] if set(ids) <= {old.vocabulary.roles.get("unk")} else ids
    for number, piece in enumerate(new.pieces):
        if piece in known:
            found[number] = [known[piece]]
    for role in ROLES:  # a token of several roles starts from that of the last
        if role in new.vocabulary.roles and role in old.vocabulary.roles:
            found[new.vocabulary.roles[role]] = [old.vocabulary.roles[role]]
    return found


def means(rows: Tensor, origin: Sequence[Sequence[int]]) -> Tensor:
    """Return for every origin the mean of its rows, and of all rows where it has none."""
    lengths = torch.tensor([len(ids) for ids in origin])
    into = torch.repeat_interleave(torch.arange(len(origin)), lengths)
    taken = torch.tensor([number for ids in origin for number in ids], dtype=torch.int64)
    sums = rows.new_zeros(len(origin), *rows.shape[1:]).index_add_(0, into, rows[taken])
    shape = (-1, *[1] * (rows.dim() - 1))
    return torch.where((lengths > 0).view(shape), sums / lengths.clamp(min=1).view(shape), rows.mean(0))


def _by_vocabulary(learner: Learner) -> list[str]:
    """Return the names of the tensors that have a row for every piece."""
    embedding, state = learner.network.token_embedding, learner.state_dict()
    found = []
    for name, module in learner.named_modules():
        if module is embedding:
            found.append(f"{name}.weight")
        if isinstance(module, OutputLayer):
            found += [f"{name}.{own}" for own in module.by_vocabulary if f"{name}.{own}" in state]
    return found


def _texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the text of each piece as it stands within a text: decoded after an anchor, which is then cut off."""
    vocabulary = tokenizer.vocabulary
    anchor = int((vocabulary.word_start & ~vocabulary.special).argmax())
    before = tokenizer.decode([anchor])
    return [tokenizer.decode([anchor, number]).removeprefix(before) for number in ids]
