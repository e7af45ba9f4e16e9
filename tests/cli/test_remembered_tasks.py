"""What a model folder remembers of its task: columns and a prefix, which need not be said again and can be."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from small_run import document, texts, write

from genus import catalog
from genus.cli import main
from genus.errors import GenusError
from genus.evaluate.text_metrics import TokenLoss
from genus.evaluate.written import ExactMatch
from genus.export.folder import load, save
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.predict import score
from genus.tasks.remembered import remembered, usual_task
from genus.tasks.start import Start
from genus.tasks.text_to_text import TextToText
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.train.run import Run
from small import documents
from written import write_model

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]

RUN = Run(device="cpu", precision="float32", workers=0, tracker="none")
TASK = TextToText(
    texts=("question",), label="reply", prefix="Reply: ", metrics=(TokenLoss(), ExactMatch()), target_length=9
)
ROWS = [
    {"question": f"{name} carry {number} letters", "reply": reply}
    for number in range(4)
    for name, reply in (("cats", "an animal"), ("saws", "a tool"))
]
CPU = ["--run", "device=cpu", "--run", "precision=float32"]
FILES = ("config.json", "generation_config.json", "task.json")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("table") / "train.jsonl", ROWS)


@pytest.fixture(scope="module")
def folder(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an encoder-decoder that was fine-tuned on the table."""
    row = catalog.load("t5/tiny").overlay({"tokens": {"vocab_size": 200}})
    tokenizer = row.tokens.train([*documents(), *(f"Reply: {one['question']} {one['reply']}" for one in ROWS)])
    small = {"layers": 1, "hidden": 32}
    row = row.overlay({"model": {"encoder": small, "decoder": small}, "tokens": tokenizer.tokens.to_json()})
    row = replace(row, finetuning=replace(row.finetuning, epochs=6, batch=4, max_length=32))
    out = tmp_path_factory.mktemp("tuned")
    finetune(Start(row, tokenizer), TASK, Files(table, table), out, seeds=(0,), run=RUN)
    return out / "model"


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_the_folder_remembers_the_whole_task_and_the_round_trip_is_the_identity(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    assert remembered(model) == replace(TASK, dropout=model.recipe.finetuning.dropout)  # that of the settings
    told = {"generation": model.generation, "task": model.task}
    save(tmp_path / "again", model.recipe, model.learner, model.tokenizer, **told)  # type: ignore[arg-type]
    assert contents(tmp_path / "again") == contents(folder)
    save(tmp_path / "again", model.recipe, model.learner, model.tokenizer)
    assert not (tmp_path / "again" / "task.json").exists()
    assert "prefix" not in json.loads((tmp_path / "again" / "config.json").read_text())


def test_an_export_keeps_it(folder: Path, tmp_path: Path) -> None:
    assert main(["export", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == contents(folder)
    assert main(["export", str(folder), "--out", str(tmp_path / "out")]) == 0, "a model of genus, which is replaced"


def test_evaluation_takes_columns_and_prefix_and_says_so(folder: Path, table: Path, capsys: Captured) -> None:
    asked = ["evaluate", folder, table, "--task", "text-to-text", *CPU]
    found = document(capsys, *asked)
    assert main([*map(str, asked)]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "fine-tuned" in line]
    assert lines == ["as the model was fine-tuned: columns 'question' and 'reply', 'Reply: ' before every source"]
    task = replace(TASK, prefix="")  # what is measured of sources that begin with the prefix themselves
    rows = [task.row(1, {**row, "question": f"Reply: {row['question']}"}) for row in ROWS]
    _, expected = score(load(folder), task.generated(load(folder).generation or {}), rows, RUN)
    assert found == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}


def test_what_is_said_overrides_it(folder: Path, table: Path, tmp_path: Path, capsys: Captured) -> None:
    asked = ["evaluate", folder, table, "--task", "text-to-text", *CPU]
    plain = document(capsys, *asked, "--prefix", "")
    rows = [replace(TASK, prefix="").row(1, row) for row in ROWS]
    _, expected = score(load(folder), TASK, rows, RUN)
    assert plain["token_loss"] == pytest.approx(expected["token_loss"], rel=1e-6)
    assert plain["token_loss"] != document(capsys, *asked)["token_loss"]
    other = write(tmp_path / "t.jsonl", [{"q": row["question"], "r": row["reply"]} for row in ROWS])
    named = ["evaluate", folder, other, "--task", "text-to-text", "--text", "q", "--label", "r", *CPU]
    assert document(capsys, *named) == document(capsys, *asked)
    assert main([*map(str, named)]) == 0
    assert "as the model was fine-tuned: 'Reply: ' before every source\n" in capsys.readouterr().err


def test_generation_puts_the_prefix_before_every_source(folder: Path, capsys: Captured) -> None:
    model, source = load(folder), "cats carry 2 letters"
    engine = Engine(model.learner, model.recipe.model, model.tokenizer)
    asked = [Request("Reply: " + source, 9), Request(source, 9)]
    ids = [[*one.ids] for (one,) in engine.generate(asked, Greedy())]

    def written(*options: str) -> tuple[Any, str]:
        assert main(["generate", str(folder), source, "--json", "--run", "device=cpu", *options]) == 0
        shown = capsys.readouterr()
        (found,) = json.loads(shown.out)
        return found["texts"][0]["ids"], shown.err

    with_it, said = written()
    assert with_it == ids[0]
    assert "as the model was fine-tuned: 'Reply: ' before every source (--prefix '' for none)" in said
    without, said = written("--prefix", "")
    assert without == ids[1]
    assert "fine-tuned" not in said


def test_transformers_reads_the_prefix_of_the_configuration(tmp_path: Path) -> None:
    """Its pipelines that write put `config.prefix` before a text: the same text as ours after prefix and prompt."""
    transformers = pytest.importorskip("transformers")
    tokens = ByteBPE(vocab_size=300, special_tokens=GPT2)
    first = write_model(tmp_path / "first", "gpt2/tiny", tokens, documents(), "model.embedding.position.length=128")
    model = load(first)
    folder = tmp_path / "told"
    save(folder, model.recipe, model.learner, model.tokenizer, task={"prefix": "the old river "})
    assert not (folder / "task.json").exists()
    pipeline = transformers.pipeline("text-generation", model=str(folder), device="cpu")
    assert pipeline.prefix == "the old river "
    (found,) = pipeline("carries", max_new_tokens=8, do_sample=False, return_full_text=False)
    engine = Engine(model.learner, model.recipe.model, model.tokenizer)
    (ours,), (other,) = engine.generate([Request("the old river carries", 8), Request("carries", 8)], Greedy())
    assert found["generated_text"] == ours.text != other.text


def test_a_folder_of_others_has_a_prefix_at_most(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    save(tmp_path / "other", model.recipe, model.learner, model.tokenizer, task={"prefix": "summarize: "})
    (tmp_path / "other" / "recipe.json").unlink()
    found = load(tmp_path / "other")
    assert remembered(found) == TextToText(prefix="summarize: ")
    save(tmp_path / "again", found.recipe, found.learner, found.tokenizer, task=found.task)
    config = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("other", "again")]
    assert config[0] == config[1]
    assert config[0]["prefix"] == "summarize: "


def test_a_damaged_file_is_one_line(folder: Path) -> None:
    model = replace(load(folder), task={"kind": "TextToTxt", "schema": 1})
    with pytest.raises(GenusError, match=r"task\.json: .*TextToTxt.*remove the file") as error:
        remembered(model)
    assert "\n" not in str(error.value)


def test_a_classifier_remembers_its_columns(capsys: Captured, place: Place, tmp_path: Path) -> None:
    rows = [{"sentence": text[:40], "place": label, "id": n} for n, (text, label) in enumerate(texts(40, 2))]
    table = write(tmp_path / "train.jsonl", rows)
    columns = ["--text", "sentence", "--label", "place"]
    quick = ["--seeds", "1", "--run", "device=cpu", "--set", "finetuning.epochs=1", "--set", "finetuning.max_length=24"]
    document(capsys, "finetune", place.run, table, "--out", tmp_path / "out", *columns, "--metric", "macro_f1", *quick)
    model = tmp_path / "out" / "model"
    found = document(capsys, "evaluate", model, table, "--run", "device=cpu")
    again = document(capsys, "evaluate", model, table, *columns, "--metric", "macro_f1", "--run", "device=cpu")
    assert found == again
    assert found.keys() == {"macro_f1"}
    loaded = load(model)
    assert isinstance(usual_task(loaded, loaded.recipe.objectives[0]), Classification)  # type: ignore[arg-type]
