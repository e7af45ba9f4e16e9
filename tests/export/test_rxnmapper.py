"""A trained ALBERT, read and asked for what it is known to answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.export.folder import LoadedModel, load, save
from genus.export.verify import outputs, verify

if TYPE_CHECKING:
    from pathlib import Path

    import torch

pytestmark = pytest.mark.shared

PRINTED = 1e-4
"""The reference has five decimals, of numbers up to 21."""
EXPORT = 1e-5
"""float32 sums in another order."""


@pytest.fixture(scope="module")
def found(shared: Path) -> LoadedModel:
    return load(shared / "weights" / "rxnmapper-albert")


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "weights" / "rxnmapper-albert" / "reference_output.json").read_text(encoding="utf-8"))


def ask(found: LoadedModel, sequences: list[list[int]]) -> dict[str, torch.Tensor]:
    """Return hidden states and token logits (N, L, ...) of sequences of one length."""
    length = len(sequences[0])
    blank = np.zeros(length, dtype=np.int64)
    examples = [Example({"tokens": Sequence(np.array(ids), blank, blank > 0)}, {}) for ids in sequences]
    given = outputs(found.learner, pack([[example] for example in examples], length, found.tokenizer.vocabulary.pad))
    return {name: values.view(len(sequences), length, -1) for name, values in given.items()}


def test_it_is_what_its_page_says(found: LoadedModel) -> None:
    model = found.recipe.model.to_json()
    assert (model["layers"], model["stack"]["groups"], model["embedding"]["size"]) == (12, 1, 128)
    assert list(found.learner.heads) == ["masked_lm"]


def test_logits_and_states_are_those_of_the_reference(found: LoadedModel, reference: dict[str, Any]) -> None:
    answer = ask(found, [reference["masked_input_ids"]])
    at_mask = answer["masked_lm"][0, reference["masked_position"]]
    assert at_mask[:8].tolist() == pytest.approx(reference["logits_at_mask_first8"], abs=PRINTED)
    best = at_mask.topk(5)
    assert [found.tokenizer.pieces[number] for number in best.indices] == [piece for piece, _ in reference["top5"]]
    assert best.values.tolist() == pytest.approx([value for _, value in reference["top5"]], abs=1e-3)
    clear = ask(found, [reference["input_ids"]])["hidden"][0, 0]
    masked = answer["hidden"][0, 0]
    states = [clear[:8].tolist(), masked[:8].tolist()]
    assert pytest.approx(reference["last_hidden_cls_first8"], abs=PRINTED) in states


def test_it_restores_53_of_54_tokens(found: LoadedModel, reference: dict[str, Any]) -> None:
    ids, mask = reference["input_ids"], found.tokenizer.vocabulary.mask
    masked = [[*ids[:n], mask, *ids[n + 1 :]] for n in range(1, len(ids) - 1)]
    best = ask(found, masked)["masked_lm"].argmax(-1)
    restored = sum(int(best[n - 1, n]) == ids[n] for n in range(1, len(ids) - 1))
    assert (restored, len(masked)) == (53, 54)


def test_it_goes_out_as_a_folder(found: LoadedModel, tmp_path: Path) -> None:
    save(tmp_path / "model", found.recipe, found.learner, found.tokenizer)
    assert max(verify(tmp_path / "model", found.learner).values()) <= EXPORT
