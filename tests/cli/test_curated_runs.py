"""A run on curated text says so in its model card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from small_run import SMALL

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
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
