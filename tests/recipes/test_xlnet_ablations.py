"""Table 6 of XLNet's paper: every row but the first, `bert/base`, is an override of a row; it trains and resumes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from genus import catalog, pipeline
from genus.examples.formats.carried_pairs import CarriedPairs
from genus.model.segment_recurrence import SegmentRecurrentTransformer
from genus.objectives.masking.targets import ContextSpans, RandomTokens
from genus.objectives.pretraining.permutation_lm import PermutationLM
from genus.part import diff
from genus.train.run import Run
from small import losses, shrunk

if TYPE_CHECKING:
    from pathlib import Path

NEXT = "{kind='SequenceLabels', label='next_sentence'}"
K7 = "objectives.0.selection.one_in=7"
ROWS = {
    "K = 6": ([], set()),
    "K = 7": ([K7], {"objectives.0.selection.one_in"}),
    "- memory": ([K7, "model.memory=0"], {"objectives.0.selection.one_in", "model.memory"}),
    "- span-based prediction": (
        ["objectives.0.selection=RandomTokens", K7],
        {"objectives.0.selection.kind", "objectives.0.selection.longest", "objectives.0.selection.one_in"},
    ),
    "- bidirectional data": (
        [K7, "examples.bidirectional=false"],
        {"objectives.0.selection.one_in", "examples.bidirectional"},
    ),
    "+ next-sentence prediction": ([f"objectives=['PermutationLM', {NEXT}]", K7], {"objectives.0.selection.one_in"}),
}
DENOISING = ["objectives=['MaskedLM']"]
"""DAE + Transformer-XL."""
TRAINED = {"DAE + Transformer-XL": DENOISING} | {row: changes for row, (changes, _) in ROWS.items()}
RUN = Run(device="cpu", precision="float32", workers=0, held_out=0.0, log_every=1, checkpoint_every=2, tracker="none")


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_an_override_and_nothing_else(row: str) -> None:
    changes, paths = ROWS[row]
    found = {path for path, _, _ in diff(catalog.load("xlnet/base"), catalog.load("xlnet/base", changes))}
    assert {path for path in found if not path.startswith("objectives.1")} == paths


def test_the_rows_say_what_the_table_says() -> None:
    def row(name: str) -> tuple[SegmentRecurrentTransformer, CarriedPairs, PermutationLM]:
        recipe = catalog.load("xlnet/base", ROWS[name][0])
        model, examples, objective = recipe.model, recipe.examples, recipe.objectives[0]
        assert isinstance(model, SegmentRecurrentTransformer)
        assert isinstance(examples, CarriedPairs)
        assert isinstance(objective, PermutationLM)
        return model, examples, objective

    assert row("K = 6")[2].selection == ContextSpans(one_in=6, longest=5)
    assert row("K = 7")[2].selection == ContextSpans(one_in=7, longest=5)
    assert row("- memory")[0].memory == 0
    assert row("- span-based prediction")[2].selection == RandomTokens(one_in=7)
    assert not row("- bidirectional data")[1].bidirectional
    names = [
        objective.name for objective in catalog.load("xlnet/base", ROWS["+ next-sentence prediction"][0]).objectives
    ]
    assert names == ["permutation_lm", "next_sentence"]


def test_denoising_is_bert_s_objective_and_all_else_of_xlnet() -> None:
    base, denoising = catalog.load("xlnet/base"), catalog.load("xlnet/base", DENOISING)
    assert denoising.objectives == catalog.load("bert/base").objectives[:1]
    assert replace(denoising, objectives=base.objectives) == base


@pytest.mark.parametrize("row", TRAINED)
def test_each_row_trains_and_resumes(row: str, corpus: Path, tmp_path: Path) -> None:
    recipe = shrunk(catalog.load("xlnet/tiny", TRAINED[row])).override("budget.amount", 3.0)
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN)
    found = losses(tmp_path / "run")
    assert len(found) == 3
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-3")
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN, resume=True)
    assert losses(tmp_path / "run") == found
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
