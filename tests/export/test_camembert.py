"""CamemBERT's folders are read, and written as RoBERTa's, whose numbers are the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import oracle
import pytest
import torch
from oracle import FLOAT32, ROBERTA, Shape, pooled, reading, token_logits

from genus.export.folder import save

if TYPE_CHECKING:
    from pathlib import Path


class Camembert(Shape):
    """The shape of RoBERTa, under the other name."""

    def config(self, **more: object) -> object:
        settings = super().config(**more).to_dict()
        return oracle.transformers.CamembertConfig(**{k: v for k, v in settings.items() if k != "model_type"})


@pytest.mark.parametrize("shape", ROBERTA, ids=str)
@pytest.mark.parametrize("architecture", ["ForMaskedLM", "ForSequenceClassification"])
def test_the_same_numbers_there_here_and_in_what_is_written(tmp_path: Path, shape: Shape, architecture: str) -> None:
    model = oracle.build(Camembert(**asdict(shape)), f"Camembert{architecture}")
    found = reading(tmp_path / "theirs", model, shape)
    with torch.no_grad():
        expected = model(**oracle.padded(shape)).logits
        hidden = found.learner.eval().network(oracle.packed(shape))["tokens"]
        if architecture == "ForMaskedLM":
            assert oracle.relative(token_logits(found.learner, hidden), oracle.live(expected)) <= FLOAT32
        else:
            (head,) = found.learner.heads
            assert oracle.relative(pooled(found.learner, hidden, head), expected) <= FLOAT32
        save(tmp_path / "ours", found.recipe, found.learner, found.tokenizer)
        again = getattr(oracle.transformers, f"Roberta{architecture}").from_pretrained(tmp_path / "ours").eval()
        assert torch.equal(again(**oracle.padded(shape)).logits, expected)
