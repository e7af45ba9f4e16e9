"""What a user gets wrong is one line that says what, where and what to do, with its exit code, no traceback."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file, save_file
from small_run import SMALL

import genus.export.verify
from genus.cli import main
from genus.cli.output import document
from genus.errors import GenusError
from genus.text.segment import newmm

if TYPE_CHECKING:
    from small_run import Place

    Captured = pytest.CaptureFixture[str]


def refused(capsys: Captured, code: int, *arguments: object) -> str:
    """Run a command that must fail with a code, and return its one line."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("genus: error: ")]
    assert len(lines) == 1
    assert captured.err.endswith(lines[0] + "\n")
    assert "Traceback" not in captured.err
    return lines[0].removeprefix("genus: error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "brt"], "there is no member 'brt'. Did you mean 'bert'"),
        (
            ["show", "bert", "--set", "model.layres=6"],
            "model: Transformer has no choice 'layres'. Did you mean 'layers'?",
        ),
        (["show", "bert", "--set", "model.layers=six"], "model.layers: expected int, got 'six'"),
        (["show", "bert", "--set", "model.attention.heads=7"], "7 attention heads do not divide a hidden size of 768"),
        (["show", "bert", "--set", "model.layers"], "--set model.layers: expected name=value"),
        (["show", "bert", "--diff", "robrta"], "there is no member 'robrta'. Did you mean 'roberta'"),
        (["show", "missing.toml"], "missing.toml: there is no such file"),
        (["show"], "Missing argument 'RECIPE'"),
        (["show", "bert", "--jsn"], "No such option: --jsn"),
        (["shwo"], "No such command 'shwo'"),
        (["pretrain", "bert/mini", "nowhere.txt", "--out", "run"], "nowhere.txt: there is no such file"),
        (["pretrain", "bert/mini", "task.bin", "--out", "run"], "task.bin: expected .txt, .jsonl, .parquet"),
        (["pretrain", "bert/mini", "text.jsonl", "--out", "run", "--run", "device=tpu"], "device"),
        (["pretrain", "bert/mini", "text.jsonl", "--out", "run", "--run", "compil=true"], "Did you mean 'compile'"),
        (["pretrain", "bert/mini", "text.jsonl", "--out", "run", "--set", "stages.0.max_length=1024"], "512 positions"),
    ],
)
def test_a_wrong_call_exits_with_2(
    arguments: list[str],
    message: str,
    capsys: Captured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.bin").write_bytes(b"\0")
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": "One sentence. Another one."}) + "\n")
    assert message in refused(capsys, 2, *arguments)


@pytest.mark.parametrize("command", [[], ["tokenizer"]])
def test_a_command_that_is_given_nothing_shows_its_help(command: list[str], capsys: Captured) -> None:
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: genus")
    assert "\n\nOptions:\n" in err
    assert "genus: error" not in err


@pytest.mark.parametrize("option", [["--task", "sst2"], ["--text", "a"], ["--label", "b"], ["--answers", "a.jsonl"]])
def test_a_pretrained_model_is_not_measured_with_options_of_tables(
    option: list[str], capsys: Captured, place: Place
) -> None:
    line = refused(capsys, 2, "evaluate", place.run, place.folder / "held-out.jsonl", *option)
    assert line == f"{option[0]}: is for a fine-tuned model; this one is pretrained, and measured on text"


def test_a_page_is_of_a_member_as_published(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "growing.toml").write_text('base = "bert/mini"\nname = "ours/growing"\n')
    for arguments in (["bert", "--set", "model.layers=6"], [tmp_path / "growing.toml"]):
        assert "--markdown: prints the page of a member" in refused(capsys, 2, "show", *arguments, "--markdown")
    assert main(["show", "bert/large", "--markdown"]) == 0


def test_a_model_is_asked_for_one_completion_at_least(capsys: Captured, place: Place) -> None:
    assert refused(capsys, 2, "fill", place.run, "[MASK]", "--top", "0") == "top: expected at least 1, got 0"


BAD_TEXT = {
    "an empty corpus": ("text.txt", b"", "empty"),
    "only blank lines": ("text.txt", b"\n\n \n", "empty"),
    "a truncated file": ("text.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b", "cut short or damaged"),
    "a line that is no JSON": ("text.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"),
    "a missing field": ("text.jsonl", b'{"txt": "a"}\n', "txt"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
def test_text_that_cannot_be_used(case: str, capsys: Captured, tmp_path: Path) -> None:
    name, content, message = BAD_TEXT[case]
    (tmp_path / name).write_bytes(content)
    line = refused(capsys, 1, "pretrain", "bert/mini", tmp_path / name, "--out", tmp_path / "run", *SMALL)
    assert message in line


def test_a_missing_extra_is_named_with_its_install_command(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ["pythainlp", *(name for name in sys.modules if name.startswith("pythainlp."))]:
        monkeypatch.setitem(sys.modules, module, None)
    newmm.cache_clear()
    (tmp_path / "text.txt").write_text("\u0e01\u0e32\u0e0a\u0e2d\u0e1a\u0e19\u0e49\u0e33\n", encoding="utf-8")
    command = ["pretrain", "wangchanberta/tiny", tmp_path / "text.txt", "--out", tmp_path / "run"]
    assert main([*map(str, command)]) == 1
    library = "genus: error: cutting Thai into words needs another library: pip install 'genus[thai]'\n"
    assert capsys.readouterr() == ("", library)
    assert not (tmp_path / "run").exists()


def test_a_corpus_of_one_document_has_no_next_sentence_from_another(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": "One sentence. Another sentence. " * 30}) + "\n")
    line = refused(capsys, 1, "pretrain", "bert/mini", tmp_path / "one.jsonl", "--out", tmp_path / "run", *SMALL)
    assert "document" in line


def test_what_is_said_of_too_few_documents_helps(capsys: Captured, tmp_path: Path) -> None:
    text = tmp_path / "two.txt"
    text.write_text("One sentence and no other.\n" * 2)
    command = ["pretrain", "bert/mini", text, "--out", tmp_path / "run", *SMALL]
    line = refused(capsys, 1, *command)
    assert "give four or more, with blank lines between them, or two with --run held_out=0" in line
    assert main([*map(str, command), "--run", "held_out=0"]) == 0
    text.write_text("One sentence and no other.\n")
    line = refused(capsys, 1, "pretrain", "roberta/mini", text, "--out", tmp_path / "other", *SMALL)
    assert "put blank lines between documents, or take --run held_out=0" in line


def test_a_prepared_store_without_its_tokenizer(capsys: Captured, place: Place, tmp_path: Path) -> None:
    line = refused(capsys, 2, "pretrain", "bert/mini", place.run / "store", "--out", tmp_path / "run", *SMALL)
    assert "store: is a prepared store, which needs the tokenizer that made it: --tokenizer FOLDER" in line
    assert not (tmp_path / "run").exists()


def test_invalid_utf8_is_replaced_and_counted(capsys: Captured, place: Place, tmp_path: Path) -> None:
    content = (place.folder / "text.jsonl").read_bytes()
    (tmp_path / "text.jsonl").write_bytes(content.replace(b"Wave", b"W\xffve"))
    capsys.readouterr()
    command = ["prepare", tmp_path / "text.jsonl", "--tokenizer", place.run / "tokenizer", "--out", tmp_path / "store"]
    assert main([*map(str, command), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["replaced"] == content.count(b"Wave") > 0


def test_invalid_utf8_is_told_of_where_it_is_read(capsys: Captured, place: Place, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes("Caf\u00e9 au lait.\n".encode("latin-1") * 40)
    capsys.readouterr()
    assert main(["pretrain", "roberta/mini", str(text), "--out", str(tmp_path / "run"), *SMALL]) == 0
    said = capsys.readouterr().err
    assert f"{text}: 40 invalid characters are read as \ufffd; convert the text to UTF-8\n" in said
    assert main(["evaluate", str(place.run), str(text), "--run", "device=cpu", "--run", "workers=0"]) == 0
    assert "40 invalid characters" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_not_written_over(capsys: Captured, place: Place) -> None:
    text = place.folder / "text.jsonl"
    assert "resume" in refused(capsys, 2, "pretrain", "bert/mini", text, "--out", place.run, *SMALL)


def test_another_recipe_does_not_resume_a_run(capsys: Captured, place: Place) -> None:
    text, changed = place.folder / "text.jsonl", ["--set", "optimizer.lr=0.5"]
    assert "optimizer.lr" in refused(
        capsys, 2, "pretrain", "bert/mini", text, "--out", place.run, *SMALL, *changed, "--resume"
    )


def test_a_corrupt_checkpoint_is_named(capsys: Captured, place: Place, tmp_path: Path) -> None:
    run, text = tmp_path / "run", place.folder / "text.jsonl"
    assert main(["pretrain", "bert/mini", str(text), "--out", str(run), *SMALL]) == 0
    for file in run.glob("checkpoints/checkpoint-*/model.safetensors"):
        file.write_bytes(file.read_bytes()[:-7])
    assert "whole" in refused(capsys, 1, "pretrain", "bert/mini", text, "--out", run, *SMALL, "--resume")


def test_a_model_folder_that_is_none(capsys: Captured, place: Place, tmp_path: Path) -> None:
    assert "no such folder" in refused(capsys, 1, "fill", tmp_path / "nothing", "a [MASK]")
    assert "config.json" in refused(capsys, 1, "fill", place.folder / "task", "a [MASK]")


def test_a_store_of_another_tokenizer_is_refused(capsys: Captured, place: Place, tmp_path: Path) -> None:
    text, words = place.folder / "text.jsonl", tmp_path / "words"
    make = ["tokenizer", "train", "roberta/mini", str(text), "--out", str(words), "--set", "tokens.vocab_size=300"]
    assert main(make) == 0
    line = refused(
        capsys, 1, "pretrain", "bert/mini", place.run / "store", "--tokenizer", words, "--out", tmp_path / "run", *SMALL
    )
    assert "tokenizer" in line


def test_a_label_unseen_in_training(capsys: Captured, place: Place, tmp_path: Path) -> None:
    (tmp_path / "validation.jsonl").write_text(json.dumps({"text": "wave", "label": "sky"}) + "\n")
    arguments = ["finetune", place.run, place.folder / "task" / "train.jsonl", "--out", tmp_path / "out"]
    line = refused(capsys, 1, *arguments, "--validation", tmp_path / "validation.jsonl", "--run", "device=cpu")
    assert "'sky'" in line
    assert "validation.jsonl, line 1" in line


def test_a_missing_column_names_the_near_one(capsys: Captured, place: Place, tmp_path: Path) -> None:
    line = refused(
        capsys, 1, "finetune", place.run, place.folder / "task", "--out", tmp_path / "out", "--label", "lable"
    )
    assert "there is no column 'lable'. Did you mean 'label'?" in line


def test_fine_tuning_does_not_write_over_a_pretraining_run(capsys: Captured, place: Place) -> None:
    kept = (place.run / "model" / "model.safetensors").read_bytes()
    line = refused(capsys, 2, "finetune", place.run, place.folder / "task", "--out", place.run, "--run", "device=cpu")
    assert "mini: holds a pretraining run, whose model would be replaced; take another folder" in line
    assert (place.run / "model" / "model.safetensors").read_bytes() == kept
    assert not (place.run / "report.json").exists()


def test_fine_tuning_goes_on_in_its_own_folder_where_no_pretraining_is_let_in(
    capsys: Captured, place: Place, tmp_path: Path
) -> None:
    out, text = tmp_path / "out", place.folder / "text.jsonl"
    command = ["finetune", str(place.run), str(place.folder / "task"), "--out", str(out)]
    command += ["--set", "finetuning.epochs=1", "--set", "finetuning.max_length=32"]
    command += ["--run", "device=cpu", "--run", "workers=0"]
    assert main([*command, "--seeds", "2"]) == 0
    capsys.readouterr()
    assert main([*command, "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "mean of 2 seeds" in printed
    history = json.loads((out / "report.json").read_text())["seeds"][0]["history"]
    assert f"validation, best of {len(history)} evaluations" in printed
    line = refused(capsys, 2, "pretrain", "bert/mini", text, "--out", out, *SMALL)
    assert "out: holds a fine-tuning, whose model would be replaced; take another folder" in line
    assert not (out / "tokenizer").exists()


def test_a_text_without_a_mask(capsys: Captured, place: Place) -> None:
    assert "has no mask" in refused(capsys, 2, "fill", place.run, "no blank")


def test_a_text_longer_than_the_positions(capsys: Captured, place: Place) -> None:
    assert "512 positions" in refused(capsys, 2, "fill", place.run, "wave " * 600 + "[MASK]")


def test_a_loss_that_is_not_finite_stops_the_run(capsys: Captured, place: Place, tmp_path: Path) -> None:
    wild = ["--set", "optimizer.lr=1e30", "--set", "optimizer.clip_norm=null", "--set", "budget.amount=50"]
    text = place.folder / "text.jsonl"
    line = refused(capsys, 1, "pretrain", "bert/mini", text, "--out", tmp_path / "run", *SMALL, *wild)
    assert "the loss is nan" in line
    assert "take a lower optimizer.lr" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "genus", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("genus: error: ")
    assert "Traceback" not in done.stderr


def test_an_unexpected_error_is_one_line_and_a_traceback_on_request(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("genus.catalog.load", fail)
    assert "ZeroDivisionError: by zero (unexpected; GENUS_TRACEBACK=1 shows where)" in refused(
        capsys, 1, "show", "bert"
    )
    monkeypatch.setenv("GENUS_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["show", "bert"])


def test_ctrl_c_stops_a_run_at_a_checkpoint(place: Place, tmp_path: Path) -> None:
    command = ["pretrain", "bert/mini", str(place.folder / "text.jsonl"), "--out", str(tmp_path / "run"), *SMALL]
    command += ["--set", "budget.amount=100000", "--run", "log_every=1"]
    with subprocess.Popen([sys.executable, "-m", "genus", *command], stderr=subprocess.PIPE, text=True) as run:
        log = tmp_path / "run" / "metrics.jsonl"
        while run.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert said.endswith("genus: stopped\n")
    assert list((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))


@pytest.mark.parametrize("number", [math.nan, -math.inf])
@pytest.mark.parametrize(
    "command", [["fill", "A [MASK]."], ["evaluate", "held-out.jsonl"], ["export", "--out", "out"]], ids=lambda c: c[0]
)
def test_weights_that_are_not_finite_are_refused(
    command: list[str], number: float, capsys: Captured, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    model = tmp_path / "model"
    shutil.copytree(place.run / "model", model)
    tensors = load_file(model / "model.safetensors")
    tensors["bert.encoder.layer.0.output.dense.bias"][3] = number
    save_file(tensors, model / "model.safetensors")
    message = refused(capsys, 1, command[0], model, *command[1:], "--json")
    assert f"{model}: bert.encoder.layer.0.output.dense.bias has numbers that are not finite" in message
    assert not (place.folder / "out").exists()


def test_an_export_that_differs_names_what_was_to_be_exported(
    capsys: Captured, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(genus.export.verify, "TOLERANCE", -1)
    message = refused(capsys, 1, "export", place.run, "--out", tmp_path / "out")
    assert message.startswith(f"{place.run}: hidden differs by 0.0e+00 of its size")
    assert message.endswith("; nothing is exported")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_document_is_json_or_an_error(number: float, capsys: Captured) -> None:
    with pytest.raises(GenusError, match="not finite"):
        document({"metrics": {"loss": [1.0, number]}})
    assert capsys.readouterr().out == ""
