"""Both towers of a CLIP behind HTTP: vectors are those of the library, and what is wrong or too large is refused."""

from __future__ import annotations

import base64
import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from genus.export.folder import load
from genus.serve.limits import Limits
from genus.tasks.image_text import ZeroShot, class_vectors, image_vectors, scale_of, text_vectors
from running_server import served_models
from serving import small_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

LIMITS = Limits(texts=8, image_pixels=10_000, batch_tokens=40, body_bytes=400_000)
"""Two images of 17 tokens a pass."""
TEXTS = ["the old river", "a small train", "every teacher carries the long letter"]
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def encoded(image: Any, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def written(data: bytes) -> str:
    return base64.b64encode(data).decode()


DRAWS = np.random.default_rng(0)
FILES = [
    encoded(Image.fromarray(DRAWS.integers(0, 256, (40, 50, 3), dtype=np.uint8)), kind)
    for kind in ("PNG", "JPEG", "WEBP", "PNG", "BMP")
]
IMAGES = [written(data) for data in FILES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("models") / "towers", "clip/tiny")


@pytest.fixture(scope="module")
def client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    other = small_model(tmp_path_factory.mktemp("models") / "lm", "bert/tiny")
    with served_models({"towers": folder, "lm": other}, LIMITS) as made:
        yield made


def asked(client: httpx.Client, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_vectors_of_both_towers_are_those_of_the_library(client: httpx.Client, folder: Path) -> None:
    model = load(folder)
    images, texts = np.concatenate([*image_vectors(model, FILES)]), text_vectors(model, TEXTS)
    found = asked(client, "/api/images/embed", images=[IMAGES[0], f"data:image/jpeg;base64,{IMAGES[1]}", *IMAGES[2:]])
    assert found["model"] == "towers"
    np.testing.assert_allclose(found["answers"], images, **CLOSE)
    one = client.post("/api/images/file?model=towers", content=FILES[2], headers={"Content-Type": "image/webp"})
    np.testing.assert_allclose(one.json()["answers"], images[2:3], **CLOSE)
    np.testing.assert_allclose(asked(client, "/embed", inputs=TEXTS), texts, **CLOSE)
    openai = asked(client, "/v1/embeddings", input=TEXTS, model="towers")
    np.testing.assert_allclose([one["embedding"] for one in openai["data"]], texts, **CLOSE)
    cosines = asked(client, "/api/images/similarity", images=IMAGES, texts=TEXTS)["answers"]
    np.testing.assert_allclose(cosines, images @ texts.T, **CLOSE)
    assert client.get("/v2/models/towers").json()["outputs"][0]["shape"] == [-1, texts.shape[1]]
    able = {one["name"]: one["abilities"] for one in client.get("/api/models").json()}
    assert able["towers"] == ["embed", "see"]
    assert "see" not in able["lm"]


def test_classes_are_told_by_their_texts(client: httpx.Client, folder: Path) -> None:
    model, labels = load(folder), ["river", "train", "letter"]
    choice = ZeroShot(templates=("the {}", "a small {}."))
    found = asked(client, "/api/images/classify", images=IMAGES[:3], labels=labels, templates=[*choice.templates])
    classes = class_vectors(model, labels, choice).numpy()
    logits = scale_of(model) * np.concatenate([*image_vectors(model, FILES[:3])]) @ classes.T
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for answer, row in zip(found["answers"], expected, strict=True):
        assert [*answer["scores"]] == labels
        np.testing.assert_allclose([*answer["scores"].values()], row, rtol=1e-3)
        assert answer["label"] == labels[int(row.argmax())]


def bomb(side: int) -> bytes:
    """Return a PNG of so many black pixels a side, that is small as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(bytes(side // 8 + 1) * 10)  # it is refused before they are read
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_wrong_is_refused(client: httpx.Client) -> None:
    narrow = written(encoded(Image.new("RGB", (1, 9_000))))
    labels = {"labels": ["a", "b"]}
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("embed", {"images": []}, 400, "there is no image"),
        ("embed", {"images": ["no base64!"]}, 400, "image 1: is no base64"),
        ("embed", {"images": [IMAGES[0], ""]}, 400, "image 2: is empty"),
        ("embed", {"images": ["https://example.com/a.png"]}, 400, "addresses are not fetched"),
        ("embed", {"images": [IMAGES[0], written(b"no image")]}, 400, "image 2 cannot be decoded"),
        ("embed", {"images": [written(FILES[1][:300])]}, 400, "image 1 cannot be decoded"),
        ("embed", {"images": [written(bomb(120))]}, 413, "image 1 has 14,400 pixels, of which it may have 10,000"),
        ("embed", {"images": [written(bomb(20_000))]}, 400, "may be a decompression bomb"),
        ("embed", {"images": [narrow]}, 200, ""),
        ("embed", {"images": IMAGES * 2}, 413, "10 images in one request, of which it may have 8"),
        ("embed", {"images": IMAGES, "model": "lm"}, 404, "model 'lm' cannot see"),
        ("embed", {"images": [3]}, 422, "images"),
        ("embed", {"images": IMAGES, "strange": 1}, 422, "strange"),
        ("classify", {"images": IMAGES[:1], "labels": ["a"]}, 400, "labels: expected two or more"),
        ("classify", {"images": IMAGES[:1], "labels": ["a", "a"]}, 400, "each once"),
        ("classify", {"images": IMAGES[:1], "templates": ["no place"], **labels}, 422, "templates"),
        ("classify", {"images": IMAGES[:1], "templates": [], **labels}, 422, "templates"),
        ("classify", {"images": IMAGES[:1], "labels": ["river " * 400, "b"], "truncate": False}, 413, "longer than"),
        ("similarity", {"images": IMAGES[:1], "texts": []}, 400, "there is no text"),
    ]
    for path, body, status, line in cases:
        answer = client.post(f"/api/images/{path}", json=body)
        assert answer.status_code == status, (path, body, answer.text)
        if line:
            assert line in answer.json()["error"]
            assert "\n" not in answer.json()["error"]
    assert client.post("/api/images/file", content=b"").status_code == 400
    large = client.post("/api/images/file", content=bytes(500_000))
    assert large.status_code == 413
    asked(client, "/api/images/embed", images=IMAGES)  # nothing of it troubles the server


def test_requests_at_the_same_time_get_their_own_images(client: httpx.Client, folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    expected = np.concatenate([*image_vectors(load(folder), FILES)])

    def ask(number: int) -> Any:
        return asked(client, "/api/images/embed", images=[IMAGES[number % 5]])["answers"][0]

    with ThreadPoolExecutor(8) as pool:
        for number, vector in enumerate(pool.map(ask, range(16))):
            np.testing.assert_allclose(vector, expected[number % 5], **CLOSE)
