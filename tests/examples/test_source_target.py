"""Pairs of source and target as examples of two streams: each whole, in one row of both, or left out and said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from corpora import CLS, PAD, SEP, SPECIALS, corpus, vocabulary
from hypothesis import given
from hypothesis import strategies as st

from genus.catalog import load
from genus.cli import main
from genus.errors import GenusError, UsageError
from genus.examples.blocks import whole
from genus.examples.feed.feed import Feed
from genus.examples.formats.source_target import SourceTargetPairs
from genus.objectives.pretraining.text_to_text import SequenceToSequence
from genus.text import Fields

if TYPE_CHECKING:
    from pathlib import Path

    from genus.examples import Example
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

PAIRS = st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(1, 7), min_size=1, max_size=3)), max_size=12)
"""The length of each source, and those of the sentences of its target."""


def paired(pairs: list[tuple[int, list[int]]]) -> Store:
    """Return a store of targets with sources in front; a source may have no token."""
    store = corpus([[source, *target] if source else target for source, target in pairs])
    first, last = store.documents.T
    middle = first + np.array([source > 0 for source, _ in pairs], dtype=np.int64)
    return replace(store, documents=np.stack([middle, last], axis=1), sources=np.stack([first, middle], axis=1))


def words(store: Store) -> Vocabulary:
    """Return a vocabulary whose targets begin with padding and end with a separator."""
    made = vocabulary(store)
    return replace(made, target=((PAD, None, 0), (None, 0, 0), (SEP, None, 0)))


def examples(store: Store, limits: dict[str, int]) -> list[Example]:
    form, made = SourceTargetPairs(), words(store)
    plan = form.plan(whole(store), store, made, limits, 0, 0)
    read = [form.read(plan, index, store, made) for index in range(len(plan))]
    for stream in limits:
        assert [len(example.streams[stream].ids) for example in read] == plan.lengths[stream].tolist()
    return read


@given(pairs=PAIRS, source=st.integers(3, 22), target=st.integers(3, 23))
def test_every_pair_that_fits_is_whole_and_every_other_is_counted(
    pairs: list[tuple[int, list[int]]], source: int, target: int
) -> None:
    store = paired(pairs)
    limits = {"source": source, "tokens": target}
    expected, start, missing, long = [], 0, 0, 0
    for length, sentences in pairs:
        ends = [start + length, start + length + sum(sentences)]
        ids = [[SPECIALS + n for n in range(first, end)] for first, end in zip([start, ends[0]], ends, strict=True)]
        if not length:
            missing += 1
        elif length + 2 > source or sum(sentences) + 2 > target:
            long += 1
        else:
            expected.append(([CLS, *ids[0], SEP], [PAD, *ids[1], SEP]))
        start = ends[1]
    read = examples(store, limits)
    assert [(one.streams["source"].ids.tolist(), one.tokens.ids.tolist()) for one in read] == expected
    told = SourceTargetPairs().left_out(store, words(store), limits)
    assert (f"{missing:,} of {len(pairs):,} texts have no source and are left out" in told) == (missing > 0)
    assert (f"{long:,} of {len(pairs):,} pairs are left out: they have up to" in told) == (long > 0)
    assert bool(told) == bool(missing or long)


def test_the_notice_tells_how_long_the_rows_must_be() -> None:
    store = paired([(9, [4]), (30, [1]), (2, [50, 3])])
    told = SourceTargetPairs().left_out(store, words(store), {"source": 16, "tokens": 20})
    assert told == (
        "2 of 3 pairs are left out: they have up to 32 and 55 tokens of source and target, a row 16 and 20; take "
        "longer rows (stages.0.source_length and stages.0.max_length) to learn from them"
    )


def test_pairs_share_rows_of_both_streams_and_every_written_token_is_a_target() -> None:
    rng = np.random.default_rng(0)
    pairs = [(int(rng.integers(1, 9)), [int(rng.integers(1, 9))]) for _ in range(200)]
    store = paired(pairs)
    limits = {"tokens": 24, "source": 20}
    feed = Feed(store, words(store), SourceTargetPairs(), [SequenceToSequence()], limits=limits, micro_batch=4, seed=0)
    ends = np.cumsum([number for source, (target,) in pairs for number in (source, target)]) + SPECIALS
    seen: list[int] = []
    for batch in feed.evaluation_batches():
        spans = {name: packed.spans() for name, packed in batch.streams.items()}
        targets = batch.targets["sequence_to_sequence"]
        real = targets.counted()
        label = dict(zip(targets.index[real].tolist(), targets.label[real].tolist(), strict=True))
        for (a, b), (c, d) in zip(spans["source"], spans["tokens"], strict=True):
            source, target = batch.streams["source"].ids[a + 1 : b - 1], batch.tokens.ids[c + 1 : d - 1]
            number = int(np.searchsorted(ends, int(source[0]), side="right"))
            assert int(np.searchsorted(ends, int(target[0]), side="right")) == number + 1
            assert (len(source), [len(target)]) == pairs[number // 2]
            assert [label.pop(place) for place in range(c, d - 1)] == batch.tokens.ids[c + 1 : d].tolist()
            seen.append(number // 2)
        assert not label
    assert sorted(seen) == list(range(len(pairs)))
    assert feed.size[1] < 0.6 * len(pairs), "rows hold several pairs"


def test_text_without_sources_is_refused() -> None:
    store = corpus([[3]])
    with pytest.raises(GenusError, match=r"needs a source of each text, .* name its field with --source"):
        SourceTargetPairs().plan(whole(store), store, words(store), {"tokens": 9, "source": 9}, 0, 0)
    with pytest.raises(UsageError, match="needs a source of each text"):
        SourceTargetPairs().check_fields(Fields())


def test_a_corpus_of_which_no_pair_fits_is_refused() -> None:
    store = paired([(30, [4]), (0, [3])])
    with pytest.raises(GenusError, match="no pair of a source and a target fits into a row; take longer rows"):
        Feed(store, words(store), SourceTargetPairs(), [SequenceToSequence()], limits={"tokens": 9, "source": 9},
             micro_batch=1, seed=0)  # fmt: skip


def test_a_run_on_pairs_from_text_to_translation(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Words one to one in reverse order are learned by heart, and what is left out is said, in training and after."""
    colors, things = ["red", "green", "blue", "old"], ["house", "river", "stone", "bird", "road"]
    other = {word: f"{word[::-1]}o" for word in [*colors, *things]}
    rows = [{"de": f"{other[b]} {other[a]}", "en": f"{a} {b}"} for a in colors for b in things]
    odd = [{"de": "", "en": "red road"}, {"de": "doro " * 40, "en": "red"}, {"de": "dero", "en": ""}]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows * 3, *odd]))
    small = ["--set", "tokens.vocab_size=60", "--set", "stages.0.max_length=32", "--set", "stages.0.source_length=32"]
    small += ["--set", "stages.0.batch=4", "--set", "stages.0.micro_batch=4", "--set", "budget.amount=180"]
    small += ["--set", "optimizer.lr=0.003", "--set", "schedule.warmup=0.2"]
    run = ["--run", "device=cpu", "--run", "precision=float32", "--run", "workers=0", "--run", "tracker=none"]
    pairs, out = [str(path), "--field", "en", "--source", "de"], str(tmp_path / "run")
    more = ["--run", "held_out=0.1", "--run", "checkpoint_every=60", "--out", out]
    assert main(["pretrain", "transformer/tiny", *pairs, *small, *run, *more]) == 0
    told = capfd.readouterr()
    assert "1 of 62 texts have no source and are left out" in told.err
    assert "1 of 62 pairs are left out" in told.err
    assert "1 of 63 documents have no text and are left out" in told.err
    assert main(["evaluate", out, *pairs, *run, "--json"]) == 0
    told = capfd.readouterr()
    assert "1 of 62 pairs are left out" in told.err
    found = json.loads(told.out)
    assert found["sequence_to_sequence/perplexity"] == pytest.approx(np.exp(found["sequence_to_sequence/nll"]))
    assert main(["average", out, "--last", "2", "--out", str(tmp_path / "mean")]) == 0
    for model in (out, str(tmp_path / "mean")):
        for beams in ([], ["--beams", "4", "--length-penalty", "0.6", "--penalty-form", "gnmt"]):
            right = 0
            for row in rows[::3]:
                capfd.readouterr()
                assert main(["generate", model, row["de"], "--run", "device=cpu", *beams]) == 0
                right += capfd.readouterr().out.strip() == row["en"]
            assert right >= 6, f"{right} of 7"
    for name, some in (("train", rows), ("validation", rows[::3])):
        (tmp_path / "table").mkdir(exist_ok=True)
        (tmp_path / "table" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    task = ["--task", "text-to-text", "--text", "de", "--label", "en", "--seeds", "1", "--set", "finetuning.epochs=1"]
    assert main(["finetune", out, str(tmp_path / "table"), *task, *run, "--out", str(tmp_path / "tuned")]) == 0


def test_the_text_must_have_sources_before_a_tokenizer_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"text": "A text."}) + "\n")
    assert main(["pretrain", "transformer/tiny", str(path), "--out", str(tmp_path / "run")]) == 2
    assert "SourceTargetPairs needs a source of each text" in capsys.readouterr().err
    assert not (tmp_path / "run" / "tokenizer").exists()


def test_a_recipe_of_another_model_refuses_pairs() -> None:
    with pytest.raises(UsageError, match="give the stream source, which the model does not read"):
        load("gpt2/tiny", ["examples=SourceTargetPairs"])
    with pytest.raises(UsageError, match="Denoising makes its examples of single texts, and SourceTargetPairs"):
        load("t5/tiny", ["examples=SourceTargetPairs"])
    with pytest.raises(UsageError, match="reads the stream source, which none of FullSentences, SequenceToSequence"):
        load("transformer/tiny", ["examples=FullSentences"])
