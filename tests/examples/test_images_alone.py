"""Images without captions: each once, as its middle or as listing 1 of the paper cuts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from genus import catalog, pipeline
from genus.cli import main
from genus.images.decode import augmented, patches
from small import SIDE, shrunk, stored

if TYPE_CHECKING:
    from genus.recipe import Recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images without any table, of several sizes."""
    draws = np.random.default_rng(0)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for number in range(7):
        pixels = draws.integers(0, 256, (SIDE + 3 * number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "deep" / f"{number}.png")
    return tmp_path / "images"


def row(**changes: Any) -> Recipe:
    recipe = shrunk(catalog.load("dvae"))
    return recipe.overlay({"objectives": [recipe.objectives[0].to_json() | changes]})


def test_every_image_is_an_example_once_an_epoch(folder: Path, tmp_path: Path) -> None:
    recipe = row(crop="center", flipped=0.0)
    tokenizer = recipe.tokens.train(["a text"])
    store = stored(recipe, folder, tokenizer, tmp_path / "run")
    assert store.images is not None
    assert store.images.tolist() == list(range(7))
    feed = pipeline.training_feed(recipe, store, tokenizer, 0)
    seen = []
    examples: Any = recipe.examples
    of_rows: Any = feed.tasks[0].feed  # type: ignore[union-attr]
    for number in range(4):  # two in a row
        seen += [one.tokens.pixels.tobytes() for one in of_rows.row(number)]
    files = sorted(folder.rglob("*.png"))
    assert sorted(seen) == sorted(examples.patches(path.read_bytes()).tobytes() for path in files)


def test_images_are_cut_and_mirrored_by_draws_of_their_own(folder: Path, tmp_path: Path) -> None:
    recipe = row()
    tokenizer = recipe.tokens.train(["a text"])
    store = stored(recipe, folder, tokenizer, tmp_path / "run")
    feed = pipeline.training_feed(recipe, store, tokenizer, 0)
    first, again, other = (feed[number].tokens.pixels for number in (0, 0, 1))
    assert first is not None
    assert (first == again).all()
    assert (first != other).any()


def test_the_square_is_that_of_listing_1() -> None:
    """A gradient tells place and scale: sides of 9/8 to 12/8 of the square, at most the image's own."""
    across = np.tile(np.arange(200, dtype=np.uint8), (120, 1))
    image = Image.fromarray(np.stack([across, across, across], -1))
    scales, lefts = [], []
    for seed in range(200):
        square = augmented(image, 64, np.random.default_rng(seed)).astype(float)
        assert square.shape == (64, 64, 3)
        scales.append(63 / (square[0, -1, 0] - square[0, 0, 0]) * 120 / 64)  # pixels of the resized over those of S
        lefts.append(square[0, 0, 0])
    assert min(scales) == pytest.approx(9 / 8, abs=0.06)
    assert max(scales) == pytest.approx(12 / 8, abs=0.06)
    assert max(lefts) - min(lefts) > 60
    small = Image.fromarray(np.full((20, 30, 3), 7, np.uint8))
    assert (augmented(small, 64, np.random.default_rng(0)) == 7).all()
    assert augmented(Image.fromarray(np.zeros((70, 70, 3), np.uint8)), 64, np.random.default_rng(0)).shape[0] == 64


def test_patches_of_an_image_are_row_by_row(folder: Path) -> None:
    examples: Any = row().examples
    data = (folder / "deep" / "0.png").read_bytes()
    found = examples.patches(data)
    assert found.shape == (16, 3 * 16)
    with Image.open(folder / "deep" / "0.png") as image:
        middle = np.asarray(image)[:, 12 : 12 + SIDE]
    assert (found == patches(middle, 4)).all()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["pretrain", "dvae/tiny", "text.txt", "--out", "run"], "expected a table of images"),
        (["pretrain", "dvae/tiny", "empty", "--out", "run"], "there are no images here"),
        (["pretrain", "dvae/tiny", "broken", "--out", "run"], "cannot be decoded"),
        (["show", "dvae", "--set", "examples.side=64"], "have 64 patches, the model reads 1024"),
        (["show", "dvae", "--set", "stages.0.max_length=100"], "take stages.0.max_length=1024"),
        (["show", "dvae", "--set", "model.channels=30"], "30 are no multiple of 4"),
        (["show", "dall-e", "--set", "examples.grid=16"], "set text, grid and codes alike everywhere"),
        (["pretrain", "dall-e/tiny", "broken", "--out", "run", "--teacher", "broken"], "broken"),
    ],
)
def test_wrong_choices_and_images_are_one_line(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("a text\n")
    for name in ("empty", "broken"):
        Path(name).mkdir()
    Path("broken", "one.png").write_bytes(b"no image")
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert line in error
    assert len(error.strip().splitlines()) == 1


def test_images_without_captions_are_refused_where_captions_are_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pretrain", "dall-e/tiny", str(folder), "--out", str(tmp_path / "run"), "--teacher", str(folder)]
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert "there is no caption in a column 'caption'" in error
    assert len(error.strip().splitlines()) == 1
