"""Embedders: trained on tables, handed over to sentence-transformers and read from it, refused where nothing fits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy import stats

from genus.errors import GenusError, UsageError
from genus.export.folder import load, save
from genus.inference.engine import Inference
from genus.model.activation import Tanh
from genus.objectives.pooling import First, Last, Mean
from genus.objectives.similarity.info_nce import InfoNCE
from genus.objectives.similarity.scores import CosineRegression
from genus.objectives.similarity.triplet import Triplet
from genus.objectives.supervised.embedding import Projection, Prompt, SentenceEmbedder
from genus.objectives.supervised.sequence import SequenceRegression
from genus.tasks.answer import Outputs, measure, outputs
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.embed import as_embedder, embed, prompt_of
from genus.tasks.finetune import finetune
from genus.tasks.predict import objective_of, score
from genus.tasks.sentence_embedding import SentenceEmbedding
from genus.tasks.start import Start

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

ANIMALS, TOOLS = ("cat", "dog", "horse", "bird"), ("saw", "hammer", "pliers", "drill")
TEXTS = [
    "a cat and a dog .",
    "saw",
    "a horse and a bird and a drill and a saw and a cat .",
    "a hammer .",
    "dog dog dog",
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def text(words: tuple[str, ...], draw: np.random.Generator) -> str:
    return f"a {' and a '.join(draw.choice(words, 3))} ."


def pairs(path: Path, count: int, seed: int) -> Path:
    """Write rows in which anchor and positive are of one kind, the negative of the other."""
    draw, rows = np.random.default_rng(seed), []
    for _ in range(count):
        one, other = (ANIMALS, TOOLS) if draw.integers(2) else (TOOLS, ANIMALS)
        rows.append({"anchor": text(one, draw), "positive": text(one, draw), "negative": text(other, draw)})
    return write(path, rows)


def scored(path: Path, count: int, seed: int) -> Path:
    """Write pairs whose score is 5 where both are of one kind, else 1."""
    draw, rows = np.random.default_rng(seed), []
    for _ in range(count):
        kinds = [ANIMALS if one else TOOLS for one in draw.integers(2, size=2)]
        rows.append(
            {"one": text(kinds[0], draw), "two": text(kinds[1], draw), "score": 5 if kinds[0] == kinds[1] else 1}
        )
    return write(path, rows)


def untrained(recipe: Recipe, tokenizer: Tokenizer, **choices: Any) -> LoadedModel:
    """Return an embedder with random weights."""
    objective = SentenceEmbedder(**choices).continued((), recipe.model)
    model = objective.reads(recipe.model, None)
    made = replace(recipe, model=model, tokens=tokenizer.tokens, objectives=(objective,))
    torch.manual_seed(0)
    from genus.export.folder import LoadedModel

    return LoadedModel(made, made.learner(), tokenizer)


def theirs(folder: Path, **choices: Any) -> Any:
    library = pytest.importorskip("sentence_transformers")
    return library.SentenceTransformer(str(folder), device="cpu", local_files_only=True, **choices)


CHOICES = [
    {},
    {"pooling": First(), "normalize": True},
    {"pooling": Last()},
    {"projection": Projection(size=12), "normalize": True},
    {"projection": Projection(size=40, activation=None, bias=False)},
]


@pytest.mark.parametrize("choices", CHOICES)
def test_sentence_transformers_reads_the_folder(
    recipe: Recipe, tokenizer: Tokenizer, choices: dict[str, Any], tmp_path: Path
) -> None:
    model = untrained(recipe, tokenizer, **choices)
    save(tmp_path / "model", model.recipe, model.learner, tokenizer)
    reference = theirs(tmp_path / "model")
    assert reference.max_seq_length == model.recipe.finetuning.max_length == 32
    found = embed(model, [*TEXTS, " ".join(TEXTS * 3)])
    np.testing.assert_allclose(found, reference.encode([*TEXTS, " ".join(TEXTS * 3)]), rtol=0, atol=1e-5)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "library_name: sentence-transformers\npipeline_tag: sentence-similarity" in card
    assert "SentenceTransformer(" in card
    assert "not in this folder" not in card
    again = load(tmp_path / "model")
    assert again.recipe.objectives == model.recipe.objectives
    np.testing.assert_array_equal(embed(again, TEXTS), embed(model, TEXTS))


@pytest.mark.parametrize("choices", CHOICES)
def test_folders_of_sentence_transformers_are_read(
    recipe: Recipe, tokenizer: Tokenizer, choices: dict[str, Any], tmp_path: Path
) -> None:
    """Their release writes the folder anew, with other keys than ours, and no recipe."""
    model = untrained(recipe, tokenizer, **choices)
    save(tmp_path / "ours", model.recipe, model.learner, tokenizer)
    reference = theirs(tmp_path / "ours")
    reference.max_seq_length = 9
    reference.prompts["query"], reference.default_prompt_name = "a cat : ", "query"
    reference.save(str(tmp_path / "theirs"), create_model_card=False)
    assert not (tmp_path / "theirs" / "recipe.json").exists()
    found = load(tmp_path / "theirs")
    assert found.recipe.finetuning.max_length == 9
    objective = objective_of(found)
    assert isinstance(objective, SentenceEmbedder)
    assert (objective.prompts, objective.default_prompt) == ((Prompt(name="query", text="a cat : "),), "query")
    vectors = embed(found, TEXTS, prompt_of(found, None))
    np.testing.assert_allclose(vectors, reference.encode(TEXTS), rtol=0, atol=1e-5)


def test_other_modules_are_told_and_the_network_is_read(
    recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = untrained(recipe, tokenizer)
    save(tmp_path / "model", model.recipe, model.learner, tokenizer)
    (tmp_path / "model" / "recipe.json").unlink()
    config = tmp_path / "model" / "1_Pooling" / "config.json"
    config.write_text(json.dumps({"pooling_mode": "max", "embedding_dimension": 32}))
    found = load(tmp_path / "model")
    assert not found.learner.heads
    assert "pools by max, which is not read" in capsys.readouterr().err
    config.write_text("{")
    with pytest.raises(GenusError, match="1_Pooling"):
        load(tmp_path / "model")


def test_modules_and_recipe_of_different_models_are_refused(
    recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = untrained(recipe, tokenizer)
    save(tmp_path / "model", model.recipe, model.learner, tokenizer)
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    with pytest.raises(GenusError, match="different poolings"):
        load(tmp_path / "model")


def test_another_model_in_the_folder_leaves_no_module(recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = untrained(recipe, tokenizer, projection=Projection(size=12, activation=Tanh()))
    folder = tmp_path / "model"
    save(folder, model.recipe, model.learner, tokenizer)
    assert (folder / "2_Dense" / "model.safetensors").is_file()
    del model.learner.heads["sentence_embedder"]
    save(folder, replace(model.recipe, objectives=recipe.objectives), model.learner, tokenizer)
    assert not [path for path in folder.rglob("*") if path.name in ("modules.json", "1_Pooling", "2_Dense")]
    assert as_embedder(load(folder)).learner.heads.keys() == {"sentence_embedder"}


@pytest.mark.parametrize(("texts", "loss"), [(2, None), (3, None), (3, Triplet()), (2, InfoNCE(symmetric=True))])
def test_it_learns_which_texts_belong_together(start: Start, run: Run, tmp_path: Path, texts: int, loss: Any) -> None:
    """Chance is 0.5 of three candidates of each kind; sentence-transformers gives the trained vectors."""
    columns = ("anchor", "positive", "negative")[:texts]
    files = Files(pairs(tmp_path / "train.jsonl", 96, 0), pairs(tmp_path / "validation.jsonl", 24, 1))
    task = SentenceEmbedding(texts=columns, loss=loss, normalize=True)
    report = finetune(start, task, files, tmp_path / "out", seeds=(0,), run=run, accumulate=2)
    metrics = report.trials[0].metrics["validation"]
    assert metrics.keys() == {"ndcg@10", "mrr@10", "recall@10"}
    found = load(tmp_path / "out" / "model")
    vectors = embed(found, ["a cat and a dog and a bird .", "a horse and a dog and a cat .", "a saw and a drill ."])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    reference = theirs(tmp_path / "out" / "model").encode(TEXTS)
    np.testing.assert_allclose(embed(found, TEXTS), reference, rtol=0, atol=1e-5)


def test_it_learns_scores_and_is_measured_as_scipy_does(start: Start, run: Run, tmp_path: Path) -> None:
    files = Files(scored(tmp_path / "train.jsonl", 96, 0), scored(tmp_path / "validation.jsonl", 24, 1))
    task = SentenceEmbedding(texts=("one", "two"), label="score", loss=CosineRegression(low=1.0, high=5.0))
    report = finetune(start, task, files, tmp_path / "out", seeds=(0,), run=run)
    found = load(tmp_path / "out" / "model")
    assert report.trials[0].metrics["validation"]["spearman"] > 0.7  # type: ignore[operator]
    rows = read(files.validation, task)  # type: ignore[arg-type]
    answers, metrics = score(found, task.resolved_for(objective_of(found)), rows)
    one, two = (embed(found, [row.texts[side] for row in rows]) for side in (0, 1))
    cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert [answer.predicted for answer in answers] == pytest.approx(cosine.tolist(), abs=1e-6)
    truth = [float(row.label) for row in rows]  # type: ignore[arg-type]
    assert metrics["spearman"] == pytest.approx(stats.spearmanr(truth, cosine).statistic, abs=1e-6)
    assert metrics["pearson"] == pytest.approx(stats.pearsonr(truth, cosine).statistic, abs=1e-6)
    assert metrics == report.trials[0].metrics["validation"]


def test_what_a_start_has_goes_on_unless_it_is_chosen(
    recipe: Recipe, tokenizer: Tokenizer, run: Run, tmp_path: Path
) -> None:
    """Its pooling, dense layer with weights, normalization and prompts."""
    prompts = (Prompt(name="query", text="saw : "), Prompt(name="document", text="cat : "))
    model = untrained(
        recipe, tokenizer, pooling=First(), normalize=True, projection=Projection(size=12), prompts=prompts
    )
    settings = replace(model.recipe.finetuning, epochs=0.01)
    still = replace(model.recipe, finetuning=settings.overlay({"optimizer": {"lr": 1e-12}}))
    files = Files(pairs(tmp_path / "train.jsonl", 16, 0), pairs(tmp_path / "validation.jsonl", 8, 1))
    start = Start(still, tokenizer, model.learner)
    finetune(start, SentenceEmbedding(), files, tmp_path / "kept", seeds=(0,), run=run)
    found = load(tmp_path / "kept" / "model")
    np.testing.assert_allclose(embed(found, TEXTS), embed(model, TEXTS), atol=1e-6)
    assert objective_of(found) == objective_of(model)
    task = SentenceEmbedding(pooling=Mean(), normalize=False, prefix="dog : ")
    finetune(start, task, files, tmp_path / "other", seeds=(0,), run=run)
    other = objective_of(load(tmp_path / "other" / "model"))
    assert isinstance(other, SentenceEmbedder)
    assert (other.pooling, other.normalize, other.named_prompts) == (
        Mean(), False, {"query": "dog : ", "document": "dog : "},
    )  # fmt: skip
    assert other.default_prompt == "query"
    reference = theirs(tmp_path / "other" / "model")
    assert prompt_of(load(tmp_path / "other" / "model"), "document") == "dog : "
    vectors = embed(load(tmp_path / "other" / "model"), TEXTS, "dog : ")
    np.testing.assert_allclose(vectors, reference.encode(TEXTS), rtol=0, atol=1e-5)
    np.testing.assert_allclose(vectors, reference.encode_document(TEXTS), rtol=0, atol=1e-5)


def test_prompts_stand_before_their_columns() -> None:
    both = (Prompt(name="query", text="q "), Prompt(name="passage", text="p "))
    embedder = SentenceEmbedder(prompts=both)
    three = SentenceEmbedding(texts=("a", "b", "c"))
    assert three.prefixes(embedder) == ("q ", "p ", "p ")
    assert replace(three, prefix="x ").prefixes(embedder) == ("x ", "x ", "x ")
    assert replace(three, document_prefix="y ").prefixes(embedder) == ("q ", "y ", "y ")
    assert replace(three, prefix="").prefixes(embedder) == ("", "", "")
    assert SentenceEmbedding(label="score").prefixes(embedder) == ("q ", "q ")
    assert three.prefixes(SentenceEmbedder()) == ("", "", "")


def test_a_table_is_ranked_by_its_own_texts(tokenizer: Tokenizer) -> None:
    """Queries are distinct anchors, candidates all other distinct texts but the query's own."""
    rows = [
        LabeledRow(1, ("cat", "dog", "saw"), "dog"),
        LabeledRow(2, ("cat", "horse", ""), "horse"),
        LabeledRow(3, ("dog", "dog", "drill"), "dog"),
        LabeledRow(4, ("bird", "saw", "cat"), "saw"),
    ]
    task = SentenceEmbedding(texts=("anchor", "positive", "negative"))
    encoded = task.encode(tokenizer, rows, SentenceEmbedder(), 16)
    assert encoded.most == 3
    place = {"cat": 0.0, "dog": 10.0, "saw": 40.0, "horse": 60.0, "drill": 20.0, "bird": 90.0, "": 0.0}
    angles = np.deg2rad([[place[one] for one in row.texts] for row in rows])
    made = np.stack([np.cos(angles), np.sin(angles)], -1).reshape(4, 6).astype(np.float32)
    truth, ranks = encoded.for_metrics(SentenceEmbedder(), Outputs(made), "rankings")
    # cat: dog, drill, saw, horse; dog: its positive has its own text; bird: horse, saw
    assert truth.tolist() == [2, 0, 1]
    assert ranks.tolist() == [[1.0, 4.0], [np.inf, np.inf], [2.0, np.inf]]
    found = measure(task.resolved_for(SentenceEmbedder()).metrics, SentenceEmbedder(), encoded, Outputs(made))
    assert found["mrr@10"] == pytest.approx((1 + 0.5) / 2)


def test_a_row_of_one_text_twice_is_no_row_of_several(tokenizer: Tokenizer) -> None:
    """The same tokens are the same text; a negative that is missing is none."""
    rows = [LabeledRow(1, ("cat", "CAT", ""), "CAT"), LabeledRow(2, ("dog", "cat", "saw"), "cat")]
    encoded = SentenceEmbedding(texts=("a", "b", "c")).encode(tokenizer, rows, SentenceEmbedder(), 16)
    assert encoded.labels.tolist() == [[0, 0, -100], [1, 0, 2]]
    assert encoded.offsets.tolist() == [0, 2, 5]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"texts": ("one",)}, "expected two columns"),
        ({"texts": ("a", "b", "c"), "label": "score"}, "expected two columns with scores"),
        ({"loss": CosineRegression()}, "CosineRegression learns from pairs with scores; name their column"),
        ({"loss": InfoNCE(), "label": "score"}, "InfoNCE learns from pairs without scores"),
        ({"loss": Triplet()}, "needs a column of negatives"),
        ({"symmetric": True}, r"take loss\.symmetric"),
    ],
)
def test_what_contradicts_itself_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SentenceEmbedding(**choices)


def test_metrics_of_other_tables_are_refused() -> None:
    usual = SentenceEmbedding().resolved_for(SentenceEmbedder())
    with pytest.raises(UsageError, match="judges rankings, not numbers, of a table with scores"):
        SentenceEmbedding(label="score", metrics=usual.metrics)
    with pytest.raises(UsageError, match="is not what the model learned"):
        SentenceEmbedding().resolved_for(SequenceRegression())


@pytest.mark.parametrize(
    ("rows", "task", "settings", "message"),
    [
        ([{"one": "cat", "two": "dog", "score": 7}, {"one": "cat", "two": "saw", "score": 0}],
         SentenceEmbedding(texts=("one", "two"), label="score", loss=CosineRegression(high=5.0)), {},
         r"scores from 0 to 7 are no cosines.*loss\.high=7"),
        ([{"one": "cat", "two": "dog", "score": 3}] * 4,
         SentenceEmbedding(texts=("one", "two"), label="score"), {}, "all rows have the score 3"),
        ([{"one": "cat", "two": "dog", "score": "high"}] * 4,
         SentenceEmbedding(texts=("one", "two"), label="score"), {}, "line 1: score 'high' is not a finite number"),
        ([{"anchor": "cat", "positiv": "dog"}], SentenceEmbedding(), {}, "no column 'positive'. Did you mean"),
        ([{"anchor": "cat", "positive": ""}] * 4, SentenceEmbedding(), {}, "no label in column 'positive'"),
        ([{"anchor": "cat", "positive": "dog"}] * 4, SentenceEmbedding(), {"batch": 1},
         "an update of 1 row has nothing"),
        ([{"anchor": "cat", "positive": "dog"}], SentenceEmbedding(), {}, "an update of 1 row has nothing"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(
    start: Start,
    run: Run,
    tmp_path: Path,
    rows: list[dict[str, Any]],
    task: Any,
    settings: dict[str, Any],
    message: str,
) -> None:
    files = Files(write(tmp_path / "train.jsonl", rows), write(tmp_path / "validation.jsonl", rows))
    chosen = replace(start.recipe.finetuning, **settings)
    with pytest.raises(GenusError, match=message):
        finetune(start, task, files, tmp_path / "out", settings=chosen, seeds=(0,), run=run)


def test_one_row_with_a_negative_of_its_own_is_learned(start: Start, run: Run, tmp_path: Path) -> None:
    row = [{"anchor": "cat", "positive": "dog", "negative": "saw"}]
    files = Files(write(tmp_path / "train.jsonl", row), write(tmp_path / "validation.jsonl", row))
    task = SentenceEmbedding(texts=("anchor", "positive", "negative"))
    report = finetune(start, task, files, tmp_path / "out", seeds=(0,), run=run)
    assert report.trials[0].metrics["validation"]["mrr@10"] == 1.0


def test_empty_texts_and_cut_ones_are_told(
    recipe: Recipe, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    model = untrained(recipe, tokenizer)
    vectors = embed(model, ["", "cat", "cat " * 50])
    assert np.isfinite(vectors).all()
    told = capsys.readouterr().err
    assert "1 texts are empty" in told
    assert "1 texts are longer than 32 tokens" in told


def test_an_encoder_decoder_is_refused() -> None:
    from genus import catalog

    with pytest.raises(UsageError, match="reads a source"):
        SentenceEmbedder().continued((), catalog.load("t5/small").model)


def test_blocks_change_no_vector(recipe: Recipe, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained(recipe, tokenizer)
    whole = embed(model, TEXTS)
    monkeypatch.setattr("genus.tasks.embed.BLOCK", 2)
    np.testing.assert_allclose(embed(model, TEXTS), whole, rtol=0, atol=1e-6)
    assert embed(model, []).shape == (0, 0)


def test_outputs_of_rows_are_vectors(recipe: Recipe, tokenizer: Tokenizer) -> None:
    model, task = untrained(recipe, tokenizer), SentenceEmbedding(texts=("a", "b", "c"))
    rows = [LabeledRow(1, (TEXTS[0], TEXTS[1], ""), "x"), LabeledRow(2, (TEXTS[2], TEXTS[3], TEXTS[4]), "x")]
    encoded = task.encode(tokenizer, rows, objective_of(model), 32)
    found = encoded.vectors(outputs(model.learner, model.recipe.model, encoded, Inference("float32"))).reshape(6, -1)
    np.testing.assert_allclose(found[[0, 1, 3, 4, 5]], embed(model, TEXTS), rtol=0, atol=1e-6)
    assert not found[2].any()
