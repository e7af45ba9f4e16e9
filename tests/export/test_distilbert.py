"""Random DistilBERTs of Hugging Face, read and written back, and the triple loss as the released code computes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from oracle import Shape, transformers
from torch import nn

from genus import catalog
from genus.export.hf import Imported, load, save
from genus.export.layouts import layout_for, theirs
from genus.export.teaching import Teaching
from genus.export.verify import verify
from genus.objectives.distilled import Distilled

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner

FLOAT32 = 1e-5
"""float32 has 24 bits, 6e-8; sums over tens of terms and a few layers in another order lose two digits."""
FLOAT64 = 1e-13
"""The same sums with 53 bits, 1e-16: a wrong formula cannot hide here."""
ROUNDED = 0.03
"""Authors round to millions."""


@dataclass(frozen=True)
class Distil(Shape):
    def config(self, **more: Any) -> Any:
        return transformers.DistilBertConfig(
            n_layers=self.layers,
            dim=self.hidden,
            n_heads=self.heads,
            hidden_dim=self.inner,
            vocab_size=self.vocab,
            max_position_embeddings=self.positions,
            activation=self.activation,
            **more,
        )


SHAPES = [
    Distil("bert", 1, 8, 1, 16, 30, 12, "gelu", 1, 1e-12),
    Distil("bert", 2, 24, 3, 40, 101, 40, "gelu_new", 1, 1e-12),
    Distil("bert", 3, 32, 4, 96, 64, 16, "relu", 1, 1e-12),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.layers}-layers")


def padded(shape: Shape) -> dict[str, torch.Tensor]:
    """Return the padded sequences without segments, of which these classes know none."""
    return {name: values for name, values in oracle.padded(shape).items() if name != "token_type_ids"}


def reading(folder: Path, model: Any, shape: Shape) -> Imported:
    model.save_pretrained(folder)
    oracle.write_tokenizer(folder, "bert", shape.vocab)
    return load(folder)


def token_logits(learner: Learner, hidden: torch.Tensor) -> torch.Tensor:
    return learner.heads["masked"].tokens(oracle.in_order(hidden), learner.network.token_embedding.weight)


@shapes
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)])
def test_states_and_token_logits(tmp_path: Path, shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
    model = oracle.build(shape, "DistilBertForMaskedLM")
    learner = reading(tmp_path, model, shape).learner.to(dtype).eval()
    with torch.no_grad():
        expected = model.to(dtype)(**padded(shape), output_hidden_states=True)
        hidden = learner.network(oracle.packed(shape))["tokens"]
        assert oracle.relative(oracle.in_order(hidden), oracle.live(expected.hidden_states[-1])) <= tolerance
        assert oracle.relative(token_logits(learner, hidden), oracle.live(expected.logits)) <= tolerance


@shapes
@pytest.mark.parametrize("labels", [1, 3])
def test_classification_logits(tmp_path: Path, shape: Shape, labels: int) -> None:
    model = oracle.build(shape, "DistilBertForSequenceClassification", num_labels=labels)
    learner = reading(tmp_path, model, shape).learner.eval()
    (head,) = learner.heads
    assert head == ("regress" if labels == 1 else "classify")
    with torch.no_grad():
        hidden = learner.network(oracle.packed(shape))["tokens"]
        found = learner.heads[head].classes(learner.network.pool(oracle.first(hidden)))
        assert oracle.relative(found, model(**padded(shape)).logits) <= FLOAT32


@shapes
@pytest.mark.parametrize("kind", ["Model", "ForMaskedLM", "ForSequenceClassification"])
def test_from_there_to_here_and_back(tmp_path: Path, shape: Shape, kind: str) -> None:
    model = oracle.build(shape, f"DistilBert{kind}", **({"num_labels": 4} if "Sequence" in kind else {}))
    found = reading(tmp_path / "theirs", model, shape)
    save(tmp_path / "ours", found.recipe, found.learner, found.tokenizer)
    again, problems = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(problems.values()), problems
    weights = again.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    before, after = model.config.to_dict(), again.config.to_dict()
    free = {"_name_or_path", "transformers_version", "problem_type", "pad_token_id", "bos_token_id", "eos_token_id"}
    assert {k: v for k, v in before.items() if k not in free} == {k: v for k, v in after.items() if k not in free}
    assert max(verify(tmp_path / "ours", found.learner).values()) <= FLOAT32
    third = load(tmp_path / "ours")
    assert third.recipe == found.recipe
    assert list(third.learner.heads) == list(found.learner.heads)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", [name for name in catalog.names() if name.startswith("distilbert/")])
def test_parameters_equal_hugging_faces_and_the_authors_number(name: str) -> None:
    recipe = catalog.load(name)
    found = layout_for(recipe, ["masked"])
    assert found is not None
    config = transformers.AutoConfig.for_model(**found[1], vocab_size=recipe.tokens.vocab_size)
    with torch.device("meta"):
        learner = recipe.learner()
        assert parameters(learner.network) == parameters(transformers.DistilBertModel(config))
        assert parameters(learner) == parameters(transformers.DistilBertForMaskedLM(config))
    if recipe.published.parameters is not None:
        assert abs(parameters(learner) / recipe.published.parameters - 1) < ROUNDED


def test_the_published_size() -> None:
    with torch.device("meta"):
        assert parameters(catalog.load("distilbert").learner().network) == 66_362_880


def targets(shape: Shape) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Return two masked tokens a sequence and every token, and the former as Hugging Face takes them."""
    rng = np.random.default_rng(2)
    given, labels = [], torch.full((len(oracle.LENGTHS), max(oracle.LENGTHS)), -100)
    for row, length in enumerate(oracle.LENGTHS):
        index = np.sort(rng.permutation(length)[:2])
        label = rng.integers(oracle.SPECIAL, shape.vocab - 1, 2)
        labels[row, index] = torch.from_numpy(label)
        given.append({"masked": (index, label), "taught": (np.arange(length), np.zeros(length, dtype=np.int64))})
    return given, labels


def released(student: Any, teacher: Any, shape: Shape, labels: torch.Tensor, restrict_ce_to_mask: bool) -> torch.Tensor:
    """Return the loss of `Distiller.step` (distiller.py) by its own operations, on padded rows."""
    inputs, temperature = padded(shape), 2.0
    own = student(**inputs, output_hidden_states=True)
    with torch.no_grad():
        other = teacher(**inputs, output_hidden_states=True)
    attended = inputs["attention_mask"].bool()
    mask = (labels > -1) if restrict_ce_to_mask else attended
    s_logits, t_logits = own.logits[mask], other.logits[mask]
    loss_ce = nn.KLDivLoss(reduction="batchmean")(
        nn.functional.log_softmax(s_logits / temperature, dim=-1), nn.functional.softmax(t_logits / temperature, dim=-1)
    )
    loss_mlm = nn.CrossEntropyLoss(ignore_index=-100)(own.logits.view(-1, shape.vocab), labels.view(-1))
    s_hidden, t_hidden = own.hidden_states[-1][attended], other.hidden_states[-1][attended]
    loss_cos = nn.CosineEmbeddingLoss(reduction="mean")(s_hidden, t_hidden, torch.ones(len(s_hidden)))
    total: torch.Tensor = 5.0 * loss_ce * temperature**2 + 2.0 * loss_mlm + 1.0 * loss_cos
    return total


@pytest.mark.parametrize("compared", ["all", "masked"])
def test_the_triple_loss_and_its_gradients_are_the_released_code_s(tmp_path: Path, compared: str) -> None:
    shape = SHAPES[1]
    other = Shape("bert", 4, 24, 2, 48, 101, 40, "gelu", 2, 1e-12)
    student, teacher = oracle.build(shape, "DistilBertForMaskedLM"), oracle.build(other, "BertForMaskedLM", seed=1)
    own = reading(tmp_path / "student", student, shape)
    teaching = Teaching(tmp_path / "teacher", reading(tmp_path / "teacher", teacher, other))
    given, labels = targets(shape)
    expected = released(student, teacher, shape, labels, compared == "masked")
    expected.backward()

    activation = own.recipe.objectives[0].to_json()["activation"]
    objective = Distilled().overlay({"compared": compared, "activation": activation})
    learner = teaching.taught(replace(own.recipe, objectives=(objective,))).learner()
    learner.load_state_dict(own.learner.state_dict())
    teaching.begin(learner.eval())
    batch = oracle.packed(shape, given)
    loss = learner.objective(learner(batch), learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.detach()) <= FLOAT32

    found = layout_for(own.recipe, ["masked"])
    assert found is not None
    table = found[0].table(["masked"])
    exact = {name: p.grad for name, p in student.named_parameters()}
    largest, compared_names = max(float(gradient.abs().max()) for gradient in exact.values()), set()
    for name, gradient in oracle.gradients(learner).items():
        names = theirs(name, table)
        for foreign, part in zip(names, gradient.chunk(len(names)), strict=True):
            scale = largest if foreign.endswith("k_lin.bias") else float(exact[foreign].abs().max())
            assert float((part - exact[foreign]).abs().max()) <= FLOAT32 * scale, foreign
            compared_names.add(foreign)
    assert compared_names == exact.keys()
