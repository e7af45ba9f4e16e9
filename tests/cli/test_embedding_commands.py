"""Embedders on the command line: training, vectors of texts, similarity of pairs, retrieval."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from genus.cli import main
from genus.export.folder import load
from genus.tasks.embed import embed
from genus.tokens.algorithms.wordpiece import WordPiece
from small import documents
from written import write_model

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["the old river carries a long letter", "", "seven stones", "small numbers once again " * 20, "seven stones"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained BERT without pooling in its folder."""
    return write_model(tmp_path_factory.mktemp("model"), "bert/tiny", WordPiece(vocab_size=300), documents(50))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    sentences = [one for text in documents(80) for one in text.split(". ") if len(one) > 9]
    for name, start in (("train", 0), ("validation", 60)):
        rows = [
            {"anchor": one[: len(one) // 2], "positive": one[len(one) // 2 :]} for one in sentences[start : start + 40]
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def embedder(model: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "run"
    asked = ["finetune", str(model), str(table), "--task", "sentence-embedding", "--out", str(out), "--seeds", "1"]
    asked += ["--accumulate", "4", "--prefix", "query: ", "--task-set", 'document_prefix="passage: "']
    asked += ["--task-set", "normalize=true", "--task-set", "loss=InfoNCE", "--task-set", "loss.symmetric=true"]
    asked += ["--set", "finetuning.epochs=1", "--run", "device=cpu", "--run", "workers=0"]
    assert main(asked) == 0
    return out / "model"


def said(capsys: pytest.CaptureFixture[str], *asked: str) -> Any:
    assert main([*asked, "--run", "device=cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_vectors_are_written_in_the_order_of_the_texts(
    embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = pytest.importorskip("sentence_transformers")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"said": text}) + "\n" for text in TEXTS))
    arguments = "embed", str(embedder), str(tmp_path / "texts.txt"), "--out", str(tmp_path / "vectors.npy")
    told = said(capsys, *arguments, "--prompt", "query")
    assert (told["texts"], told["prefix"]) == (5, "query: ")
    assert load(embedder).recipe.objectives[0].named_prompts == {"query": "query: ", "document": "passage: "}  # type: ignore[attr-defined]
    found = np.load(tmp_path / "vectors.npy")
    assert (found.shape, found.dtype) == ((5, told["size"]), np.float32)
    reference = library.SentenceTransformer(str(embedder), device="cpu", local_files_only=True)
    np.testing.assert_allclose(found, reference.encode_query(TEXTS), rtol=0, atol=1e-5)
    arguments = "embed", str(embedder), str(tmp_path / "texts.jsonl"), "--out", str(tmp_path / "vectors.parquet")
    said(capsys, *arguments, "--text", "said", "--prefix", "passage: ")
    columns = parquet.read_table(tmp_path / "vectors.parquet").to_pydict()
    assert columns["row"] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(columns["embedding"], reference.encode_document(TEXTS), rtol=0, atol=1e-5)
    assert not [*tmp_path.glob(".*.part")]


def test_a_model_without_pooling_gives_means(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[2:]))
    assert main(["embed", str(model), str(tmp_path / "texts.txt"), "--out", str(tmp_path / "a.npy")]) == 0
    assert "no pooling: vectors are the means" in capsys.readouterr().err
    vectors = np.load(tmp_path / "a.npy")
    assert len(vectors) == 3
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=0, atol=1e-6)
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"a": TEXTS[0], "b": TEXTS[place], "score": place} for place in (2, 3)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = "--task", "sentence-embedding", "--text", "a", "--text", "b", "--label", "score"
    assert said(capsys, "evaluate", str(model), str(pairs), *columns).keys() == {"spearman", "pearson"}


class OnOurVectors:
    """An embedder for an evaluator: an untrained model's cosines are so close that other roundings exchange them."""

    similarity_fn_name = "cosine"

    def __init__(self, folder: Path) -> None:
        self.model = load(folder)

    def similarity(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        one, other = (torch.nn.functional.normalize(side.double(), dim=-1) for side in (one, other))
        return one @ other.T

    def encode_query(self, texts: list[str], **_: Any) -> torch.Tensor:
        return torch.from_numpy(embed(self.model, texts, "query: "))

    def encode_document(self, texts: list[str], **_: Any) -> torch.Tensor:
        return torch.from_numpy(embed(self.model, texts, "passage: "))


def test_retrieval_equals_sentence_transformers(
    embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")
    monkeypatch.setattr("genus.tasks.embed.BLOCK", 16)
    distinct = dict.fromkeys(". ".join(documents(40)).split(". "))
    passages = {f"p{place:03d}": text for place, text in enumerate(distinct)}
    names, draw = [*passages], np.random.default_rng(0)
    relevant = {f"q{place}": draw.choice(names, place % 4, replace=False).tolist() for place in range(12)}
    queries = {name: passages[few[0]][:20] if few else "nothing" for name, few in relevant.items()}
    rows = [{"query": queries[name], "relevant": few} for name, few in relevant.items()]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    listed = [{"_id": name, "text": text} for name, text in passages.items()]
    (tmp_path / "passages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    table, other = str(tmp_path / "queries.jsonl"), str(tmp_path / "passages.jsonl")
    assert main(["evaluate", str(embedder), table, "--passages", other, "--run", "device=cpu", "--json"]) == 0
    written = capsys.readouterr()
    assert "without 3 of 12 queries" in written.err
    found = json.loads(written.out)
    reference = evaluation.InformationRetrievalEvaluator(
        queries, passages, {name: set(few) for name, few in relevant.items()}, write_csv=False,
        precision_recall_at_k=[10, 100],
    )  # fmt: skip
    monkeypatch.setattr(reference, "store_metrics_in_model_card_data", lambda *_: None)
    expected = reference(OnOurVectors(embedder))
    assert found == pytest.approx({name: expected[f"cosine_{name}"] for name in found}, abs=1e-6)
    assert found.keys() == {"ndcg@10", "mrr@10", "recall@10", "recall@100", "map@100"}


@pytest.mark.parametrize(
    ("passages", "queries", "message"),
    [
        ([{"id": "a", "text": "x"}], [{"query": "q", "relevant": ["b"]}], "1 passages that queries name are not there"),
        ([{"id": "a", "text": "x"}] * 2, [{"query": "q", "relevant": "a"}], "'a' stands there twice"),
        ([{"text": "x"}], [{"query": "q", "relevant": "a"}], "no column 'id'"),
        ([{"id": "a"}], [{"query": "q", "relevant": "a"}], "no column 'text'"),
        ([{"id": "a", "text": "x"}], [{"question": "q", "relevant": "a"}], "no column 'query'"),
        ([{"id": "a", "text": "x"}], [], "holds no rows"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(
    embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], passages: list, queries: list, message: str
) -> None:
    for name, rows in (("passages", passages), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table, other = str(tmp_path / "queries.jsonl"), str(tmp_path / "passages.jsonl")
    assert main(["evaluate", str(embedder), table, "--passages", other]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        (["texts.txt", "--out", "a.txt"], 2, "neither .npy nor .parquet"),
        (["texts.txt", "--out", "a.npy", "--prompt", "qery"], 2, "no prompt 'qery'. Did you mean 'query'"),
        (["texts.txt", "--out", "a.npy", "--prompt", "query", "--prefix", "x"], 2, "give one of the two"),
        (["empty.txt", "--out", "a.npy"], 1, "holds no texts"),
        (["none.txt", "--out", "a.npy"], 1, "none.txt"),
        (["rows.jsonl", "--out", "a.npy"], 1, "no column 'text'"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    asked: list[str], code: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a text\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "rows.jsonl").write_text('{"txt": "a"}\n')
    assert main(["embed", str(embedder), *asked]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.npy").exists()


def test_export_keeps_the_modules(embedder: Path, tmp_path: Path) -> None:
    assert main(["export", str(embedder), "--out", str(tmp_path / "again")]) == 0
    np.testing.assert_array_equal(embed(load(tmp_path / "again"), TEXTS), embed(load(embedder), TEXTS))
    assert main(["export", str(embedder), "--out", str(tmp_path / "again")]) == 0  # over its own
