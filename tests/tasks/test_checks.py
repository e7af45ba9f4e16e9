"""What is told of a table before training: against slow counts, and on tables in which one thing is wrong."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.evaluate.metrics import Accuracy
from genus.tasks.checks import (
    Checked,
    contradictory,
    leak,
    overlap,
    rare,
    repeated,
    skewed,
    spellings,
)
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.finetune import finetune
from genus.tasks.multi_label import MultiLabel
from genus.tasks.regression import Regression
from genus.tasks.tagging import Tagging
from genus.tasks.text_to_text import TextToText

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.tasks import Task
    from genus.tasks.start import Start
    from genus.train.run import Run

SPACES = st.sampled_from([" ", "  ", "\t", "\n", "\u00a0", ""])
TEXTS = st.tuples(SPACES, st.sampled_from("ab"), SPACES, st.sampled_from("ab"), SPACES).map("".join)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from("xyz")), min_size=1, max_size=12)


def rows(*pairs: tuple[str, Any]) -> list[LabeledRow]:
    return [LabeledRow(line, (text,), label) for line, (text, label) in enumerate(pairs, 1)]


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def numbers(line: str) -> list[int]:
    """Return the numbers in a line."""
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", line)]


@given(ROWS, ROWS, ROWS)
def test_counts_of_rows_that_stand_there_again(train: list, validation: list, test: list) -> None:
    splits = {"train": rows(*train), "validation": rows(*validation), "test": rows(*test)}
    table = Checked(splits, ("text",))
    wanted = []
    for several in (test, validation):
        again = sum(any(plain(text) == plain(other) for other, _ in train) for text, _ in several)
        wanted += [again, len(several)] if again else []
    assert numbers(overlap(table)) == wanted

    before = [[(plain(other), one) for other, one in train[:at]] for at in range(len(train))]
    again = sum((plain(text), label) in known for (text, label), known in zip(train, before, strict=True))
    most = max(sum((plain(text), label) == (plain(a), b) for a, b in train) for text, label in train)
    assert numbers(repeated(table)) == ([again, len(train), most] if again else [])

    distinct = {plain(text) for text, _ in train}
    several = [one for one in distinct if len({label for text, label in train if plain(text) == one}) > 1]
    found = numbers(contradictory(table))
    assert found[:2] == ([len(several), len(distinct)] if several else [])
    if several:
        one, other = (train[line - 1] for line in found[2:])
        assert plain(one[0]) == plain(other[0])
        assert one[1] != other[1]


def test_empty_texts_are_no_duplicates_of_each_other() -> None:
    table = Checked({"train": rows((" ", "a"), ("", "b")), "test": rows(("", "a"))}, ("text",))
    assert [check(table) for check in (overlap, repeated, contradictory)] == ["", "", ""]


def test_pairs_are_alike_if_both_texts_are() -> None:
    pairs = [LabeledRow(number, texts, "x") for number, texts in enumerate([("a", "b c"), ("a b", "c"), ("a", "b  c")])]
    assert numbers(repeated(Checked({"train": pairs}, ("one", "two"))))[0] == 1


@pytest.mark.parametrize(
    ("majority", "told"), [(17, ""), (18, "90.0% of training rows have the label 'a'"), (19, "95.0%")]
)
def test_a_label_of_nearly_all_rows_is_told(majority: int, told: str) -> None:
    labels = ["a"] * majority + ["b"] * (20 - majority)
    found = skewed(Checked({"train": rows(*((str(n), one) for n, one in enumerate(labels)))}, ("text",)))
    assert found.startswith(told)
    assert bool(found) == bool(told)


def test_texts_without_labels_and_labels_of_hardly_any_text() -> None:
    train = rows(*((str(n), ()) for n in range(27)), ("x", ("a", "b")), ("y", ("b",)), ("z", ("b", "c")))
    table = Checked({"train": train}, ("text",), ("a", "b", "c", "d"))
    assert skewed(table).startswith("90.0% of training rows have no label")
    assert rare(table) == "3 of 4 labels have fewer than 2 training rows: 'a', 'c', 'd'"
    names = rows(*((str(n), str(n)) for n in range(40)))
    assert rare(Checked({"train": names}, ("text",))) == ""  # that classes seem to be numbers is told by their remark
    assert Classification().remark(names)


def test_labels_that_differ_in_case_or_white_space() -> None:
    train = rows(("1", "New York"), ("2", "new  york"), ("3", "New York"), ("4", "Boston"))
    told = spellings(Checked({"train": train}, ("text",)))
    assert told.endswith("white space only are different ones: 'New York' (2 rows) and 'new  york' (1 rows)")
    assert spellings(Checked({"train": train[1:2] + train[3:]}, ("text",))) == ""


KINDS = ("sport", "news", "a")


def leaking(share: float, text: Callable[[str], str]) -> Checked:
    """Return a table of which such a share of rows have the label in their second text."""
    draw = random.Random(0)
    labels = [KINDS[number % 3] for number in range(100)]
    texts = [
        ("x" * number, text(label) if number < 100 * share else draw.choice("bc"))
        for number, label in enumerate(labels)
    ]
    return Checked(
        {"train": [LabeledRow(1, pair, label) for pair, label in zip(texts, labels, strict=True)]}, ("one", "two")
    )


@pytest.mark.parametrize("text", [str.title, "It is {}, as usual".format])
def test_a_text_that_holds_the_label_is_told(text: Callable[[str], str]) -> None:
    found = leak(leaking(0.97, text))
    assert found.startswith("column 'two' holds the row's own label in 97.0% of training rows, another row's in ")
    assert not leak(leaking(0.9, text))


def test_a_text_that_holds_all_labels_tells_none() -> None:
    assert not leak(leaking(1.0, lambda _: "news of a sport"))
    assert not leak(Checked({"train": rows(*(("a", "a") for _ in range(50)))}, ("text",)))


@given(st.lists(st.tuples(st.sampled_from(["p", "q", "pq", "r"]), st.sampled_from("pq")), min_size=20, max_size=40))
def test_shares_of_a_leak_are_those_of_slow_counting(pairs: list[tuple[str, str]]) -> None:
    if len({label for _, label in pairs}) < 2:
        return
    own = sum(label in text for text, label in pairs) / len(pairs)
    turned = [pairs[at + 1 :] + pairs[:at] for at in range(len(pairs))]
    others = [next(one for _, one in rest if one != label) for rest, (_, label) in zip(turned, pairs, strict=True)]
    other = sum(one in text for one, (text, _) in zip(others, pairs, strict=True)) / len(pairs)
    assert bool(leak(Checked({"train": rows(*pairs)}, ("text",)))) == (own >= 0.95 and other <= 0.5)


BAD = [
    ("a cat", "A"),
    ("a cat", "a"),
    *[("a dog", "A")] * 3,
    *((f"A: {n} and a dog " + "saw " * n, "A") for n in range(40)),
]


def test_all_at_once_are_ten_lines_at_most_and_nothing_is_changed(
    start: Start, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "validation", "test"):
        lines = "".join(f'{{"text": "{text}", "label": "{label}"}}\n' for text, label in [*BAD, ("", "A")])
        (tmp_path / f"{split}.jsonl").write_text(lines)
    settings = replace(start.recipe.finetuning, epochs=1.0)
    task = Classification(metrics=(Accuracy(),))
    report = finetune(start, task, Files.find(tmp_path), tmp_path / "out", settings=settings, seeds=(0,), run=run)
    said = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("fine-tuning")]
    assert len(said) <= 10
    for part in (
        "45 of 46 test rows and 45 of 46 validation rows have the text of a training row",
        "2 of 46 training rows repeat an earlier one, label included; the commonest stands there 3 times",
        "1 of 42 training texts have different labels in different rows, as in lines 1 and 2",
        "97.8% of training rows have the label 'A'",
        "1 of 2 labels have fewer than 2 training rows: 'a'",
        "'A' (45 rows) and 'a' (1 rows)",
        "train: 1 of 46 rows have an empty text",
        "are longer than finetuning.max_length=32 tokens and lose their end, ",
    ):
        assert [line for line in said if part in line], (part, said)
    assert report.data["train"].rows == 46


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        (Classification(), {"repeated", "contradictory", "skewed", "leak"}),
        (Regression(), {"repeated", "contradictory", "leak"}),
        (MultiLabel(), {"repeated", "contradictory", "skewed", "leak"}),
        (Tagging(), {"repeated", "contradictory"}),
        (TextToText(), {"repeated"}),
    ],
)
def test_a_task_is_checked_for_what_its_labels_can_be(task: Task, wanted: set[str]) -> None:
    """Two texts that stand in many rows, nearly all with the label that they begin with."""
    train = rows(*[("1 x", "1")] * 47, ("1 x", "2"), ("2 x", "2"))
    table = Checked({"train": train}, ("text",))
    assert {check.__name__ for check in task.checks if check(table)} == wanted


def test_the_order_of_several_labels_says_nothing() -> None:
    train = rows(("x", ("a", "b")), ("x", ("b", "a", "a")))
    (line,) = MultiLabel().checked({"train": train}, MultiLabel().objective(["a", "a", "b", "b"]))
    assert line.startswith("1 of 2 training rows repeat an earlier one")
