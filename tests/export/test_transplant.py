"""Starting from a model that has been read: with its own vocabulary, and with a new one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog
from genus.errors import GenusError
from genus.export.folder import LoadedModel
from genus.export.starting.transplant import init_from, means, source_rows
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.wordpiece import BERT, WordPiece
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tokens import TokenizerConfig

ROUNDING = 1e-6
"""A mean of a few float32 numbers, taken in another order."""


def wordpiece(*pieces: str, specials: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")) -> Tokenizer:
    roles = dict(zip(BERT.names(), specials, strict=True))
    frames = {
        name: " ".join(roles.get(step.removesuffix(":1"), step.removesuffix(":1")) for step in frame.split())
        for name, frame in (("single", BERT.single), ("pair", BERT.pair))
    }
    pad, unk, cls, sep, mask = specials
    named = replace(BERT, pad=pad, unk=unk, cls=cls, sep=sep, mask=mask, **frames)
    part = WordPiece(vocab_size=len(pieces) + 5, special_tokens=named)
    return Tokenizer.of(part, part.of_vocabulary({piece: n for n, piece in enumerate([*specials, *pieces])}))


OLD = wordpiece("b", "##b", "un", "##aff", "##able", "paris", "##s", "zoo")
#                5    6      7     8        9         10       11     12


def source(tokenizer: Tokenizer, recipe: Recipe | None = None) -> LoadedModel:
    torch.manual_seed(3)
    recipe = replace(recipe or row(tokenizer.tokens), tokens=tokenizer.tokens)
    learner = recipe.learner()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.normal_()
    return LoadedModel(recipe, learner, tokenizer)


def row(tokens: TokenizerConfig) -> Recipe:
    return replace(catalog.load("bert/tiny", ["model.hidden=8", "model.feedforward.size=12"]), tokens=tokens)


def test_with_its_own_vocabulary_everything_is_copied() -> None:
    given = source(OLD)
    learner = given.recipe.learner()
    assert init_from(given, learner, OLD) == []
    expected = given.learner.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in learner.state_dict().items())


def test_heads_that_the_source_lacks_stay_fresh_and_are_named() -> None:
    given = source(OLD)
    recipe = given.recipe
    bare = LoadedModel(recipe, replace(recipe, objectives=(MaskedLM(),)).learner(), OLD)
    fresh = init_from(bare, recipe.learner(), OLD)
    assert fresh == ["heads.next_sentence.classes.weight", "heads.next_sentence.classes.bias"]


def test_a_new_vocabulary() -> None:
    """Shared pieces are copied, special tokens go by role, new pieces get the mean of the old pieces of their text."""
    new = wordpiece("zoo", "unaffable", "##able", "##paris", "q", "b", specials=("<p>", "<u>", "<c>", "<s>", "<m>"))
    expected = [[0], [1], [2], [3], [4], [12], [7, 8, 9], [9], [10], [], [5]]
    assert source_rows(OLD, new) == expected

    given = source(OLD)
    learner = replace(given.recipe, tokens=new.tokens).learner()
    assert init_from(given, learner, new) == []
    old = given.learner.state_dict()
    state = learner.tensors()
    for name in ("network.embed.tokens.weight", "heads.masked_lm.lm_head.bias"):
        for number, ids in enumerate(expected):
            mean = old[name][ids].mean(0) if ids else old[name].mean(0)
            assert torch.allclose(state[name][number], mean, atol=ROUNDING), (name, number)
        assert torch.equal(state[name][5], old[name][12])
    carried = {"network.embed.tokens.weight", "heads.masked_lm.lm_head.bias"}
    assert all(torch.equal(tensor, old[name]) for name, tensor in state.items() if name not in carried)


def test_from_word_pieces_to_bytes_pieces_go_by_their_text() -> None:
    """A byte-level `Ġun` reads ` un`; the same string in another kind of tokenization is another piece."""
    text = ["un unaffable paris zoo paris un", "b un paris unaffable"] * 3
    new = ByteBPE(vocab_size=320).train(text)
    found = source_rows(OLD, new)
    assert found[new.pieces.index("\u0120paris")] == [10]
    assert found[new.pieces.index("\u0120unaffable")] == [7, 8, 9]
    assert found[new.pieces.index("b")] == [5]
    assert found[new.vocabulary.mask] == [4]
    assert found[new.pieces.index("\u00e9")] == []


def test_means() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [8.0, 0.0]])
    assert means(rows, [[1], [0, 1], []]).tolist() == [[3.0, 4.0], [2.0, 3.0], [4.0, 2.0]]
    assert means(rows[:, 0], [[2], [0, 2]]).tolist() == [8.0, 4.5]


def test_another_architecture_is_one_line() -> None:
    given = source(OLD)
    learner = given.recipe.override("model.hidden", 16).learner()
    with pytest.raises(GenusError, match=r"another architecture: network\.embed\.tokens\.weight is"):
        init_from(given, learner, OLD)


@pytest.mark.shared
def test_real_vocabularies(shared: Path) -> None:
    """From the uncased to the cased vocabulary of BERT: what a capital hides from the one is a word of the other."""
    old, new = (Tokenizer.load(shared / "vocab" / f"bert-base-{case}") for case in ("uncased", "cased"))
    found = source_rows(old, new)
    for piece, origin in (("the", "the"), ("Paris", "paris"), ("##ing", "##ing")):
        assert [old.pieces[number] for number in found[new.pieces.index(piece)]] == [origin]
    assert found[new.vocabulary.mask] == [old.vocabulary.mask]
    assert sum(len(ids) == 1 for ids in found) > 0.8 * len(found)
