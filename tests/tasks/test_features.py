"""Hidden states of chosen layers: those of transformers' classes, of texts read one by one without padding."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.errors import UsageError
from genus.export.folder import LoadedModel, load
from genus.objectives.pooling import First, Last
from genus.tasks.features import Features, feature_blocks
from small import documents
from written import WIDE, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tasks.features import Unit

TEXTS = ["the old river carries a long letter", "seven stones", "", "Small numbers, once again", "seven stones"]
LAYERS = (-2, -1, 0)


def written(folder: Path, row: str) -> LoadedModel:
    tokens = replace(catalog.load(row).tokens, vocab_size=350)
    write_model(folder, row, tokens, documents(60), *([WIDE] if "xlnet" not in row else []))
    return load(folder)


def read(model: LoadedModel, per: Unit = "text", texts: list[str] = TEXTS, **given: Any) -> Features:
    given = {"layers": LAYERS} | given
    found = [*feature_blocks(model, texts, per=per, **given)]
    places = [place for one in found for place in one.places]
    before = np.cumsum([0, *(one.texts for one in found)])
    rows = np.concatenate([one.rows + start for one, start in zip(found, before, strict=False)])
    return Features(len(texts), rows, np.concatenate([one.vectors for one in found]), places)


@pytest.mark.parametrize("row", ["bert/tiny", "roberta/tiny", "gpt2/tiny", "xlnet/tiny", "albert/tiny"])
def test_states_of_layers_equal_transformers(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    model = written(tmp_path, row)
    reference = transformers.AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    width = model.recipe.model.width
    tokens, pooled = read(model, "token"), read(model)
    first, last = (read(model, pooling=one) for one in (First(), Last()))
    for number, text in enumerate(TEXTS):
        inputs = tokenizer(text, return_tensors="pt")
        mine = tokens.vectors[tokens.rows == number]
        if not inputs["input_ids"].numel():
            assert not len(mine)
            assert not pooled.vectors[number].any()
            continue
        with torch.no_grad():
            hidden = reference(**inputs, output_hidden_states=True).hidden_states
        expected = torch.cat([hidden[layer][0] for layer in LAYERS], -1).numpy()
        assert expected.shape[1] == len(LAYERS) * width
        bound = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(mine, expected, rtol=0, atol=bound)
        np.testing.assert_allclose(pooled.vectors[number], expected.mean(0), rtol=0, atol=bound)
        np.testing.assert_allclose(first.vectors[number], expected[0], rtol=0, atol=bound)
        np.testing.assert_allclose(last.vectors[number], expected[-1], rtol=0, atol=bound)
        there = [place for place, at in zip(tokens.places, tokens.rows, strict=True) if at == number]
        assert [place.text for place in there] == tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    monkeypatch.setattr("genus.tasks.features.VALUES", 1)  # blocks of one text
    np.testing.assert_allclose(read(model).vectors, pooled.vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("row", ["bert/tiny", "gpt2/tiny", "xlnet/tiny"])
def test_a_word_has_the_mean_of_its_pieces(row: str, tmp_path: Path) -> None:
    model = written(tmp_path, row)
    texts = ["  the old   river", "", "Strange: numbers!"]
    words, tokens = read(model, "word", texts), read(model, "token", texts)
    assert [place.text for place in words.places] == " ".join(texts).split()
    assert words.rows.tolist() == [0, 0, 0, 2, 2]
    first = read(model, "word", texts, pooling=First())
    for number, place in enumerate(words.places):
        row_number = words.rows[number]
        (span,) = [m.span() for m in re.finditer(r"\S+", texts[row_number]) if m.start() == place.start]
        assert span == (place.start, place.end)
        own = [
            vector
            for at, piece, vector in zip(tokens.rows, tokens.places, tokens.vectors, strict=True)
            if at == row_number and piece.end is not None and span[0] <= piece.end <= span[1]
        ]
        assert own
        np.testing.assert_allclose(words.vectors[number], np.mean(own, 0), rtol=0, atol=2e-6 * np.abs(own).max())
        if row != "xlnet/tiny":  # whose first piece may be the space alone
            np.testing.assert_allclose(first.vectors[number], own[0], rtol=0, atol=2e-6 * np.abs(own).max())


def test_long_texts_are_cut_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = written(tmp_path, "bert/tiny")
    short = replace(model, recipe=model.recipe.overlay({"finetuning": {"max_length": 6}}))
    found = read(short, "word", ["a b c d e f g", "a b", " "])
    told = capsys.readouterr().err
    assert [place.text for place in found.places] == [*"abcd", *"ab"]
    assert "1 texts are longer than finetuning.max_length=6" in told
    assert "1 texts are empty" in told
    assert "3 words have no vector" in told


def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    model = written(tmp_path, "bert/tiny")
    number = model.recipe.model.layers  # type: ignore[attr-defined]
    for missing in (number + 1, -number - 2):
        with pytest.raises(UsageError, match=f"there is no {missing}: the model has the embeddings, 0, and layers"):
            read(model, layers=(missing,))
