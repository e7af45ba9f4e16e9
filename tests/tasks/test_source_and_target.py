"""Text to text: what is read of tables, what is learned, what is written, and that folders keep how."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import F1, Accuracy, Pearson
from genus.evaluate.tags import EntityF1
from genus.evaluate.text_metrics import TokenLoss
from genus.evaluate.written import Bleu, ExactMatch, SpanF1
from genus.export.folder import load, save
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.configuration import Configuration
from genus.generate.engine import Engine
from genus.inference.engine import Inference
from genus.tasks.answer import measure, outputs
from genus.tasks.completion import Completion
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.entities_to_text import EntitiesToText
from genus.tasks.feed import Shuffled, by_length
from genus.tasks.finetune import finetune
from genus.tasks.glue import GLUE, GLUE_AS_TEXT
from genus.tasks.predict import score
from genus.tasks.start import Start
from genus.tasks.text_to_text import EncodedPairs, TextToText
from genus.train.run import Run
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

NAMES = {
    "cats": "an animal of the farm",
    "dogs": "an animal of the farm",
    "birds": "an animal of the farm",
    "saws": "one more tool of iron",
    "pliers": "one more tool of iron",
}
ROWS = [(f"{name} carry {number} letters", target) for number in range(6) for name, target in NAMES.items()]
RUN = Run(device="cpu", precision="float32", workers=0, tracker="none")
ROUNDING = 1e-5
"""Float32 sums in another order."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    row = catalog.load("t5/tiny").overlay({"tokens": {"vocab_size": 300}})
    return row.tokens.train([*documents(), *(" ".join(pair) for pair in ROWS)])


@pytest.fixture(scope="module")
def recipe(tokenizer: Tokenizer) -> Recipe:
    small = {"layers": 2, "hidden": 64}
    row = catalog.load("t5/tiny").overlay({"model": {"encoder": small, "decoder": small}})
    settings = replace(row.finetuning, epochs=40, batch=6, max_length=48)
    return replace(row, tokens=tokenizer.tokens, finetuning=settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table as JSON lines; validation is the training rows, as what is learned is a rule."""
    folder = tmp_path_factory.mktemp("pairs")
    for split in ("train", "validation"):
        rows = [{"source": source, "target": target} for source, target in ROWS]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def tuned(data: Path, recipe: Recipe, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "out"
    task = TextToText(
        metrics=(TokenLoss(), ExactMatch(), Bleu()), decoding=BeamSearch(beams=3, length_penalty=0.5), target_length=30
    )
    finetune(Start(recipe, tokenizer), task, Files.find(data), folder, seeds=(0,), run=RUN)
    return folder


def rows_of(pairs: list[tuple[str, str | None]]) -> list[LabeledRow]:
    return [LabeledRow(n, (source,), target and (target,)) for n, (source, target) in enumerate(pairs, 1)]


def encoded(
    recipe: Recipe, tokenizer: Tokenizer, pairs: list[tuple[str, str | None]], **choices: object
) -> EncodedPairs:
    task = TextToText(**choices)  # type: ignore[arg-type]
    objective = task.objective([]).continued(recipe.objectives, recipe.model)
    return task.encode(tokenizer, rows_of(pairs), objective, 48)


def test_it_learns_and_reports(tuned: Path) -> None:
    report = json.loads((tuned / "report.json").read_text())
    found = report["seeds"][0]["metrics"]["validation"]
    assert found["exact_match"] > 0.9
    assert found["bleu"] > 90
    assert {*report["seeds"][0]["history"][0]} == {"token_loss"}  # nothing is written before the end
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in report["seeds"][0]["signatures"]["bleu"]
    answers = [json.loads(line) for line in (tuned / "seed-0" / "validation.jsonl").read_text().splitlines()]
    right = [answer["predicted"] == target for answer, (_, target) in zip(answers, ROWS, strict=True)]
    assert np.mean(right) == found["exact_match"]


def test_the_folder_keeps_how_it_writes(tuned: Path, tmp_path: Path) -> None:
    config = json.loads((tuned / "model" / "generation_config.json").read_text())
    asked = {"num_beams": 3, "length_penalty": 0.5, "early_stopping": False, "max_new_tokens": 30, "do_sample": False}
    assert config == asked | {"eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 0}
    model = load(tuned / "model")
    assert Configuration.of(model.generation or {}, reads_source=True) == Configuration(
        BeamSearch(beams=3, length_penalty=0.5), max_tokens=30
    )
    save(tmp_path / "again", model.recipe, model.learner, model.tokenizer, generation=model.generation)
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text()) == config
    save(tmp_path / "again", model.recipe, model.learner, model.tokenizer)
    assert not (tmp_path / "again" / "generation_config.json").exists()


def test_transformers_writes_the_same_from_the_folder(tuned: Path) -> None:
    """With nothing said, `generate` of both takes the folder's own beams and length."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tuned / "model").eval()
    model = load(tuned / "model")
    task = TextToText(metrics=(ExactMatch(),)).generated(model.generation or {})
    answers, found = score(model, task, rows_of([*ROWS]))
    assert (
        found["exact_match"]
        == json.loads((tuned / "report.json").read_text())["seeds"][0]["metrics"]["validation"]["exact_match"]
    )
    for (source, _), answer in zip(ROWS[:8], answers, strict=False):
        framed, _, _ = model.tokenizer.vocabulary.frame(np.array(model.tokenizer.encode([source], specials=False)[0]))
        with torch.no_grad():
            ids = theirs.generate(torch.tensor(framed)[None])[0].tolist()
        engine = Engine(model.learner, model.recipe.model, model.tokenizer)
        ((ours,),) = engine.generate([Request(source, 30)], task.decoding)
        assert [*ours.ids] == [one for one in ids[1:] if one != 0][: len(ours.ids)]
        assert ours.text.strip() == answer.predicted


def test_the_loss_is_that_of_the_definition(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Each pair by itself, token by token: no other pair of the batch is seen, and special tokens are predicted too."""
    pairs = [("a b", "c"), ("the old letter", "seven stones in winter"), ("dogs", "x y")]
    data = encoded(recipe, tokenizer, pairs)
    torch.manual_seed(0)
    learner = replace(recipe, objectives=(data.objective,)).learner().eval()
    found = outputs(learner, recipe.model, data, Inference("float32"), texts=False).values
    head = learner.heads["denoising"].lm_head
    for index, _ in enumerate(pairs):
        example = data.example(index)
        batch = next(one for _, one in by_length(replace(data, texts=[data.texts[index]], labels=data.labels[:1])))
        with torch.no_grad():
            logits = head(learner.network(batch)["tokens"])
        nats = F.cross_entropy(
            logits[: len(example.tokens.ids) - 1], torch.tensor(example.tokens.ids[1:]), reduction="none"
        )
        slice_ = found[slice(*data.offsets[index : index + 2])]
        np.testing.assert_allclose(slice_[:, 0], nats.numpy(), atol=ROUNDING)


def test_what_is_predicted_ends_with_the_end(recipe: Recipe, tokenizer: Tokenizer) -> None:
    example = encoded(recipe, tokenizer, [("a", "seven stones")]).example(0)
    index, label = example.targets["denoising"]
    assert label.tolist() == [*tokenizer.encode(["seven stones"], specials=False)[0], tokenizer.vocabulary.end]
    assert index.tolist() == [*range(len(label))]
    assert example.tokens.ids[0] == tokenizer.vocabulary.pad  # with which T5's decoder begins


def test_rows_without_a_target_are_answered_and_not_measured(recipe: Recipe, tokenizer: Tokenizer) -> None:
    data = encoded(recipe, tokenizer, [("a", "seven stones"), ("b", None)])
    torch.manual_seed(0)
    learner = replace(recipe, objectives=(data.objective,)).learner().eval()
    found = outputs(learner, recipe.model, data, Inference("float32"))
    assert len(found.texts or []) == 2
    truth, _ = data.for_metrics(data.objective, found, "texts")
    assert truth.shape == (1, 2)
    assert len(data.for_metrics(data.objective, found, "written texts")[0]) == 1
    assert [len(scores) for _, scores in data.answers(data.objective, found)] == [2, 0]


def test_long_and_empty_texts_are_cut_and_counted(recipe: Recipe, tokenizer: Tokenizer) -> None:
    pairs = [("letter " * 60, "x"), ("", "y"), ("z", "stones " * 40), ("plain", "plain")]
    data = encoded(recipe, tokenizer, pairs, target_length=10)
    told = " / ".join(data.warnings)
    assert "1 of 4 rows have an empty source" in told
    assert "1 of 4 rows have a source over finetuning.max_length=48 tokens" in told
    assert "1 of 4 rows have a target over target_length=10 tokens" in told
    assert max(data.stream_lengths["source"]) == 48
    assert max(data.lengths) == 10
    with pytest.raises(GenusError, match="leave no room"):
        encoded(recipe, tokenizer, pairs, target_length=2)


def test_a_batch_holds_each_pair_once_in_both_streams(recipe: Recipe, tokenizer: Tokenizer) -> None:
    data = encoded(recipe, tokenizer, [*ROWS])
    feed = Shuffled(data, 6, seed=3)
    seen = []
    for number in range(len(ROWS) // 6):
        batch = feed[number]
        lengths = batch.lengths()
        assert len(lengths["source"]) == len(lengths["tokens"]) == 6
        for stream, spans in ((name, packed.spans()) for name, packed in batch.streams.items()):
            ids = batch.streams[stream].ids
            seen += [(stream, tokenizer.decode(ids[a:b].tolist())) for a, b in spans]
    for stream, side in (("source", 0), ("tokens", 1)):
        assert sorted(text for name, text in seen if name == stream) == sorted(pair[side] for pair in ROWS)


def test_sources_are_prefix_and_columns_with_their_names() -> None:
    row = {"sentence1": "A b.", "sentence2": "C d.", "label": 1}
    assert GLUE_AS_TEXT["mrpc-as-text"].read(row) == (("mrpc sentence1: A b. sentence2: C d.",), "equivalent")
    one = {"sentence": "A b.", "label": "0"}
    assert GLUE_AS_TEXT["cola-as-text"].read(one) == (("cola sentence: A b.",), "unacceptable")
    for label, text in ((3.8, "3.8"), ("2.533", "2.6"), (0, "0.0"), (5.0, "5.0")):  # t5's stsb: rounded to a fifth
        assert GLUE_AS_TEXT["stsb-as-text"].read(row | {"label": label})[1] == text
    assert {name.removesuffix("-as-text") for name in GLUE_AS_TEXT} == {*GLUE}
    lists = {"source": ["First.", "Second."], "target": ["one", "two"]}
    assert TextToText(prefix="summarize: ").read(lists) == (("summarize: First. Second.",), ("one", "two"))


@pytest.mark.parametrize(("label", "why"), [("2", "no number from 0 to 1"), ("maybe", "none of not_equivalent")])
def test_a_label_without_a_name_is_refused(label: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        GLUE_AS_TEXT["mrpc-as-text"].read({"sentence1": "a", "sentence2": "b", "label": label})


def test_an_answer_that_is_no_label_is_wrong(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """F1 as T5 has it: such an answer is the class that is not true; Pearson: it is -1."""
    task = TextToText(names=("no", "yes"), metrics=(F1(), Accuracy()))
    objective = task.objective(["no", "yes"]).continued(recipe.objectives, recipe.model)
    rows = [LabeledRow(n, ("a",), (label,)) for n, label in enumerate(["yes", "yes", "no", "no"])]
    data = task.encode(tokenizer, rows, objective, 48)
    found = replace(
        outputs(
            replace(recipe, objectives=(objective,)).learner(), recipe.model, data, Inference("float32"), texts=False
        ),
        texts=["yes", "maybe", "no", "maybe"],
    )
    measured = measure(task.metrics, objective, data, found)
    assert measured == {"f1": pytest.approx(2 / 4), "accuracy": 0.5}
    numbers = [LabeledRow(n, ("a",), (label,)) for n, label in enumerate(["1.0", "2.0", "3.0"])]
    data = TextToText(metrics=(Pearson(),)).encode(tokenizer, numbers, objective, 48)
    found = replace(found, texts=["1.5", "nothing", "4.0"])
    truth, predicted = data.for_metrics(objective, found, "numbers")
    assert (truth.tolist(), predicted.tolist()) == ([1, 2, 3], [1.5, -1, 4])


def test_entities_are_listed_with_their_types(recipe: Recipe, tokenizer: Tokenizer) -> None:
    row = {"tokens": ["Peter", "Blackburn", "saw", "Paris"], "ner_tags": ["B-PER", "I-PER", "O", "B-LOC"]}
    task = EntitiesToText()
    assert task.read(row) == (("tag: Peter Blackburn saw Paris",), ("PER: Peter Blackburn $$ LOC: Paris",))
    bare = {"tokens": ["he", "slept"], "ner_tags": ["O", "O"]}
    assert task.read(bare)[1] == ("",)
    rows = [LabeledRow(n, *task.read(one)) for n, one in enumerate((row, bare))]
    data = task.encode(tokenizer, rows, task.objective([]).continued(recipe.objectives, recipe.model), 48)
    assert data.labels.all()
    assert data.warnings == []
    truth = np.empty(2, object)
    truth[:] = data.references
    assert SpanF1()(truth, np.array(["PER: Peter Blackburn $$ LOC: London", ""], object)) == 0.5


def test_parallel_text_files_are_a_table(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / f"{split}.de").write_text("Ein Hund\nZwei Katzen\n", encoding="utf-8")
        (tmp_path / f"{split}.en").write_text("A dog\nTwo cats", encoding="utf-8")
    task = TextToText(texts=("de",), label="en")
    files = Files.find(tmp_path, ("de", "en"))
    assert (files.train, files.validation) == (tmp_path / "train", tmp_path / "valid")
    assert [(row.line, row.texts, row.label) for row in read(files.train, task)] == [
        (1, ("Ein Hund",), "A dog"),
        (2, ("Zwei Katzen",), "Two cats"),
    ]
    with (tmp_path / "train.en").open("a") as file:
        file.write("\nThree")
    with pytest.raises(GenusError, match=r"train\.de: ends after 2 lines, and not so .*train\.en"):
        read(files.train, task)
    (tmp_path / "train.en").unlink()
    with pytest.raises(GenusError, match=r"train\.en: there is no such file, beside"):
        read(files.train, task)


def test_who_cannot_is_told_so(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="take --task completion"):
        TextToText().objective([]).continued((gpt2 := catalog.load("gpt2/tiny")).objectives, gpt2.model)
    with pytest.raises(UsageError, match="take --task text-to-text"):
        Completion().objective([]).continued(recipe.objectives, recipe.model)
    with pytest.raises(UsageError, match="read in this order alone"):
        TextToText(texts=("a", "b"), symmetric=True)
    with pytest.raises(UsageError, match="entity_f1 judges tags"):
        TextToText(metrics=(EntityF1(),))
