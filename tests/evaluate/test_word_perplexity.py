"""Perplexity per word, against a slow loop over windows of Hugging Face's GPT-2, and WikiText's counts."""

from __future__ import annotations

import gzip
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from genus.errors import GenusError, UsageError
from genus.evaluate.word_perplexity import detokenized, windows, word_perplexity
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

FLOAT64 = 1e-9
"""Both are float64 sums of a hundred terms."""
TEXT = """ 
 = The Cat = 
 
 The cat sat on the mat , and the dog ( old @-@ fashioned ) ran to the door . The cat 's bird sang " here " . 
 There were 1 @,@ 000 birds : they sang ; the dog ran ! 
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokens = ByteBPE(vocab_size=300, special_tokens=GPT2)
    return write_model(tmp_path_factory.mktemp("gpt2"), "gpt2/tiny", tokens, [detokenized(TEXT)] * 20, WIDE)


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return in_float64(folder)


@pytest.mark.parametrize(("window", "stride"), [(12, 12), (12, 5), (12, 1), (500, 32)])
def test_each_window_by_hand(folder: Path, model: LoadedModel, window: int, stride: int) -> None:
    """Windows begin at multiples of the stride, and each but the first predicts its last `stride` tokens."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float64).eval()
    ids = transformers.AutoTokenizer.from_pretrained(folder)(detokenized(TEXT))["input_ids"]
    total, counted, number = 0.0, 0, 0
    while number == 0 or number * stride + window - stride < len(ids) - 1:
        own = ids[number * stride : number * stride + window + 1]
        with torch.no_grad():
            chances = theirs(torch.tensor([own[:-1]])).logits[0].log_softmax(-1)
        for place in range(len(own) - 1):
            if number == 0 or place >= window - stride:
                total += float(chances[place, own[place + 1]])
                counted += 1
        number += 1
    words = len(TEXT.strip().split(" ")) - 1
    found = word_perplexity(model.learner, model.tokenizer, TEXT, window, stride)
    assert (found.subwords, found.words) == (counted, words) == (len(ids) - 1, words)
    assert found.nats == pytest.approx(total, abs=FLOAT64)
    assert found.per_word == pytest.approx(math.exp(-total / words))
    assert found.per_subword == pytest.approx(math.exp(-total / counted))


def test_every_token_but_the_first_is_predicted_once() -> None:
    import numpy as np

    for size in range(2, 40):
        ids = np.arange(size)
        for window, stride in ((8, 8), (8, 3), (8, 1), (100, 32)):
            found = [token for span in windows(ids, window, stride) for token in span.ids[span.start :].tolist()]
            assert found == list(range(1, size))
            assert all(len(span.ids) <= window + 1 for span in windows(ids, window, stride))


def test_wikitext_as_it_would_be_written() -> None:
    assert detokenized(TEXT) == (
        "\n= The Cat =\n\nThe cat sat on the mat, and the dog (old-fashioned) ran to the door. The cat's bird sang "
        '"here".\nThere were 1,000 birds: they sang; the dog ran!\n'
    )
    assert detokenized(" = = = Early years = = = ") == " === Early years === "


@pytest.mark.shared
def test_words_and_ends_of_lines_of_wikitext_are_counted(shared: Path) -> None:
    """Its published size of 245,569 counts the ends of four lines more than Megatron-LM's code does."""
    with gzip.open(shared / "data" / "wikitext103_eval" / "wiki.test.tokens.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    assert len(text.strip().split(" ")) == 245_566
    assert len(text.split()) + text.count("\n") == 245_569


def test_what_has_no_perplexity_per_word(model: LoadedModel) -> None:
    def asked(text: str = TEXT, **how: Any) -> None:
        word_perplexity(model.learner, model.tokenizer, text, 12, **how)

    for stride in (0, 13):
        with pytest.raises(UsageError, match="stride: expected 1 to 12"):
            asked(stride=stride)
    for text in ("", "word"):
        with pytest.raises(GenusError, match="fewer than two words"):
            asked(text, stride=1)
