"""What is said of the text that is held out, where it is not whole documents or more of them than asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genus.preparation import held_out_of
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.store import Store, prepare
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

SENTENCE = "The old river answers the long letter. "


def store(folder: Path, texts: list[str]) -> Store:
    (folder / "text.txt").write_text("\n\n".join(texts), encoding="utf-8")
    tokenizer = WordPiece(vocab_size=100).train(texts)
    return prepare([folder / "text.txt"], tokenizer, folder / "store")


@pytest.mark.parametrize(
    ("texts", "share", "told"),
    [
        ([SENTENCE * 60] * 2, 0.1, "% of the text, the last sentences of 2 documents, as whole ones would be far more"),
        ([SENTENCE] * 3 + ["One."] * 3, 0.02, "% of the text, 2 whole documents, as no fewer can be: more than"),
        (documents(200), 0.1, ""),
        ([SENTENCE * 60] * 2, 0.0, ""),
    ],
    ids=["two books", "six sentences", "many documents", "nothing is asked"],
)
def test_text_held_out_beyond_its_share_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], texts: list[str], share: float, told: str
) -> None:
    whole = store(tmp_path, texts)
    capsys.readouterr()
    training, validation = held_out_of(whole, share)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (told != "")
    for line in lines:
        held = validation.tokens / (training.tokens + validation.tokens)
        assert line.startswith(f"held out: {held:.1%}")
        assert told in line
        assert f"--run held_out={share:g}; more documents" in line
