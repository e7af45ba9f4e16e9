"""BART's translation in two steps: a new encoder of the sources before a pretrained encoder-decoder."""

from __future__ import annotations

import dataclasses
import fnmatch
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from genus import catalog, pipeline
from genus.batch import Batch
from genus.errors import UsageError
from genus.export.folder import load, save
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.model.embedding.encoded import EncodedEmbedding
from genus.stages import PartialStage
from hand import equal_rows
from small import RUN, documents, fields, losses, shrunk, write_corpus

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.recipe import Recipe
    from genus.stages import Stage

NEW = "network.encoder.embed.encoder.*"
FIRST = (
    NEW,
    "network.*.embed.positions.*",
    *(f"network.encoder.layers.0.attention.{name}.*" for name in ("query", "key", "value")),
)
"""What learns first (Lewis et al. 2019, section 3.4)."""


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small BART of random weights."""
    path = tmp_path_factory.mktemp("bart") / "model"
    recipe = shrunk(catalog.load("bart/tiny"))
    tokenizer = recipe.tokens.train(documents())
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    save(path, recipe, learner, tokenizer)
    return path


def partial(stage: Stage, trainable: tuple[str, ...]) -> PartialStage:
    choices = {field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)}
    return PartialStage(trainable=trainable, **choices)


def translating(bart: LoadedModel, **of_encoder: Any) -> Recipe:
    """Return the recipe of two stages, with a source encoder like BART's own."""
    model = bart.recipe.model
    encoder = replace(model.encoder, layers=1, **of_encoder)
    embedding = EncodedEmbedding(encoder=encoder, segments=0, position=model.encoder.embedding.position)
    row = catalog.load("transformer/tiny")
    stage = replace(row.stages[0], max_length=32, source_length=32, batch=8, micro_batch=4, share=0.5)
    return replace(
        row,
        model=replace(model, encoder=replace(model.encoder, embedding=embedding), shared="nothing"),
        stages=(partial(stage, FIRST), stage),
        budget=replace(row.budget, amount=6, unit="steps"),
    )


def test_all_is_barts_but_the_new_encoder(bart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With BART's token embeddings in place of the new encoder's states, the states are BART's, bit for bit."""
    source = load(bart)
    recipe, learner = pipeline.from_pretrained(translating(source), source.tokenizer, bart)
    said = capsys.readouterr().err
    assert "network.encoder.embed.encoder" in said.split("has no weights for")[1]
    assert recipe.model.encoder.embedding.norm == source.recipe.model.encoder.embedding.norm
    own, given = learner.state_dict(), source.learner.state_dict()
    table = given.pop("network.encoder.embed.tokens.weight")
    for name in (name for name in given if name.startswith("network.")):
        torch.testing.assert_close(own[name], given[name], rtol=0, atol=0)
    ids = equal_rows(torch.randint(5, 90, (2, 9)))
    batch = Batch({"tokens": ids, "source": ids}, {})
    embed = learner.network.encoder.embed
    with torch.no_grad():
        wanted = source.learner.eval().network(batch)["tokens"]
        assert not torch.equal(learner.eval().network(batch)["tokens"], wanted)
        embed.looked_up = lambda packed: table[packed.ids]
        torch.testing.assert_close(learner.network(batch)["tokens"], wanted, rtol=0, atol=0)


def changed(folder: Path, step: int, before: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of the weights that a checkpoint has otherwise than the start."""
    after = load_file(folder / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def test_the_new_parts_learn_first_and_then_all(bart: Path, tmp_path: Path) -> None:
    """Nothing else moves in the first stage; a run that ends in it goes on bit for bit."""
    source, corpus = load(bart), write_corpus(tmp_path)
    recipe, run = translating(source), replace(RUN, checkpoint_every=1, keep=100)
    given: dict[str, Any] = {"fields": fields(recipe), "start": bart}
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", run, **given)
    before = pipeline.from_pretrained(recipe, source.tokenizer, bart)[1].tensors()
    first, second = (changed(tmp_path / "run", step, before) for step in (3, 6))
    told = {name for name in before if any(fnmatch.fnmatch(name, one) for one in FIRST)}
    assert first <= told
    assert {name for name in told if name.endswith("weight") and not name.endswith("positions.weight")} <= first
    assert first < second
    assert {name for name in before if ".decoder.layers." in name and name.endswith("weight")} <= second

    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "run", cut)
    for step in (3, 4, 5, 6):
        shutil.rmtree(cut / "checkpoints" / f"checkpoint-{step}")
    pipeline.pretrain(recipe, [corpus], cut, run, **given, resume=True)
    assert losses(cut)[-4:] == losses(tmp_path / "run")[-4:]


def test_its_folder_writes_as_it_did(bart: Path, tmp_path: Path) -> None:
    source = load(bart)
    recipe, learner = pipeline.from_pretrained(translating(source), source.tokenizer, bart)
    save(tmp_path / "model", recipe, learner, source.tokenizer)
    texts = []
    for model in (load(tmp_path / "model"), replace(source, recipe=recipe, learner=learner)):
        engine = Engine(model.learner, model.recipe.model, model.tokenizer)
        requests = [Request(text.partition(".")[0], max_tokens=8) for text in documents(3)]
        texts.append([result.ids for [result] in engine.generate(requests, Greedy())])
    assert texts[0] == texts[1]


def test_its_cost_is_that_of_both_encoders(bart: Path) -> None:
    """One encoder more, its table included, in place of the table that encoder and decoder shared."""
    model = load(bart).recipe.model
    pieces, lengths = 400, {"tokens": 16, "source": 24}
    whole = translating(load(bart)).model
    source = whole.encoder.embedding.encoder
    found, plain = whole.cost(pieces, lengths), model.cost(pieces, lengths)
    of_source = source.cost(pieces, {"tokens": 24})
    assert found.parameters == plain.parameters + of_source.parameters
    assert found.parameters == sum(weight.numel() for weight in whole.build(pieces).parameters())
    assert found.flops == pytest.approx(plain.flops + 1.5 * of_source.flops)


def test_what_does_not_fit_is_refused(bart: Path, tmp_path: Path) -> None:
    source = load(bart)
    with pytest.raises(ValueError, match=r"embedding\.encoder.hidden: its states are added to positions of 32"):
        translating(source, hidden=64)
    recipe = translating(source)
    stages = (partial(recipe.stages[1], ("network.encoder.embed.souce.*",)), recipe.stages[1])
    with pytest.raises(UsageError, match=r"stages\.trainable: no parameter is called 'network"):
        pipeline.pretrain(
            replace(recipe, stages=stages),
            [write_corpus(tmp_path)],
            tmp_path / "run",
            RUN,
            fields=fields(recipe),
            start=bart,
        )
