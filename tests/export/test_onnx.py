"""Models as ONNX graphs: ONNX Runtime answers as the model does, of any number of texts of any lengths."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus import catalog
from genus.cli import main
from genus.errors import GenusError, UsageError
from genus.export import folder as folders
from genus.export.folder import LoadedModel, load, save
from genus.export.onnx import folder as graphs
from genus.export.onnx import trace
from genus.export.onnx.session import computed, session
from genus.inference.engine import Inference
from genus.objectives.supervised.choice import MultipleChoice
from genus.objectives.supervised.embedding import Projection, SentenceEmbedder
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.objectives.supervised.token import TokenClassification
from genus.tasks import task_of
from genus.tasks.answer import outputs
from genus.tasks.dataset import LabeledRow
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.start import Start
from genus.text import read_documents
from small import shrunk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.objectives.supervised import FineTuned
    from genus.tokens import TokenizerConfig
    from genus.tokens.tokenizer import Tokenizer

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

FLOAT32 = 1e-4
"""Float32 in two libraries, relative to the largest output."""
FEW = ("bert", "roberta")
ENCODERS = ("albert", "distilbert", "electra", "ernie2", "genus", "megatron-bert", "spanbert", "wangchanberta", "xlnet",
            "transformer-xl")  # fmt: skip
DECODERS = ("gpt2", "llama", "gpt-j")
OTHERS = {"bigbird": "cannot be written as a graph", "reformer": "cannot be written as a graph",
          "linformer": "cannot be written as a graph", "lstm": "cannot be written as a graph",
          "elmo": "cannot be written as a graph", "t5": "reads a source", "bart": "reads a source"}  # fmt: skip
LONG = ("bigbird", "lstm", "elmo")
"""Of which PyTorch's exporter needs long to find that out."""
LABELS = ("animals", "tools", "plants")
OBJECTIVES = {
    "classification": SequenceClassification(labels=LABELS),
    "multi-label": MultiLabelClassification(labels=LABELS),
    "regression": SequenceRegression(),
    "tagging": TokenClassification(labels=("O", "B-X", "I-X")),
    "spans": SpanExtraction(),
    "embedding": SentenceEmbedder(normalize=True, projection=Projection(size=16)),
}
TEXTS = [
    "the old river carries seven stones",
    "a small train",
    "every teacher remembers the long letter in winter",
    "x",
]


@pytest.fixture(scope="session")
def tuned(corpus: Path) -> Callable[..., LoadedModel]:
    """Return a function from a member's name to it made small, with random weights and a head for a task."""
    tokenizers: dict[TokenizerConfig, Tokenizer] = {}

    def make(name: str, objective: FineTuned | None = OBJECTIVES["classification"]) -> LoadedModel:
        recipe = shrunk(catalog.load(f"{name}/tiny"))
        if recipe.tokens not in tokenizers:
            tokenizers[recipe.tokens] = recipe.tokens.train(read_documents([corpus]))
        tokenizer = tokenizers[recipe.tokens]
        torch.manual_seed(0)
        if objective is None:
            made = replace(recipe, tokens=tokenizer.tokens)
            return LoadedModel(made, made.learner(), tokenizer)
        start = Start(recipe, tokenizer)
        objective = objective.continued(recipe.objectives, recipe.model)
        made = start.fine_tuned(objective, replace(recipe.finetuning, max_length=32, language_model=0.0))
        return LoadedModel(made, made.learner(), start.reader(objective, made.finetuning))

    return make


def rows_for(objective: FineTuned) -> list[LabeledRow]:
    if objective.of_words:
        return [LabeledRow(n, tuple(text.split()), None) for n, text in enumerate(TEXTS)]
    if objective.embeds:
        return [LabeledRow(n, (text, TEXTS[0]), None) for n, text in enumerate(TEXTS)]
    if isinstance(objective, SpanExtraction):
        return [LabeledRow(n, ("what carries", text), None, id=str(n)) for n, text in enumerate(TEXTS)]
    return [LabeledRow(n, (text,), None) for n, text in enumerate(TEXTS)]


def answered(model: LoadedModel, objective: FineTuned) -> np.ndarray:
    """Return what a model answers to the texts, packed by genus in batches."""
    task = QuestionAnswering() if isinstance(objective, SpanExtraction) else task_of(objective)
    encoded = task.encode(model.tokenizer, rows_for(objective), objective, 32)
    return outputs(model.learner, model.recipe.model, encoded, Inference("float32")).values


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    live = np.isfinite(expected)
    assert (np.isfinite(found) == live).all()
    return bool(np.abs(found[live] - expected[live]).max() <= FLOAT32 * max(1.0, np.abs(expected[live]).max()))


def check(model: LoadedModel, out: Path) -> None:
    """Write a graph, read it, and compare its answers."""
    objective = model.recipe.objectives[0]
    assert max(graphs.write(out, model, save).values()) <= FLOAT32
    again = load(out)
    assert close(answered(again, objective), answered(model, objective))


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in ENCODERS + DECODERS)])
def test_every_member_that_can(name: str, tuned: Callable[..., LoadedModel], tmp_path: Path) -> None:
    check(tuned(name), tmp_path / "graph")


@pytest.mark.parametrize("task", OBJECTIVES)
def test_every_head(task: str, tuned: Callable[..., LoadedModel], tmp_path: Path) -> None:
    check(tuned("bert", OBJECTIVES[task]), tmp_path / "graph")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_padding_is_on_either_side(task: str, tuned: Callable[..., LoadedModel], tmp_path: Path) -> None:
    """A tokenizer of XLNet's pads on the left; the last token stands for the whole."""
    for name in ("bert", "xlnet"):
        model = tuned(name, OBJECTIVES[task])
        graphs.write(tmp_path / name, model, save)
        run = session(tmp_path / name / graphs.GRAPH)
        ids = np.random.default_rng(0).integers(10, 60, (3, 9))
        (alone,) = computed(run, ids, np.ones_like(ids), np.zeros_like(ids)).values()
        for side in ("left", "right"):
            width = ((0, 0), (4, 0) if side == "left" else (0, 4))
            more, mask = np.pad(ids, width), np.pad(np.ones_like(ids), width)
            (found,) = computed(run, more, mask, np.zeros_like(more)).values()
            found = found if task == "classification" else found[mask == 1].reshape(alone.shape)
            assert close(found, alone)


def test_hidden_states_of_a_pretrained_model(tuned: Callable[..., LoadedModel], tmp_path: Path) -> None:
    """As sentence vectors are made of; other programs read them."""
    model = tuned("bert", None)
    graphs.write(tmp_path / "graph", model, save)
    run = session(tmp_path / "graph" / graphs.GRAPH)
    assert [one.name for one in run.get_outputs()] == ["last_hidden_state"]
    assert [one.name for one in run.get_inputs()] == list(trace.INPUTS)
    with pytest.raises(UsageError, match="this graph gives hidden states"):
        load(tmp_path / "graph")


def test_transformers_gives_the_same(tuned: Callable[..., LoadedModel], tmp_path: Path) -> None:
    """The inputs are those of its tokenizer, as they come."""
    transformers = pytest.importorskip("transformers")
    model = tuned("bert")
    save(tmp_path / "model", model.recipe, model.learner, model.tokenizer)
    graphs.write(tmp_path / "graph", model, save)
    given = transformers.AutoTokenizer.from_pretrained(tmp_path / "graph")(TEXTS, padding=True, return_tensors="np")
    there = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        expected = there(**{name: torch.from_numpy(value) for name, value in given.items()}).logits.numpy()
    found = onnxruntime.InferenceSession(str(tmp_path / "graph" / "model.onnx")).run(["logits"], dict(given))[0]
    assert close(found, expected)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in OTHERS]
)
def test_others_are_refused_in_a_line(name: str, tuned: Callable[..., LoadedModel], tmp_path: Path) -> None:
    with pytest.raises(GenusError, match=OTHERS[name]) as told:
        graphs.write(tmp_path / "graph", tuned(name), save)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "graph").exists()


@pytest.mark.parametrize(
    "objective", [MultipleChoice(), SequenceClassification(labels=LABELS, texts=2, symmetric=True)]
)
def test_several_sequences_are_no_graph(
    objective: FineTuned, tuned: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is told of several sequences"):
        graphs.write(tmp_path / "graph", tuned("bert", objective), save)


def test_weights_over_the_limit_lie_beside_the_graph(
    tuned: Callable[..., LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "MOST", 1000)
    check(tuned("bert"), tmp_path / "graph")
    assert (tmp_path / "graph" / graphs.DATA).stat().st_size > 10_000
    assert (tmp_path / "graph" / graphs.GRAPH).stat().st_size < 1_000_000


def test_a_graph_answers_and_does_nothing_else(
    tuned: Callable[..., LoadedModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tuned("bert")
    save(tmp_path / "model", model.recipe, model.learner, model.tokenizer)
    out, table = tmp_path / "graph", tmp_path / "table.jsonl"
    assert main(["export", str(tmp_path / "model"), "--out", str(out), "--format", "onnx"]) == 0
    table.write_text(
        "".join(json.dumps({"text": text, "label": LABELS[n % 2]}) + "\n" for n, text in enumerate(TEXTS * 4))
    )
    for where in (tmp_path / "model", out):
        assert main(["evaluate", str(where), str(table), "--answers", str(tmp_path / f"{where.name}.jsonl")]) == 0
    one, other = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("model", "graph")
    )
    assert [row["predicted"] for row in one] == [row["predicted"] for row in other]
    capsys.readouterr()
    for words in (
        ["finetune", out, table, "--out", tmp_path / "tuned", "--seeds", "1"],
        ["export", out, "--out", tmp_path / "again"],
        ["export", out, "--out", tmp_path / "again", "--format", "onnx"],
        ["prune", out, "--data", table, "--out", tmp_path / "again", "--heads", "1"],
        [
            "pretrain",
            "bert/tiny",
            tmp_path / "table.jsonl",
            "--start",
            out,
            "--out",
            tmp_path / "run",
            "--set",
            "stages=[{max_length=32,batch=16,micro_batch=16,share=1.0}]",
        ],
    ):
        assert main(list(map(str, words))) == 1
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert "holds a graph of ONNX Runtime" in told


def test_a_damaged_graph(tuned: Callable[..., LoadedModel], tmp_path: Path) -> None:
    out = tmp_path / "graph"
    graphs.write(out, tuned("bert"), save)
    path = out / graphs.GRAPH
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(GenusError, match=r"model.onnx: is damaged or missing"):
        load(out)
    path.unlink()
    with pytest.raises(GenusError, match=r"model.onnx: is damaged or missing"):
        load(out)
    path.write_bytes(whole)
    record = json.loads((out / graphs.RECORD).read_text())
    (out / graphs.RECORD).write_text(json.dumps(record | {"head": "masked_lm"}))
    with pytest.raises(GenusError, match="which recipe"):
        load(out)
    (out / graphs.RECORD).write_text("{}")
    with pytest.raises(GenusError, match="is damaged"):
        load(out)


def test_weights_replace_a_graph_and_the_reverse(tuned: Callable[..., LoadedModel], tmp_path: Path) -> None:
    model, out = tuned("bert"), tmp_path / "out"
    graphs.write(out, model, save)
    save(out, model.recipe, model.learner, model.tokenizer)
    assert not graphs.graph_files(out)
    assert folders.load(out).learner.network is not None
    graphs.write(out, model, save)
    assert not (out / "model.safetensors").exists()


def test_a_library_that_is_missing(
    tuned: Callable[..., LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genus.export.onnx import session as sessions

    monkeypatch.setattr(sessions, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'genus\[export\]'"):
        graphs.write(tmp_path / "graph", tuned("bert"), save)
