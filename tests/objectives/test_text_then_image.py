"""Captions and codes in one sequence: where each stands, what is predicted, and that nothing later is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import decoding
from genus import catalog
from genus.batch import IGNORE, Batch
from genus.cost import cost
from genus.examples.feed.pack import pack
from genus.examples.formats.captioned_codes import IMAGE_TOKENS, TEXT_TOKENS, CaptionedCodes
from genus.objectives.pretraining.text_then_image import TextThenImageLM
from genus.tokens.merges import Merges
from hand import equal_rows
from small import BYTES_IN_TWO_FORMS, documents, shrunk

if TYPE_CHECKING:
    from genus.tokens.tokenizer import Tokenizer

TEXT, GRID, CODES = 16, 4, 400


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return catalog.load("dall-e/tiny").tokens.overlay({"vocab_size": BYTES_IN_TWO_FORMS + 100}).train(documents())


def small() -> Any:
    """Return the member made small, with a row, a column and a convolutional layer."""
    return shrunk(catalog.load("dall-e/mini")).overlay({"model": {"layers": 4, "attention": {"order": [0, 1, 0, 2]}}})


def test_an_example_is_that_of_figure_10(tokenizer: Tokenizer) -> None:
    """Text of 6, a caption of 4 with the token that begins it: two paddings, then the image."""
    examples, vocabulary = CaptionedCodes(text=6, grid=2, codes=9, side=16), tokenizer.vocabulary
    example = examples.example(np.array([7, 8, 9]), np.array([3, 5, 0, 8]), vocabulary)
    start, v = vocabulary.roles["bos"], vocabulary.size
    assert example.tokens.ids.tolist() == [start, 7, 8, 9, v, v, 0, 3, 5, 0]
    (text, following), (image, codes) = example.targets[TEXT_TOKENS], example.targets[IMAGE_TOKENS]
    assert (text.tolist(), following.tolist()) == ([0, 1, 2], [7, 8, 9])
    assert (image.tolist(), codes.tolist()) == ([6, 7, 8, 9], [3, 5, 0, 8])
    longer = examples.example(np.arange(20, 40), np.zeros(4, np.int64), vocabulary)
    assert longer.tokens.ids.tolist()[:6] == [start, 20, 21, 22, 23, 24]
    assert examples.prompt(np.array([7]), np.array([3, 5]), vocabulary) == [start, 7, v, v, v, v, 0, 3, 5]


def test_embeddings_are_those_of_figure_10() -> None:
    """Each place: its piece, its own padding or its code, and a place of the text, or a row and a column."""
    recipe = small()
    network: Any = recipe.model.build(BYTES_IN_TWO_FORMS)
    embed, v = network.embed, BYTES_IN_TWO_FORMS
    ids = torch.tensor([4, 5, *[v] * (TEXT - 2), 11, *range(1, GRID**2)])
    found = embed(equal_rows(ids[None]))
    text, rows, columns = embed.positions.places, embed.positions.rows, embed.positions.columns
    for place, number in enumerate(ids.tolist()):
        if place < TEXT:
            token = embed.tokens(torch.tensor(number)) if number < v else embed.paddings(torch.tensor(place))
            expected = token + text(torch.tensor(place))
        else:
            code = place - TEXT
            token = embed.codes(torch.tensor(CODES if code == 0 else number))
            expected = token + rows(torch.tensor(code // GRID)) + columns(torch.tensor(code % GRID))
        torch.testing.assert_close(found[place], expected)


def batch_of(tokenizer: Tokenizer, texts: list[list[int]], codes: np.ndarray) -> Batch:
    """Return captions with codes, two in a row, so that they share one."""
    examples = CaptionedCodes(text=TEXT, grid=GRID, codes=CODES, side=32)
    each = [examples.example(np.array(t), c, tokenizer.vocabulary) for t, c in zip(texts, codes, strict=True)]
    return pack([each[:2], each[2:]], 2 * examples.length + 3, 0)


@pytest.fixture
def made(tokenizer: Tokenizer) -> tuple[Any, Batch, list[list[int]], np.ndarray]:
    recipe = replace(small(), tokens=tokenizer.tokens)
    torch.manual_seed(0)
    texts = [[5, 9, 12], [7], [30, 31, 32, 33]]
    codes = np.random.default_rng(0).integers(0, CODES, (3, GRID**2))
    return recipe.learner().eval(), batch_of(tokenizer, texts, codes), texts, codes


def test_the_loss_is_the_weighted_sum_of_both_means(made: Any) -> None:
    """1/8 of the mean over text tokens, 7/8 of that over codes (section 2.2), by PyTorch's cross-entropy."""
    learner, batch, _, _ = made
    head, states = learner.heads["text_then_image_lm"], learner.network(batch)["tokens"]
    means = []
    for name, layer in ((TEXT_TOKENS, head.text_head), (IMAGE_TOKENS, head.image_head)):
        targets = batch.targets[name]
        real = targets.label != IGNORE
        logits = layer(states[targets.index[real]])
        means.append(torch.nn.functional.cross_entropy(logits, targets.label[real]))
    found = learner.objective(learner(batch).sums, learner.counts(batch))
    torch.testing.assert_close(found, means[0] / 8 + 7 * means[1] / 8)
    assert [int(one) for one in learner.counts(batch).values()] == [3 + 1 + 4, 3 * GRID**2]


def test_no_caption_reaches_another_example_and_no_later_code_an_earlier_state(made: Any, tokenizer: Tokenizer) -> None:
    learner, batch, texts, codes = made
    before, length = learner.network(batch)["tokens"], TEXT + GRID**2
    other = [texts[0], [8, 40], texts[2]]
    moved = (learner.network(batch_of(tokenizer, other, codes))["tokens"] != before).any(-1)
    own = torch.zeros_like(moved)
    own[length + 1 : 2 * length] = True  # from the first token that differs on
    assert moved[own].all()
    assert not moved[~own].any()
    for code in (0, 5, 14):
        changed = codes.copy()
        changed[0, code] = (changed[0, code] + 1) % CODES
        moved = (learner.network(batch_of(tokenizer, texts, changed))["tokens"] != before).any(-1)
        assert not moved[: TEXT + code + 1].any()
        assert moved[TEXT + code + 1]
        assert not moved[length:].any()


def test_states_with_a_cache_are_those_without() -> None:
    """Text, padding and codes read at once, one by one, and joined by others; in float64."""
    recipe = small()
    network = decoding.built(recipe.model, BYTES_IN_TWO_FORMS)
    torch.manual_seed(1)
    ids = [torch.randint(1, CODES, (TEXT + GRID**2,)) for _ in range(3)]
    whole = [decoding.read(network, equal_rows(one[None])) for one in ids]
    cache = decoding.opened(network, dict.fromkeys(range(3), TEXT + GRID**2))
    read = {0: TEXT + 1, 1: TEXT - 3, 2: TEXT + 7}
    told = decoding.cached(network, cache, {slot: ids[slot][:number].tolist() for slot, number in read.items()})
    while True:
        for slot, state in told.items():
            torch.testing.assert_close(state, whole[slot][read[slot] - 1], rtol=1e-10, atol=1e-10)
        new = {slot: [int(ids[slot][number])] for slot, number in read.items() if number < TEXT + GRID**2}
        if not new:
            break
        told = decoding.cached(network, cache, new)
        read |= {slot: read[slot] + 1 for slot in new}


def test_dropout_of_merges_changes_the_text_alone(tokenizer: Tokenizer) -> None:
    examples = CaptionedCodes(text=TEXT, grid=GRID, codes=CODES, side=32)
    text = np.array(tokenizer.encode(["the old river carries stones"])[0])
    example = examples.example(text, np.arange(GRID**2), tokenizer.vocabulary)
    vocabulary = replace(tokenizer.vocabulary, merges=Merges.of(tokenizer.backend))
    objective = TextThenImageLM(text=TEXT, grid=GRID, codes=CODES, bpe_dropout=0.5)
    found = objective.prepare_example(example, vocabulary, np.random.default_rng(1))
    ids = found.tokens.ids
    assert len(ids) == examples.length
    assert (ids[TEXT:] == example.tokens.ids[TEXT:]).all()
    real = ids[:TEXT][ids[:TEXT] < vocabulary.size]
    assert len(real) > len(text) + 1
    assert "the old river carries stones".startswith(tokenizer.decode(real.tolist()).strip())
    index, label = found.targets[TEXT_TOKENS]
    assert label.tolist() == real[1:].tolist()
    assert index.tolist() == list(range(len(real) - 1))
    measured: Any = objective.measured
    assert measured.prepare_example(example, vocabulary, np.random.default_rng(1)) is example


def test_parameters_are_those_of_the_published_decoder() -> None:
    """12 d² a layer (appendix E.1, table 2), with biases and norms, and the tables of figure 10; 12.0 billion."""
    recipe = catalog.load("dall-e/12b")
    d, layers = 3968, 64
    blocks = layers * (12 * d * d + 4 * d + 4 * d + d + 4 * d) + 2 * d
    tables = (16_384 + 256 + 8_192 + 1 + 256 + 32 + 32) * d
    assert cost(recipe).network == blocks + tables
    assert cost(recipe).parameters == blocks + tables + (16_384 + 8_192) * d
    assert cost(recipe).network / 12.0e9 == pytest.approx(1.0, abs=0.03)


def objective(**changes: Any) -> Any:
    """Return the objective of the small member as it is written, with changes."""
    (own,) = small().to_json()["objectives"]
    return own | {name: own[name] | value if isinstance(value, dict) else value for name, value in changes.items()}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"objectives": [objective(grid=5)]}, "set text, grid and codes alike everywhere"),
        ({"objectives": [objective(output={"tied": True})]}, "output matrices of their own"),
        (
            {"stages": [{"kind": "Stage", "max_length": 31, "batch": 2, "micro_batch": 2}]},
            r"take stages\.0\.max_length=32",
        ),
        ({"model": {"embedding": {"text": 9}}}, "expected TextThenGrid with text=9"),
    ],
)
def test_what_does_not_fit_is_one_line(changes: Any, line: str) -> None:
    from genus.errors import UsageError

    with pytest.raises(UsageError, match=line) as error:
        small().overlay(changes)
    assert "\n" not in str(error.value)
