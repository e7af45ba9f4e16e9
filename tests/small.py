"""Any member made small, made-up text to train it on, and a run of a few steps.

A member is shrunk by the names of its choices, so a new one needs nothing here while its sizes go by the usual names.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from genus import catalog, pipeline
from genus.examples.formats.coded import CodedDocuments
from genus.examples.formats.source_target import SourceTargetPairs
from genus.export.folder import save
from genus.export.starting.codes import with_codes
from genus.text import Corpus
from genus.text.fields import Fields
from genus.tokens.store import prepare
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tokens.store import Store
    from genus.tokens.tokenizer import Tokenizer

SIZES = {"layers": 2, "hidden": 32, "heads": 2, "key_heads": 1, "size": 64, "length": 64, "dropout": 0.0}
SIZES |= {"chunk": 8, "chunk_length": 8, "head_size": 64, "order": [0, 1], "widths": [8, 24], "std": 0.02}
"""Several chunks in 32 tokens, a layer of each kind, positions as wide as the hidden states, and drawn no larger than
tokens: Reformer's, drawn 50 times as large, take more than a few steps to see past."""
SIZES |= {"block_size": 4, "num_global_tokens": 4}
"""Eight blocks in 32 tokens, so that not all see each other: BigBird's."""
STAGE = {"max_length": 32, "batch": 16, "micro_batch": 16, "share": 1.0}
SIDE, PATCH = 16, 8
"""Pixels of images and patches: four of these, and the class token."""
IMAGE_LENGTH = 1 + (SIDE // PATCH) ** 2
BYTES_IN_TWO_FORMS = 560
"""Least vocabulary of a tokenizer that tells bytes that end a word."""
WHOLE_WORDS = 800
"""Pieces with which captions are shorter than their places."""
SOURCE = 64
"""Longest rows of a source."""
WORDS = {"connectives": ["every", "our"]}
"""Lists of words, as the made-up text has them."""
VOCABULARY = 400
VAE = {"codes": VOCABULARY, "grid": 4, "channels": 16, "code_channels": 16, "groups": 3, "blocks": 1}
RESNET = {"blocks": [1, 1], "channels": 8, "grid": SIDE // PATCH, "residual_gain": 1.0}
"""Two groups, so that a patch is of 8 pixels; and branches that are not 0, so that gradients reach them."""
CODES = {"text": 16, "grid": 4, "codes": VOCABULARY}
"""Of a text and an image's codes, which fill a row."""

RUN = Run(
    device="cpu",
    precision="float32",
    workers=0,
    held_out=0.1,
    checkpoint_every=4,
    evaluate_every=5,
    log_every=1,
    tracker="none",
)

SUBJECTS = ["the old river", "a small train", "every teacher", "our neighbor", "the northern wind", "a quiet model"]
VERBS = ["carries", "remembers", "follows", "answers", "builds", "measures", "forgets"]
OBJECTS = ["the long letter", "a narrow bridge", "seven stones", "the evening light", "an empty house", "small numbers"]
ENDINGS = ["in winter", "without a sound", "before the rain", "near the harbor", "once again", "for a while"]


def shrunk(recipe: Recipe) -> Recipe:
    """Return the same member with two narrow layers, a small vocabulary one stage of short rows, a step a turn."""
    changes: dict[str, Any] = {
        "model": _smaller(recipe.model.to_json()),
        "tokens": {"vocab_size": VOCABULARY},
        "stages": [_stage(recipe)],
        "objectives": [_smaller(objective.to_json()) for objective in recipe.objectives],
        "optimizer": {"lr": 1e-3},
        "schedule": {"warmup": 0.1},
        "budget": {"amount": 10.0, "unit": "steps"},
        "finetuning": {"max_length": 32},
    }
    if "image" in recipe.model.streams:
        changes["model"]["image"] |= _image_tower(changes["model"]["image"])
        changes["tokens"] = {"vocab_size": BYTES_IN_TWO_FORMS}
        changes["examples"] = {"side": SIDE, "patch": PATCH}
        changes["stages"][0]["image_length"] = IMAGE_LENGTH
    elif recipe.model.pixels("tokens") is not None:
        changes["model"] |= VAE
        changes["examples"] = {"side": SIDE, "patch": SIDE // VAE["grid"]}
    elif recipe.examples.reads_codes:
        changes |= {"model": of_codes(changes["model"]), "objectives": of_codes(changes["objectives"])}
        changes["tokens"] = {"vocab_size": WHOLE_WORDS}
        changes["examples"] = CODES | {"side": SIDE}
    return recipe.overlay(changes)


def _image_tower(tower: dict[str, Any]) -> dict[str, Any]:
    """Return the choices of a small image tower: a vision Transformer's embedding, or a residual network's sizes."""
    if "embedding" not in tower:
        return RESNET
    position = tower["embedding"]["position"] | {"length": IMAGE_LENGTH}
    return {"embedding": tower["embedding"] | {"patch": PATCH, "position": position}}


def of_codes(value: Any) -> Any:
    """Return choices with a short text and the codes of `VAE`."""
    if isinstance(value, dict):
        own = {name: CODES[name] for name in value.keys() & CODES.keys()}
        return {name: of_codes(inner) for name, inner in value.items()} | own
    return [of_codes(inner) for inner in value] if isinstance(value, list) else value


def of_texts(recipe: Recipe) -> bool:
    """Return whether a recipe reads texts alone, so that tasks of texts can be learned."""
    reads_images = recipe.model.pixels("tokens") is not None or recipe.examples.reads_codes
    return recipe.model.streams <= {"tokens", "source"} and not reads_images


def stored(recipe: Recipe, corpus: Path, tokenizer: Tokenizer, folder: Path) -> Store:
    """Return the token store of the corpus as a recipe reads it, in a folder of its own."""
    text = recipe.examples.texts_of(Corpus([corpus], fields(recipe)), folder)
    if recipe.examples.reads_codes:
        with_codes(recipe, folder, codebook(folder / "dvae"))
    return prepare(text.sources, tokenizer, folder / "store", workers=1, fields=text.fields)


def codebook(folder: Path) -> Path:
    """Save a discrete VAE that learned nothing, as the codes of a small row are made by it, and return its folder."""
    recipe = shrunk(catalog.load("dvae"))
    tokenizer = recipe.tokens.train(["a text"])
    save(folder, *pipeline.new_learner(recipe, tokenizer), tokenizer)
    return folder


def _stage(recipe: Recipe) -> dict[str, Any]:
    stage = recipe.stages[-1].to_json() | STAGE
    if stage["source_length"] is not None:
        ends = recipe.model.max_length_of("source") is not None  # made as short as a row is
        stage["source_length"] = STAGE["max_length"] if ends else min(stage["source_length"], SOURCE)
    turns = {
        turn.objectives: turn.to_json() | {"steps": 1} for stage in recipe.stages for turn in recipe.task_steps(stage)
    }
    return stage | {"tasks": list(turns.values())} if "tasks" in stage else stage


def _smaller(value: Any) -> Any:
    if isinstance(value, dict):
        known = SIZES | WORDS
        return {key: known[key] if key in known and inner else _smaller(inner) for key, inner in value.items()}
    return [_smaller(inner) for inner in value] if isinstance(value, list) else value


def documents(number: int = 200) -> list[str]:
    """Return made-up documents of a few sentences each, always the same."""
    draw = random.Random(0)
    return [" ".join(_sentence(draw) for _ in range(draw.randint(3, 9))) for _ in range(number)]


def _sentence(draw: random.Random) -> str:
    words = [draw.choice(choices) for choices in (SUBJECTS, VERBS, OBJECTS, ENDINGS)]
    return " ".join(words).capitalize() + "."


def fields(recipe: Recipe) -> Fields:
    """Return the fields of the text for a recipe.

    The file's name is the code where texts are written under codes; pairs are short ones, of fields of their own.
    """
    if isinstance(recipe.examples, SourceTargetPairs):
        return Fields(text="target", source="source")
    return Fields(codes=("@file",) if isinstance(recipe.examples, CodedDocuments) else ())


def write_corpus(folder: Path) -> Path:
    """Write the documents as JSON lines and return the file; a document's first sentence and its reverse are a pair.

    The first sentence is also the caption of an image of random pixels.
    """
    path = folder / "corpus.jsonl"
    firsts = [text.partition(".")[0] for text in documents()]
    sources = [" ".join(reversed(first.split())) for first in firsts]
    rows = zip(documents(), sources, firsts, strict=True)
    pictures = _pictures(folder, len(firsts))
    lines = [
        json.dumps({"text": text, "source": source, "target": target, "caption": target, "image": picture})
        for (text, source, target), picture in zip(rows, pictures, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _pictures(folder: Path, number: int) -> list[str]:
    """Write images, and return their names."""
    draws, names = np.random.default_rng(0), [f"images/{one}.png" for one in range(number)]
    (folder / "images").mkdir()
    for name in names:
        Image.fromarray(draws.integers(0, 256, (SIDE, SIDE + 4, 3), dtype=np.uint8)).save(folder / name)
    return names


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return what a run recorded, a step each."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    """Return the loss of every step of a run."""
    return [row["loss"] for row in rows(folder) if "loss" in row]
