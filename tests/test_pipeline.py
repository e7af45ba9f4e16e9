"""Text to a trained model folder, through every station, on real code and made-up text."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog, pipeline
from genus.batch import IGNORE
from genus.errors import GenusError, UsageError
from genus.export.folder import load
from genus.part.renames import SCHEMA
from genus.tokens.store import Store, prepare
from genus.tokens.tokenizer import Tokenizer
from small import RUN, documents, losses, rows, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe


def two_stages(name: str) -> Recipe:
    """Return a small member with a short and a long stage, as BERT's own."""
    recipe = shrunk(catalog.load(name))
    short, long = replace(recipe.stages[0], share=0.6), replace(recipe.stages[0], max_length=64, share=0.4)
    return replace(recipe, stages=(short, long))


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "bert"
    pipeline.pretrain(two_stages("bert"), [corpus], folder, RUN)
    return folder


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_run_folder_holds_all_it_should(name: str, corpus: Path, tmp_path: Path) -> None:
    summary = pipeline.pretrain(two_stages(name), [corpus], tmp_path / "run", RUN)
    assert (summary.progress.step, summary.progress.stage, summary.stopped) == (10, 1, False)
    assert {
        "loss",
        "masked_lm/correct",
        "masked_lm/perplexity",
        "masked_lm/bits_per_byte",
    } <= summary.progress.evaluation.keys()
    recipe = catalog.load(tmp_path / "run")
    model = load(tmp_path / "run" / "model")
    assert model.recipe == recipe
    assert recipe.tokens.vocab_size == Tokenizer.load(tmp_path / "run" / "tokenizer").vocabulary.size
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "checkpoint-10",
        "checkpoint-4",
        "checkpoint-8",
    ]


def test_every_file_that_holds_a_part_bears_its_schema(trained: Path) -> None:
    files = [*trained.rglob("recipe.json"), *trained.rglob("tokens.json")]
    assert {file.parent.name for file in files} >= {"bert", "tokenizer", "model", "checkpoint-10"}
    for file in files:
        assert json.loads(file.read_text())["schema"] == SCHEMA, file
    assert json.loads((trained / "run.json").read_text())["sessions"][0]["run"]["schema"] == SCHEMA


def test_bits_per_byte_follow_from_the_loss(trained: Path) -> None:
    row = rows(trained)[-1]
    _, held_out = Store.open(trained / "store").split(RUN.held_out)
    tokens = sum(int(held_out.sentences[last] - held_out.sentences[first]) for first, last in held_out.documents)
    per_byte = row["held_out/masked_lm"] / math.log(2) * tokens / int(held_out.document_bytes.sum())
    assert row["held_out/masked_lm/bits_per_byte"] == pytest.approx(per_byte)


def test_bits_per_byte_of_short_documents(tmp_path: Path) -> None:
    """All text is predicted, separators too, which are no bytes of it: total nats / (ln 2 x total bytes)."""
    short = tmp_path / "short.jsonl"
    short.write_text("".join(json.dumps({"text": text.split(".")[0]}) + "\n" for text in documents(400)))
    recipe = shrunk(catalog.load("transformer-xl"))
    tokenizer = recipe.tokens.train(documents())
    store = prepare([short], tokenizer, tmp_path / "store", workers=1)
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    feed = pipeline.validation_feed(recipe, store, tokenizer, learner)
    found = pipeline.evaluate(learner, recipe=recipe, feed=feed, run=replace(RUN, evaluate_batches=10000))
    labels = torch.cat([batch.targets["causal_lm"].label for batch in feed.evaluation_batches()])
    targets = int((labels != IGNORE).sum())
    bits = found["causal_lm"] * targets / math.log(2) / float(store.document_bytes.sum())
    assert targets > 1.1 * len(store.ids), "documents are so short that their separators weigh"
    assert found["causal_lm/bits_per_byte"] == pytest.approx(bits, rel=1e-6)


def test_a_finished_run_takes_a_larger_budget(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, run = shrunk(catalog.load("bert")).override("budget.amount", 4), tmp_path / "run"
    pipeline.pretrain(recipe, [corpus], run, RUN)
    first = losses(run)
    summary = pipeline.pretrain(recipe.override("budget.amount", 8), [corpus], run, RUN, resume=True)
    assert "run: the budget was 4 and is 8; the learning rate is a function of" in capsys.readouterr().err
    assert (summary.progress.step, summary.stopped) == (8, False)
    assert losses(run)[:4] == first
    assert len(losses(run)) == 8
    rates = [row["lr"] for row in rows(run) if "lr" in row]
    assert rates[4:] == [1e-3 * recipe.schedule.factor(step / 8) for step in range(4, 8)]
    assert catalog.load(run).budget.amount == 8
    with pytest.raises(UsageError, match=r"budget\.amount was 8\.0, not 6\.0"):
        pipeline.pretrain(recipe.override("budget.amount", 6), [corpus], run, RUN, resume=True)


@pytest.mark.parametrize("name", ["ids.bin", "sentences.bin", "documents.bin"])
@pytest.mark.parametrize("place", [0.01, 0.5, 0.99])
def test_one_bit_of_a_store_is_noticed_where_a_run_begins(
    trained: Path, corpus: Path, tmp_path: Path, name: str, place: float
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "store" / name
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(GenusError, match=rf"{name}: is damaged; delete .*store and prepare it again"):
        pipeline.pretrain(two_stages("bert"), [corpus], tmp_path / "run", RUN, resume=True)
    words = tmp_path / "run" / "tokenizer"
    with pytest.raises(GenusError, match=rf"{name}: is damaged"):
        pipeline.pretrain(two_stages("bert"), [tmp_path / "run" / "store"], tmp_path / "new", RUN, words=words)


def test_a_run_in_use_is_refused(corpus: Path, tmp_path: Path) -> None:
    code = "import sys, time; from genus.run_folder import RunFolder\n"
    code += "with RunFolder(sys.argv[1]).lock(): print(flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(UsageError, match="is in use by process"):
        pipeline.pretrain(two_stages("bert"), [corpus], tmp_path, RUN)
    holder.kill()
    holder.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_stopped_run_resumes_as_if_it_never_stopped(trained: Path, corpus: Path, tmp_path: Path) -> None:
    """What is cut off is the second half, a stage's end included: checkpoint 8 of 10 is removed, and made again."""
    shutil.copytree(trained, tmp_path / "run")
    for step in (8, 10):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"checkpoint-{step}")
    pipeline.pretrain(two_stages("bert"), [corpus], tmp_path / "run", RUN, resume=True)
    assert losses(tmp_path / "run") == losses(trained)
    before, after = load(trained / "model").learner.state_dict(), load(tmp_path / "run" / "model").learner.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_of_another_recipe_is_refused_and_kept(trained: Path, corpus: Path) -> None:
    kept = (trained / "recipe.json").read_bytes()
    with pytest.raises(UsageError, match=r"another recipe \(optimizer\.lr was 0\.001, not 0\.5\)"):
        pipeline.pretrain(two_stages("bert").override("optimizer.lr", "0.5"), [corpus], trained, RUN)
    with pytest.raises(UsageError, match="holds a run"):
        pipeline.pretrain(two_stages("bert"), [corpus], trained, RUN)
    assert (trained / "recipe.json").read_bytes() == kept


def fail(corpus: Path, run: Path) -> None:
    """Begin a run that ends before its first checkpoint."""
    wild = two_stages("bert").overrides({"optimizer.lr": 1e30, "optimizer.clip_norm": None})
    with pytest.raises(GenusError, match="the loss is"):
        pipeline.pretrain(wild, [corpus], run, RUN)


def test_what_failed_before_its_first_checkpoint_is_begun_anew_with_other_choices(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fail(corpus, run)
    smaller = two_stages("bert").override("tokens.vocab_size", "300")
    pipeline.pretrain(smaller, [corpus], run, RUN)
    assert catalog.load(run).optimizer == two_stages("bert").optimizer
    assert load(run / "model").tokenizer.hash() == smaller.tokens.train(documents()).hash()


def test_a_given_tokenizer_takes_the_place_of_one_that_no_checkpoint_is_of(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, given = tmp_path / "run", other(tmp_path)
    fail(corpus, run)
    pipeline.pretrain(two_stages("bert"), [corpus], run, RUN, words=given)
    assert "made anew" in capsys.readouterr().err
    assert Tokenizer.load(run / "tokenizer").hash() == Tokenizer.load(given).hash()
    pipeline.pretrain(two_stages("bert"), [corpus], run, RUN, resume=True)


def test_a_run_keeps_its_tokenizer(trained: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = two_stages("bert")
    with pytest.raises(UsageError, match=r"tokens\.vocab_size was 400, not 300"):
        pipeline.pretrain(recipe.override("tokens.vocab_size", "300"), [corpus], trained, RUN, resume=True)
    with pytest.raises(UsageError, match="another tokenizer than"):
        pipeline.pretrain(recipe, [corpus], trained, RUN, resume=True, words=other(tmp_path))
    pipeline.pretrain(recipe, [corpus], trained, RUN, resume=True, words=trained / "model")
    pipeline.pretrain(catalog.load(trained), [corpus], trained, RUN, resume=True)


def test_a_prepared_store_gives_the_same_run_as_its_text(trained: Path, corpus: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(trained / "tokenizer")
    prepare([corpus], tokenizer, tmp_path / "store", workers=1)
    pipeline.pretrain(two_stages("bert"), [tmp_path / "store"], tmp_path / "run", RUN, words=trained / "tokenizer")
    assert losses(tmp_path / "run") == losses(trained)


def test_a_store_of_another_tokenizer_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="another tokenizer"):
        pipeline.pretrain(two_stages("roberta"), [trained / "store"], tmp_path / "run", RUN, words=other(tmp_path))


def other(folder: Path) -> Path:
    """Return the folder of a tokenizer that nothing else uses."""
    shrunk(catalog.load("roberta")).tokens.train(documents(20)).save(folder / "other")
    return folder / "other"


def test_training_goes_on_from_a_model_folder(trained: Path, corpus: Path, tmp_path: Path) -> None:
    """The first loss is near the last of the run that made the folder, and far below that of fresh weights."""
    longer = two_stages("bert").overlay({"budget": {"amount": 60.0}})
    pipeline.pretrain(longer, [corpus], tmp_path / "first", RUN)
    pipeline.pretrain(two_stages("bert"), [corpus], tmp_path / "second", RUN, start=tmp_path / "first" / "model")
    fresh, last, first = losses(trained)[0], losses(tmp_path / "first")[-1], losses(tmp_path / "second")[0]
    assert abs(first - last) < 0.3 * (fresh - last)


def test_training_goes_on_with_a_new_vocabulary(trained: Path, corpus: Path, tmp_path: Path) -> None:
    smaller = two_stages("bert").override("tokens.vocab_size", "300")
    smaller.tokens.train(documents()).save(tmp_path / "tokenizer")
    run = tmp_path / "run"
    pipeline.pretrain(smaller, [corpus], run, RUN, words=tmp_path / "tokenizer", start=trained / "model")
    model = load(run / "model")
    assert model.learner.network.token_embedding.num_embeddings == model.tokenizer.vocabulary.size < 400
    assert model.recipe.tokens.vocab_size == model.tokenizer.vocabulary.size


def test_a_run_that_starts_from_another_size_says_so_and_has_its_name(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shrunk(catalog.load("bert/mini")).overlay({"model": {"layers": 3}})
    pipeline.pretrain(other, [corpus], tmp_path / "run", RUN, start=trained / "model")
    assert (
        f"{trained / 'model'}: its architecture is taken, not the recipe's: model.layers 2, not 3\n"
        in capsys.readouterr().err
    )
    recipe, source = catalog.load(tmp_path / "run"), catalog.load(trained)
    assert (recipe.name, recipe.published, recipe.model) == (source.name, source.published, source.model)
    assert recipe.optimizer == other.optimizer
    pipeline.pretrain(other, [corpus], tmp_path / "run", RUN, start=trained / "model", resume=True)


def test_a_run_that_starts_from_its_own_size_keeps_its_name(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(two_stages("bert").override("model.dropout", "0.5"), name="bert/own")
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN, start=trained / "model")
    assert "model.dropout 0.0, not 0.5" in capsys.readouterr().err
    assert catalog.load(tmp_path / "run").name == "bert/own"


def test_a_corpus_of_one_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": " ".join(documents(20))}) + "\n")
    with pytest.raises(GenusError, match="one document"):
        pipeline.pretrain(two_stages("bert"), [tmp_path / "one.jsonl"], tmp_path / "run", RUN)
