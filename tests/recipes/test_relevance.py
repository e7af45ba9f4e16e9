"""Titles and queries in files, through the command line and a run, to the batches that relevance learns from."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from genus import catalog, pipeline
from genus.cli import main
from genus.files import write_json
from genus.tokens.store import Store
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run
from small import shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

SIGNS = ["Alpha", "Beta", "Gamma", "Delta"]


def row(number: int) -> dict[str, str]:
    """Return a document whose title has marks that would end a sentence of text."""
    title = f"What is {SIGNS[number % 4]}? No {number}!"
    return {"title": title, "text": " ".join(f"Row {number} says {n}." for n in range(1 + number % 5))}


ROWS = [row(number) for number in range(80)]


def two_tasks() -> Recipe:
    """Return a small ERNIE 2.0 of masked tokens and of relevance."""
    small = shrunk(catalog.load("ernie2/tiny"))
    names = ("masked_lm", "relevance")
    kept = [objective.to_json() for objective in small.objectives if objective.name in names]
    stage = small.stages[0].to_json() | {"tasks": [{"objectives": [name]} for name in names]}
    return small.overlay({"objectives": kept, "stages": [stage], "budget": {"amount": 3.0}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relevance")
    texts = {"wiki": ROWS[:60], "queries": ROWS[60:]}
    for name, rows in texts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    write_json(folder / "row.json", two_tasks().to_json())
    arguments = ["pretrain", str(folder / "row.json"), *(str(folder / f"{name}.jsonl") for name in texts)]
    arguments += ["--title", "title", "--out", str(folder / "run")]
    arguments += [word for one in ("device=cpu", "workers=0", "tracker=none") for word in ("--run", one)]
    assert main(arguments) == 0
    return folder / "run"


def learned(folder: Path) -> list[tuple[str, str, int]]:
    """Return (first segment, second segment, label) of a run's first relevance batches, without white space."""
    recipe, tokenizer = catalog.load(folder), Tokenizer.load(folder / "tokenizer")
    store, _ = Store.open(folder / "store", tokenizer).split(Run().held_out)
    (share,) = (one for one in pipeline.training_feed(recipe, store, tokenizer, 0).tasks if "relevance" in one.heads)
    found = []
    for batch in (share.feed[number] for number in range(4)):
        tokens, target = batch.tokens, batch.targets["relevance"]
        for index, label in zip(target.index.tolist(), target.label.tolist(), strict=True):
            if label >= 0:
                end = int(tokens.offsets[tokens.offsets > index][0])
                ids, second = tokens.ids[index:end], tokens.facts["segment"][index:end] == 1
                parts = [plain(tokenizer.decode(ids[which].tolist())) for which in (~second, second)]
                found.append((parts[0], parts[1], label))
    return found


def plain(text: str) -> str:
    """Return a text without white space, which the tokenizer does not keep."""
    return "".join(text.split())


def test_examples_are_titles_and_paragraphs(trained: Path) -> None:
    known = {plain(one["title"]): plain(one["text"]) for one in ROWS}
    found = learned(trained)
    for title, paragraph, label in found:
        own = known[title]
        begins, within = own.startswith(paragraph), paragraph in own
        assert (begins, within) == [(True, True), (False, True), (False, False)][label]
    assert Counter(label for *_, label in found).keys() == {0, 1, 2}
    assert max(paragraph.count(".") for _, paragraph, _ in found) > 1


def test_another_title_is_another_text(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was read without titles is not taken for what has them, nor the other way round."""
    texts = [str(trained.parent / f"{name}.jsonl") for name in ("wiki", "queries")]
    arguments = ["pretrain", str(trained.parent / "row.json"), *texts, "--out", str(trained), "--resume"]
    assert main(arguments) == 1
    assert "was made from the field 'title' and 'text', not 'text'" in capsys.readouterr().err
