"""Images as they come: formats, broken ones, and what is cut out of them, beside Pillow's and transformers' own."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from genus.errors import GenusError
from genus.images.decode import ImageError, cropped, decoded, patches, resized
from genus.images.store import ImageStore, opened, prepare

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 8
ROUNDING = 1e-6
"""Of (pixel / 255 - mean) / std in float32, computed in another order."""


def picture(width: int = 12, height: int = 10, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """Return the beginning of a PNG of 20,000 x 20,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0\0\0\x08IDAT"


def test_odd_images_are_read_as_what_they_show() -> None:
    cmyk = decoded(encoded(picture().convert("CMYK"), "JPEG", quality=95))
    assert (cmyk.mode, cmyk.size) == ("RGB", (12, 10))
    ramp = np.array([[0, 257, 65_535], [32_896, 25_700, 514]], dtype=np.uint16)
    deep = np.asarray(decoded(encoded(Image.fromarray(ramp))))
    assert deep[..., 0].tolist() == [[0, 1, 255], [128, 100, 2]]
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(decoded(moving))[0, 0].tolist() == [255, 0, 0]
    point = cropped(resized(decoded(encoded(Image.new("RGB", (1, 1), "lime"))), SIDE), SIDE, None)
    assert point.shape == (SIDE, SIDE, 3)
    assert (point == [0, 255, 0]).all()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (encoded(picture(64, 64), "JPEG")[:300], "cannot be decoded"),
        (b"no image", "cannot be decoded"),
        (b"", "cannot be decoded"),
        (bomb(), "decompression bomb"),
        (encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "range is unknown"),
    ],
    ids=["cut", "text", "empty", "bomb", "floats"],
)
def test_what_cannot_be_read_is_one_line(data: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why) as error:
        decoded(data)
    assert "\n" not in str(error.value)


def test_a_strip_that_would_become_a_bomb_is_refused() -> None:
    with pytest.raises(ImageError, match="1 x 20,000 pixels, too narrow"):
        resized(Image.new("RGB", (1, 20_000)), 224)


@pytest.mark.parametrize("size", [(40, 28), (28, 44), (60, 60), (9, 5)])
def test_pixels_are_those_of_transformers(size: tuple[int, int]) -> None:
    """Resized, cropped in the middle, and normalized, as the processor of CLIP does it."""
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    from genus.export.layouts.clip import IMAGE

    processor = module.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    image = picture(*size)
    theirs = torch.as_tensor(processor(image, return_tensors="pt")["pixel_values"][0])
    square = torch.from_numpy(cropped(resized(image, 28), 28, None).copy()).permute(2, 0, 1) / 255.0
    embedding: Any = IMAGE.embedding
    mean, std = (torch.tensor(one)[:, None, None] for one in (embedding.image_mean, embedding.image_std))
    torch.testing.assert_close((square - mean) / std, theirs, rtol=ROUNDING, atol=ROUNDING)


def test_patches_are_those_of_a_convolution() -> None:
    square = np.asarray(picture(12, 12))
    weight = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    theirs = torch.nn.functional.conv2d(
        torch.from_numpy(square.copy()).permute(2, 0, 1)[None].double(), weight, stride=4
    )
    ours = torch.from_numpy(patches(square, 4)).double() @ weight.flatten(1).T
    torch.testing.assert_close(ours, theirs[0].flatten(1).T)


def test_a_random_square_is_a_place_of_the_image_that_the_generator_decides() -> None:
    image = picture(12, 8)
    places = {tuple(cropped(image, SIDE, np.random.default_rng(seed)).flatten().tolist()) for seed in range(30)}
    windows = {tuple(np.asarray(image)[:, at : at + SIDE].flatten().tolist()) for at in range(5)}
    assert places == windows
    again = [cropped(image, SIDE, np.random.default_rng(3)) for _ in range(2)]
    assert (again[0] == again[1]).all()


FILES = [encoded(picture(seed=seed), kind) for seed, kind in enumerate(("PNG", "JPEG", "WEBP"))]
NAMES = ["a.png", "b.jpg", "c.webp"]
TEXTS = [["one", "another"], ["two"], ["three"]]


def table(folder: Path) -> Path:
    folder.mkdir()
    for name, data in zip(NAMES, FILES, strict=True):
        (folder / name).write_bytes(data)
    lines = [json.dumps({"image": name, "caption": texts}) for name, texts in zip(NAMES, TEXTS, strict=True)]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def csv(folder: Path) -> Path:
    table(folder)
    (folder / "captions.jsonl").unlink()
    pairs = [f"{name},{text}" for name, texts in zip(NAMES, TEXTS, strict=True) for text in texts]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *pairs]) + "\n")
    return folder


def parquet(folder: Path) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    folder.mkdir()
    held = [{"bytes": data, "path": name} for name, data in zip(NAMES, FILES, strict=True)]
    files.write_table(pa.table({"image": held, "caption": TEXTS}), folder / "rows.parquet")
    return folder / "rows.parquet"


def shard(folder: Path) -> Path:
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, data, texts in zip(NAMES, FILES, TEXTS, strict=True):
            for member, content in ((name, data), (f"{name[0]}.json", json.dumps({"caption": texts}).encode())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return folder


def held(store: ImageStore) -> tuple[list[bytes], list[tuple[str, int]]]:
    rows = [json.loads(line) for line in store.captions.read_text().splitlines()]
    return [store[number] for number in range(len(store))], [(row["caption"], row["image_number"]) for row in rows]


@pytest.mark.parametrize("write", [table, csv, parquet, shard], ids=lambda one: one.__name__)
def test_every_format_gives_the_same_store(write: Any, tmp_path: Path) -> None:
    source = write(tmp_path / "given")
    store = prepare([source], tmp_path / "images", "caption", SIDE)
    assert held(store) == (FILES, [("one", 0), ("another", 0), ("two", 1), ("three", 2)])
    assert prepare([source], tmp_path / "images", "caption", SIDE) is opened(tmp_path / "images")


def test_what_is_wrong_is_named_or_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = table(tmp_path / "given")
    (folder / "b.jpg").write_bytes(FILES[1][:200])
    with (folder / "captions.jsonl").open("a") as file:
        file.write(
            json.dumps({"image": "gone.png", "caption": "x"}) + "\n" + json.dumps({"image": "a.png", "caption": ""})
        )
    with pytest.raises(GenusError, match=r"b\.jpg: cannot be decoded .*examples\.broken=skip"):
        prepare([folder], tmp_path / "images", "caption", SIDE)
    assert not (tmp_path / "images").exists()
    store = prepare([folder], tmp_path / "images", "caption", SIDE, skip=True)
    assert held(store) == ([FILES[0], FILES[2]], [("one", 0), ("another", 0), ("three", 1)])
    assert "3 rows of images are left out, such as" in capsys.readouterr().err


def test_errors_are_one_line(tmp_path: Path) -> None:
    folder = table(tmp_path / "given")
    with pytest.raises(
        GenusError, match=r"no caption in a column 'text', but image, caption; name the column with --fi"
    ):
        prepare([folder], tmp_path / "a", "text", SIDE)
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(GenusError, match="there are no images here"):
        prepare([bare], tmp_path / "b", "caption", SIDE)
    prepare([folder], tmp_path / "c", "caption", SIDE)
    with pytest.raises(GenusError, match=r"was made of other images or choices \(side\)"):
        prepare([folder], tmp_path / "c", "caption", 2 * SIDE)
