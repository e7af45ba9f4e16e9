"""Random XLNet models of Hugging Face read by us: both streams, memory, both directions of text, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from oracle import transformers
from torch import Tensor

from genus import catalog
from genus.batch import Batch, Flow, Targets
from genus.errors import GenusError
from genus.export.folder import load, save
from genus.export.verify import verify
from genus.model.segment_recurrence import SegmentRecurrentNetwork
from genus.objectives.supervised.sequence import SequenceClassification
from genus.tasks.predict import predict
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.train.run import Run
from hand import equal_rows

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer

FLOAT32 = 1e-5
"""Relative; float32 has 24 bits, 6e-8, and a few layers of sums in another order lose two digits. Hugging Face computes
the encodings of distances in float32 whatever the model's precision, so that more cannot be asked."""
ROWS, LENGTH, MEMORY, VOCABULARY = 4, 9, 6, 64


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    inner: int
    activation: str = "gelu"
    clamp: int = -1


SHAPES = [
    Shape(1, 8, 2, 12),
    Shape(3, 24, 3, 40, activation="gelu_new"),
    Shape(2, 16, 4, 24, activation="relu", clamp=5),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def build(shape: Shape, architecture: str = "XLNetLMHeadModel", **more: Any) -> Any:
    """Return a model with every parameter random."""
    torch.manual_seed(0)
    config = transformers.XLNetConfig(
        vocab_size=VOCABULARY, d_model=shape.hidden, n_layer=shape.layers, n_head=shape.heads, d_inner=shape.inner,
        ff_activation=shape.activation, clamp_len=shape.clamp, mem_len=MEMORY, **more,
    )  # fmt: skip
    return oracle.scramble(getattr(transformers, architecture)(config).eval(), std=0.3)


def reading(folder: Path, model: Any) -> LoadedModel:
    model.save_pretrained(folder)
    oracle.write_tokenizer(folder, "bert", VOCABULARY)
    return load(folder)


@dataclass(frozen=True)
class Both:
    """The same rows as both libraries take them."""

    batch: Batch
    inputs: dict[str, Any]
    predicted: Tensor
    """(R, P) cells of a row."""


def rows(shape: Shape, *, memory: bool, through: int = LENGTH, backward: bool = False) -> Both:
    """Return full rows with an order, segments and two cells to predict in each, with a random memory if wanted."""
    rng = np.random.default_rng(1)
    ranges = (5, VOCABULARY), (0, 3)
    ids, segments = (torch.from_numpy(rng.integers(low, high, (ROWS, LENGTH))) for low, high in ranges)
    order = torch.from_numpy(np.stack([rng.permutation(LENGTH) - LENGTH // 2 for _ in range(ROWS)])).clamp(min=0)
    chosen = [np.sort(rng.permutation(np.flatnonzero(row))[:2]) for row in order.numpy()]
    predicted = torch.from_numpy(np.stack(chosen))
    second_half = torch.arange(ROWS) >= ROWS // 2
    flow = Flow(torch.ones(ROWS, dtype=torch.bool), torch.full((ROWS,), through), second_half if backward else None)
    packed = equal_rows(ids, {"segment": segments.flatten(), "order": order.flatten()})
    packed = replace(packed, flow=flow, query=predicted + LENGTH * torch.arange(ROWS)[:, None])
    late = torch.eye(LENGTH, dtype=torch.bool) & (order > 0)[:, :, None]
    seen = (order[:, :, None] >= order[:, None, :]) & ~late
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "token_type_ids": segments,
        "perm_mask": (~seen).float(),
        "target_mapping": torch.nn.functional.one_hot(predicted, LENGTH).float(),
        "use_mems": True,
    }
    remembered = {}
    if memory:
        states = torch.from_numpy(rng.normal(size=(shape.layers, ROWS, MEMORY, shape.hidden))).float()
        remembered = {"memory": states, "remembered": torch.ones(ROWS, MEMORY, dtype=torch.bool)}
        inputs["mems"] = [layer.transpose(0, 1).contiguous() for layer in states]
    return Both(Batch({"tokens": packed}, {}, memory=remembered), inputs, predicted)


@shapes
@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("backward", [False, True])
def test_both_streams(tmp_path: Path, shape: Shape, memory: bool, backward: bool) -> None:
    model = build(shape)
    learner = reading(tmp_path, model).learner.eval()
    given = rows(shape, memory=memory, backward=backward)
    model.transformer.bi_data = backward
    with torch.no_grad():
        expected = model.transformer(**given.inputs, output_hidden_states=True)
        found = learner.network(given.batch)
        logits = learner.heads["permutation_lm"].lm_head(found["query"])
        assert oracle.relative(found["tokens"].view(ROWS, LENGTH, -1), expected.hidden_states[-2]) <= FLOAT32
        assert oracle.relative(found["query"].view(ROWS, 2, -1), expected.last_hidden_state) <= FLOAT32
        assert oracle.relative(logits.view(ROWS, 2, -1), model(**given.inputs).logits) <= FLOAT32


@shapes
@pytest.mark.parametrize("through", [LENGTH, 4])
def test_what_is_remembered(tmp_path: Path, shape: Shape, through: int) -> None:
    model = build(shape)
    network = reading(tmp_path, model).learner.network.eval()
    given = rows(shape, memory=True, through=through)
    model.transformer.reuse_len = through
    with torch.no_grad():
        expected = torch.stack(model.transformer(**given.inputs).mems).transpose(1, 2)
        found = network(given.batch)
    assert oracle.relative(found.memory["memory"], expected) <= FLOAT32
    assert found.memory["remembered"].all()


@shapes
def test_content_alone_in_packed_rows(tmp_path: Path, shape: Shape) -> None:
    """Sequences of several lengths share rows here and are padded there."""
    model = build(shape, "XLNetModel")
    network = reading(tmp_path, model).learner.network.eval()
    kind = oracle.Shape("bert", 1, 8, 1, 16, VOCABULARY, 12, "gelu", 2, 1e-12)
    with torch.no_grad():
        found = network(oracle.packed(kind))["tokens"]
        padded = oracle.padded(kind)
        expected = model(**padded | {"attention_mask": padded["attention_mask"].float()})
    assert oracle.relative(oracle.in_order(found), oracle.live(expected.last_hidden_state)) <= FLOAT32


def in_double(model: Any) -> Any:
    """Return their model in float64; its positions, which it computes in float32, are converted."""
    inner = model.transformer.relative_positional_encoding
    model.transformer.relative_positional_encoding = lambda *given, **named: inner(*given, **named).double()
    return model.double()


def doubled(value: Any) -> Any:
    """Return inputs with floating-point tensors in float64, also in lists and dictionaries."""
    if isinstance(value, dict):
        return {name: doubled(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [doubled(one) for one in value]
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


@shapes
def test_loss_and_gradients(tmp_path: Path, shape: Shape) -> None:
    """In float64 but for their positions: gradients are sums over tokens and layers, and small where they cancel."""
    model, given = build(shape), rows(shape, memory=True)
    found = reading(tmp_path, model)
    model, learner = in_double(model), found.learner.double().eval()
    labels = torch.randint(5, VOCABULARY, given.predicted.shape)
    expected = model(**doubled(given.inputs), labels=labels).loss
    expected.backward()
    tokens = replace(given.batch.tokens, query=None)
    cells = (given.predicted + LENGTH * torch.arange(ROWS)[:, None]).flatten()
    batch = replace(
        given.batch, streams={"tokens": tokens}, targets={"permutation_lm": Targets(cells, labels.flatten())}
    )
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.detach()) <= FLOAT32
    oracle.same_gradients(found, model)


@shapes
@pytest.mark.parametrize("labels", [1, 3])
def test_sequence_classification(tmp_path: Path, shape: Shape, labels: int) -> None:
    """Its summary is over the last token, where XLNet's frame has `<cls>`."""
    model = build(shape, "XLNetForSequenceClassification", num_labels=labels)
    learner = reading(tmp_path, model).learner.eval()
    (head,) = learner.heads
    ids = torch.randint(5, VOCABULARY, (ROWS, LENGTH))
    packed = equal_rows(ids)
    last = torch.arange(LENGTH - 1, ROWS * LENGTH, LENGTH)
    batch = Batch({"tokens": packed}, {head: Targets(last, torch.zeros(ROWS, dtype=torch.int64))})
    with torch.no_grad():
        (found,) = learner.outputs(batch)[head].values()
        assert oracle.relative(found, model(ids).logits) <= FLOAT32


@shapes
@pytest.mark.parametrize("architecture", ["XLNetModel", "XLNetLMHeadModel", "XLNetForSequenceClassification"])
def test_there_and_back_is_the_identity(tmp_path: Path, shape: Shape, architecture: str) -> None:
    model = build(shape, architecture, **({"num_labels": 4} if "Sequence" in architecture else {}))
    found = reading(tmp_path / "theirs", model)
    third = oracle.there_and_back(tmp_path / "ours", found, model)
    assert isinstance(third.learner.network, SegmentRecurrentNetwork)


def test_an_export_is_verified_by_both_libraries(tmp_path: Path) -> None:
    found = reading(tmp_path / "theirs", build(SHAPES[1]))
    save(tmp_path / "ours", found.recipe, found.learner, found.tokenizer)
    compared = verify(tmp_path / "ours", found.learner)
    assert {"hidden", "permutation_lm", "transformers/hidden", "transformers/permutation_lm"} == compared.keys()


TEXTS = [" ".join(("the wave", "a gull and", "storms of salt", "sail")[: n % 4 + 1] * (n % 3 + 1)) for n in range(20)]


@pytest.fixture
def classifier(tmp_path: Path) -> tuple[Path, Learner, Tokenizer]:
    """A folder of a small classifier with a frame that ends with `<cls>`, and what it was written from."""
    words = Unigram(vocab_size=60, special_tokens=XLNET).train(TEXTS)
    sizes = ["model.layers=2", "model.hidden=16", "model.attention.heads=2", "model.feedforward.size=24"]
    recipe = replace(
        catalog.load("xlnet/base", sizes), tokens=words.tokens, objectives=(SequenceClassification(labels=("a", "b")),)
    )
    recipe = recipe.override("model.pooler", {"kind": "Pooler"})
    learner = oracle.scramble(recipe.learner().eval(), std=0.3)
    save(tmp_path / "model", recipe, learner, words)
    return tmp_path / "model", learner, words


def test_texts_of_several_lengths_are_classified_alike(classifier: tuple[Path, Learner, Tokenizer]) -> None:
    """Their padding must not stand where the summary looks for `<cls>`."""
    folder, _, _ = classifier
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**inputs).logits.softmax(-1)
    assert not inputs["attention_mask"].all()
    found = predict(load(folder), [(text,) for text in TEXTS], Run(device="cpu", precision="float32"))
    scores = torch.tensor([[answer.scores["a"], answer.scores["b"]] for answer in found])
    torch.testing.assert_close(scores, expected, atol=FLOAT32, rtol=FLOAT32)
    assert scores.std(0).min() > 0.01


def test_padding_on_the_other_side_is_no_export(classifier: tuple[Path, Learner, Tokenizer]) -> None:
    folder, learner, _ = classifier
    assert max(verify(folder, learner).values()) <= FLOAT32
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"left"', '"right"'))
    with pytest.raises(GenusError, match="transformers/sequence_classification differs"):
        verify(folder, learner)


@pytest.mark.parametrize("other", [{"attn_type": "uni"}, {"same_length": True}, {"summary_type": "first"}])
def test_other_mathematics_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    with pytest.raises(GenusError, match=next(iter(other))):
        reading(tmp_path, build(SHAPES[0], **other))
