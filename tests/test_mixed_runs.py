"""Runs on a mixture of sources: shares, resumption bit for bit, metrics by source, limits and refusals."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from genus import catalog, pipeline
from genus.cli import app
from genus.errors import GenusError, UsageError
from genus.examples.feed.mixing import MixedSource, Mixing
from genus.tokens.store import prepare
from genus.tokens.tokenizer import Tokenizer
from small import RUN, documents, losses, rows, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

STATED = Mixing(sources=(MixedSource(name="one", share=3.0), MixedSource(name="two", share=1.0)))


def small() -> Recipe:
    """Return a small member with a short and a long stage, as BERT's own."""
    recipe = shrunk(catalog.load("bert"))
    short, long = replace(recipe.stages[0], share=0.6), replace(recipe.stages[0], max_length=64, share=0.4)
    return replace(recipe, stages=(short, long))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path | str]]:
    folder = tmp_path_factory.mktemp("texts")
    found = documents(300)
    for name, part in (("one", found[:220]), ("two", found[220:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    return {name: [folder / f"{name}.jsonl"] for name in ("one", "two")}


@pytest.fixture(scope="module")
def trained(texts: dict[str, list[Path | str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mixed"
    pipeline.pretrain(small(), texts, folder, RUN, mixing=STATED)
    return folder


def test_what_was_seen_of_each_source_is_recorded(trained: Path) -> None:
    """Ten steps of 16 rows: of the first stage six, of the second four."""
    steps = [row for row in rows(trained) if "loss" in row]
    told = json.loads((trained / "mixture.json").read_text())["sources"]
    assert {name: one["share"] for name, one in told.items()} == {"one": 0.75, "two": 0.25}
    seen = [[row[f"epochs/{name}"] for name in ("one", "two")] for row in steps]
    assert all(before[0] < after[0] and before[1] <= after[1] for before, after in itertools.pairwise(seen))
    read = [seen[-1][number] * told[name]["tokens"] for number, name in enumerate(("one", "two"))]
    assert read[0] / sum(read) == pytest.approx(0.75, abs=0.08)  # 160 rows in random order


def test_held_out_text_is_measured_by_source(trained: Path) -> None:
    row = rows(trained)[-1]
    for name in ("loss", "masked_lm", "next_sentence"):
        each = [row[f"held_out/{source}/{name}"] for source in ("one", "two")]
        assert row[f"held_out/{name}"] == pytest.approx(0.75 * each[0] + 0.25 * each[1])
        assert each[0] != each[1]
    assert row["held_out/masked_lm/perplexity"] == pytest.approx(math.exp(row["held_out/masked_lm"]))
    card = (trained / "model" / "README.md").read_text()
    assert "0.75 of `one`, 0.25 of `two`" in card


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_bit_for_bit(
    trained: Path, texts: dict[str, list[Path | str]], tmp_path: Path, workers: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-8")
    shutil.rmtree(run / "checkpoints" / "checkpoint-10")
    pipeline.pretrain(small(), texts, run, replace(RUN, workers=workers), mixing=STATED, resume=True)
    assert losses(run) == losses(trained)
    timed = {"seconds", "tokens_per_second", "utilization"}
    assert [{k: v for k, v in row.items() if k not in timed} for row in rows(run)] == [
        {k: v for k, v in row.items() if k not in timed} for row in rows(trained)
    ]


def test_another_mixture_does_not_go_on(trained: Path, texts: dict[str, list[Path | str]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    other = STATED.override("sources.1.share", 2.0)
    with pytest.raises(UsageError, match=r"another mixture \(sources.1.share was 1.0, not 2.0\)"):
        pipeline.pretrain(small(), texts, run, RUN, mixing=other, resume=True)
    with pytest.raises(UsageError, match="made on other text"):
        pipeline.pretrain(small(), texts["one"], run, RUN, resume=True)


def test_a_limit_holds_and_a_larger_budget_is_checked(texts: dict[str, list[Path | str]], tmp_path: Path) -> None:
    """Text that a budget of 10 steps reads: 16 rows of 32 tokens, six times, and of 64, four times."""
    run, read = tmp_path / "run", 6 * 16 * 32 + 4 * 16 * 64
    limited = STATED.override("sources.1.epochs", 0.2)
    pipeline.pretrain(small(), texts, run, RUN, mixing=limited)
    told = json.loads((run / "mixture.json").read_text())["sources"]
    assert told["two"]["share"] == pytest.approx(0.2 * told["two"]["tokens"] / read)
    assert told["two"]["epochs"] == pytest.approx(0.2)
    assert [row for row in rows(run) if "loss" in row][-1]["epochs/two"] < 0.26
    with pytest.raises(UsageError, match=r"two: would be read 0.24 times with this budget, and may be 0.2 times"):
        pipeline.pretrain(small().override("budget.amount", 12), texts, run, RUN, mixing=limited, resume=True)
    short = STATED.override("epochs", 0.1)
    with pytest.raises(UsageError, match=r"the sources give at most [\d,]+ tokens, and the budget reads up to 7,168"):
        pipeline.pretrain(small(), texts, tmp_path / "short", RUN, mixing=short)
    timed = small().override("budget.unit", "seconds")
    with pytest.raises(UsageError, match="the budget is neither in steps nor in tokens or epochs"):
        pipeline.pretrain(timed, texts, tmp_path / "timed", RUN, mixing=short)


def test_old_text_is_replayed_from_its_store(trained: Path, texts: dict[str, list[Path | str]], tmp_path: Path) -> None:
    """What the first run held out is held out of the second too."""
    again: dict[str, Any] = {"old": [trained / "store" / "one"], "new": texts["two"]}
    mixing = Mixing(sources=(MixedSource(name="old", share=1.0), MixedSource(name="new", share=9.0)))
    run = tmp_path / "run"
    pipeline.pretrain(small(), again, run, RUN, mixing=mixing, start=trained / "model")
    assert sorted(path.name for path in (run / "store").iterdir()) == ["new"]
    assert {"held_out/old/loss", "held_out/new/loss"} <= rows(run)[-1].keys()


def test_sources_that_cannot_be_used(trained: Path, texts: dict[str, list[Path | str]], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    words = trained / "tokenizer"
    with pytest.raises(GenusError, match="two: the corpus is empty"):
        pipeline.pretrain(small(), {**texts, "two": [tmp_path / "empty.txt"]}, tmp_path / "run", RUN, words=words)
    with pytest.raises(UsageError, match="the mixture is of one, two, the text of one; name the same"):
        pipeline.pretrain(small(), {"one": texts["one"]}, tmp_path / "run", RUN, mixing=STATED)
    store = prepare(texts["one"], Tokenizer.load(trained / "tokenizer"), tmp_path / "store", workers=1)
    with pytest.raises(UsageError, match="is a prepared store, which needs the tokenizer that made it"):
        pipeline.pretrain(small(), {**texts, "one": [store.folder or ""]}, tmp_path / "run", RUN)


def test_a_mixture_on_the_command_line(texts: dict[str, list[Path | str]], tmp_path: Path) -> None:
    run, asked = CliRunner(), ["--out", str(tmp_path / "run"), "--set", "budget.amount=2", "--run", "device=cpu"]
    asked += ["--set", "tokens.vocab_size=300", "--run", "held_out=0.1", "--json"]
    named = [f"{name}={path}" for name, (path,) in texts.items()]
    done = run.invoke(app, ["pretrain", "bert/tiny", f"{named[0]}:0.5", f"{named[1]}:0.5", "--mix", "epochs=9", *asked])
    assert done.exit_code == 0, done.output
    assert {"one/loss", "two/loss", "loss"} <= json.loads(done.stdout)["progress"]["evaluation"].keys()
    for texts_and_options, message in {
        (f"{named[0]}:heavy", named[1]): "'heavy' is no weight",
        (f"{named[0]}:0.5", named[1]): "two has no weight, and others have",
        (named[0], str(texts["two"][0])): "has no name, and other texts have",
        (*named, "--mix", "epochs=0"): "--mix epochs=0",
        (str(texts["two"][0]), "--mix", "epochs=2"): "--mix: says how texts with names are mixed",
    }.items():
        refused = run.invoke(app, ["pretrain", "bert/tiny", *texts_and_options, *asked])
        assert isinstance(refused.exception, UsageError), refused.output
        assert message in str(refused.exception)
