"""The gradient-based attack finds a planted weakness, always the same way, and only real errors count."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus.attack import Attack, Attempt, Example
from genus.attack.gbda import GBDA, attacked_texts
from genus.attack.models import Models
from genus.attack.outcomes import Outcome, Report
from genus.attack.table import AttackedTable
from genus.attack.tokens import AttackedText, changed_share
from genus.attack.transfer import Transfer
from genus.errors import GenusError, UsageError
from genus.tasks.classification import Classification
from genus.tasks.dataset import LabeledRow
from genus.tasks.predict import predict
from genus.tokens.algorithms.byte_bpe import ByteBPE
from small import documents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from genus.attack import Progress
    from genus.attack.target import Target
    from genus.tokens.tokenizer import Tokenizer

QUICK = GBDA(similarity=0.0, fluency=0.0, samples=40)
"""The paper's steps without constraints: those of random models are noise."""


QUIET = 1
"""Index of the class, whose names are sorted."""


def run(models: Models, attack: Attack, rows: Sequence[LabeledRow], folder: Path, **more: Any) -> list[Outcome]:
    return AttackedTable(models, attack, rows, folder / "rows.jsonl", **more).outcomes(folder)


def without_time(found: list[Outcome]) -> list[dict[str, Any]]:
    return [{**asdict(one), "seconds": 0.0} for one in found]


def test_it_finds_the_planted_weakness(models: Models, quiet: list[LabeledRow], tmp_path: Path) -> None:
    found = run(models, QUICK, quiet, tmp_path)
    assert all(one.right for one in found)
    fooled = [one for one in found if one.fooled]
    assert len(fooled) >= 5
    for one in fooled:
        assert "zebra" in one.changed.lower()
        assert one.after == "loud"
        assert 1 <= one.queries <= QUICK.samples
        assert 0 < one.tokens_changed < 1
        (told,) = predict(models.target.model, [(one.changed,)])
        assert told.predicted == one.after, "told of its characters by another way"
    loud = [LabeledRow(1, ("The zebra, a cat and a dog.",), "loud")]
    (one,) = run(models, QUICK, loud, tmp_path / "loud")
    assert "zebra" not in one.changed.lower() or not one.fooled


def test_what_is_not_a_word_stays_and_so_does_the_spelling(models: Models, quiet: list[LabeledRow]) -> None:
    example = Example(0, quiet[0].texts, QUIET, 0)
    (attempt,) = QUICK.attempts(models, [example], lambda _: None)
    assert attempt.samples is not None
    for text in attempt.samples(0, 25):
        assert "".join(mark for mark in text if not mark.isalnum() and not mark.isspace()) == ",."
        assert "[" not in text
        assert "##" not in text


def test_the_same_seed_finds_the_same_texts_alone_or_together(models: Models, quiet: list[LabeledRow]) -> None:
    several = [Example(number, row.texts, QUIET, 0) for number, row in enumerate(quiet[:3])]
    together = QUICK.attempts(models, several, lambda _: None)
    again = QUICK.attempts(models, several, lambda _: None)
    assert together == again
    (alone,) = QUICK.attempts(models, several[1:2], lambda _: None)
    assert alone.text == together[1].text
    other = replace(QUICK, seed=1).attempts(models, several, lambda _: None)
    drawn = [attempt.samples(0, 12) for attempt in (*together, *other) if attempt.samples is not None]
    assert drawn[:3] != drawn[3:]
    first = together[0].samples
    assert first is not None
    assert [*first(0, 7), *first(7, 16)] == [*first(0, 23)]


def test_it_goes_on_where_it_was_stopped(
    models: Models, quiet: list[LabeledRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genus.attack.gbda.VALUES", 10 * 24 * 140)  # two texts at a time or so
    table = AttackedTable(models, QUICK, quiet, tmp_path / "rows.jsonl")
    examples = table.examples
    assert 1 < len(QUICK.groups(models, examples)) < len(examples)
    whole = table.outcomes(tmp_path / "whole")

    def stopping(done: float, total: int) -> None:
        if done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.outcomes(tmp_path / "stopped", progress=stopping)
    lines = (tmp_path / "stopped" / "outcomes.jsonl").read_text().splitlines()
    assert 1 <= len(lines) < len(quiet)
    seen: list[float] = []
    found = table.outcomes(tmp_path / "stopped", progress=lambda done, _: seen.append(done))
    assert without_time(found) == without_time(whole)
    assert min(seen) >= len(lines), "what was finished is not done again"
    assert table.outcomes(tmp_path / "stopped", limit=2) == found[:2]
    with pytest.raises(UsageError, match=r"another choice of attack; take another folder$"):
        replace(table, attack=replace(QUICK, kappa=1.0)).outcomes(tmp_path / "stopped")
    (tmp_path / "stopped" / "outcomes.jsonl").write_text("{")
    with pytest.raises(GenusError, match="is damaged"):
        table.outcomes(tmp_path / "stopped")


def test_the_other_text_of_a_pair_never_changes(
    classifier: Callable[..., Target], quiet: list[LabeledRow], tmp_path: Path
) -> None:
    target = classifier(Classification(texts=("one", "two")))
    rows = [replace(row, texts=(row.texts[0], "A dog and a river.")) for row in quiet]
    for which, place in (("second", 1), ("first", 0)):
        choice = replace(QUICK, text=which, iterations=10, initial=2.0)
        found = run(Models.of(target, ["a dog"]), choice, rows, tmp_path / which)
        assert any(one.changed != one.texts[place] for one in found)
        for one, row in zip(found, rows, strict=True):
            assert one.texts == row.texts
            assert one.attacked == place
            asked = [*row.texts]
            asked[place] = one.changed
            (told,) = predict(target.model, [tuple(asked)])
            assert told.predicted == one.after


def test_only_what_is_told_of_the_characters_counts(
    models: Models, quiet: list[LabeledRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attack may say of its tokens what it likes."""

    def claimed(_: GBDA, __: Models, examples: Sequence[Example], progress: Progress) -> list[Attempt]:
        return [Attempt(one.text.replace("cat", "dog"), 1) for one in examples]

    monkeypatch.setattr(GBDA, "attempts", claimed)
    found = run(models, QUICK, quiet, tmp_path)
    assert not any(one.fooled for one in found)
    assert {one.after for one in found} == {"quiet"}


def test_a_classifier_at_chance(classifier: Callable[..., Target], quiet: list[LabeledRow], tmp_path: Path) -> None:
    """Some rows, or all, are wrong before: nothing is tried on them, and all numbers are defined."""
    target = classifier()
    told = [target.classes[index] for index in target.told([row.texts for row in quiet])]
    wrong = [
        replace(row, label="loud" if label == "quiet" else "quiet") for row, label in zip(quiet, told, strict=True)
    ]
    models = Models.of(target, [row.texts[0] for row in quiet])
    found = run(models, replace(QUICK, iterations=5), wrong, tmp_path / "wrong")
    report = Report("m", "t", QUICK.written(), {}, [], found, target.classes)
    assert [one.mean for one in report.accuracies.values()] == [0.0, 0.0]
    assert all(one.queries == 0 and one.changed == one.texts[0] for one in found)
    assert report.to_json()["distributions"]["BERTScore recall"] is None
    half = [wrong[0], *(replace(row, label=label) for row, label in zip(quiet[1:], told[1:], strict=True))]
    found = run(models, replace(QUICK, iterations=5), half, tmp_path / "half")
    report = Report("m", "t", QUICK.written(), {}, [], found, target.classes)
    assert report.accuracies["accuracy before"].mean == pytest.approx(5 / 6)
    assert report.accuracies["accuracy after"].mean <= 5 / 6


def test_transfer_asks_about_the_same_samples(models: Models, quiet: list[LabeledRow], tmp_path: Path) -> None:
    """To itself: the sample that fools is the same, and so is how many were asked about."""
    found = run(models, QUICK, quiet, tmp_path, transfer=Transfer(models.target, 40))
    for one in found:
        assert one.transferred is not None
        assert one.transferred.right
        assert one.transferred.fooled == one.fooled
        assert one.transferred.queries == one.queries
        assert one.transferred.text == (one.changed if one.fooled else None)
    report = Report("m", "t", QUICK.written(), {}, [], found, models.target.classes, "itself")
    told = report.accuracies
    assert told["accuracy of the other after"].mean == told["accuracy after"].mean
    assert Outcome.from_json(asdict(found[0])) == found[0]


def test_a_classifier_of_other_labels_is_refused(
    models: Models, classifier: Callable[..., Target], tmp_path: Path
) -> None:
    other = classifier()
    strange = replace(other, objective=replace(other.objective, labels=("quiet", "soft")))
    with pytest.raises(GenusError, match="does not know the label 'loud'"):
        Transfer(strange).check(models.target, tmp_path)


def test_models_of_another_vocabulary_are_refused(models: Models) -> None:
    other = ByteBPE(vocab_size=300).train(documents())
    strange = replace(models, fluency=replace(models.fluency, tokenizer=other))  # type: ignore[type-var]
    with pytest.raises(UsageError, match=r"^--fluency: its vocabulary .* genus pretrain gpt2/mini TEXT --tokenizer"):
        GBDA().check(strange)
    replace(GBDA(), fluency=0.0).check(strange)
    with pytest.raises(UsageError, match="does not predict the next token"):
        GBDA().check(replace(models, fluency=models.masked))
    encoder = replace(models.encoder, tokenizer=other)
    with pytest.raises(UsageError, match=r"^--encoder: its vocabulary"):
        GBDA().check(replace(models, encoder=encoder))


def text_of(text: str, tokenizer: Tokenizer, kept: int = 99) -> AttackedText:
    return AttackedText.of(Example(0, (text,), 0, 0), tokenizer, kept)


def test_what_did_not_change_is_written_as_it_was(vocabulary: Tokenizer) -> None:
    text = text_of("The  CAT,\ta   saw and catdog.", vocabulary)
    pieces = vocabulary.pieces
    ids = text.ids[text.movable].tolist()
    assert [pieces[one] for one in ids][:4] == ["the", "cat", "a", "saw"]
    assert text.written(ids) == "The  CAT,\ta   saw and catdog."
    horse, part = pieces.index("horse"), next(n for n, piece in enumerate(pieces) if piece == "##a")
    assert text.written([ids[0], horse, *ids[2:]]) == "The  horse,\ta   saw and catdog."
    assert text.written([ids[0], ids[1], ids[2], part, *ids[4:]]) == "The  CAT,\taa and catdog."
    inner = [place for place, one in enumerate(ids) if not vocabulary.vocabulary.word_start[one]]
    swapped = [*ids]
    swapped[inner[0]] = horse
    assert " horse" in text.written(swapped)
    assert not text.movable[[pieces[one] in ",." for one in text.ids]].any()
    assert text.movable.sum() == len(text.ids) - 2


def test_words_of_bytes_keep_their_spaces() -> None:
    tokenizer = ByteBPE(vocab_size=400).train(documents())
    text = text_of("The old river carries seven stones.", tokenizer)
    for place in range(int(text.movable.sum())):
        ids = text.ids[text.movable].copy()
        ids[place] = ids[-1] if place == 0 else ids[0]
        written = text.written(ids.tolist())
        assert "  " not in written
        assert written.endswith(".")


def test_what_is_cut_off_stays(models: Models) -> None:
    long = "cat " * 40 + "end"
    (text,) = attacked_texts(models, [Example(0, (long,), 0, 0)])
    assert len(text.ids) == 30, "finetuning.max_length, without two special tokens"
    horse = models.target.model.tokenizer.encode(["horse"])[0][0]
    written = text.written([horse] * 30)
    assert written == "horse " * 30 + "cat " * 10 + "end"


def test_a_text_of_nothing_but_marks_is_left_alone(models: Models) -> None:
    several = [Example(0, ("., , .",), 0, 0), Example(1, ("",), 0, 0)]
    assert [one.text for one in QUICK.attempts(models, several, lambda _: None)] == ["., , .", ""]


def test_the_share_of_changed_tokens() -> None:
    assert changed_share([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert changed_share([1, 2, 3, 4], [1, 9, 3, 4]) == 0.25
    assert changed_share([1, 2, 3, 4], [9, 1, 2, 3, 4, 9]) == 0
    assert changed_share([1, 2, 3, 4], [5, 6]) == 1
    assert changed_share([], [1]) == 0


def test_groups_are_bounded(models: Models) -> None:
    several = [Example(number, ("cat " * 20,), 0, 0) for number in range(5)]
    groups = QUICK.groups(models, several)
    assert [one for group in groups for one in group] == several
    assert np.sum([len(group) for group in groups]) == 5
