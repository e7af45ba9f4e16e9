"""Perplexity of documents, against transformers' reading of the same folder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

import curated
from genus.curate import Curation
from genus.curate.document import Document
from genus.curate.perplexity import Perplexity, range_of, windows
from genus.errors import GenusError, UsageError
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from small import documents
from written import WIDE, write_model

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = documents(6)
LENGTH = 32
SHORT = (
    f"model.embedding.position.length={LENGTH}",
    f"stages=[{{max_length={LENGTH}, batch=8, micro_batch=8}}]",
    f"finetuning.max_length={LENGTH}",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads 32 tokens at once."""
    tokens = ByteBPE(vocab_size=300, special_tokens=GPT2)
    folder = tmp_path_factory.mktemp("model") / "model"
    return write_model(folder, "gpt2/tiny", tokens, TEXTS, WIDE, *SHORT)


def by_transformers(folder: Path, texts: list[str]) -> list[float]:
    """Return the perplexities of texts of one window, each after the token between texts."""
    transformers = pytest.importorskip("transformers")
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).double().eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts:
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            found.append(math.exp(float(network(ids, labels=ids).loss)))
    return found


def test_a_short_text_as_transformers_reads_it(model: Path) -> None:
    texts = ["a small train", "every teacher builds a narrow bridge"]
    assert Perplexity(model=str(model)).measured(texts) == pytest.approx(by_transformers(model, texts), rel=1e-4)


def test_windows_predict_each_token_once() -> None:
    import numpy as np

    for size in range(1, 40):
        ids = np.arange(size)
        for window in (1, 2, 5, 8):
            found = windows(ids, window)
            assert [int(one) for span in found for one in span.ids[span.start :]] == ids.tolist()
            assert all(len(span.ids) <= window for span in found)
            assert all(span.start >= window // 2 for span in found[1:])


def test_a_long_text_is_read_in_windows(model: Path) -> None:
    """Each window's tokens by transformers, with the same tokens before them."""
    import numpy as np

    transformers = pytest.importorskip("transformers")
    network = transformers.AutoModelForCausalLM.from_pretrained(model).double().eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    text = " ".join(TEXTS)[:600]
    ids = tokenizer(text)["input_ids"]
    assert len(ids) > 3 * LENGTH
    nats = 0.0
    for span in windows(np.array(ids), LENGTH):
        given, start = (
            (span.ids.tolist(), span.start) if span.start else ([tokenizer.eos_token_id, *span.ids.tolist()], 1)
        )
        with torch.no_grad():
            logits = network(torch.tensor([given[:-1]])).logits[0].log_softmax(-1)
        nats += sum(float(logits[place - 1, given[place]]) for place in range(start, len(given)))
    (found,) = Perplexity(model=str(model)).measured([text])
    assert found == pytest.approx(math.exp(-nats / len(ids)), rel=1e-4)


def test_bounds_are_kept(model: Path, tmp_path: Path) -> None:
    step = Perplexity(model=str(model))
    values = step.measured(TEXTS)
    low, high = sorted(values)[1], sorted(values)[-2]
    path = curated.write(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    chosen = Perplexity(model=str(model), between=(low * 0.999, high * 1.001))
    report = curated.clean(Curation(steps=(chosen,)), [path], tmp_path / "out")
    found = curated.read(tmp_path / "out")
    assert [one["text"] for one in found] == [
        text for text, value in zip(TEXTS, values, strict=True) if low <= value <= high
    ]
    assert {rule: one["documents"] for rule, one in report["removed"]["0 Perplexity"].items()} == {
        "too_low": 1,
        "too_high": 1,
    }
    assert found[0]["perplexity"] in [pytest.approx(value, rel=1e-4) for value in values]
    assert sum(one["documents"] for one in report["groups"]["0 Perplexity"].values()) == len(TEXTS)


def test_one_text_does_not_change_another(model: Path) -> None:
    step = Perplexity(model=str(model))
    together = step.measured(TEXTS)
    assert [step.measured([text])[0] for text in TEXTS] == pytest.approx(together, rel=1e-5)
    outcomes = [*step.outcomes([Document(text, {}) for text in TEXTS])]
    assert [one.facts["perplexity"] for one in outcomes] == pytest.approx(together, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1.0, "1 to 2"),
        (1.99, "1 to 2"),
        (2.0, "2 to 5"),
        (5.0, "5 to 10"),
        (99.9, "50 to 100"),
        (1e6, "1e+06 to 2e+06"),
    ],
)
def test_ranges(value: float, name: str) -> None:
    assert range_of(value) == name


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="there is no such folder"):
        Perplexity(model=str(tmp_path / "nothing")).check()
    with pytest.raises(ValueError, match="no perplexity is at least 3 and at most 2"):
        Perplexity(model="x", between=(3, 2))
    folder = write_model(tmp_path / "bert", "bert/tiny", WordPiece(vocab_size=200), TEXTS)
    with pytest.raises(UsageError, match="does not predict the next token"):
        Perplexity(model=str(folder)).check()


def test_a_changed_model_is_noticed(model: Path, tmp_path: Path) -> None:
    import shutil

    own: Any = shutil.copytree(model, tmp_path / "model")
    path = curated.write(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    choice = Curation(steps=(Perplexity(model=str(own)),))
    curated.clean(choice, [path], tmp_path / "out")
    (own / "config.json").write_text((own / "config.json").read_text() + "\n")
    with pytest.raises(UsageError, match=r"with other choices .files."):
        curated.clean(choice, [path], tmp_path / "out")
