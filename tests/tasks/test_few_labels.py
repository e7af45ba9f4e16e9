"""Few labels: what each augmentation makes of training rows, that it is the same again, and what is learned."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.examples.keys import AUGMENT, generator
from genus.export import folder as models
from genus.generate.sampling import Greedy
from genus.objectives.supervised.sequence import SequenceClassification
from genus.tasks.augment import Augmentation, FewLabels
from genus.tasks.augment.back_translation import BackTranslation
from genus.tasks.augment.masked_replacement import MaskedReplacement
from genus.tasks.augment.mixup import Mixup
from genus.tasks.augment.random_edits import RandomEdits, edited, read_synonyms
from genus.tasks.augment.self_training import SelfTraining
from genus.tasks.classification import Classification, ContrastiveClassification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.finetune import finetune
from genus.tasks.predict import objective_of, predict, score
from genus.tasks.regression import Regression
from genus.tasks.text_to_text import TextToText

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.recipe import Recipe
    from genus.tasks.start import Start
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

TEXTS = ["a cat and a dog and a saw and a bird .", "a saw and a drill and a horse .", "a drill , a hammer and a cat ."]
ROWS = [LabeledRow(number, (text,), "ab"[number % 2]) for number, text in enumerate(TEXTS * 4, 1)]


@pytest.fixture(scope="module")
def base(recipe: Recipe, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked model with random weights."""
    torch.manual_seed(0)
    whole = replace(recipe, tokens=tokenizer.tokens)
    path = tmp_path_factory.mktemp("base") / "model"
    models.save(path, whole, whole.learner(), tokenizer)
    return path


def unused(further: object, name: str) -> LoadedModel:
    raise AssertionError("nothing is to be trained")


def made(choice: Augmentation, rows: list[LabeledRow] = ROWS) -> list[LabeledRow]:
    given = FewLabels(rows, Classification(), unused)
    found = choice.further(given)
    by_line = {row.line: row for row in rows}
    assert all(row.label == by_line[row.line].label for row in found)
    assert all(row.texts != by_line[row.line].texts for row in found)
    assert [row.texts for row in choice.further(given)] == [row.texts for row in found]
    assert [row.texts for row in replace(choice, seed=choice.seed + 1).further(given)] != [row.texts for row in found]
    return found


def draws(number: int) -> list[np.random.Generator]:
    return [generator(0, AUGMENT, 0, place) for place in range(number)]


@pytest.fixture
def synonyms(tmp_path: Path) -> Path:
    path = tmp_path / "synonyms.txt"
    path.write_text("cat\tkitten, tomcat\ndrill\tborer\n", encoding="utf-8")
    return path


def test_edits_have_the_rates_of_the_paper() -> None:
    """Swaps keep all words; of 20 words, 0.3 of them, 6 are swapped, and each is left out with probability 0.3."""
    words = [f"w{number}" for number in range(20)]
    texts = [edited(" ".join(words), {}, 0.3, rng).split() for rng in draws(400)]
    swapped = [text for text in texts if Counter(text) == Counter(words)]
    shorter = [text for text in texts if len(text) < 20]
    assert len(swapped) + len(shorter) >= 399
    assert 0.4 < len(swapped) / 400 < 0.6
    assert all(2 <= sum(a != b for a, b in zip(text, words, strict=True)) <= 12 for text in swapped)
    assert np.mean([20 - len(text) for text in shorter]) == pytest.approx(6, abs=0.5)
    assert all(sorted(text, key=words.index) == text for text in shorter)


def test_edits_by_synonyms(synonyms: Path) -> None:
    known = read_synonyms(synonyms)
    texts = [edited("The Cat, a drill and a saw", known, 0.3, rng).split() for rng in draws(200)]
    replaced = {" ".join(text) for text in texts if {*text} & {"kitten,", "tomcat,"} or "a borer and" in " ".join(text)}
    assert {f"The {animal}, a borer and a saw" for animal in ("kitten", "tomcat")} <= replaced  # n = ⌊0.3 x 7⌋ = 2
    inserted = [text for text in texts if len(text) == 9]
    assert all(sum(word in ("kitten", "tomcat", "borer") for word in text) == 2 for text in inserted)
    assert 0.15 < len(inserted) / 200 < 0.35
    assert max(map(len, texts)) == 9


def test_copies_are_those_recommended_for_the_number_of_rows(synonyms: Path) -> None:
    """Table 3 of Wei and Zou 2019."""
    choice = RandomEdits()
    assert [choice.number_of_copies(rows) for rows in (10, 500, 501, 2_000, 5_000, 100_000)] == [16, 16, 8, 8, 4, 4]
    assert 0.5 * 3 * len(ROWS) < len(made(RandomEdits(copies=3, synonyms=str(synonyms)))) <= 3 * len(ROWS)
    assert edited("cat", {}, 0.1, draws(1)[0]) == "cat"
    assert edited("", {}, 0.1, draws(1)[0]) == ""


def test_a_share_of_the_tokens_is_replaced(base: Path) -> None:
    """The rest is as it is written, in upper case too, which the model's tokenizer does not know."""
    text = "A CAT and a Dog and a saw and a bird and a horse and a cat ."
    rows = [LabeledRow(number, (text,), "a") for number in range(1, 41)]
    found = made(MaskedReplacement(model=str(base), share=0.2), rows)
    assert len(found) > 30
    changed = [sum(a != b for a, b in zip(row.texts[0].split(), text.split(), strict=True)) for row in found]
    assert max(changed) == 3  # of 16 tokens
    assert np.mean(changed) > 2
    assert not any("[" in row.texts[0] or "##" in row.texts[0] for row in found)
    sure = MaskedReplacement(model=str(base), share=0.2, temperature=0)
    one, other = (sure.changed([text], draws(1), 1) for _ in range(2))
    assert one == other


def test_long_and_empty_texts_are_replaced_in_what_the_model_reads(base: Path) -> None:
    long = "cat dog " * 400
    one, none = MaskedReplacement(model=str(base), share=0.5).changed([long, ""], draws(2), 1)
    read = catalog.load("bert/base").finetuning.max_length
    assert none == ""
    assert one.split()[read:] == long.split()[read:]
    assert one.split()[:20] != long.split()[:20]


def test_texts_are_translated_there_and_back(tmp_path: Path) -> None:
    """By an encoder-decoder with random weights: what it writes is nonsense, the same again."""
    torch.manual_seed(0)
    small = {"layers": 1, "hidden": 32}
    row = catalog.load("t5/tiny").overlay(
        {"tokens": {"vocab_size": 300}, "model": {"encoder": small, "decoder": small}}
    )
    tokenizer = row.tokens.train([" ".join(TEXTS)] * 20)
    row = replace(row, tokens=tokenizer.tokens, finetuning=replace(row.finetuning, max_length=24))
    models.save(tmp_path / "t5", row, row.learner(), tokenizer)
    folder = str(tmp_path / "t5")
    found = made(BackTranslation(there=folder, back=folder), ROWS[:3])
    assert found  # where nothing is written, the text stays, and is no further row
    alone = BackTranslation(there=folder, back=folder).changed(TEXTS[:1], draws(1), 1)
    assert alone[0] in (found[0].texts[0], TEXTS[0])  # whatever other rows there are
    most_likely = BackTranslation(there=folder, back=folder, there_prefix="x ", decoding=Greedy())
    source, task = models.load(tmp_path / "t5"), TextToText(texts=("text",))
    rows = [LabeledRow(1, ("x " + TEXTS[0],), None)]
    abroad = score(source, task, rows)[0][0].predicted
    home = score(source, task, [LabeledRow(1, (str(abroad),), None)])[0][0].predicted
    assert most_likely.changed(TEXTS[:1], draws(1), 1) == [home or TEXTS[0]]


@pytest.fixture(scope="module")
def data(write_rows: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("train", 200, 1), ("validation", 32, 2), ("unlabeled", 40, 3)):
        write_rows(folder / f"{name}.jsonl", count, seed)
    return folder


@pytest.mark.parametrize("kind", ["contrastive", "mixup"])
def test_other_losses_learn_and_are_published_as_a_classifier(
    kind: str, start: Start, data: Path, run: Run, tmp_path: Path
) -> None:
    """The folder is that of any classifier, in Hugging Face's class."""
    task = ContrastiveClassification(weight=0.5) if kind == "contrastive" else Classification()
    choice = Mixup() if kind == "mixup" else None
    files = Files(data / "train.jsonl", data / "validation.jsonl")
    settings = replace(start.recipe.finetuning, epochs=10)
    report = finetune(start, task, files, tmp_path / "out", seeds=(0,), run=run, settings=settings, augmentation=choice)
    assert report.trials[0].metrics["validation"]["accuracy"] > 0.8  # type: ignore[operator]
    found = models.load(tmp_path / "out" / "model")
    assert type(objective_of(found)) is SequenceClassification
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert task.resolved_for(objective_of(found)) == task
    text = json.loads((data / "validation.jsonl").read_text().splitlines()[0])
    line = json.loads((tmp_path / "out" / "seed-0" / "validation.jsonl").read_text().splitlines()[0])
    (answer,) = predict(found, [(text["text"],)])
    assert answer.predicted == line["predicted"]
    assert answer.scores == pytest.approx(line["scores"], abs=1e-5)


def test_confident_labels_are_learned(start: Start, data: Path, run: Run, tmp_path: Path) -> None:
    files = Files(data / "train.jsonl", data / "validation.jsonl")
    settings = replace(start.recipe.finetuning, epochs=8)
    choice = SelfTraining(unlabeled=str(data / "unlabeled.jsonl"), confidence=0.6, rounds=2)
    given: dict[str, Any] = {"seeds": (0,), "run": run, "settings": settings}
    report = finetune(start, Classification(), files, tmp_path / "out", augmentation=choice, **given)
    assert report.augmentation is not None
    assert 0 < report.augmentation.rows <= 40
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["augmentation"]["kind"] == "SelfTraining"
    assert told["data"]["train"]["rows"] == 200 + told["augmentation"]["rows"]
    assert told["data"]["validation"]["rows"] == 32
    assert (tmp_path / "out" / "round-2" / "model").is_dir()
    again = finetune(start, Classification(), files, tmp_path / "out", augmentation=choice, **given)
    assert again.trials == report.trials
    with pytest.raises(UsageError, match="results of other choices"):
        finetune(start, Classification(), files, tmp_path / "out", augmentation=RandomEdits(), **given)


def test_what_cannot_be_is_said(start: Start, data: Path, run: Run, base: Path, tmp_path: Path) -> None:
    files = Files(data / "train.jsonl", data / "validation.jsonl")

    def refused(choice: Augmentation, task: Any = None) -> str:
        with pytest.raises(GenusError) as caught:
            finetune(start, task or Classification(), files, tmp_path / "out", seeds=(0,), run=run, augmentation=choice)
        return str(caught.value)

    assert "is for the classification of texts" in refused(RandomEdits(), Regression(label="share"))
    assert "take --task classification" in refused(Mixup(), ContrastiveClassification())
    assert "missing.txt: synonyms cannot be read" in refused(RandomEdits(synonyms=str(tmp_path / "missing.txt")))
    (tmp_path / "bad.txt").write_text("cat kitten\n")
    assert "bad.txt, line 1: expected a word, a tab" in refused(RandomEdits(synonyms=str(tmp_path / "bad.txt")))
    assert "unlabeled=FILE" in refused(SelfTraining())
    (tmp_path / "other.jsonl").write_text('{"sentence": "a"}\n')
    assert "there is no column 'text'" in refused(SelfTraining(unlabeled=str(tmp_path / "other.jsonl")))
    assert "with model=FOLDER" in refused(MaskedReplacement())
    assert "with there=FOLDER" in refused(BackTranslation())
    row = catalog.load("gpt2/tiny").overlay({"tokens": {"vocab_size": 300}})
    tokenizer = row.tokens.train([" ".join(TEXTS)] * 20)
    row = replace(row, tokens=tokenizer.tokens)
    models.save(tmp_path / "gpt2", row, row.learner(), tokenizer)
    assert "predicts no masked tokens" in refused(MaskedReplacement(model=str(tmp_path / "gpt2")))
