"""A run that was interrupted is, bit for bit, the run that was not."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import RUN, ToyFeed, losses, rows, toy_learner, toy_train

from genus.optim.adamw import AdamW
from genus.recipe import Budget
from genus.train.data import TrainStage

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner


def shout(learner: Learner) -> dict[str, float]:
    """An evaluation that draws random numbers, which must disturb nothing."""
    learner.eval()
    return {"noise": torch.rand(()).item(), "norm": sum(p.norm().item() for p in learner.parameters())}


def interrupt_at(step: int):
    """Return an evaluation that presses Ctrl-C during the given step."""

    def press(learner: Learner) -> dict[str, float]:
        press.calls += 1  # type: ignore[attr-defined]
        if press.calls == step:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    press.calls = 0  # type: ignore[attr-defined]
    return press


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_ten_steps_are_some_and_the_rest(tmp_path: Path, step: int, bias_correction: bool) -> None:
    """Stage 1 begins at step 6, so that the cut falls before, at and after the change of stages."""
    optimizer = AdamW(lr=1e-2, bias_correction=bias_correction)
    whole, halves = toy_learner(), toy_learner()
    toy_train(tmp_path / "whole", learner=whole, optimizer=optimizer)
    every = RUN.override("evaluate_every", 1)
    first = toy_train(tmp_path / "halves", learner=halves, optimizer=optimizer, run=every, evaluate=interrupt_at(step))
    assert first.stopped
    assert first.progress.step == step + 1  # the signal came after the step's end, and the next one was finished
    fresh = toy_learner(seed=1)
    second = toy_train(tmp_path / "halves", learner=fresh, optimizer=optimizer, resume=True)
    assert not second.stopped
    assert losses(tmp_path / "whole") == losses(tmp_path / "halves")
    assert [number for number, _ in losses(tmp_path / "whole")] == list(range(1, 11))
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors().values(), fresh.tensors().values(), strict=True))


def test_evaluation_disturbs_nothing(tmp_path: Path) -> None:
    toy_train(tmp_path / "quiet")
    toy_train(tmp_path / "loud", evaluate=shout, run=RUN.override("evaluate_every", 1))
    assert losses(tmp_path / "quiet") == losses(tmp_path / "loud")


def test_metrics_after_the_checkpoint_are_made_again(tmp_path: Path) -> None:
    """A kill between checkpoint 8 and step 9 leaves a row of a step that is made again, and perhaps half a line."""
    toy_train(tmp_path / "whole")
    toy_train(tmp_path / "cut")
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "loss": 1.0}\n{"step": 12, "lo')
    toy_train(tmp_path / "cut", resume=True)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_finished_run_is_left_as_it_is_and_published(tmp_path: Path) -> None:
    published: list[str] = []
    first = toy_train(tmp_path, evaluate=lambda learner: {"score": 1.0})
    again = toy_train(
        tmp_path,
        resume=True,
        evaluate=lambda learner: pytest.fail("evaluated again"),
        publish=lambda learner: published.append("model"),
    )
    assert again.progress == first.progress
    assert published == ["model"]


def test_resuming_what_never_was_saved_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_train(tmp_path / "whole")
    toy_train(tmp_path / "new", resume=True)
    assert "no checkpoint yet; beginning" in capsys.readouterr().err
    assert losses(tmp_path / "whole") == losses(tmp_path / "new")


def test_it_learns() -> None:
    """The toy task has one regular thing to learn, how often each token is; ten times the steps bring the loss down."""
    stages = [TrainStage(SkewedFeed(), accumulate=2)]
    budget = Budget(amount=100)
    first, last = (
        toy_train(None, stages=stages, budget=Budget(amount=1)),
        toy_train(None, stages=stages, budget=budget),
    )
    assert last.progress.loss < first.progress.loss / 2


class SkewedFeed(ToyFeed):
    """Half of the labels are one token."""

    def __getitem__(self, number: int):
        batch = super().__getitem__(number)
        label = batch.targets["masked_lm"].label
        label[label >= 0] = 7
        return batch


def test_a_finished_run_that_is_resumed_records_nothing_twice(tmp_path: Path) -> None:
    """The last checkpoint, at a step that is due for saving but not for evaluating, knows of the last evaluation."""
    run = RUN.overlay({"checkpoint_every": 4, "evaluate_every": 5})
    for resume in (False, True):
        toy_train(tmp_path, budget=Budget(amount=12), run=run, evaluate=lambda learner: {"norm": 1.0}, resume=resume)
        evaluated = [row["step"] for row in rows(tmp_path) if "held_out/norm" in row]
        assert evaluated == [5, 10, 12]
