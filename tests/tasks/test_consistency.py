"""Consistency training: its losses beside the paper's equations, what an update reads, and that it is learned."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.errors import GenusError, UsageError
from genus.export import folder as models
from genus.objectives.supervised.consistency import ConsistentClassification, annealed, divergences
from genus.objectives.supervised.sequence import SequenceClassification
from genus.tasks.augment import FewLabels
from genus.tasks.augment.consistency import Consistency
from genus.tasks.augment.random_edits import RandomEdits
from genus.tasks.augment.unlabeled import PairedSplit
from genus.tasks.classification import Classification, ContrastiveClassification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.feed import Shuffled, batch_of
from genus.tasks.finetune import finetune
from genus.tasks.predict import objective_of
from genus.tasks.splits import Split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from genus.recipe import Recipe
    from genus.tasks.start import Start
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

CLASSES = 3
ROUNDING = 1e-5
"""Float32 sums in another order."""


def softmax(logits: list[float]) -> list[float]:
    exponents = [math.exp(logit) for logit in logits]
    return [one / sum(exponents) for one in exponents]


def divergence(text: list[float], changed: list[float], temperature: float, confidence: float) -> float:
    """KL for one text, with the aim sharpened, if the model is confident of it."""
    if max(softmax(text)) <= confidence:
        return 0.0
    aim, own = softmax([logit / temperature for logit in text]), softmax(changed)
    return sum(p * math.log(p / q) for p, q in zip(aim, own, strict=True))


def supervised(logits: list[list[float]], labels: list[int], threshold: float) -> float:
    """Mean cross-entropy over the examples whose label is not over the threshold: training-signal annealing."""
    chances = [softmax(one)[label] for one, label in zip(logits, labels, strict=True)]
    kept = [-math.log(chance) for chance in chances if chance <= threshold]
    return sum(kept) / max(1, len(kept))


def drawn(rows: int, seed: int) -> Tensor:
    return 2 * torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize("confidence", [0.0, 0.8])
def test_divergences_are_those_of_the_paper(temperature: float, confidence: float) -> None:
    text, changed = drawn(40, 0).requires_grad_(), drawn(40, 1).requires_grad_()
    each, sure = divergences(text, changed, temperature, confidence)
    expected = [
        divergence(one, other, temperature, confidence)
        for one, other in zip(text.tolist(), changed.tolist(), strict=True)
    ]
    assert each.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert sure.tolist() == [max(softmax(one)) > confidence for one in text.tolist()]
    assert (0 < int(sure.sum()) < 40) == (confidence > 0)
    at_text, at_changed = torch.autograd.grad(each.sum(), [text, changed], allow_unused=True)
    assert at_text is None, "the aim is fixed"
    step = 1e-6
    for row, column in ((0, 0), (7, 2), (23, 1)):
        beside = [changed.detach().clone() for _ in range(2)]
        for sign, one in zip((1, -1), beside, strict=True):
            one[row, column] += sign * step
        up, down = (divergence(text[row].tolist(), one[row].tolist(), temperature, confidence) for one in beside)
        assert at_changed[row, column].item() == pytest.approx((up - down) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("threshold", [0.34, 0.6, 1.0])
def test_labels_that_are_known_already_are_left_out(threshold: float) -> None:
    logits, labels = drawn(40, 2), torch.arange(40) % CLASSES
    each, learned = annealed(logits, labels, threshold)
    found = (each.sum() / learned.sum().clamp(min=1)).item()
    assert found == pytest.approx(supervised(logits.tolist(), labels.tolist(), threshold), rel=1e-9)
    assert (int(learned.sum()) < 40) == (threshold < 1)


@pytest.mark.parametrize(
    ("annealing", "halfway"), [("none", 1.0), ("linear", 0.5), ("log", 1 - math.exp(-2.5)), ("exp", math.exp(-2.5))]
)
def test_thresholds_rise_from_chance_to_certainty(annealing: Any, halfway: float) -> None:
    """Log ends at 1 - exp(-5), and exp begins at exp(-5)."""
    choice = ConsistentClassification(labels=("a", "b", "c", "d"), annealing=annealing)
    found = [choice.threshold(progress) for progress in (0.0, 0.5, 1.0)]
    begin, end = {"none": (1.0, 1.0), "log": (0, 1 - math.exp(-5)), "exp": (math.exp(-5), 1)}.get(annealing, (0, 1))
    assert found == pytest.approx([share * 0.75 + 0.25 for share in (begin, halfway, end)])


@pytest.fixture(scope="module")
def data(write_rows: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consistency")
    for name, count, seed in (("train", 20, 1), ("validation", 32, 2), ("unlabeled", 200, 3)):
        write_rows(folder / f"{name}.jsonl", count, seed)
    return folder


def letters(number: int) -> str:
    """Return two letters of a number: pieces of the vocabulary."""
    return f"{chr(97 + number % 26)} {chr(97 + number // 26)}"


def rows(number: int, label: str | None = None) -> list[LabeledRow]:
    return [LabeledRow(n, (f"a cat and {letters(n)} dog {label or ''}",), label) for n in range(number)]


def paired(number: int, unlabeled: int, each: int, tmp_path: Path) -> PairedSplit:
    texts = [LabeledRow(n, (f"{letters(n)} saw and a drill",), None) for n in range(unlabeled)]
    copies = [replace(row, texts=(f"a drill and {letters(row.line)} saw",)) for row in texts]
    labeled = [*rows(number // 2, "a"), *rows(number - number // 2, "b")]
    pairs = tuple(zip(texts, copies, strict=True))
    return PairedSplit(tmp_path / "train.jsonl", labeled, pairs=pairs, each=each)


@pytest.mark.parametrize(("number", "unlabeled"), [(4, 30), (12, 5), (4, 31)])
def test_an_epoch_passes_every_row_and_every_pair(
    number: int, unlabeled: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    split, objective = paired(number, unlabeled, 3, tmp_path), SequenceClassification(labels=("a", "b"))
    encoded = split.encode(Classification(), tokenizer, objective, 24)
    assert len(encoded) == split.examples == max(number, -(-unlabeled // 3))
    alone = Split(split.path, split.rows).encode(Classification(), tokenizer, objective, 24)
    seen = set()
    for example in range(len(encoded)):
        own, *others = encoded.sequences(np.array([example])).tolist()
        assert encoded.texts[own][0].tolist() == alone.texts[example % number][0].tolist()
        assert encoded.labels[example] == alone.labels[example % number]
        for one, other in zip(others[:3], others[3:], strict=True):
            ids = [encoded.texts[place][0] for place in (one, other)]
            place = (3 * example + others.index(one)) % unlabeled
            row, copy = split.pairs[place]
            for given, found in zip((row, copy), ids, strict=True):
                assert tokenizer.encode([given.texts[0]], specials=False)[0] == found.tolist()
            seen.add(place)
    assert seen == {*range(unlabeled)}


@pytest.mark.parametrize("annealing", ["none", "linear"])
def test_an_update_learns_the_equation(
    annealing: Any, recipe: Recipe, start: Start, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Each text is read alone by the same weights, without dropout, and the loss is written out from its logits."""
    split = paired(6, 18, 3, tmp_path)
    objective = ConsistentClassification(
        labels=("a", "b"), dropout=0.0, weight=0.7, temperature=0.5, annealing=annealing, passed=60
    )
    still = start.recipe.overlay({"model": {"dropout": 0.0, "embedding": {"dropout": 0.0}}})
    still = still.overlay({"model": {"attention": {"dropout": 0.0}}})
    fresh = replace(start, recipe=still, learner=None)
    learner = fresh.build(fresh.fine_tuned(objective, still.finetuning), 0)
    head: Any = learner.heads[objective.name]
    with torch.no_grad():
        head.classes.weight.normal_(std=3.0)
    learner.eval()
    encoded: Any = split.encode(Classification(), tokenizer, objective, 24)
    batch = Shuffled(encoded, 4, seed=0)[0]
    single = replace(encoded, texts=encoded.texts, labels=np.zeros(len(encoded.texts), np.int64),
                     offsets=np.arange(len(encoded.texts) + 1))  # fmt: skip
    with torch.no_grad():
        logits = [
            learner.outputs(batch_of(single, np.array([n])))[objective.name]["logits"][0].double().tolist()
            for n in range(len(encoded.texts))
        ]
    chosen = _examples(encoded, batch, objective.target)
    texts = [logits[7 * e + 1 + k] for e in chosen for k in range(3)]
    copies = [logits[7 * e + 4 + k] for e in chosen for k in range(3)]
    threshold = 1.0 if annealing == "none" else 0.25 * 0.5 + 0.5
    own = [logits[7 * e] for e in chosen]
    order = [int(np.argmax(one)) ^ number % 2 for number, one in enumerate(own)]  # right and wrong
    labeled = replace(batch.targets[objective.target], label=torch.tensor(order))
    batch = replace(batch, targets={objective.target: labeled})
    confidence = float(np.median([max(softmax(one)) for one in texts]))
    head.choice = replace(objective, confidence=confidence)
    learner.train()
    head.seen = 15
    sums = learner(batch).sums
    assert head.seen == 19
    kl = [divergence(one, other, 0.5, confidence) for one, other in zip(texts, copies, strict=True)]
    expected = supervised(own, order, threshold) + 0.7 * sum(kl) / len(kl)
    assert sums[objective.name].item() == pytest.approx(4 * expected, rel=ROUNDING)
    assert sums[f"{objective.name}/consistency"].item() == pytest.approx(4 * sum(kl) / len(kl), rel=ROUNDING)
    assert 0 < sums[f"{objective.name}/confident"].item() < 4
    learned = sums[f"{objective.name}/learned"].item()
    assert learned == 4 if annealing == "none" else 0 < learned < 4
    assert learner.counts(batch)[objective.name].item() == 4


def _examples(encoded: Any, batch: Any, target: str) -> list[int]:
    """Return which example each target of a batch is of, by its tokens."""
    ids, sequence = batch.tokens.ids, batch.tokens.sequence
    found = []
    for places in batch.targets[target].index.tolist():
        texts = [ids[sequence == sequence[place]].tolist() for place in places]
        (match,) = {
            e for e in range(len(encoded))
            if texts == [encoded.example(n).tokens.ids.tolist() for n in encoded.sequences(np.array([e])).tolist()]
        }  # fmt: skip
        found.append(match)
    return found


def test_it_is_learned_and_published_as_a_classifier(start: Start, data: Path, run: Run, tmp_path: Path) -> None:
    files = Files(data / "train.jsonl", data / "validation.jsonl")
    choice = Consistency(unlabeled=str(data / "unlabeled.jsonl"), change=RandomEdits(alpha=0.1))
    settings = replace(start.recipe.finetuning, epochs=3)
    given: dict[str, Any] = {"seeds": (0,), "run": run, "settings": settings}
    report = finetune(start, Classification(), files, tmp_path / "out", augmentation=choice, **given)
    assert report.augmentation is not None
    assert report.augmentation.rows == 0
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["augmentation"]["kind"] == "Consistency"
    assert told["objective"]["passed"] == 3 * 67
    found = models.load(tmp_path / "out" / "model")
    assert type(objective_of(found)) is SequenceClassification
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    again = finetune(start, Classification(), files, tmp_path / "out", augmentation=choice, **given)
    assert again.trials == report.trials
    other = replace(choice, change=RandomEdits(alpha=0.5))
    with pytest.raises(UsageError, match="results of other choices"):
        finetune(start, Classification(), files, tmp_path / "out", augmentation=other, **given)


def test_texts_are_changed_by_the_part_that_is_named(data: Path) -> None:
    train = Split(data / "train.jsonl", rows(10, "a"))
    choice = Consistency(unlabeled=str(data / "unlabeled.jsonl"), change=RandomEdits(alpha=0.3))

    def made(one: Consistency) -> PairedSplit:
        found = one.split(train, FewLabels(train.rows, Classification(), lambda *_: pytest.fail("nothing is trained")))
        assert isinstance(found, PairedSplit)
        return found

    found = made(choice)
    assert len(found.pairs) == 200
    assert all(row.label is None and copy.label is None for row, copy in found.pairs)
    assert sum(row.texts != copy.texts for row, copy in found.pairs) > 150
    assert made(choice).content == found.content != made(replace(choice, change=RandomEdits(seed=1))).content


def test_what_cannot_be_is_said(start: Start, data: Path, run: Run, tmp_path: Path) -> None:
    files = Files(data / "train.jsonl", data / "validation.jsonl")

    def refused(choice: Consistency, task: Any = None) -> str:
        with pytest.raises(GenusError) as caught:
            finetune(start, task or Classification(), files, tmp_path / "out", seeds=(0,), run=run, augmentation=choice)
        return str(caught.value)

    named = Consistency(unlabeled=str(data / "unlabeled.jsonl"))
    assert "unlabeled=FILE" in refused(Consistency())
    assert "there is no such file" in refused(Consistency(unlabeled=str(tmp_path / "none.jsonl")))
    assert "take --task classification" in refused(named, ContrastiveClassification())
