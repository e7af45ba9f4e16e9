"""The quickstart, on few packages and few tokens: what is shown is there, and nothing is done twice."""

from __future__ import annotations

import html
import json
import re
import sysconfig
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch

from genus import catalog, load_model
from genus.cli import main, quickstart, quickstart_time
from genus.cli.plot import BOTTOM, HEIGHT, LEFT, TICKS, TOP, WIDTH, ticks
from genus.cli.quickstart_page import figure, read_curve
from genus.text import installed
from genus.train import timing
from genus.train.step import PendingResult, TrainStep

if TYPE_CHECKING:
    from genus.batch import Batch

OVERLAY = 'base = "genus/tiny"\n[finetuning]\nepochs = 1\nmax_length = 32\n'
TOKENS, STEP = 20_000, 16 * 64
"""Of a run, and of one update at most."""


@pytest.fixture
def few_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take two packages of the standard library for all there are, and a smaller row."""
    root = Path(sysconfig.get_paths()["stdlib"])
    roots = [(name, root / name) for name in ("email", "asyncio")]
    read = installed.read
    monkeypatch.setattr(installed, "read", lambda workers, progress: read(roots, 1, progress))
    monkeypatch.setattr(installed, "make", partial(installed.make, validation=20))
    (tmp_path / "tiny.toml").write_text(OVERLAY)
    monkeypatch.setattr(quickstart, "RECIPE", str(tmp_path / "tiny.toml"))
    monkeypatch.setattr(quickstart, "WHOLE", quickstart.Size(tokens=TOKENS, seeds=2, sentences=40))
    monkeypatch.setattr(quickstart, "QUICK", quickstart.Size(tokens=TOKENS // 4, seeds=1, sentences=20))


@pytest.mark.usefixtures("few_packages")
def test_it_goes_all_the_way_and_does_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["quickstart", "--out", str(tmp_path / "out")]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert all(f"{step}/5 " in captured.err for step in range(1, 6))
    assert re.search(r"about \d+ (seconds|minutes) on this machine", captured.err.partition("2/5 ")[0])
    assert found["text"]["labels"] == ["as written", "reversed"]
    assert found["accuracy"]["pretrained"]["runs"] == found["accuracy"]["random"]["runs"] == 2
    assert list(found["completions"]) == list(quickstart.SENTENCES)
    assert all(len(words) == 5 for words in found["completions"].values())
    assert all(load_model(Path(model)).learner.heads for model in found["models"].values())
    (state,) = (tmp_path / "out" / "genus-mini" / "checkpoints").glob("*/state.json")
    assert TOKENS <= json.loads(state.read_text())["progress"]["tokens"] < TOKENS + STEP
    assert main(command) == 0
    printed = capsys.readouterr().out
    for start in ("pretrained", "random"):
        assert f"{found['accuracy'][start]['mean']:.4f} [" in printed
    assert f"{found['held_out']['masked_lm/correct']:.1%} of the masked tokens" in printed
    assert printed.count("in the Hugging Face layout") == 2
    assert printed.count("\n  genus ") == 4
    assert str(tmp_path / "out" / "genus-mini") in printed


class Tags(HTMLParser):
    """The tags of a page, and whether each is closed by its own end."""

    VOID: ClassVar[set[str]] = {"meta", "link", "img", "br"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}, "the page needs no other file"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.usefixtures("few_packages")
def test_the_page_holds_all_that_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --quick too: one seed has no interval, and nothing is claimed of it."""
    assert main(["quickstart", "--quick", "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    page = Path(found["page"]).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert {"svg", "table", "pre", "style"} <= tags.seen
    assert ": pretraining helps" not in page
    told = [f"{found['accuracy'][start]['mean']:.4f}" for start in ("pretrained", "random")]
    assert all(html.escape(text) in page for text in [*told, *quickstart.SENTENCES, str(found["models"]["pretrained"])])
    train, held_out = read_curve(tmp_path / "out" / "genus-mini" / "metrics.jsonl", "masked_lm")
    assert len(held_out) >= 1
    assert [tokens for tokens, _ in train] == sorted(tokens for tokens, _ in train)


def test_curves_lie_within_the_figure() -> None:
    """Whatever the losses are; markup in a sentence is text."""
    drawn = figure([(0, 9.5), (1e6, 4.25)] * 7, [(2e6, 0.5)])
    points = [tuple(map(float, point)) for point in re.findall(r"[ML]([\d.]+) ([\d.]+)", drawn)]
    assert all(LEFT <= x <= WIDTH and TOP <= y <= HEIGHT - BOTTOM for x, y in points)
    assert drawn.count(" L") == 13
    assert "<svg" not in figure([], [])


@pytest.mark.parametrize("right", [1.0, 4_999.0, 1e6, 2.3e6, 5e6, 9.99e8])
def test_labels_of_the_axis_are_round_numbers_within_it(right: float) -> None:
    found = ticks(right)
    assert found[0] == 0
    assert 2 < len(found) <= TICKS + 1
    assert found[-1] <= right < found[-1] + found[1]
    assert f"{found[1]:e}"[0] in "125"
    assert float(f"{found[1]:.0e}") == pytest.approx(found[1])


def test_no_text_that_the_model_reads_holds_a_sentence(few_packages: None, tmp_path: Path) -> None:
    """Nor the longer side of one, with whatever word at the mask and in whatever case."""
    modules = installed.read(1, lambda done, total: None)  # type: ignore[call-arg, arg-type]
    told = [text.replace("[MASK]", "word") for text in quickstart.SENTENCES]
    modules.append(installed.Module("told", [f"A text before it.\n\n{text.upper()}" for text in told], told))
    for unread, held in (((), len(told)), (quickstart.FIXED, 0)):
        made = installed.make(modules, tmp_path / str(held), train=20, unread=unread)
        corpus = " ".join(made.corpus.read_text(encoding="utf-8").lower().split())
        assert sum(text.lower() in corpus for text in told) == held


def test_the_time_is_that_of_steps_that_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is one of the recipe, on as many targets as it masks; who asks for the time draws other numbers after."""
    recipe = catalog.load("genus/tiny", ["objectives.0.masking.rate=0.5"])
    learned: list[int] = []
    step = TrainStep.__call__

    def seen(self: TrainStep, batches: dict[int, Batch], *rest: object) -> PendingResult:
        learned.append(len(batches[0].targets["masked_lm"].label))
        return step(self, batches, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainStep, "__call__", seen)
    monkeypatch.setattr(quickstart_time, "LOOKED_AT", 0.1)
    state = torch.get_rng_state()
    assert 0 < quickstart_time.seconds_a_step(recipe) < 10
    assert torch.equal(state, torch.get_rng_state())
    assert len(learned) > timing.FIRST
    assert set(learned) == {STEP // 2}
    monkeypatch.setattr(quickstart_time, "seconds_a_step", lambda recipe: 0.5)
    none, tokens, sentences = (
        quickstart_time.seconds_needed(recipe, *amount) for amount in ((0, 0), (STEP, 0), (0, 100))
    )
    assert none == quickstart_time.REST
    assert 0.5 < tokens - none < 0.6, "a row is not quite full"
    assert sentences - none == pytest.approx((tokens - none) * 100 * quickstart_time.SENTENCE / STEP)


def test_the_completions_that_count_are_words_that_fit() -> None:
    """Ten sentences or more, each with one mask, and content words in lower case, as the tokenizer writes them."""
    assert len(quickstart.SENTENCES) >= 10
    assert all(text.count("[MASK]") == 1 for text in quickstart.SENTENCES)
    assert all(len(side.split()) >= 4 for side in quickstart.FIXED), "short ones stand in many texts"
    words = set().union(*quickstart.SENTENCES.values())
    assert all(word.isalpha() and word.islower() for word in words)
    assert not words & {"the", "a", "an", "of", "is", "to"}
