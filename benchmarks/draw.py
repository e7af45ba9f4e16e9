"""How well does the small DALL-E draw handwritten digits of captions, and does CLIP's ranking help?

    python benchmarks/draw.py --data ../shared/data                                  # some 20 minutes of one core
    python benchmarks/draw.py --data ../shared/data --images 2000 --steps 200        # sooner

Images of MNIST, 16 pixels a side on a grainy ground, get captions made of their labels ("a handwritten three", and
three others). A discrete VAE, a decoder of its codes and a CLIP, of the catalog's tiny rows, learn from them.
A classifier of its own, trained on real images of them, judges images drawn for ten captions, plainly and after ranking
by CLIP: the share that is the digit of the caption. Beside it stand its accuracy on real test images and on their
reconstructions. Intervals are over images.
What is finished is not done again: stop it at any moment and run the same command.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from genus.evaluate.interval import bootstrapped_mean
from genus.export.folder import load
from genus.export.starting.codes import Codebook
from genus.files import write_json
from genus.generate.sampling import Sampling
from genus.tasks.draw import Drawer, ranked, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results" / "draw.json"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FORMS = ["a handwritten {}", "the digit {}", "a {} written by hand", "a picture of the number {}"]
HEADER, SIDE = 16, 28
"""Bytes before the pixels of an idx file of images, and pixels of a side."""
SHOWN, FIRST = 8, 4
"""Images of a row of a picture; and how many of the best ranked are judged."""
BATCH, EPOCHS = 64, 3
GRAY, CONTRAST, GRAIN = 60, 0.6, 15
"""How a digit is rendered: gray level of the ground, factor on the digit, standard deviation of noise. A ground of one
level has a likelihood without bound, which a discrete VAE learns in place of digits."""
PIXELS = ["examples.side=16", "examples.patch=4"]
CHANGES = {
    "dvae": [
        *PIXELS, "model.groups=3", "model.codes=64", "optimizer.lr=0.005", "stages.0.batch=32",
        "stages.0.micro_batch=32",
        'objectives=[{kind="EvidenceLowerBound", crop="center", flipped=0.0, cooling=0.2, rising=0.1, '
        "divergence_weight=1.0}]",
    ],
    "dall-e": [
        "examples.side=16", "examples.codes=64", "model.embedding.codes=64",
        'objectives=[{kind="TextThenImageLM", text=16, grid=4, codes=64}]',
    ],
    "clip": [*PIXELS, "model.image.embedding.patch=4"],
}  # fmt: skip
"""The catalog's tiny rows for images of 16 pixels a side."""


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    table = shard(options)
    base = ["--run", "device=cpu", "--run", f"threads={options.threads}", "--run", "tracker=none"]
    common = [*base, "--run", "evaluate_every=1000", "--run", "checkpoint_every=200"]
    seconds = {}
    for member, changes in CHANGES.items():
        settings = [*changes, f"budget.amount={round(options.shares[member] * options.steps)}"]
        given = [*common, *(word for setting in settings for word in ("--set", setting))]
        given += ["--teacher", str(work / "dvae")] if member == "dall-e" else []
        seconds[member] = trained(work, member, given, table)
    found = measured(options)
    write_json(options.results, {"options": told(options), "seconds": seconds, **found})
    print(json.dumps(found, indent=1))


def parsed() -> argparse.Namespace:
    """Return the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder with mnist/")
    made.add_argument("--work", type=Path, default=Path("runs/draw"), help="where runs and pictures are")
    made.add_argument("--results", type=Path, default=RESULTS)
    made.add_argument("--images", type=int, default=10_000, help="images that are learned from")
    made.add_argument("--steps", type=int, default=2_000, help="updates of the decoder; others have a share of them")
    made.add_argument("--count", type=int, default=32, help="images drawn for each caption")
    made.add_argument("--temperature", type=float, default=1.0)
    made.add_argument("--measured", type=int, default=1_000, help="test images")
    made.add_argument("--threads", type=int, default=1)
    options = made.parse_args()
    options.shares = {"dvae": 0.75, "dall-e": 1.0, "clip": 0.3}
    return options


def told(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that decide a result."""
    return {name: getattr(options, name) for name in ("images", "steps", "count", "temperature", "measured", "threads")}


def digits(folder: Path, part: str, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (N, S, S) and labels (N,) of the first of a part of MNIST."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        file.read(HEADER)
        images = rendered(np.frombuffer(file.read(number * SIDE * SIDE), np.uint8).reshape(-1, SIDE, SIDE))
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        file.read(HEADER // 2)
        labels = np.frombuffer(file.read(number), np.uint8).astype(np.int64)
    return images, labels


def rendered(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return digits on a gray, grainy ground."""
    grain = np.random.default_rng(0).normal(0, GRAIN, images.shape)
    return np.clip(GRAY + CONTRAST * images + grain, 0, 255).astype(np.uint8)


def shard(options: argparse.Namespace) -> Path:
    """Write the training images with captions as a tar shard, once, and return its path."""
    path: Path = options.work / f"mnist-{options.images}.tar"
    if path.exists():
        return path
    images, labels = digits(options.data / "mnist", "train", options.images)
    draw = np.random.default_rng(0)
    part = path.with_suffix(".part")
    with tarfile.open(part, "w") as file:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            caption = FORMS[draw.integers(len(FORMS))].format(WORDS[label])
            for suffix, content in (("png", png(image)), ("txt", caption.encode())):
                about = tarfile.TarInfo(f"{number:05}.{suffix}")
                about.size = len(content)
                file.addfile(about, io.BytesIO(content))
    part.rename(path)
    return path


def png(image: NDArray[np.uint8]) -> bytes:
    """Return a gray image as the bytes of a PNG file."""
    held = io.BytesIO()
    Image.fromarray(image).save(held, format="PNG")
    return held.getvalue()


def trained(work: Path, member: str, options: list[str], table: Path) -> float:
    """Train a tiny row, or go on with it, and return the seconds of its updates."""
    out = work / member
    resumed = ["--resume"] if (out / "recipe.json").exists() else []
    command = ["pretrain", f"{member}/tiny", str(table), "--out", str(out), *options, *resumed]
    if not (work / f"{member}.done").exists():
        subprocess.run([sys.executable, "-m", "genus", *command], check=True)
        (work / f"{member}.done").touch()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return round(max(float(row.get("seconds", 0.0)) for row in rows), 1)


class Classifier(nn.Module):
    """A small convolutional classifier of images (N, 1, S, S)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 10)."""
        return self.layers(images)  # type: ignore[no-any-return]


def judge(squares: NDArray[np.uint8], labels: NDArray[np.int64], path: Path) -> Classifier:
    """Return the classifier of real images (N, S, S, 3), trained once."""
    torch.manual_seed(0)
    found, images = Classifier(), gray(squares)
    found(images[:1])
    if path.exists():
        found.load_state_dict(torch.load(path, weights_only=True))
        return found.eval()
    optimizer, truth = torch.optim.Adam(found.parameters(), 1e-3), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for some in torch.randperm(len(images)).split(BATCH):
            F.cross_entropy(found(images[some]), truth[some]).backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.save(found.state_dict(), path)
    return found.eval()


def gray(squares: NDArray[np.uint8]) -> torch.Tensor:
    """Return images (N, S, S, 3) as (N, 1, S, S), from 0 to 1."""
    return torch.from_numpy(squares).float().mean(-1)[:, None] / 255


@torch.no_grad()
def right(classifier: Classifier, squares: NDArray[np.uint8], labels: Sequence[int]) -> list[float]:
    """Return 1 for each image that is judged to be of its label, else 0."""
    each = [classifier(some).argmax(1) for some in gray(squares).split(500)]
    return (torch.cat(each) == torch.tensor(labels)).float().tolist()


def share(values: Sequence[float]) -> dict[str, float | None]:
    """Return a mean with its bootstrap interval over images."""
    found = bootstrapped_mean(values)
    return {"share": round(found.mean, 4), "low": found.low, "high": found.high, "images": len(values)}


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return all results, and write the pictures."""
    work: Path = options.work
    book = Codebook.read(work / "dvae" / "model")
    train, labels = digits(options.data / "mnist", "train", options.images)
    test, truth = digits(options.data / "mnist", "t10k", options.measured)
    real = np.stack([*book.squares(map(png, test))])
    classifier = judge(np.stack([*book.squares(map(png, train))]), labels, work / "judge.pt")
    codes = np.concatenate([*book.encode(iter(real))])
    again = book.pictures(codes)
    rows = [part[first : first + SHOWN] for first in (0, SHOWN) for part in (real, again)]
    write(work / "reconstructed.png", rows)
    error = (again.astype(np.float64) - real) / 255
    return {
        "reconstruction": {
            "mean_squared_error": float((error**2).mean()),
            "mean_squared_error_of_the_mean_image": float((((real - real.mean(0)) / 255) ** 2).mean()),
            "mean_absolute_error": float(np.abs(error).mean()),
            "codes_used": len(np.unique(codes)),
            "codes": book.choice.codes,
        },
        "real": share(right(classifier, real, truth.tolist())),
        "reconstructed": share(right(classifier, again, truth.tolist())),
        "drawn": drawn(options, book, classifier),
    }


def drawn(options: argparse.Namespace, book: Codebook, classifier: Classifier) -> dict[str, Any]:
    """Return the shares of drawn images that are judged to be of their caption, as drawn and as ranked."""
    work: Path = options.work
    model, ranker = load(work / "dall-e" / "model"), load(work / "clip" / "model")
    captions, begun = [FORMS[0].format(word) for word in WORDS], time.perf_counter()
    every = list(Drawer(model, book).draw(captions, options.count, Sampling(temperature=options.temperature)))
    seconds = time.perf_counter() - begun
    best = [ranked(one, ranker) for one in every]
    write(work / "drawn.png", [one.images[:SHOWN] for one in every])
    write(work / "ranked.png", [one.images[:SHOWN] for one in best])
    plain = [right(classifier, one.images, [digit] * options.count) for digit, one in enumerate(every)]
    first = [right(classifier, one.images[:FIRST], [digit] * FIRST) for digit, one in enumerate(best)]
    return {
        "plain": share([value for row in plain for value in row]),
        f"best_{FIRST}_of_{options.count}": share([value for row in first for value in row]),
        "best": share([row[0] for row in first]),
        "by_digit": {word: [round(float(np.mean(a)), 3), round(float(np.mean(b)), 3)]
                     for word, a, b in zip(WORDS, plain, first, strict=True)},
        "seconds_per_image": round(seconds / options.count / len(WORDS), 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
