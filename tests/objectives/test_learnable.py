"""A text of which an objective cannot learn is noticed before training begins."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from genus import catalog, pipeline
from genus.errors import GenusError
from small import RUN, rows, shrunk, write_corpus

if TYPE_CHECKING:
    from pathlib import Path

DRAW = random.Random(0)
LETTERS = ["".join(DRAW.choices("acgt", k=60)) for _ in range(120)]
LONE = [f"Sentence {n} has no next one." for n in range(200)]
USELESS = {
    "whole words without spaces": ("roberta", ["objectives.0.masking=WholeWordMasking"], LETTERS, "masked_lm has no"),
    "whole words and lone lines": ("bert", ["objectives.0.masking=WholeWordMasking"], LETTERS, "next_sentence has one"),
    "one word only": ("bert", [], ["a a a a a a a a"] * 60, "masked_lm has one answer"),
}


def write(folder: Path, lines: list[str]) -> Path:
    (folder / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder / "a.txt"


@pytest.mark.parametrize("case", USELESS)
def test_a_run_that_can_learn_nothing_is_refused(tmp_path: Path, case: str) -> None:
    member, settings, lines, message = USELESS[case]
    recipe = catalog.overridden(shrunk(catalog.load(member)), settings)
    with pytest.raises(GenusError, match=f"nothing can be learned .*{message}"):
        pipeline.pretrain(recipe, [write(tmp_path, lines)], tmp_path / "run", RUN)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_part_that_can_learn_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = shrunk(catalog.load("bert")).override("budget.amount", 1)
    pipeline.pretrain(recipe, [write(tmp_path, LONE)], tmp_path / "run", RUN)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "nothing can be learned" in line]
    assert "next_sentence has one answer, 1, at all of" in line
    assert "masked_lm" not in line
    assert len(rows(tmp_path / "run")) > 0


def test_of_good_text_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = shrunk(catalog.load("bert")).override("budget.amount", 1)
    pipeline.pretrain(recipe, [write_corpus(tmp_path)], tmp_path / "run", RUN)
    errors = capsys.readouterr().err
    assert not any(word in errors for word in ("learned", "held out", "unknown", "not read", "marks"))
