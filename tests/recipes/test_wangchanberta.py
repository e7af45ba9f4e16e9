"""WangchanBERTa on real Thai: from government news to the sentiment of messages, pieces and words."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from genus import catalog, pipeline
from genus.export.folder import load
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.tasks.table import rows
from genus.text.segment import DictionaryWords
from genus.train.run import Run

RUN = Run(device="cpu", precision="float32", workers=0, held_out=0.1, log_every=1, tracker="none")
SMALL = [
    "tokens.vocab_size=1500",
    "model.layers=2",
    "model.hidden=64",
    "model.feedforward.size=128",
    "stages=[{max_length=128, batch=8, micro_batch=8}]",
    "budget.amount=30",
    "finetuning.optimizer.lr=3e-3",
    "finetuning.epochs=40",
    "finetuning.batch=8",
    "finetuning.max_length=64",
]
NEWS = 50
"""Of which a vocabulary of 1,500 is made."""
MESSAGES = 24
"""Of which half have one label."""
LEARNED = 0.9
"""Share of these answered as learned; who does not read them reaches the half."""


def few(source: Path, target: Path, number: int) -> Path:
    """Write the first rows of a table as JSON lines."""
    taken = itertools.islice(rows(source), number)
    target.write_text("".join(json.dumps(row) + "\n" for _, row in taken), encoding="utf-8")
    return target


@pytest.mark.shared
@pytest.mark.parametrize("tokens", ["pieces", "words"])
def test_news_to_sentiment(shared: Path, tmp_path: Path, tokens: str) -> None:
    pytest.importorskip("pythainlp")
    data = shared / "data"
    news = few(data / "th_gov_news" / "train.jsonl.xz", tmp_path / "news.jsonl", NEWS)
    other = {"words": ["tokens.kind=PresegmentedWords", "tokens.min_frequency=2"], "pieces": []}[tokens]
    recipe = catalog.load("wangchanberta/tiny", [*other, *SMALL])
    summary = pipeline.pretrain(recipe, [news], tmp_path / "run", RUN)
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first = next(row["loss"] for row in losses if "loss" in row)
    assert summary.progress.loss is not None
    assert summary.progress.loss < first - 0.3
    learned = few(data / "wisesight_sentiment" / "train.jsonl.gz", tmp_path / "train.jsonl", MESSAGES)
    files = Files(learned, validation=Path(shutil.copy(learned, tmp_path / "validation.jsonl")))
    task = Classification(texts=("texts",), label="category")
    model = load(tmp_path / "run" / "model")
    start = Start(model.recipe, model.tokenizer, model.learner)
    report = finetune(start, task, files, tmp_path / "sentiment", seeds=(0,), run=RUN)
    constant = Counter(row["category"] for _, row in rows(learned)).most_common(1)[0][1] / MESSAGES
    assert constant == 0.5
    assert report.trials[0].metrics["validation"]["accuracy"] >= LEARNED
    assert json.loads((tmp_path / "sentiment" / "model" / "config.json").read_text())["model_type"] == "roberta"


@pytest.mark.shared
def test_messages_are_cleaned_as_news_are(shared: Path, tmp_path: Path) -> None:
    """What fine-tuning reads of a text is what pretraining would have: the tokenizer of the model folder cleans."""
    pytest.importorskip("pythainlp")
    news = few(shared / "data" / "th_gov_news" / "train.jsonl.xz", tmp_path / "news.jsonl", 20)
    recipe = catalog.load("wangchanberta/tiny", ["tokens.vocab_size=800", *SMALL[1:], "budget.amount=1"])
    pipeline.pretrain(recipe, [news], tmp_path / "run", RUN)
    tokenizer = load(tmp_path / "run" / "model").tokenizer
    raw, clean = "\u0e14\u0e35\u0e21\u0e32\u0e01\u0e01\u0e01\u0e01\u0e01 ()  OK", "\u0e14\u0e35\u0e21\u0e32\u0e01 ok"
    assert tokenizer.encode([raw]) == tokenizer.encode([clean])
    assert tokenizer.decode(tokenizer.encode([clean])[0]) == clean


def test_rows_differ_by_their_segmenters() -> None:
    words, syllables = (catalog.load(f"wangchanberta/base-{name}").tokens for name in ("words", "syllables"))
    assert words.to_json()["segmenter"] == DictionaryWords().to_json()
    assert syllables.to_json()["segmenter"] == DictionaryWords(units="syllables").to_json()
