"""Control codes before pieces of documents: given, before every piece, and remembered in the recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from corpora import SEP, SPECIALS, corpus, plan_whole, vocabulary
from hypothesis import given
from hypothesis import strategies as st

from genus import pipeline
from genus.catalog import load
from genus.cli import main
from genus.errors import GenusError
from genus.examples.feed.feed import Feed
from genus.examples.formats.coded import CodedDocuments
from genus.export.folder import load as load_model
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.text import Fields
from small import RUN

if TYPE_CHECKING:
    from pathlib import Path

    from genus.examples import Example
    from genus.tokens.store import Store

DOCUMENTS = st.lists(
    st.tuples(st.lists(st.integers(1, 3), max_size=2), st.lists(st.integers(1, 12), min_size=1, max_size=5)),
    min_size=1,
    max_size=8,
)
"""The lengths of the codes and of the sentences of each document."""


def coded(documents: list[tuple[list[int], list[int]]]) -> Store:
    """Return a store of documents with codes in front."""
    whole = corpus([[*codes, *sentences] for codes, sentences in documents])
    start = whole.documents[:, 0]
    middle = start + np.array([len(codes) for codes, _ in documents])
    codes = np.stack([start, middle], axis=1)
    return replace(whole, documents=np.stack([middle, whole.documents[:, 1]], axis=1), codes=codes)


def examples(store: Store, length: int) -> list[Example]:
    words, form = vocabulary(store), CodedDocuments()
    plan = plan_whole(form, store, words, length)
    read = [form.read(plan, index, store, words) for index in range(len(plan))]
    assert [len(example.tokens.ids) for example in read] == plan.lengths["tokens"].tolist()
    return [CausalLM().prepare_example(example, words, np.random.default_rng(0)) for example in read]


@given(documents=DOCUMENTS, length=st.integers(7, 30))
def test_every_token_of_the_text_is_a_target_once_and_no_code_is(
    documents: list[tuple[list[int], list[int]]], length: int
) -> None:
    store = coded(documents)
    read = examples(store, length)
    assert max(len(example.tokens.ids) for example in read) <= length
    texts = [store.ids[slice(*store.sentences[pair])] for pair in store.documents]
    labels = np.concatenate([example.targets["causal_lm"][1] for example in read])
    assert sorted(labels.tolist()) == sorted([*np.concatenate(texts).tolist(), *[SEP] * len(documents)])


@given(documents=DOCUMENTS, length=st.integers(7, 30))
def test_the_codes_of_a_document_stand_before_each_of_its_pieces(
    documents: list[tuple[list[int], list[int]]], length: int
) -> None:
    store = coded(documents)
    assert store.codes is not None
    codes = [store.ids[slice(*store.sentences[pair])].tolist() or [SEP] for pair in store.codes]
    ends = store.sentences[store.documents[:, 1]]
    for example in examples(store, length):
        sequence, index = example.tokens, example.targets["causal_lm"][0]
        own = codes[int(np.searchsorted(ends, sequence.ids[-1] - SPECIALS, side="right"))]
        assert sequence.ids[: len(own)].tolist() == own
        assert sequence.fixed.tolist() == [place < len(own) for place in range(len(sequence.ids))]
        assert index.tolist() == list(range(len(own) - 1, len(sequence.ids) - (sequence.following is None)))


def test_pieces_that_share_a_row_are_isolated() -> None:
    store = coded([([2], [5, 4]), ([1, 1], [9]), ([], [7]), ([3], [20, 8])])
    feed = Feed(store, vocabulary(store), CodedDocuments(), [CausalLM()], limits={"tokens": 20}, micro_batch=4, seed=0)
    batch = feed[0]
    owners = np.repeat(np.arange(4), np.diff(np.append(store.sentences[store.codes[:, 0]], store.sentences[-1])))
    several = 0
    for start, end in batch.tokens.spans():
        ids = [token - SPECIALS for token in batch.tokens.ids[start:end].tolist() if token != SEP]
        assert len({int(owners[token]) for token in ids}) == 1
        several += 1
    assert several > 4


def test_texts_without_codes_and_codes_without_room_are_refused() -> None:
    with pytest.raises(GenusError, match="needs control codes, and the text has none: name their field with --codes"):
        plan_whole(CodedDocuments(), corpus([[3]]), vocabulary(corpus([[3]])), 8)
    store = coded([([9], [4])])
    with pytest.raises(GenusError, match=r"control codes have 9 tokens, .* choose max_length 10 or more"):
        plan_whole(CodedDocuments(), store, vocabulary(store), 9)


def test_a_run_remembers_its_codes_and_others_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The recipe of run and model names them; a text with another code is measured, and the code is said."""
    for name, sources in (("text", ["Wikipedia", "Books", "Wikipedia"]), ("other", ["Wikipedia", "Horror", "Books"])):
        rows = [
            {"text": f"The {n} cats of {sources[n % 3]} sleep. They wake.", "source": sources[n % 3]} for n in range(60)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from toys.gpt import ROW

    recipe = replace(ROW, examples=CodedDocuments())
    recipe = recipe.override("budget.amount", 2.0)
    fields = Fields(codes=("source",))
    pipeline.pretrain(recipe, [tmp_path / "text.jsonl"], tmp_path / "run", RUN, fields=fields)
    model = load_model(tmp_path / "run" / "model")
    assert model.recipe.examples == CodedDocuments(codes=("Wikipedia", "Books"))
    assert load(tmp_path / "run").examples == model.recipe.examples
    pipeline.pretrain(recipe, [tmp_path / "text.jsonl"], tmp_path / "run", RUN, fields=fields, resume=True)
    for name, said in (("text", False), ("other", True)):
        capfd.readouterr()
        arguments = ["evaluate", str(tmp_path / "run"), str(tmp_path / f"{name}.jsonl"), "--codes", "source"]
        assert main([*arguments, "--run", "device=cpu"]) == 0
        assert ("1 control codes, such as 'Horror', stood before no text in training" in capfd.readouterr().err) == said
