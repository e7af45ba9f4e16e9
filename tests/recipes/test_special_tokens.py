"""A recipe whose objectives need special tokens that its vocabulary lacks is refused, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genus import catalog
from genus.cli import main
from genus.errors import UsageError
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = "needs a special token for mask, which tokens.special_tokens lacks"


@pytest.mark.parametrize(("name", "kind"), [("bert/tiny", "MaskedLM"), ("electra/tiny", "MaskedLMGenerator")])
def test_masking_needs_a_mask(name: str, kind: str) -> None:
    with pytest.raises(UsageError, match=f"{kind} {NEEDED}") as caught:
        catalog.load(name).with_tokens(ByteBPE(vocab_size=300, special_tokens=GPT2))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=NEEDED):
        catalog.load(name, ["tokens.special_tokens.mask=null"])


def test_what_masks_nothing_needs_none() -> None:
    xlnet = catalog.load("xlnet/tiny")
    assert xlnet.overlay({"tokens": {"special_tokens": {"mask": None}}}).tokens.special_tokens.mask is None


def test_a_given_tokenizer_is_refused_before_the_text_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ByteBPE(vocab_size=300, special_tokens=GPT2).train(["some text"]).save(tmp_path / "words")
    (tmp_path / "corpus.txt").write_text("some text\n\nand more\n")
    arguments = ["pretrain", "bert/tiny", str(tmp_path / "corpus.txt"), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--tokenizer", str(tmp_path / "words")]) == 2
    found = capsys.readouterr().err.strip()
    assert NEEDED in found
    assert "\n" not in found
    assert not (tmp_path / "run" / "store").exists()
