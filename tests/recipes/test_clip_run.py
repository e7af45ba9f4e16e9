"""CLIP's run: a loss of the whole update, images held out whole, and what its commands measure."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from genus import catalog, pipeline
from genus.batch import IGNORE, Targets
from genus.cli import main
from genus.export.folder import load
from genus.objectives.pretraining.image_text_contrast import ImageTextContrast
from genus.optim.adamw import AdamW
from genus.tasks.image_text import image_vectors, text_vectors
from genus.train.data import MicroBatch
from genus.train.run import Run
from genus.train.step import TrainStep, gathered
from genus.train.world import World
from small import RUN, shrunk, stored

if TYPE_CHECKING:
    from genus.recipe import Recipe

SAME = 1e-6
"""Relative: float32 sums in another order."""
SMOOTH = AdamW(lr=0.1, eps=1.0, weight_decay=0.0, clip_norm=None)


@pytest.fixture(scope="module")
def small(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Any, Any]:
    recipe = shrunk(catalog.load("clip/tiny"))
    tokenizer = recipe.tokens.train(corpus.read_text().splitlines())
    store = stored(recipe, corpus, tokenizer, tmp_path_factory.mktemp("store"))
    return replace(recipe, tokens=tokenizer.tokens), tokenizer, store


def updated(recipe: Recipe, tokenizer: Any, store: Any, micro: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and weights after an update of 16 pairs in micro-batches of so many."""
    recipe = recipe.override("stages.0.micro_batch", micro)
    feed = pipeline.training_feed(recipe, store, tokenizer, 0)
    torch.manual_seed(0)
    step = TrainStep(
        recipe.learner(), SMOOTH, Run(device="cpu", precision="float32"), World(0, 1, torch.device("cpu")), 0
    )
    batches = {number: MicroBatch(feed[number], 0.0) for number in range(16 // micro)}
    counts = step.count(batches)
    result = step({number: one.batch for number, one in batches.items()}, 0, 1.0, counts.targets).read()
    return result.loss, {name: weight.detach() for name, weight in step.learner.named_parameters()}


def test_the_loss_is_of_the_update_whatever_its_micro_batches(small: tuple[Recipe, Any, Any]) -> None:
    whole, weights = updated(*small, 16)
    for micro in (2, 4):
        loss, others = updated(*small, micro)
        assert loss == pytest.approx(whole, rel=SAME)
        for name, weight in weights.items():
            torch.testing.assert_close(others[name], weight, rtol=0, atol=1e-6, msg=name)


def test_the_loss_is_that_of_the_paper_and_padding_changes_nothing() -> None:
    """Against the paper's figure 3, written out, in float64."""
    recipe = shrunk(catalog.load("clip/tiny"))
    head: Any = recipe.learner().heads["image_text_contrast"].double()
    torch.manual_seed(0)
    text, image = (torch.nn.functional.normalize(torch.randn(5, 8, dtype=torch.float64), dim=-1) for _ in range(2))
    logits = 14.0 * text @ image.T
    labels = torch.arange(5)
    expected = (
        torch.nn.functional.cross_entropy(logits, labels) + torch.nn.functional.cross_entropy(logits.T, labels)
    ) / 2
    compared = torch.stack([14.0 * text, image], 1)
    filled = torch.cat([compared, torch.randn(2, 2, 8, dtype=torch.float64)])
    some = [
        Targets(torch.zeros(len(one), dtype=torch.long), one)
        for one in (labels[:2], torch.tensor([2, 3, 4, IGNORE, IGNORE]))
    ]
    assert head.joint_loss([filled[:2], filled[2:]], some).item() / 5 == pytest.approx(expected.item(), rel=1e-12)


def test_the_temperature_begins_as_published_and_is_clipped(small: tuple[Recipe, Any, Any]) -> None:
    recipe, tokenizer, store = small
    learner = recipe.learner()
    head: Any = learner.heads["image_text_contrast"]
    assert head.scale().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        head.log_scale.fill_(9.0)
    batch = pipeline.training_feed(recipe, store, tokenizer, 0)[0]
    learner.train()(batch)
    assert head.scale().item() == pytest.approx(100.0)


def test_captions_of_an_image_are_held_out_together_and_read_in_its_middle(
    small: tuple[Recipe, Any, Any], corpus: Path, tmp_path: Path
) -> None:
    recipe, tokenizer, _ = small
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    table = corpus.parent / "several.jsonl"
    table.write_text(
        "".join(json.dumps({"image": row["image"], "caption": [row["caption"]] * 3}) + "\n" for row in rows)
    )
    store = stored(recipe, table, tokenizer, tmp_path)
    assert store.images.tolist() == np.repeat(np.arange(len(rows)), 3).tolist()
    training, held = store.split(0.2)
    assert not {*training.images.tolist()} & {*held.images.tolist()}
    assert 0.1 < len(held.images) / len(store.images) < 0.3
    feed = pipeline.validation_feed(recipe, held, tokenizer, recipe.learner())
    batch = next(iter(feed.evaluation_batches()))
    examples: Any = recipe.examples
    for (start, end), label in zip(batch.streams["image"].spans(), batch.targets["image"].label.tolist(), strict=False):
        data = (corpus.parent / rows[label]["image"]).read_bytes()
        assert (batch.streams["image"].pixels[start:end].numpy() == examples.patches(data)).all()
    again = [
        pipeline.training_feed(recipe, training, tokenizer, 0)[number].streams["image"].pixels for number in (3, 3)
    ]
    assert torch.equal(*again)


@pytest.mark.slow
def test_a_residual_network_is_trained_resumed_and_read_again(corpus: Path, tmp_path: Path) -> None:
    """Running statistics are of the checkpoint and of the published folder: all is the same, bit for bit."""
    recipe = shrunk(catalog.load("clip/rn50")).override("budget.amount", 6.0)
    recipe = recipe.override("stages.0.micro_batch", 8)
    pipeline.pretrain(recipe, [corpus], tmp_path / "whole", RUN)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "checkpoint-6")
    shutil.rmtree(tmp_path / "again" / "model")
    pipeline.pretrain(recipe, [corpus], tmp_path / "again", RUN, resume=True)
    found = [load(tmp_path / name / "model").learner.tensors() for name in ("whole", "again")]
    assert found[0].keys() == found[1].keys()
    assert not [name for name, tensor in found[0].items() if not torch.equal(tensor, found[1][name])]
    (moved,) = (one for name, one in found[0].items() if name.endswith("stem.0.norm.running_mean"))
    assert bool(moved.all())


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_commands(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = shrunk(catalog.load("clip/tiny")).override("budget.amount", 4.0)
    (tmp_path / "row.json").write_text(json.dumps(recipe.written()))
    run = [
        f"--run={name}={value}" for name, value in RUN.to_json().items() if name in ("device", "precision", "workers")
    ]
    run += ["--run=held_out=0.1", "--run=tracker=none"]
    images, out = str(corpus), tmp_path / "run"
    said(capsys, "pretrain", str(tmp_path / "row.json"), images, "--out", str(out), *run)
    assert said(capsys, "evaluate", str(out), images)["image_text_contrast"] > 0
    found = said(capsys, "evaluate", str(out), images, "--task", "image-retrieval")
    model = load(out / "model")
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    files = [(corpus.parent / row["image"]).read_bytes() for row in rows]
    image = np.concatenate([*image_vectors(model, files)])
    scores = text_vectors(model, [row["caption"] for row in rows]) @ image.T
    for way, table in (("image", scores), ("text", scores.T)):
        ranks = (table >= table.diagonal()[:, None] - 1e-7).sum(1)
        for k in (1, 5, 10):
            assert found[f"{way}_recall@{k}"] == pytest.approx((ranks <= k).mean(), abs=0.011)
    labeled = corpus.parent / "labeled.jsonl"
    names = ["river", "train"]
    labeled.write_text(
        "".join(json.dumps({"image": r["image"], "kind": names[n % 2]}) + "\n" for n, r in enumerate(rows[:20]))
    )
    templates = 'templates=["a {}.", "the {}"]'
    zero = said(
        capsys, "evaluate", str(out), str(labeled), "--task", "zero-shot", "--label", "kind", "--task-set", templates
    )
    unit = [text_vectors(model, [one.format(name) for one in ("a {}.", "the {}")]).mean(0) for name in names]
    guessed = np.argmax(image[:20] @ np.stack([one / np.linalg.norm(one) for one in unit]).T, 1)
    assert zero["accuracy"] == pytest.approx(np.mean(guessed == np.arange(20) % 2))
    said(capsys, "embed", str(out), images, "--text", "image", "--out", str(tmp_path / "images.npy"))
    said(capsys, "embed", str(out), images, "--text", "caption", "--out", str(tmp_path / "texts.npy"))
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), image, atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "texts.npy") @ image.T, scores, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["pretrain", "clip/tiny", "text.txt", "--out", "run"], "expected a table of images"),
        (
            ["show", "clip", "--set", "examples.patch=16"],
            "tokens of the stream image have 768 pixels, the model reads 3072",
        ),
        (["show", "clip", "--set", "examples.patch=15"], "224 pixels are no multiple of patches of 15"),
        (
            ["show", "clip", "--set", "stages.0.image_length=40"],
            "image_length 40 is less than the 50 tokens of an image",
        ),
    ],
)
def test_wrong_choices_are_one_line(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("a text\n")
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert line in error
    assert len(error.strip().splitlines()) == 1


def test_a_model_of_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="take model=TwoTowers"):
        ImageTextContrast(size=8).check(catalog.load("bert/tiny").model)


class Second(World):
    """The second of two processes, of which the first has one micro-batch more."""

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        return [tensor + 1, tensor]


def test_what_processes_compare_is_in_the_order_of_micro_batches() -> None:
    """Process r has the places r, r + 2, ...; what fills a place has no label."""
    own = torch.full((3, 2, 4), 5.0).requires_grad_()
    targets = Targets(torch.arange(3), torch.tensor([7] * 3))
    compared, asked = gathered([own], [targets], Second(1, 2, torch.device("cpu")))
    assert [one.flatten()[0].item() for one in compared] == [6.0, 5.0, 6.0, 5.0]
    assert [one is own for one in compared] == [False, True, False, False]
    assert [one.label[0].item() for one in asked] == [8, 7, IGNORE + 1, IGNORE]
