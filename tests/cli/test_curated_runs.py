"""A run on curated text says so in its model card, and one in a language takes what is usual for it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from small_run import SMALL

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place


def test_the_model_card_says_how_the_text_was_curated(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.loads((place.folder / "text.jsonl").read_text().splitlines()[0])
    (tmp_path / "task.jsonl").write_text(json.dumps({"question": row["text"]}) + "\n")
    steps = f"[{{kind='ExactDuplicates'}}, {{kind='Contamination', tables=['{tmp_path / 'task.jsonl'}'], words=3}}]"
    text, out = str(place.folder / "text.jsonl"), tmp_path / "clean"
    assert main(["clean", text, "--set", f"steps={steps}", "--out", str(out), "--workers", "1"]) == 0
    assert main(["pretrain", "bert/mini", str(out), "--out", str(tmp_path / "run"), *SMALL]) == 0
    capsys.readouterr()
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    made = json.loads((out / "curation.json").read_text())
    assert f"Its text was curated: `clean`, by steps with the hash `{made['hash']}`." in card
    assert f"Documents that share 3 words in a row with a row of {tmp_path / 'task.jsonl'} were removed." in card
    assert "curated" not in (place.run / "model" / "README.md").read_text()


def test_a_language_is_one_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Thai text, cleaned by the rules of Thai, into pieces of Thai."""
    pytest.importorskip("pythainlp")
    words = "\u0e09\u0e31\u0e19 \u0e40\u0e23\u0e35\u0e22\u0e19 \u0e20\u0e32\u0e29\u0e32 \u0e44\u0e17\u0e22"
    parts = f"{words} \u0e43\u0e19 \u0e17\u0e35\u0e48 \u0e1a\u0e49\u0e32\u0e19".split()
    draw = random.Random(0)
    texts = ["".join(draw.choices(parts, k=40)) + " " + "".join(draw.choices(parts, k=40)) for _ in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    steps = "steps=[{kind='GopherQuality'}]"
    (tmp_path / "steps.toml").write_text("kind = 'Curation'\n[[steps]]\nkind = 'GopherQuality'\n")
    chosen = ["--preset", str(tmp_path / "steps.toml"), "--workers", "1"]
    assert main(["clean", str(tmp_path / "a.jsonl"), *chosen, "--language", "th", "--out", str(tmp_path / "th")]) == 0
    assert main(["clean", str(tmp_path / "a.jsonl"), *chosen, "--set", steps, "--out", str(tmp_path / "en")]) == 0
    kept = [json.loads((tmp_path / name / "curation.json").read_text())["kept"]["documents"] for name in ("th", "en")]
    assert kept == [60, 0]
    small = ["--set", "tokens.vocab_size=60", *SMALL[2:]]
    run = tmp_path / "run"
    assert main(["pretrain", "bert/mini", str(tmp_path / "th"), "--language", "th", "--out", str(run), *small]) == 0
    assert json.loads((run / "recipe.json").read_text())["tokens"]["kind"] == "UnigramNoSpaces"
    assert main(["pretrain", "bert/mini", str(tmp_path / "th"), "--language", "tx", "--out", str(run)]) == 2
    assert "--language: there is no pack 'tx'" in capsys.readouterr().err
