"""The linear probe of images: beside scikit-learn on the same features, and on real digits."""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from genus import catalog
from genus.cli import main
from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel, load, save
from genus.tasks import image_probe
from genus.tasks.image_probe import LinearProbe, probe
from genus.tasks.image_text import image_states, image_vectors
from small import documents, shrunk

PENALTY = 0.1
CLASSES = ["dark", "light", "red"]


def saved(folder: Path, name: str) -> Path:
    recipe = shrunk(catalog.load(name))
    tokenizer = recipe.tokens.train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    torch.manual_seed(0)
    save(folder, recipe, recipe.learner(), tokenizer)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: saved(folder / name, f"clip/{name}") for name in ("tiny", "rn50")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of training and test images, in folders of three classes that overlap."""
    folder, draws = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, number in (("train", 20), ("test", 8)):
        for label, mean in zip(CLASSES, ([80, 80, 80], [120, 120, 120], [130, 80, 80]), strict=True):
            (folder / split / label).mkdir(parents=True)
            for one in range(number):
                pixels = draws.normal(mean, 30, (1, 1, 3)) + draws.normal(0, 20, (18, 16, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / split / label / f"{one}.png")
    return folder


def loaded(folder: Path) -> tuple[list[bytes], list[str]]:
    paths = sorted(folder.rglob("*.png"))
    return [path.read_bytes() for path in paths], [path.parent.name for path in paths]


@pytest.mark.parametrize(("name", "features"), [("tiny", "states"), ("rn50", "vectors")])
def test_accuracies_are_those_of_scikit_learn(
    name: str, features: Any, models: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one penalty, judged on validation rows, and fitted on these and training's, in folders of their labels."""
    monkeypatch.setattr(image_probe, "best_penalty", lambda score: (PENALTY, {PENALTY: score(PENALTY)}))
    sklearn = pytest.importorskip("sklearn.linear_model")
    model = load(models[name])
    train, valid, test = (str(pictures / one) for one in ("train", "test", "test"))
    choice = LinearProbe(train=(train,), valid=(valid,), features=features)
    found = probe(model, [test], choice)
    of = image_states if features == "states" else image_vectors
    sides = {}
    for part in ("train", "test"):
        files, labels = loaded(pictures / part)
        sides[part] = np.concatenate([*of(model, files)]).astype(np.float64), labels
    (x, y), (other, truth) = sides["train"], sides["test"]

    def accuracy(x: Any, y: Any) -> float:
        made = sklearn.LogisticRegression(C=1 / PENALTY, tol=1e-6, max_iter=1_000).fit(x, y)
        return float((made.predict(other) == np.array(truth)).mean())

    assert found["held_out_accuracy"] == pytest.approx(accuracy(x, y), abs=1.5 / len(truth))
    assert found["accuracy"] == pytest.approx(accuracy(np.concatenate([x, other]), y + truth), abs=1.5 / len(truth))
    assert (found["accuracy"] or 0) > 0.5
    assert (found["training_images"], found["images"]) == (84.0, 24.0)


def test_states_are_those_before_the_projection(models: Any, pictures: Path) -> None:
    """Of a vision Transformer; a residual network's are projected by attention pooling."""
    files, _ = loaded(pictures / "test")
    for name in ("tiny", "rn50"):
        model = load(models[name])
        states = torch.from_numpy(np.concatenate([*image_states(model, files[:3])]))
        head: Any = model.learner.heads["image_text_contrast"]
        unit = torch.nn.functional.normalize(head.image_projection(states), dim=-1)
        vectors = np.concatenate([*image_vectors(model, files[:3])])
        np.testing.assert_allclose(unit.detach().numpy(), vectors, rtol=1e-5, atol=1e-6)
        assert states.shape[1] == model.recipe.model.width_of("image")


def test_commands_and_errors(models: Any, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = f'train=["{pictures / "train"}"]'
    told = ["evaluate", str(models["tiny"]), str(pictures / "test"), "--task", "linear-probe"]
    assert main([*told, "--task-set", train, "--json"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    assert 0.4 < found["accuracy"] <= 1
    assert 10.0**-6 <= found["penalty"] <= 10.0**6
    assert main(told) == 2
    assert "name them with --task-set 'train=[" in capsys.readouterr().err
    model = load(models["tiny"])
    with pytest.raises(UsageError, match="needs images with labels"):
        probe(model, ["x"], LinearProbe())
    one = pictures / "train" / "dark"
    with pytest.raises(GenusError, match="there is no column 'label'"):
        probe(model, [str(pictures / "test")], LinearProbe(train=(str(one),)))
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "a.png").write_bytes(next(one.iterdir()).read_bytes())
    with pytest.raises(GenusError, match="the label 'strange' is in no training row"):
        probe(model, [str(tmp_path)], LinearProbe(train=(str(pictures / "train"),)))
    with pytest.raises(GenusError, match="the training table has one label, 'strange'"):
        probe(model, [str(pictures / "test")], LinearProbe(train=(str(tmp_path),)))


def digits(shared: Path, split: str, number: int, folder: Path) -> Path:
    """Write digits of MNIST as images in folders of their names."""
    with gzip.open(shared / "data" / "mnist" / f"{split}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(16 + 784 * number)[16:], np.uint8).reshape(-1, 28, 28)
    with gzip.open(shared / "data" / "mnist" / f"{split}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + number)[8:], np.uint8)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{place:05}.png")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_digits_are_read_off_random_features(shared: Path, tmp_path: Path) -> None:
    """Of `clip/tiny` without training, on 2,000 digits: as scikit-learn reads them, and far above chance."""
    sklearn = pytest.importorskip("sklearn.linear_model")
    model: LoadedModel = load(saved(tmp_path / "model", "clip/tiny"))
    folders = [digits(shared, split, number, tmp_path / split) for split, number in (("train", 2_000), ("t10k", 500))]
    found = probe(model, [str(folders[1])], LinearProbe(train=(str(folders[0]),)))
    sides = [loaded(folder) for folder in folders]
    x, other = (np.concatenate([*image_states(model, files)]).astype(np.float64) for files, _ in sides)
    theirs = sklearn.LogisticRegression(C=1 / float(found["penalty"] or 0), max_iter=1_000).fit(x, sides[0][1])
    assert found["accuracy"] == pytest.approx(theirs.score(other, sides[1][1]), abs=0.01)
    assert (found["accuracy"] or 0) > 0.6
