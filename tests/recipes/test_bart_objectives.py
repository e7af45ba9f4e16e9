"""BART's table 1 as overrides of a row: each corruption alone, the mixes, and the objectives of others beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from genus import pipeline
from genus.catalog import load
from genus.tokens.store import prepare
from small import shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

SENTENCES, INFILLING = {"kind": "SentencePermutation"}, {"kind": "TextInfilling"}
CORRUPTIONS: dict[str, list[dict[str, Any]]] = {
    "token masking": [{"kind": "TokenMasking"}],
    "token deletion": [{"kind": "TokenDeletion"}],
    "text infilling": [INFILLING],
    "document rotation": [{"kind": "DocumentRotation"}],
    "sentence shuffling": [SENTENCES],
    "text infilling + sentence shuffling": [SENTENCES, INFILLING],
    "all": [SENTENCES, {"kind": "TokenDeletion"}, INFILLING, {"kind": "TokenMasking"}, {"kind": "DocumentRotation"}],
}
ROW = shrunk(load("bart/tiny"))


def seq_to_seq(objective: dict[str, Any]) -> Recipe:
    """Return the row with another objective."""
    return ROW.overlay({"objectives": [objective]})


def one_side(side: str, objective: dict[str, Any], **changes: Any) -> Recipe:
    """Return the row with one side of its model alone, and another objective."""
    model = ROW.to_json()["model"][side] | {"cross": None} | changes
    stage = ROW.stages[0].to_json() | {"source_length": None}
    return ROW.overlay({"objectives": [objective], "stages": [stage], "model": model})


def rows() -> dict[str, Recipe]:
    """Return the rows of the table."""
    tied = {"kind": "LMHead", "bias": "constant"}
    masks, queries = (
        {"attention": {"kind": "MultiHeadAttention", "heads": 2, "mask": {"kind": mask}}}
        for mask in ("Ordered", "OrderedQueries")
    )
    masked = {"kind": "FragmentMasking", "rate": 0.5, "mask": 1.0, "random": 0.0}
    return {
        name: seq_to_seq({"kind": "DenoisingAutoencoder", "corruptions": mix}) for name, mix in CORRUPTIONS.items()
    } | {
        "language model": one_side("decoder", {"kind": "CausalLM", "output": tied}),
        "permuted language model": one_side("encoder", {"kind": "PermutedLM", "output": tied}, **queries),
        "masked language model": one_side("encoder", {"kind": "MaskedLM", "output": tied}),
        "multitask masked language model": one_side("encoder", {"kind": "MultitaskMaskedLM", "output": tied}, **masks),
        "masked seq-to-seq": seq_to_seq({"kind": "MaskedSeqToSeq", "masking": masked, "output": tied}),
    }


@pytest.mark.parametrize("name", rows())
def test_a_row_of_the_table_is_an_override(name: str, corpus: Path, tmp_path: Path) -> None:
    """It is trained on text: its losses fall, and reach every parameter."""
    row = rows()[name]
    tokenizer = row.tokens.train([corpus.read_text()])
    store = prepare([corpus], tokenizer, tmp_path / "store", workers=1)
    recipe = row.with_tokens(tokenizer.tokens)
    feed = pipeline.training_feed(recipe, store, tokenizer, stage=0)
    torch.manual_seed(0)
    learner, losses = recipe.learner(), []
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    for number in range(12):
        batch = feed[number]
        loss = learner.objective(learner(batch).sums, learner.counts(batch))
        loss.backward()
        assert not [name for name, one in learner.named_parameters() if one.grad is None or not one.grad.any()]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3])
