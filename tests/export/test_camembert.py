"""CamemBERT's folders are read, and written as RoBERTa's, whose numbers are the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import oracle
import pytest
import torch
from oracle import ROBERTA, Shape

from genus.export.hf import load, save

if TYPE_CHECKING:
    from pathlib import Path

FLOAT32 = 1e-5
"""float32 has 24 bits, 6e-8; sums over tens of terms and a few layers in another order lose two digits."""


class Camembert(Shape):
    """The shape of RoBERTa, under the other name."""

    def config(self, **more: object) -> object:
        settings = super().config(**more).to_dict()
        return oracle.transformers.CamembertConfig(**{k: v for k, v in settings.items() if k != "model_type"})


@pytest.mark.parametrize("shape", ROBERTA, ids=str)
@pytest.mark.parametrize("architecture", ["ForMaskedLM", "ForSequenceClassification"])
def test_the_same_numbers_there_here_and_in_what_is_written(tmp_path: Path, shape: Shape, architecture: str) -> None:
    model = oracle.build(Camembert(**asdict(shape)), f"Camembert{architecture}")
    model.save_pretrained(tmp_path / "theirs")
    oracle.write_tokenizer(tmp_path / "theirs", "roberta", shape.vocab)
    found = load(tmp_path / "theirs")
    with torch.no_grad():
        expected = model(**oracle.padded(shape)).logits
        hidden = found.learner.eval().network(oracle.packed(shape))["tokens"]
        if architecture == "ForMaskedLM":
            embedding = found.learner.network.token_embedding.weight
            ours = found.learner.heads["masked"].tokens(oracle.in_order(hidden), embedding)
            assert oracle.relative(ours, oracle.live(expected)) <= FLOAT32
        else:
            (head,) = found.learner.heads.values()
            ours = head.classes(found.learner.network.pool(oracle.first(hidden)))
            assert oracle.relative(ours, expected) <= FLOAT32
        save(tmp_path / "ours", found.recipe, found.learner, found.tokenizer)
        again = getattr(oracle.transformers, f"Roberta{architecture}").from_pretrained(tmp_path / "ours").eval()
        assert torch.equal(again(**oracle.padded(shape)).logits, expected)
