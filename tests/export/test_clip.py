"""CLIP beside transformers' `CLIPModel` with random weights: both towers, loss and gradients, and files both ways."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from genus import catalog
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.export.folder import load, save
from genus.export.layouts.clip import LAYOUT, pixel_values
from genus.export.translate import foreign
from genus.export.verify import verify
from genus.files import read_json
from genus.tasks.image_text import image_vectors, text_vectors
from small import documents, shrunk

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel

transformers = pytest.importorskip("transformers")

CLOSE = 1e-5
"""Of float32 numbers near 1, summed in another order."""
PAIRS = 6


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return shrunk(catalog.load("clip/tiny")).tokens.train(documents())


@pytest.fixture(scope="module")
def theirs(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A random model of transformers, with weights that no initialization leaves at 0 or 1, and its folder."""
    folder, size = tmp_path_factory.mktemp("hf"), tokenizer.vocabulary.size
    towers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = towers | {
        "vocab_size": size,
        "eos_token_id": tokenizer.vocabulary.roles["eos"],
        "max_position_embeddings": 40,
    }
    config = transformers.CLIPConfig(
        text_config=text,
        vision_config=towers | {"image_size": 24, "patch_size": 8, "hidden_size": 40},
        projection_dim=20,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save(folder)
    (folder / "tokens.json").unlink()
    return model, folder


def pairs(model: LoadedModel) -> Any:
    """Return a batch of random images and texts, one pair a row."""
    draws, vocabulary = np.random.default_rng(0), model.tokenizer.vocabulary
    examples: Any = model.recipe.examples
    rows = []
    for number in range(PAIRS):
        text = Sequence(*vocabulary.frame(draws.integers(0, 500, 3 + number)))
        image = examples.sequence(None)
        image.pixels = draws.integers(0, 256, (examples.length, examples.pixels("image")), dtype=np.uint8)
        at = np.array([len(text.ids) - 1])
        rows.append([Example({"tokens": text, "image": image}, {"image": (at, np.array([number]))})])
    return pack(rows, {"tokens": 20, "image": examples.length}, vocabulary.pad)


def test_loss_and_gradients_are_those_of_transformers(theirs: tuple[Any, Path]) -> None:
    model, folder = theirs
    ours = load(folder)
    batch = pairs(ours)
    texts = [batch.tokens.ids[start:end].tolist() for start, end in batch.tokens.spans()]
    length = max(map(len, texts))
    mask = torch.tensor([[1] * len(one) + [0] * (length - len(one)) for one in texts])
    ids = torch.tensor([one + [ours.tokenizer.vocabulary.pad] * (length - len(one)) for one in texts])
    model.zero_grad()
    found = model(input_ids=ids, attention_mask=mask, pixel_values=pixel_values(batch), return_loss=True)
    found.loss.backward()
    learner = ours.learner.eval()
    outputs = learner.outputs(batch)["image_text_contrast"]
    torch.testing.assert_close(outputs["texts"], found.text_embeds, rtol=CLOSE, atol=CLOSE)
    torch.testing.assert_close(outputs["images"], found.image_embeds, rtol=CLOSE, atol=CLOSE)
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    assert loss.item() == pytest.approx(found.loss.item(), rel=CLOSE)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: weight.grad for name, weight in learner.named_parameters()}
    own: dict[str, Any] = dict(foreign(gradients, LAYOUT, learner.heads, read_json(folder / "config.json")))
    for name, parameter in model.named_parameters():
        largest = parameter.grad.abs().max().item()
        torch.testing.assert_close(own[name], parameter.grad, rtol=CLOSE, atol=CLOSE * max(1.0, largest), msg=name)


def test_a_folder_goes_out_as_it_came_in(theirs: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = theirs
    ours = load(folder)
    assert ours.recipe.examples == ours.recipe.examples.for_model(ours.recipe.model)
    save(tmp_path / "out", ours.recipe, ours.learner, ours.tokenizer)
    again = transformers.CLIPModel.from_pretrained(tmp_path / "out")
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())
    kept = {key: value for key, value in read_json(tmp_path / "out" / "config.json").items() if key.endswith("_config")}
    before = json.loads((folder / "config.json").read_text())
    for table, keys in kept.items():
        own = {key: value for key, value in keys.items() if key in before[table] and not key.endswith("_token_id")}
        assert {key: before[table][key] for key in own} == own | {"projection_dim": before[table]["projection_dim"]}
    assert all(value < 1e-5 for value in verify(tmp_path / "out", ours.learner).values())


def test_transformers_processor_gives_the_same_vectors(theirs: tuple[Any, Path], tmp_path: Path) -> None:
    """Of files and texts: the image processor and the tokenizer that lie in an exported folder."""
    ours = load(theirs[1])
    save(tmp_path / "out", ours.recipe, ours.learner, ours.tokenizer)
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = module.CLIPImageProcessorPil.from_pretrained(tmp_path / "out")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 36, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    texts = ["The old river, 22 stones!", "it's a small   TRAIN"]
    with torch.no_grad():
        found = model(**reader(texts, padding=True, return_tensors="pt"), **processor(image, return_tensors="pt"))
    vectors = next(image_vectors(ours, [(tmp_path / "a.png").read_bytes()]))
    np.testing.assert_allclose(vectors, found.image_embeds, rtol=CLOSE, atol=CLOSE)
    np.testing.assert_allclose(text_vectors(ours, texts), found.text_embeds, rtol=CLOSE, atol=CLOSE)


def test_the_tokenizer_is_transformers_own(tokenizer: Any, tmp_path: Path) -> None:
    """Also read from the vocabulary and the merges alone, and with names of special tokens as text."""
    tokenizer.save(tmp_path)
    reader = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    texts = ["The OLD river's 1984 stones...", "naïve café \u00e9\u0065\u0301", "日本語 🚂", "a\n\tb", ""]
    for text in texts:
        (ids,) = tokenizer.encode([text])
        begin, *inner, end = reader(text)["input_ids"]
        assert ids == inner, text
        assert [begin, end] == [tokenizer.vocabulary.roles[role] for role in ("bos", "eos")]
    for name in ("tokenizer.json", "tokens.json"):
        (tmp_path / name).unlink()
    assert type(tokenizer).load(tmp_path).encode(texts) == tokenizer.encode(texts)
    (named,) = tokenizer.encode(["a <|endoftext|> b"], specials=False)
    assert tokenizer.vocabulary.roles["eos"] not in named
    assert tokenizer.decode(tokenizer.encode(["the old river"])[0]).strip() == "the old river"
