"""Sources of documents in the token store: each encoded by itself, beside its target, and no part of it."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from genus.cli import main
from genus.errors import GenusError, UsageError
from genus.text import Corpus, Fields
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.store import Store, counts, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer

ROWS: list[dict[str, Any]] = [
    {"de": f"Satz {n} beginnt. Er endet.", "en": f"Sentence {n} begins. It goes on, and ends."} for n in range(40)
]
ROWS[3]["de"], ROWS[5]["de"], ROWS[7]["en"], ROWS[9]["en"] = None, "  ", "", None
PAIRS = Fields(text="en", source="de")
KEPT = [row for row in ROWS if (row["en"] or "").strip()]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return ByteBPE(vocab_size=300).train([f"{row['de']} {row['en']}" for row in ROWS])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def decoded(store: Store, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """Return source and target of every document."""
    assert store.sources is not None
    pairs = zip(store.sentences[store.sources], store.sentences[store.documents], strict=True)
    return [
        (tokenizer.decode(store.ids[slice(*a)].tolist()), tokenizer.decode(store.ids[slice(*b)].tolist()))
        for a, b in pairs
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_sources_stand_beside_their_targets(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Byte-level ids decode to the exact text, so a break between both would show; empty targets are counted."""
    monkeypatch.setattr("genus.text.read.BLOCK_BYTES", 1_000)
    store = prepare([corpus], tokenizer, tmp_path / "store", fields=PAIRS, workers=workers)
    assert decoded(store, tokenizer) == [((row["de"] or "").strip(), row["en"]) for row in KEPT]
    assert store.document_bytes.tolist() == [len(row["en"]) for row in KEPT]
    assert counts(tmp_path / "store").empty == 2
    assert "2 of 40 documents have no text and are left out" in counts(tmp_path / "store").notices()
    assert store.codes is None
    assert decoded(pickle.loads(pickle.dumps(store)), tokenizer) == decoded(store, tokenizer)


def test_ids_of_a_source_are_those_of_its_text_alone(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """So what the model is asked to translate is read as it was in training."""
    store = prepare([corpus], tokenizer, tmp_path / "store", fields=PAIRS)
    assert store.sources is not None
    for (first, last), row in zip(store.sentences[store.sources].tolist(), KEPT, strict=True):
        text = (row["de"] or "").strip()
        assert store.ids[first:last].tolist() == (tokenizer.encode([text], specials=False)[0] if text else [])


@pytest.mark.parametrize("number", [2, 3, 40])
def test_pairs_are_held_out_whole(corpus: Path, tokenizer: Tokenizer, tmp_path: Path, number: int) -> None:
    """Also of so few that of other text the last sentences would be held out."""
    corpus.write_text("".join(json.dumps(row) + "\n" for row in KEPT[:number]))
    store = prepare([corpus], tokenizer, tmp_path / "store", fields=PAIRS)
    sides = store.split(0.05)
    assert all(len(side.documents) for side in sides)
    found = [pair for side in sides for pair in decoded(side, tokenizer)]
    assert sorted(found) == sorted(decoded(store, tokenizer))
    again = [pair for side in sides for pair in decoded(pickle.loads(pickle.dumps(side)), tokenizer)]
    assert again == found


def test_one_pair_cannot_be_held_out(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    corpus.write_text(json.dumps(KEPT[0]) + "\n")
    store = prepare([corpus], tokenizer, tmp_path / "store", fields=PAIRS)
    with pytest.raises(GenusError, match="one source with its target, so none can be held out"):
        store.split(0.5)
    assert len(store.split(0.0)[0].documents) == 1


def test_a_tokenizer_learns_from_both_sides(corpus: Path) -> None:
    texts = list(Corpus([corpus], PAIRS))
    assert [text for text in texts if text.startswith("Satz")] == [
        row["de"] for row in KEPT if (row["de"] or " ")[0] == "S"
    ]
    assert len([text for text in texts if text.startswith("Sentence")]) == len(KEPT)


def test_sources_that_cannot_be(corpus: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a source or control codes, not both"):
        Fields(codes=("@file",), source="de")
    plain = tmp_path / "plain.txt"
    plain.write_text("A text.\n")
    with pytest.raises(UsageError, match=r"plain\.txt: --source de: text without fields has no source beside it"):
        prepare([plain], tokenizer, tmp_path / "store", fields=PAIRS)
    with pytest.raises(GenusError, match="there is no field 'fr', but 'de', 'en'; name one of them with --source"):
        prepare([corpus], tokenizer, tmp_path / "other", fields=Fields(text="en", source="fr"))


def test_a_store_tells_from_which_fields_it_was_made(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer.save(tmp_path / "words")
    arguments = ["prepare", str(corpus), "--tokenizer", str(tmp_path / "words"), "--out", str(tmp_path / "store")]
    assert main([*arguments, "--field", "en", "--source", "de"]) == 0
    assert main([*arguments, "--field", "en"]) == 1
    assert "was made from the field 'de' and 'en', not 'en'" in capsys.readouterr().err


def test_a_store_without_the_word_in_its_description_has_no_sources(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Stores of the time before sources are read as they were."""
    prepare([corpus], tokenizer, tmp_path / "store", fields=Fields(text="en"))
    meta = json.loads((tmp_path / "store" / "meta.json").read_text())
    assert meta.pop("source") is None
    (tmp_path / "store" / "meta.json").write_text(json.dumps(meta))
    assert Store.open(tmp_path / "store").sources is None
    assert prepare([corpus], tokenizer, tmp_path / "store", fields=Fields(text="en")).sources is None
