"""Options for stable fine-tuning: top layers drawn anew, early stopping, the last weights."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from genus import catalog
from genus.errors import UsageError
from genus.evaluate.metrics import Accuracy
from genus.objectives import Learner
from genus.objectives.supervised.sequence import SequenceClassification
from genus.recipe import Recipe
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.report import SeedResult
from genus.tasks.start import Start
from genus.tasks.study import BestCheckpoint
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run


def built(recipe: Recipe, tokenizer: Tokenizer, reinitialize: int, seed: int = 3) -> tuple[dict, dict, dict]:
    """Return the tensors before fine-tuning, those of random weights of the same seed, and those of pretraining."""
    torch.manual_seed(11)
    pretrained = recipe.learner()
    settings = replace(recipe.finetuning, reinitialize=reinitialize)
    objective = SequenceClassification(labels=("a", "b"))
    start = Start(recipe, tokenizer, pretrained)
    tuned = start.fine_tuned(objective, settings)
    fresh = Start(recipe, tokenizer).build(tuned, seed)
    return start.build(tuned, seed).state_dict(), fresh.state_dict(), pretrained.state_dict()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_top_layers_and_the_pooler_are_those_of_the_seed_and_all_below_is_pretrained(
    recipe: Recipe, tokenizer: Tokenizer, number: int
) -> None:
    recipe = replace(recipe, tokens=replace(tokenizer.tokens, vocab_size=tokenizer.vocabulary.size))
    learner, fresh, pretrained = built(recipe, tokenizer, number)
    new = tuple(f"network.layers.{layer}." for layer in range(2 - number, 2)) + ("network.pooler.",) * bool(number)
    for name, tensor in learner.items():
        if not name.startswith("network."):
            continue
        assert torch.equal(tensor, fresh[name] if name.startswith(new) else pretrained[name]), name
        if name.endswith("query.weight"):
            assert not torch.equal(fresh[name], pretrained[name])


def test_no_more_layers_are_drawn_than_there_are_and_shared_ones_are_one(tokenizer: Tokenizer) -> None:
    for name, layers in (("bert/tiny", 2), ("albert/tiny", 1)):
        row = catalog.load(name)
        row = replace(row, tokens=replace(tokenizer.tokens, vocab_size=tokenizer.vocabulary.size))
        with pytest.raises(UsageError, match=f"finetuning.reinitialize: the network has {layers} layers, not 3"):
            built(row, tokenizer, 3)
        learner, fresh, _ = built(row, tokenizer, layers)
        name = "network.layers.0.attention.query.weight"
        assert torch.equal(learner[name], fresh[name])


@pytest.mark.parametrize(
    ("values", "patience", "last", "evaluations", "kept"),
    [
        ((0.5, 0.7, 0.6, 0.7, 0.9), 2, False, 4, 3),  # of equal ones the later, which is no better one
        ((0.5, 0.7, 0.6, 0.8, 0.7, 0.7), 2, False, 6, 3),
        ((0.5, 0.7, 0.6, 0.6), None, False, 4, 1),
        ((0.5, 0.7, 0.6, 0.6), None, True, 4, 3),
        ((0.5, 0.4), 1, True, 2, 1),
        ((None, None, None), 1, False, 3, 2),  # what is undefined chooses nothing
    ],
)
def test_which_weights_are_kept_and_when_it_is_enough(
    values: tuple, patience: int | None, last: bool, evaluations: int, kept: int
) -> None:
    numbers, learner = count(), Learner(torch.nn.Linear(1, 1), {})
    found = iter(values)
    best = BestCheckpoint(lambda one: {"accuracy": next(found)}, Accuracy(), last=last, patience=patience)
    for number in numbers:
        torch.nn.init.constant_(learner.network.weight, number)
        best(learner)
        if best.enough() or number + 1 == len(values):
            break
    assert len(best.history) == evaluations
    assert best.weights["network.weight"].item() == kept


def test_early_stopping_ends_a_run_which_is_finished(write_rows, start: Start, run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, rows, seed in (("train", 96, 1), ("validation", 24, 2)):
        write_rows(tmp_path / "data" / f"{name}.jsonl", rows, seed)
    settings = replace(start.recipe.finetuning, epochs=30, patience=3)
    found = finetune(
        start, Classification(), Files.find(tmp_path / "data"), tmp_path / "out", settings=settings, seeds=(0,), run=run
    )
    history = [one["accuracy"] for one in found.trials[0].history]
    assert len(history) < 20
    assert max(history[:-3]) >= max(history[-3:])
    assert max(history[:-3]) > max(history[:-4], default=0)  # the best one is as long ago as the patience
    assert (tmp_path / "out" / "model" / "config.json").exists()


def test_early_stopping_and_best_weights_are_read_off_a_run_without_them(
    write_rows, start: Start, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As benchmarks/stability.py does, which so trains once for the three."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    from stability import kept

    (tmp_path / "data").mkdir()
    for name, rows, seed in (("train", 96, 1), ("validation", 24, 2)):
        write_rows(tmp_path / "data" / f"{name}.jsonl", rows, seed)

    def trial(folder: str, **choices: object) -> SeedResult:
        settings = replace(start.recipe.finetuning, epochs=10, **choices)
        files, out = Files.find(tmp_path / "data"), tmp_path / folder
        return finetune(start, Classification(), files, out, settings=settings, seeds=(0,), run=run).trials[0]

    whole = trial("whole", keep="last").history
    for patience in (2, None):
        found = trial(f"patience {patience}", patience=patience)
        assert kept(whole, Classification().metrics[0], patience) == (
            found.metrics["validation"],
            len(found.history),
        )


def test_the_last_weights_are_those_of_the_last_evaluation(write_rows, start: Start, run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, rows, seed in (("train", 64, 1), ("validation", 40, 2)):
        write_rows(tmp_path / "data" / f"{name}.jsonl", rows, seed)
    settings = replace(start.recipe.finetuning, keep="last", epochs=4)
    found = finetune(
        start,
        Classification(),
        Files.find(tmp_path / "data"),
        tmp_path / "out",
        settings=settings,
        seeds=(0, 1),
        run=run,
    )
    for trial in found.trials:
        assert trial.metrics["validation"]["accuracy"] == trial.history[-1]["accuracy"]
