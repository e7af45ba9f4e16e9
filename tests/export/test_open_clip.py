"""OpenCLIP's folders, both ways: names and shapes of the released code, and where it is installed, its own vectors."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from genus import catalog
from genus.cli import main
from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel, load, save
from genus.export.open_clip.folder import CONFIG, WEIGHTS, write
from genus.export.open_clip.layout import residual_network
from genus.export.translate import foreign
from genus.images.decode import cropped, decoded, resized
from genus.tasks.image_text import image_vectors, text_vectors
from small import documents, shrunk

if TYPE_CHECKING:
    from genus.recipe import Recipe

CLOSE = 1e-5
"""Of float32 numbers near 1, summed in another order."""
TEXTS = [text.partition(".")[0] for text in documents(4)]


def small(name: str) -> Recipe:
    """Return a small row that OpenCLIP can express: heads as wide as others, and four groups."""
    recipe = shrunk(catalog.load(f"clip/{name}"))
    if not recipe.model.projects("image"):
        return recipe
    sizes = {"blocks": [1, 2, 1, 1], "channels": 4, "grid": 2, "heads": 4}
    return recipe.overlay(
        {
            "model": {"image": sizes},
            "examples": {"side": 64, "patch": 32},
        }
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, LoadedModel]]:
    """Small models of which no weight is as it began, and their folders."""
    tokenizer, found = shrunk(catalog.load("clip/tiny")).tokens.train(documents()), {}
    for name in ("tiny", "rn50"):
        torch.manual_seed(0)
        recipe = replace(small(name), tokens=tokenizer.tokens)
        learner, folder = recipe.learner().eval(), tmp_path_factory.mktemp("ours") / name
        with torch.no_grad():
            for key, tensor in learner.state_dict().items():
                tensor.add_(0.1 * (torch.rand_like(tensor) if key.endswith("var") else torch.randn_like(tensor)))
        save(folder, recipe, learner, tokenizer)
        found[name] = (folder, load(folder))
    return found


def pictures(number: int = 3) -> list[Any]:
    draws = np.random.default_rng(0)
    return [Image.fromarray(draws.integers(0, 256, (70, 90, 3), dtype=np.uint8)) for _ in range(number)]


def files() -> list[bytes]:
    import io

    found = []
    for picture in pictures():
        file = io.BytesIO()
        picture.save(file, "PNG")
        found.append(file.getvalue())
    return found


def vectors(model: LoadedModel) -> tuple[np.ndarray, np.ndarray]:
    return text_vectors(model, TEXTS), np.concatenate([*image_vectors(model, files())])


@pytest.mark.parametrize("name", ["tiny", "rn50"])
def test_a_folder_is_read_as_the_model_that_was_written(
    name: str, models: dict[str, tuple[Path, LoadedModel]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = models[name]
    out = tmp_path / "out"
    for _ in range(2):  # also over itself
        assert main(["export", str(folder), "--format", "open-clip", "--out", str(out)]) == 0, capsys.readouterr().err
    again = load(out)
    assert again.recipe.examples == model.recipe.examples
    for ours, theirs in zip(vectors(model), vectors(again), strict=True):
        assert np.array_equal(ours, theirs)
    save(tmp_path / "back", again.recipe, again.learner, again.tokenizer)
    before, after = model.learner.tensors(), load(tmp_path / "back").learner.tensors()
    assert not [key for key, tensor in before.items() if not torch.equal(tensor, after[key])]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert main(["export", str(folder), "--format", "open-clip", "--out", str(tmp_path / "other")]) == 2
    assert "an OpenCLIP model" in capsys.readouterr().err


def released(blocks: tuple[int, ...], width: int, grid: int, size: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors of `ModifiedResNet` (released code, model.py)."""
    found: dict[str, tuple[int, ...]] = {}

    def step(convolution: str, norm: str, *shape: int) -> None:
        found[f"{convolution}.weight"] = shape
        found.update({f"{norm}.{one}": (shape[0],) for one in ("weight", "bias", "running_mean", "running_var")})

    step("conv1", "bn1", width // 2, 3, 3, 3)
    step("conv2", "bn2", width // 2, width // 2, 3, 3)
    step("conv3", "bn3", width, width // 2, 3, 3)
    before = width
    for group, number in enumerate(blocks):
        planes = width * 2**group
        for place in range(number):
            own = f"layer{group + 1}.{place}"
            step(f"{own}.conv1", f"{own}.bn1", planes, before, 1, 1)
            step(f"{own}.conv2", f"{own}.bn2", planes, planes, 3, 3)
            step(f"{own}.conv3", f"{own}.bn3", 4 * planes, planes, 1, 1)
            if place == 0:
                step(f"{own}.downsample.0", f"{own}.downsample.1", 4 * planes, before, 1, 1)
            before = 4 * planes
    found["attnpool.positional_embedding"] = (grid**2 + 1, before)
    for name, outputs in (("k_proj", before), ("q_proj", before), ("v_proj", before), ("c_proj", size)):
        found |= {f"attnpool.{name}.weight": (outputs, before), f"attnpool.{name}.bias": (outputs,)}
    return found


def test_names_and_shapes_are_those_of_the_released_code() -> None:
    with torch.device("meta"):
        learner = catalog.load("clip/rn50").learner()
    given = foreign(learner.tensors(), residual_network((3, 4, 6, 3)), learner.heads, {})
    ours = {name: tuple(tensor.shape) for name, tensor in given if "resblocks" not in name}
    expected = {f"visual.{name}": shape for name, shape in released((3, 4, 6, 3), 64, 7, 1024).items()}
    expected |= {"logit_scale": (), "text_projection": (512, 1024), "positional_embedding": (77, 512)}
    expected |= {"token_embedding.weight": (49408, 512), "ln_final.weight": (512,), "ln_final.bias": (512,)}
    assert ours == expected


def changed(folder: Path, into: Path, *path: str, value: object) -> Path:
    """Return a copy of a folder with another value in its configuration."""
    import shutil

    shutil.copytree(folder, into)
    config = json.loads((into / CONFIG).read_text())
    table = config
    for step in path[:-1]:
        table = table[step]
    table[path[-1]] = value
    (into / CONFIG).write_text(json.dumps(config))
    return into


def test_what_has_no_counterpart_is_refused_in_one_line(
    models: dict[str, tuple[Path, LoadedModel]], tmp_path: Path
) -> None:
    _, model = models["tiny"]
    good = tmp_path / "good"
    write(good, model.recipe, model.learner, model.tokenizer)
    texts, images = ("model_cfg", "text_cfg"), ("model_cfg", "vision_cfg")
    cases: list[tuple[tuple[str, ...], object, str]] = [
        (("model_cfg", "custom_text"), True, "custom_text = True has no counterpart here"),
        ((*texts, "hf_model_name"), "roberta-base", r"text_cfg\.hf_model_name = 'roberta-base' has no"),
        ((*images, "timm_model_name"), "vit", r"vision_cfg\.timm_model_name = 'vit' has no"),
        ((*images, "image_size"), [16, 24], r"vision_cfg\.image_size = \[16, 24\] has no"),
        ((*images, "pool_type"), "avg", r"vision_cfg\.pool_type = 'avg' has no"),
        (("preprocess_cfg", "resize_mode"), "squash", r"preprocess_cfg\.resize_mode = 'squash' has no"),
        ((*images, "width"), 30, r"the weights do not fit visual\.class_embedding"),
        (("model_cfg",), {}, "has no counterpart"),
        ((*texts, "context_length"), 8, "the weights do not fit positional_embedding"),
    ]
    for number, (path, value, line) in enumerate(cases):
        with pytest.raises(GenusError, match=line) as error:
            load(changed(good, tmp_path / str(number), *path, value=value))
        assert "\n" not in str(error.value)
    exact = changed(good, tmp_path / "exact", "model_cfg", "quick_gelu", value=False)
    assert load(exact).recipe.model.to_json()["image"]["feedforward"]["activation"]["kind"] == "Gelu"
    (good / WEIGHTS[0]).rename(good / "open_clip_pytorch_model.bin")
    with pytest.raises(GenusError, match="pickled ones are not read"):
        load(good)


def test_what_open_clip_has_no_place_for_is_not_written(tmp_path: Path) -> None:
    for recipe in (shrunk(catalog.load("bert/tiny")), shrunk(catalog.load("clip/rn50"))):  # two groups
        with pytest.raises(UsageError, match="none of the architectures of OpenCLIP"):
            write(tmp_path / "out", recipe, recipe.learner(), recipe.tokens.train(documents(4)))


@pytest.mark.parametrize("name", ["tiny", "rn50"])
def test_vectors_are_those_of_open_clip(name: str, models: dict[str, tuple[Path, LoadedModel]], tmp_path: Path) -> None:
    """Of our folder there, with its tokenizer and its preprocessing, and of a random model of theirs here."""
    open_clip = pytest.importorskip("open_clip")
    _, model = models[name]
    write(tmp_path / "out", model.recipe, model.learner, model.tokenizer)
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    same(model, theirs.eval(), preprocess, tokenize)
    torch.manual_seed(1)
    with torch.no_grad():
        for key, tensor in theirs.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(0.1 * (torch.rand_like(tensor) if key.endswith("var") else torch.randn_like(tensor)))
    save_file({key: one.contiguous() for key, one in theirs.state_dict().items()}, tmp_path / "out" / WEIGHTS[0])
    same(load(tmp_path / "out"), theirs, preprocess, tokenize)
    assert load_file(tmp_path / "out" / WEIGHTS[0]).keys() == theirs.state_dict().keys()


def same(model: LoadedModel, theirs: Any, preprocess: Any, tokenize: Any) -> None:
    side = model.recipe.examples.to_json()["side"]
    squares = [cropped(resized(decoded(one), side), side, None) for one in files()]
    mean, std = (torch.tensor(one)[:, None, None] for one in ([0.48145466, 0.4578275, 0.40821073],
                                                              [0.26862954, 0.26130258, 0.27577711]))  # fmt: skip
    pixels = (torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 255 - mean) / std
    torch.testing.assert_close(pixels, torch.stack([preprocess(one) for one in pictures()]), rtol=CLOSE, atol=CLOSE)
    with torch.no_grad():
        found = [theirs.encode_text(tokenize(TEXTS), normalize=True), theirs.encode_image(pixels, normalize=True)]
    for ours, other in zip(vectors(model), found, strict=True):
        np.testing.assert_allclose(ours, other.numpy(), rtol=CLOSE, atol=CLOSE)
