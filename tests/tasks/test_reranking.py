"""Reranking: one logit for a query with a passage, published as sentence-transformers' cross-encoder reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel, load, save
from genus.files import read_json
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.finetune import finetune
from genus.tasks.predict import objective_of, predict, score
from genus.tasks.reranking import Reranking

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tasks.start import Start
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

WORDS = ("cat", "dog", "horse", "bird", "saw", "hammer", "pliers", "drill")
PAIRS = [("a cat", "a dog and a cat ."), ("saw", "a hammer"), ("bird and drill", "a bird .")]


def write(path: Path, queries: int, seed: int) -> Path:
    """Write queries of one word with six passages each, relevant where they hold the word."""
    draw, rows = np.random.default_rng(seed), []
    for number in range(queries):
        word = str(draw.choice(WORDS))
        others = [one for one in WORDS if one != word]
        for place in range(6):
            said = draw.choice(others, 3).tolist() + ([word] if place < 2 else [])
            rows.append(
                {"id": f"q{number}", "query": word, "passage": " ".join(draw.permutation(said)), "label": place < 2}
            )
    order = draw.permutation(len(rows))
    path.write_text("".join(json.dumps(rows[place]) + "\n" for place in order))
    return path


def theirs(folder: Path) -> Any:
    library = pytest.importorskip("sentence_transformers")
    return library.CrossEncoder(str(folder), device="cpu", local_files_only=True)


def test_a_cross_encoder_is_trained_measured_and_read_by_sentence_transformers(
    start: Start, run: Run, tmp_path: Path
) -> None:
    evaluation = pytest.importorskip("sentence_transformers.cross_encoder.evaluation")
    files = Files(write(tmp_path / "train.jsonl", 24, 0), write(tmp_path / "validation.jsonl", 12, 1))
    settings = replace(start.recipe.finetuning, epochs=3)
    report = finetune(start, Reranking(group="id"), files, tmp_path / "out", settings=settings, seeds=(0,), run=run)
    folder = tmp_path / "out" / "model"
    config = read_json(folder / "config.json")
    assert (config["architectures"], config["id2label"]) == (["BertForSequenceClassification"], {"0": "relevant"})
    found, reference = load(folder), theirs(folder)
    chances = [answer.scores["relevant"] for answer in predict(found, PAIRS)]  # type: ignore[call-overload]
    np.testing.assert_allclose(chances, reference.predict(PAIRS), rtol=0, atol=1e-5)
    rows = read(files.validation, Reranking(group="id"))  # type: ignore[arg-type]
    samples: dict[str | None, dict[str, Any]] = {}
    for row in rows:
        sample = samples.setdefault(row.id, {"query": row.texts[0], "positive": [], "negative": []})
        sample["positive" if row.label == "1" else "negative"].append(row.texts[1])
    expected = evaluation.CrossEncoderRerankingEvaluator([*samples.values()], write_csv=False)
    expected.store_metrics_in_model_card_data = lambda *_: None
    metrics = report.trials[0].metrics["validation"]
    theirs_found = expected(reference)
    for name, other in (("mrr@10", "mrr@10"), ("ndcg@10", "ndcg@10"), ("map@100", "map")):
        assert metrics[name] == pytest.approx(theirs_found[other], abs=1e-6)
    assert metrics == score(found, Reranking(group="id").resolved_for(objective_of(found)), rows)[1]


def test_queries_are_told_apart_by_their_text_where_no_column_names_them() -> None:
    row = {"query": "cat", "passage": "dog", "label": True, "id": 7}
    assert Reranking().row(3, row) == LabeledRow(3, ("cat", "dog"), "1")
    assert Reranking(group="id").row(3, row).id == "7"
    with pytest.raises(ValueError, match="holds '2', and not 0 or 1"):
        Reranking().row(3, row | {"label": 2})
    with pytest.raises(UsageError, match="columns of query and passage"):
        Reranking(texts=("query",))


def test_the_scores_of_a_regression_are_those_of_the_cross_encoder(
    recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """It takes the sigmoid of one output, where the folder does not say otherwise; a regression reranks too."""
    objective = SequenceRegression(texts=2)
    made = replace(recipe, tokens=tokenizer.tokens, objectives=(objective,))
    torch.manual_seed(0)
    model = LoadedModel(made, made.learner(), tokenizer)
    save(tmp_path / "model", made, model.learner, tokenizer)
    numbers = [answer.predicted for answer in predict(load(tmp_path / "model"), PAIRS)]
    np.testing.assert_allclose(numbers, theirs(tmp_path / "model").predict(PAIRS), rtol=0, atol=1e-5)
    rows = [LabeledRow(place, pair, str(place % 2)) for place, pair in enumerate(PAIRS)]
    task = Reranking().resolved_for(objective)
    assert score(model, task, rows)[1].keys() == {"mrr@10", "ndcg@10", "map@100"}
    with pytest.raises(UsageError, match="not what the model learned: SequenceClassification"):
        Reranking().resolved_for(SequenceClassification(labels=("a", "b")))


def test_a_table_of_one_kind_is_refused(start: Start, run: Run, tmp_path: Path) -> None:
    table = tmp_path / "train.jsonl"
    table.write_text('{"query": "cat", "passage": "dog", "label": 0}\n' * 4)
    with pytest.raises(GenusError, match="all rows have the label '0'"):
        finetune(start, Reranking(), Files(table, table), tmp_path / "out", seeds=(0,), run=run)
