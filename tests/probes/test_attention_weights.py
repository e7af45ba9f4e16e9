"""Attention weights beside those that transformers gives of the same folder; what has none is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus.cli import main
from genus.errors import UsageError
from genus.export.folder import load
from genus.probes.attention import attention_weights
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from written import WIDE, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens import TokenizerConfig

CORPUS = ["the cat sat on the mat and the dog ran to the door . a bird sang in the old tree"] * 20
TEXT = "the dog sat <i> on the tree"
ROWS: dict[str, TokenizerConfig] = {
    "bert/tiny": WordPiece(vocab_size=60, lowercase=True), "gpt2/tiny": ByteBPE(vocab_size=300, special_tokens=GPT2)
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_weights_are_those_of_transformers(tmp_path: Path, row: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = write_model(tmp_path, row, ROWS[row], CORPUS, WIDE)
    model = load(folder)
    found = attention_weights(model, TEXT)
    theirs = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    (ids,) = model.tokenizer.encode([TEXT], specials=False)
    framed = model.tokenizer.vocabulary.frame(np.array(ids, np.int64))[0]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(framed)[None], output_attentions=True).attentions
    assert len(found.layers) == len(expected)
    for ours, other in zip(found.layers, expected, strict=True):
        assert np.abs(ours - other[0].numpy()).max() < 1e-5
        assert ours.sum(-1) == pytest.approx(np.ones(ours.shape[:2]), abs=1e-5)
    assert len(found.tokens) == len(framed)


@pytest.mark.parametrize("row", ["reformer/tiny", "linformer/tiny", "transformer-xl/tiny"])
def test_attention_without_weights_is_refused(tmp_path: Path, row: str) -> None:
    model = load(write_model(tmp_path, row, WordPiece(vocab_size=60, lowercase=True), CORPUS))
    with pytest.raises(UsageError, match=r"has no weight for each pair of tokens|do not keep"):
        attention_weights(model, TEXT)


def test_long_and_empty_texts_are_refused(tmp_path: Path) -> None:
    model = load(write_model(tmp_path, "gpt2/tiny", ROWS["gpt2/tiny"], CORPUS))
    for text in ("", "the cat " * 60):
        with pytest.raises(UsageError, match="from 1 to 64 can be shown"):
            attention_weights(model, text)


def test_the_page_has_a_map_of_each_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_model(tmp_path / "model", "bert/tiny", ROWS["bert/tiny"], CORPUS, WIDE), tmp_path / "out"
    assert main(["probe", str(folder), "--attention", TEXT]) == 2
    assert "say where with --out FOLDER" in capsys.readouterr().err
    assert main(["probe", str(folder), "--attention", TEXT, "--out", str(out), "--run", "device=cpu"]) == 0
    page = (out / "attention.html").read_text()
    heads = sum(len(one) for one in attention_weights(load(folder), TEXT).layers)
    assert page.count("<svg") == heads
    assert "<script" not in page
    assert "<i> on" not in page
