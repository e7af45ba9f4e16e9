"""What rows are measured by: likelihoods against models that know nothing, a probe against scikit-learn, tables."""

from __future__ import annotations

import gzip
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from genus import catalog, pipeline
from genus.cli.compare import measurement_of, pieces
from genus.errors import GenusError, UsageError
from genus.preparation import tokenizer_for
from genus.run_folder import RunFolder
from genus.study.corpus import cut, passages, study_text
from genus.study.measurements import Subject
from genus.study.measurements.likelihood import HeldOutBits, MinimalPairs
from genus.study.measurements.tables import FewShot, FullFineTuning, LinearProbe
from genus.study.probing import fitted
from genus.text import Corpus
from genus.train.run import Run
from small import documents, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer

RUN = Run(device="cpu", precision="float32", workers=0, tracker="none", evaluate_batches=2)
PROBE = 1e-4
"""Two solvers of one convex problem end as near to its minimum."""
WORDS = {"sea": ["wave", "tide", "sail", "anchor"], "kitchen": ["bread", "oven", "spoon", "onion"]}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "text.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in documents()), encoding="utf-8")
    return path


def subject(row: str, text: Path, folder: Path, seed: int = 0, *, blank: bool = False) -> Subject:
    """Return a small row with random weights, or with weights by which every token is as likely as any other."""
    recipe = shrunk(catalog.load(row))
    tokenizer: Tokenizer = tokenizer_for(recipe, Corpus([text]), RunFolder(folder / "tokens"))
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    if blank:
        with torch.no_grad():
            for weight in learner.parameters():
                weight.zero_()
    return Subject(recipe, tokenizer, learner.eval(), seed, text, folder / f"own-{seed}", RUN)


def table(folder: Path, rows: int = 60) -> Path:
    """Write tables of words of two kinds."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("train", "validation", "test"):
        lines = []
        for number in range(rows):
            label = sorted(WORDS)[number % 2]
            lines.append(json.dumps({"text": " ".join(rng.choice(WORDS[label], 4)), "label": label}) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


@pytest.mark.parametrize(
    ("row", "like"),
    [("gpt2/tiny", "likelihood"), ("bert/tiny", "pseudo-likelihood"), ("xlnet/tiny", "pseudo-likelihood")],
)
def test_bits_of_a_model_that_knows_nothing_are_those_of_its_vocabulary(
    row: str, like: str, text: Path, tmp_path: Path
) -> None:
    """Each token has log2 V bits."""
    blank, one = subject(row, text, tmp_path, blank=True), HeldOutBits(passages=7, characters=60)
    found = one.measure(blank)
    read = passages(text, 7, 60)
    tokens = sum(len(ids) for ids in blank.tokenizer.encode(read, specials=False))
    size = sum(len(passage.encode()) for passage in read)
    assert found.like == like
    assert found.value == pytest.approx(tokens * math.log2(blank.recipe.vocab_rows) / size, rel=1e-5)


def test_an_encoder_decoder_has_the_bits_of_its_own_targets(text: Path, tmp_path: Path) -> None:
    found = HeldOutBits(passages=7).measure(subject("t5/tiny", text, tmp_path))
    assert found.value is not None
    assert found.value > 0
    assert found.like.startswith("own targets of ")


def test_minimal_pairs_of_a_model_that_counts_tokens(text: Path, tmp_path: Path) -> None:
    """Where every token is as likely, the sentence with fewer tokens is the likelier one."""
    blank = subject("gpt2/tiny", text, tmp_path, blank=True)
    folder = tmp_path / "pairs"
    folder.mkdir()
    pairs = {"short": [("the river", "the long river and the sea")] * 3, "long": [("the old river", "a"), ("a", "an evening")]}  # noqa: E501
    for name, several in pairs.items():
        lines = "".join(json.dumps({"sentence_good": good, "sentence_bad": bad}) + "\n" for good, bad in several)
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.write(lines)
    found = MinimalPairs(folder=str(folder)).measure(blank)
    assert (found.value, found.detail["phenomena"]) == (0.8, {"long": 0.5, "short": 1.0})
    assert MinimalPairs(folder=str(folder), pairs=2).measure(blank).detail["pairs"] == 4


def test_pairs_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no minimal pairs"):
        MinimalPairs(folder=str(tmp_path)).check()
    (tmp_path / "one.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(GenusError, match="sentence_good"):
        MinimalPairs(folder=str(tmp_path)).check()
    (tmp_path / "one.jsonl").write_text("\n")
    with pytest.raises(GenusError, match="holds no pairs"):
        MinimalPairs(folder=str(tmp_path)).check()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("decay", [1e-3, 1e-1])
def test_the_probe_is_scikit_learns_logistic_regression(classes: int, decay: float) -> None:
    """It minimizes C Σ loss + ‖W‖² / 2, ours Σ loss / N + decay ‖W‖² / 2, so that C = 1 / (N decay)."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 6)), rng.integers(0, classes, 200)
    x += 0.8 * np.eye(6)[y]
    weight, bias = fitted(x, y, classes, decay)
    logits = x @ weight + bias
    ours = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if classes == 2:  # scikit-learn has one vector for two classes: W_1 - W_0, whose decay is half as large
        theirs = LogisticRegression(C=2 / (200 * decay), tol=1e-10, max_iter=5000).fit(x, y).predict_proba(x)
    else:
        theirs = LogisticRegression(C=1 / (200 * decay), tol=1e-10, max_iter=5000).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(ours, theirs, atol=PROBE)


def test_a_probe_reads_words_off_random_states(text: Path, tmp_path: Path) -> None:
    """A mean of embeddings says which words there are, without any training; and half a validation table tests."""
    folder = table(tmp_path / "words")
    one = LinearProbe(table=str(folder))
    found = one.measure(subject("bert/tiny", text, tmp_path))
    assert found.value == pytest.approx(1.0, abs=0.1)
    assert found.detail["rows"] == 60
    (folder / "test.jsonl").unlink()
    assert one.measure(subject("bert/tiny", text, tmp_path)).detail["rows"] == 30
    assert LinearProbe(table=str(folder)).name == "linear-probe words"


def test_a_probe_of_an_encoder_decoder_has_no_value_and_says_why(text: Path, tmp_path: Path) -> None:
    found = LinearProbe(table=str(table(tmp_path / "words"))).measure(subject("t5/tiny", text, tmp_path))
    assert found.value is None
    assert "states" in found.detail["why"]


def test_fine_tuning_and_few_shots(text: Path, tmp_path: Path) -> None:
    folder = table(tmp_path / "words")
    whole = FullFineTuning(table=str(folder), runs=2, epochs=2.0, lr=3e-3, max_length=16)
    found = whole.measure(subject("bert/tiny", text, tmp_path))
    assert found.detail["split"] == "test"
    assert [*found.detail["runs"]] == ["0", "1"]
    assert found.value == pytest.approx(np.mean([*found.detail["runs"].values()]))
    few = FewShot(table=str(folder), shots=3, epochs=1.0, max_length=16)
    drawn = []
    for seed in (0, 0, 1):
        own = subject("bert/tiny", text, tmp_path, seed)
        few.measure(own)
        drawn.append([json.loads(line) for line in (own.folder / "few.jsonl").read_text().splitlines()])
    assert all(sorted(row["label"] for row in rows) == ["kitchen"] * 3 + ["sea"] * 3 for rows in drawn)
    assert drawn[0] == drawn[1] != drawn[2]
    assert few.name == "3-shot words"


def test_measurements_by_name() -> None:
    found = measurement_of('few-shot,table=a/b,shots=8,task={kind="Classification",texts=["x","y"]}')
    assert isinstance(found, FewShot)
    assert (found.table, found.shots, found.task.texts) == ("a/b", 8, ("x", "y"))
    assert measurement_of("held-out-bits,passages=9") == HeldOutBits(passages=9)
    for text, said in (
        ("held-out-bit", "Did you mean 'held-out-bits'"),
        ("minimal-pairs", "needs the choice 'folder'"),
        ("held-out-bits,passages=0", "at least 1"),
        ("held-out-bits,pasages=1", "passages"),
    ):
        with pytest.raises(UsageError, match=said):
            measurement_of(text)


def test_commas_within_brackets_and_quotes_divide_nothing() -> None:
    assert pieces('a,b={c=[1,2],d="x,y"},e=f') == ["a", 'b={c=[1,2],d="x,y"}', "e=f"]
    assert pieces("a") == ["a"]


def test_held_out_text_is_in_no_training_text(text: Path, tmp_path: Path) -> None:
    found = study_text([text], tmp_path / "text")
    parts = [[json.loads(line)["text"] for line in path.read_text().splitlines()] for path in (found.train, found.held_out)]  # noqa: E501
    assert sorted([*parts[0], *parts[1]]) == sorted(documents())
    assert len(parts[1]) == len(documents()) // 20
    again = study_text([text], tmp_path / "text")
    assert again == found
    text.with_name("other.jsonl").write_text(text.read_text().replace("river", "stream"))
    assert study_text([text.with_name("other.jsonl")], tmp_path / "text").digest != found.digest


def test_text_that_cannot_be_compared_on(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "one.txt").write_text("One document alone.")
    for name, said in (("empty.txt", "the text is empty"), ("one.txt", "is one document"), ("none.txt", "none.txt")):
        with pytest.raises(GenusError, match=said) as caught:
            study_text([str(tmp_path / name)], tmp_path / "text")
        assert "\n" not in str(caught.value)


def test_passages_are_cut_at_spaces(tmp_path: Path) -> None:
    assert cut("one two three", 8) == "one two"
    assert cut("one two three", 7) == "one two"
    assert cut("incomprehensible", 5) == "incom"
    assert cut("short", 5) == "short"
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": "It is a long sentence about rivers. Hm. Another long sentence about seas."}))
    found: list[Any] = passages(path, 9, 20)
    assert found == ["It is a long", "Another long"]
