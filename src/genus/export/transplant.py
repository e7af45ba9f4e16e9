"""Starting from a model that has been read, with its vocabulary or a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.errors import GenusError
from genus.model.heads import TokenHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.export.hf import Imported
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

ROLES = ("pad", "unk", "cls", "sep", "mask")


def transplant(source: Imported, learner: Learner, tokenizer: Tokenizer) -> list[str]:
    """Copy every weight of the source for which the learner has a place; what depends on the vocabulary is carried over.

    The rows of the token embedding and of the output bias: a shared piece keeps its row, a special token takes the row of
    its role, a new piece gets the mean of the rows of the old pieces that its text falls into.

    Args:
        source: what has been read.
        learner: freshly built, of the same architecture, for `tokenizer`; changed in place.
        tokenizer: the learner's.

    Returns:
        The names of the learner's tensors that keep their fresh weights, such as those of a head that the source lacks.

    Raises:
        GenusError: the architectures differ.
    """
    given, own = source.learner.state_dict(), learner.state_dict()
    if tokenizer.hash() != source.tokenizer.hash():
        mean = averaging(origins(source.tokenizer, tokenizer), source.tokenizer.vocabulary.size)
        for name in _by_vocabulary(source.learner):
            rows = given[name]
            given[name] = (mean @ rows.view(len(rows), -1)).view(-1, *rows.shape[1:])
    for name, tensor in given.items():
        if name in own and own[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(own[name].shape)}"
            raise GenusError(f"the model read has another architecture: {name} is {shapes}")
    learner.load_state_dict({name: tensor for name, tensor in given.items() if name in own}, strict=False)
    return [name for name in own if name not in given]


def origins(old: Tokenizer, new: Tokenizer) -> list[Sequence[int]]:
    """Return, for every new id, the old ids whose mean it starts from; none where its text says nothing to the old one."""
    known, pieces = _pieces(old), _pieces(new)
    found: list[Sequence[int]] = [()] * new.vocabulary.size
    alike = type(old.tokens) is type(new.tokens)  # the same string is the same piece only within one kind
    fresh = []
    for piece, number in pieces.items():
        if alike and piece in known:
            found[number] = (known[piece],)
        else:
            fresh.append(number)
    for number, ids in zip(fresh, old.encode(_surfaces(new, fresh)), strict=True):
        found[number] = [] if set(ids) <= {old.vocabulary.unk} else ids
    for role in ROLES:
        found[getattr(new.vocabulary, role)] = (getattr(old.vocabulary, role),)
    return found


def averaging(origin: Sequence[Sequence[int]], size: int) -> Tensor:
    """Return the sparse matrix (new, old) that takes old rows to the means of their new ones; all rows' where none is."""
    old = [ids if len(ids) else range(size) for ids in origin]
    lengths = np.array([len(ids) for ids in old])
    index = np.stack([np.repeat(np.arange(len(old)), lengths), np.concatenate([np.asarray(ids) for ids in old])])
    share = torch.from_numpy(np.repeat(1 / lengths, lengths)).float()
    matrix = torch.sparse_coo_tensor(torch.from_numpy(index), share, (len(old), size), check_invariants=False)
    return matrix.coalesce()


def _by_vocabulary(learner: Learner) -> list[str]:
    """Return the names of the tensors that have a row for every piece."""
    names = [name for name, module in learner.named_modules() if module is learner.network.token_embedding]
    heads = [name for name, module in learner.named_modules() if isinstance(module, TokenHead)]
    return [f"{name}.weight" for name in names] + [f"{name}.bias" for name in heads]


def _pieces(tokenizer: Tokenizer) -> dict[str, int]:
    return tokenizer.backend.get_vocab(with_added_tokens=True)


def _surfaces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the text of each piece as it stands within a text: decoded after an anchor, which is then cut off."""
    anchor = tokenizer.encode(["a"])[0]
    before = tokenizer.decode(anchor)
    return [tokenizer.decode([*anchor, number]).removeprefix(before) for number in ids]
