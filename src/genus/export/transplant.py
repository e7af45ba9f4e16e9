"""Starting from a model that has been read, with its vocabulary or a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from genus.errors import GenusError
from genus.model.embed import Embed
from genus.model.heads import TokenHead
from genus.model.output import TiedLayer
from genus.model.position import LearnedPositions
from genus.model.untied import UntiedLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.export.hf import Imported
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")


def transplant(source: Imported, learner: Learner, tokenizer: Tokenizer) -> list[str]:
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
    given, own = source.learner.state_dict() | _continued(source.learner, learner), learner.state_dict()
    if tokenizer.hash() != source.tokenizer.hash():
        if absent := [name for name in _by_vocabulary(source.learner) if name not in given]:
            raise GenusError(f"{absent[0]} is made of clusters by frequency, so no other vocabulary can take it over: "
                             "start without --tokenizer")  # fmt: skip
        origin = origins(source.tokenizer, tokenizer)
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


def _continued(source: Learner, learner: Learner) -> dict[str, Tensor]:
    """Return tables of positions and segments with more rows than the source's: its rows again and again.

    So a model for 4,096 tokens starts from one for 512 (Beltagy et al. 2020, Longformer, section 5).
    """
    modules, found = dict(source.named_modules()), {}
    for name, own in learner.named_modules():
        old = modules.get(name)
        if isinstance(own, LearnedPositions) and isinstance(old, LearnedPositions):
            found[f"{name}.table.weight"] = _repeated(old.table, own.table, old.offset, own.offset)
        elif isinstance(own, Embed) and isinstance(old, Embed) and own.segments and old.segments:
            found[f"{name}.segments.weight"] = _repeated(old.segments, own.segments, 0, 0)
    return found


def _repeated(old: nn.Embedding, own: nn.Embedding, skipped: int, ahead: int) -> Tensor:
    """Return the old table, or its rows past the skipped ones again and again where the own one has room for all."""
    rows, room = old.weight.detach()[skipped:], own.num_embeddings - ahead
    if own.weight.shape == old.weight.shape or own.embedding_dim != old.embedding_dim or room < len(rows):
        return old.weight.detach()
    return torch.cat([own.weight.detach()[:ahead].to(rows), rows[torch.arange(room) % len(rows)]])


def _filled(rows: Tensor, own: Tensor | None) -> Tensor:
    """Return rows of the vocabulary, and after them the own ones where these are more than the tokens."""
    return rows if own is None else torch.cat([rows, own[len(rows) :].to(rows)])


def origins(old: Tokenizer, new: Tokenizer) -> list[list[int]]:
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
    embedding = learner.network.token_embedding
    found = []
    for name, module in learner.named_modules():
        if module is embedding:
            found.append(f"{name}.weight")
        if isinstance(module, (TokenHead, TiedLayer, UntiedLayer)):
            found.append(f"{name}.bias")
        if isinstance(module, UntiedLayer):
            found.append(f"{name}.decoder.weight")
    return found


def _texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the text of each piece as it stands within a text: decoded after an anchor, which is then cut off."""
    vocabulary = tokenizer.vocabulary
    anchor = int((vocabulary.word_start & ~vocabulary.special).argmax())
    before = tokenizer.decode([anchor])
    return [tokenizer.decode([anchor, number]).removeprefix(before) for number in ids]
