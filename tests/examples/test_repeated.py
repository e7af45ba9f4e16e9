"""The sequence autoencoder's format: a text, a separator and the text again, of which the second half is learned."""

from __future__ import annotations

import numpy as np
import pytest
from corpora import SEP, corpus, plan_whole, vocabulary
from hypothesis import given
from hypothesis import strategies as st

from genus.errors import GenusError
from genus.examples.formats.repeated import Repeated
from genus.objectives.pretraining.causal_lm import CausalLM

DOCUMENTS = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=6)
"""The lengths of the sentences of each document."""


def transcribed(text: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the tokens and the weighted labels of the released code's build_seq_ae_sequence (data_utils.py)."""
    sequence = [*text, SEP]
    tokens, labels = [], []
    for i in range(len(sequence) * 2 - 1):
        tokens.append(sequence[i % len(sequence)])
        if i >= len(sequence) - 1:
            labels.append((i, sequence[(i + 1) % len(sequence)]))
    return tokens, labels


@given(documents=DOCUMENTS, length=st.integers(3, 40))
def test_it_is_the_released_sequence(documents: list[list[int]], length: int) -> None:
    store = corpus(documents)
    words, form = vocabulary(store), Repeated()
    plan = plan_whole(form, store, words, length)
    read = [form.read(plan, index, store, words) for index in range(len(plan))]
    texts = [plan.text(index, store).tolist() for index in range(len(plan))]
    assert np.concatenate(texts).tolist() == store.ids.tolist()
    assert plan.lengths["tokens"].tolist() == [len(example.tokens.ids) for example in read]
    assert plan.lengths["tokens"].max() <= length
    for text, example in zip(texts, read, strict=True):
        index, label = CausalLM().prepare_example(example, words, np.random.default_rng(0)).targets["causal_lm"]
        tokens, labels = transcribed(text)
        assert example.tokens.ids.tolist() == tokens
        assert list(zip(index.tolist(), label.tolist(), strict=True)) == labels


def test_rows_that_hold_no_text_twice_are_refused() -> None:
    store = corpus([[3]])
    with pytest.raises(GenusError, match="choose max_length 3 or more"):
        plan_whole(Repeated(), store, vocabulary(store), 2)
