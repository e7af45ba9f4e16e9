"""The examples of the page on serving, run against a server of small models."""

from __future__ import annotations

from pathlib import Path

import pytest

from genus.objectives.supervised.embedding import SentenceEmbedder
from genus.objectives.supervised.sequence import SequenceClassification
from serving import running, small_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serve.md"


def test_the_examples_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for needed in ("openai", "huggingface_hub", "tritonclient.http"):
        pytest.importorskip(needed)
    folders = {
        "minilm": small_model(tmp_path / "minilm", objective=SentenceEmbedder()),
        "gpt": small_model(tmp_path / "gpt", "gpt2/tiny"),
        "sst2": small_model(tmp_path / "sst2", objective=SequenceClassification(labels=("good", "bad"))),
    }
    examples = [part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split("```python\n")[1:]]
    assert len(examples) == 3
    with running(folders) as address:
        for code in examples:
            exec(compile(code.replace("localhost:8000", address), str(PAGE), "exec"), {})
    told = capsys.readouterr().out
    assert "good" in told or "bad" in told
