"""Rows against the commands and the defaults of released code, where these are not what most rows have."""

from __future__ import annotations

import pytest

from genus import catalog

FAIRSEQ = [name for name in catalog.names() if name.split("/")[0] in {"linformer", "roberta", "spanbert"}]
FAIRSEQ = [name for name in FAIRSEQ if not name.endswith(("/mini", "/tiny"))]


def choice(name: str, path: str) -> object:
    """Return a choice of a row, by its path."""
    value: object = catalog.load(name).to_json()
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]  # type: ignore[index]
    return value


@pytest.mark.parametrize("name", FAIRSEQ)
def test_what_fairseq_trains_decays_in_all_parameters(name: str) -> None:
    assert choice(name, "optimizer.decayed") == "all"


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("objectives.0.masking.specials", {"roberta/base": True, "bert/base": False, "wangchanberta/base": False}),
        (
            "objectives.0.masking.rounding",
            {"roberta/large": "stochastic", "spanbert/base": "up", "bert/tiny": "nearest"},
        ),
        ("objectives.0.masking.replacement", {"spanbert/large": "frequency", "roberta/base": "uniform"}),
        (
            "objectives.0.masking.max_predictions",
            {"albert/xxlarge-v2": 20, "megatron-bert/336m": None},
        ),
        ("finetuning.optimizer.clip_by", {"spanbert/base": "tensor", "bert/base": "global"}),
        ("finetuning.dropout", {"distilbert/base-cased": 0.2, "roberta/base": 0.0, "bert/base": 0.1}),
        ("finetuning.optimizer.weight_decay", {"ernie2/base": 0.0, "electra/small": 0.01, "megatron-bert/1.3b": 0.1}),
        ("finetuning.optimizer.lr", {"electra/small": 1e-4, "electra/large": 5e-5, "wangchanberta/base": 1e-5}),
        ("finetuning.optimizer.bias_correction", {"xlnet/large": False, "bert/base": False}),
        ("optimizer.clip_norm", {"reformer/enwik8": None, "reformer/crime-and-punishment": None}),
        ("model.norm.eps", {"wangchanberta/base": 1e-12, "wangchanberta/base-words": 1e-5}),
        ("tokens.normalization.kind", {"wangchanberta/base-syllables": "ThaiWikipediaNormalization"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_choices(path: str, values: dict[str, object]) -> None:
    assert {name: choice(name, path) for name in values} == values


@pytest.mark.parametrize(("name", "warmup"), [("xlnet/base", 10_000), ("xlnet/large", 40_000)])
def test_warmup_is_the_number_of_steps_of_the_row_s_own_source(name: str, warmup: int) -> None:
    recipe = catalog.load(name)
    assert recipe.schedule.to_json()["warmup"] * recipe.budget.amount == pytest.approx(warmup)


def test_positions_of_the_subword_model_are_those_of_its_checkpoint() -> None:
    """512 rows, of which RoBERTa's offset leaves two unused."""
    position = choice("wangchanberta/base", "model.embedding.position")
    assert isinstance(position, dict)
    assert position["length"] + position["offset"] == 512
