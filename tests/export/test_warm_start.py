"""Encoder-decoders that begin with the weights of one encoder or decoder, on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog, pipeline
from genus.batch import Batch
from genus.errors import UsageError
from genus.export.folder import load, save
from genus.train.run import Run
from hand import equal_rows
from small import documents, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

SHORT = ["objectives.0=PrefixLM", "stages=[{max_length=32, source_length=32, batch=4, micro_batch=4}]"]
RUN = Run(device="cpu", precision="float32", workers=0, held_out=0.05, evaluate_batches=2, tracker="none")


def folder(name: str, path: Path) -> LoadedModel:
    """Write a model of random weights, and return it as it is read."""
    recipe = shrunk(catalog.load(name))
    tokenizer = recipe.tokens.train(documents())
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    save(path, recipe, learner, tokenizer)
    return load(path)


@pytest.mark.parametrize("name", ["bert/tiny", "roberta/tiny", "gpt2/tiny", "llama/tiny"])
def test_both_sides_have_its_weights(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(name, tmp_path / "source")
    row = catalog.load("bart/tiny", SHORT)
    recipe, learner = pipeline.from_pretrained(row, source.tokenizer, tmp_path / "source")
    own, given = learner.state_dict(), source.learner.state_dict()
    for key, tensor in given.items():
        if key.startswith("network.") and "pooler" not in key:
            for side in ("encoder", "decoder"):
                torch.testing.assert_close(own[key.replace("network.", f"network.{side}.", 1)], tensor, rtol=0, atol=0)
    said = capsys.readouterr().err
    assert "network.decoder.layers.*.cross" in said
    assert "network.encoder" not in said.split("has no weights for")[1]
    assert recipe.model.causal
    if not source.recipe.model.causal:
        ids = equal_rows(torch.randint(5, 90, (2, 9)))
        with torch.no_grad():
            wanted = source.learner.eval().network(Batch({"tokens": ids}, {}))["tokens"]
            found = learner.eval().network(Batch({"tokens": ids, "source": ids}, {}))["source"]
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_it_goes_on_from_there(corpus: Path, tmp_path: Path) -> None:
    folder("bert/tiny", tmp_path / "source")
    row = catalog.load("bart/tiny", [*SHORT, "budget.amount=3", "budget.unit=steps"])
    summary = pipeline.pretrain(row, [corpus], tmp_path / "run", RUN, start=tmp_path / "source")
    assert summary.progress.step == 3
    model = load(tmp_path / "run" / "model")
    assert model.recipe.model.streams == {"source", "tokens"}


def test_what_cannot_attend_to_a_source_is_refused(tmp_path: Path) -> None:
    source = folder("xlnet/tiny", tmp_path / "source")
    with pytest.raises(UsageError, match="begins with an encoder or a decoder of MultiHeadAttention"):
        pipeline.from_pretrained(catalog.load("bart/tiny"), source.tokenizer, tmp_path / "source")
    source = folder("bert/tiny", tmp_path / "short")
    with pytest.raises(UsageError, match="max_length 129 is past the model's 64 positions"):
        pipeline.from_pretrained(catalog.load("bart/tiny"), source.tokenizer, tmp_path / "short")
