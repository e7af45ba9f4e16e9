"""Modifications through the ordinary stations: runs with losses of layers, folders, and texts written from a source."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from genus import catalog, pipeline
from genus.batch import Batch
from genus.export.folder import load
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.tokens.algorithms.unigram import T5, Unigram
from hand import equal_rows
from small import RUN, documents, losses, rows, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

EXPERT = '{kind="MLP",size=32}'
OWN = {
    "load_balance": f'model.feedforward={{kind="Switch",experts=4,capacity=1.0,expert={EXPERT}}}',
    "ponder": "model.stack=AdaptiveUniversal",
}
"""A setting by the loss of its layers."""


@pytest.mark.parametrize("loss", OWN)
def test_a_run_learns_and_records_the_losses_of_layers(loss: str, corpus: Path, tmp_path: Path) -> None:
    """It goes on after a checkpoint bit for bit, and its folder is read as it was written."""
    recipe = shrunk(catalog.load("bert/tiny", [OWN[loss]])).override("stages.0.micro_batch", 8)
    run, folder = replace(RUN, keep=9), tmp_path / "run"
    pipeline.pretrain(recipe, [corpus], folder, run)
    for row in rows(folder):
        if "loss" in row:
            assert row["loss"] == pytest.approx(row["masked_lm"] + row["next_sentence"] + row[loss], rel=1e-4)
    assert any(row.get(f"held_out/{loss}", 0) > 0 for row in rows(folder))
    if loss == "load_balance":
        assert any(row.get("load_balance/dropped", 0) > 0 for row in rows(folder))
    shutil.copytree(folder, tmp_path / "cut")
    for path in (tmp_path / "cut" / "checkpoints").iterdir():
        if path.name != "checkpoint-4":
            shutil.rmtree(path)
    loaded = load(folder / "model")
    pipeline.pretrain(loaded.recipe, [corpus], tmp_path / "cut", run, resume=True)
    assert losses(tmp_path / "cut") == losses(folder)
    again = load(tmp_path / "cut" / "model").learner.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in loaded.learner.state_dict().items())


SIDES = ("model.encoder", "model.decoder")
WRITERS = {
    "transparent attention": ("model.kind=TransparentEncoderDecoder",),
    "a short encoder": ('model.encoder.stack={kind="Funnel",blocks=[1,1],decoder=0}',),
    "experts": tuple(f'{side}.feedforward={{kind="Switch",experts=4,expert={EXPERT}}}' for side in SIDES),
    "branches": tuple(f"{side}.block=Branched" for side in SIDES),
    "convolutions": tuple(
        f"{side}.{one}" for side in SIDES for one in ("attention=DynamicConvolution", "embedding.position=Sinusoidal")
    ),
    "synthesizers": tuple(f'{side}.attention={{kind="RandomSynthesizer",length=200}}' for side in SIDES),
    "steps": tuple(f"{side}.stack=AdaptiveUniversal" for side in SIDES),
    "evolved": tuple(f"{side}.{one}" for side in SIDES for one in ("block=Evolved", "embedding.position=Sinusoidal")),
}
SOURCES = ["The old river carries the long letter.", "Seven stones", "a narrow bridge in winter " * 4]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Unigram(vocab_size=300, lowercase=False, plain=False, special_tokens=T5).train(documents())


@pytest.mark.parametrize("settings", WRITERS.values(), ids=WRITERS)
def test_texts_from_packed_sources_are_those_of_each_alone(settings: tuple[str, ...], tokenizer: Tokenizer) -> None:
    """Token for token, in float64; with a cache where there is one."""
    small = [f"{side}.{one}" for side in SIDES for one in ("layers=2", "hidden=32", "attention.heads=2")]
    recipe = catalog.load("t5/tiny", [*small, "model.decoder.cross.heads=2", *settings])
    torch.manual_seed(0)
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    learner = learner.double().eval()
    engine = Engine(learner, recipe.model, tokenizer, slots=2)
    requests = [Request(source, max_tokens=4 + 2 * number) for number, source in enumerate(SOURCES)]
    for request, [result] in zip(requests, engine.generate(requests, Greedy()), strict=True):
        assert list(result.ids) == slowly(learner, tokenizer, engine.prompts.source(request), request.max_tokens)


def slowly(learner: Learner, tokenizer: Tokenizer, source: list[int], tokens: int) -> list[int]:
    """Return greedy ids, reading source and tokens anew for each."""
    ids, head = [*tokenizer.vocabulary.target_begins], cast("Any", learner.heads["denoising"]).lm_head
    while len(ids) <= tokens and ids[-1] != tokenizer.vocabulary.end:
        streams = {"tokens": equal_rows(torch.tensor([ids])), "source": equal_rows(torch.tensor([source]))}
        with torch.no_grad():
            states = learner.network(Batch(streams, {}))["tokens"]
            ids.append(int(head(states[-1:])[0, : tokenizer.vocabulary.size].argmax()))
    return ids[1:]
