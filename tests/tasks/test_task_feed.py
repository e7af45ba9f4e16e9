"""Fine-tuning examples: cut as BERT's code and Hugging Face's tokenizers cut, and each one once an epoch."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genus import catalog
from genus.errors import GenusError
from genus.objectives import Learner
from genus.objectives.supervised.sequence import SequenceClassification
from genus.tasks.encode import EncodedTexts, encode, longest_first
from genus.tasks.feed import Shuffled, by_length
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.wordpiece import WordPiece
from genus.tokens.tokenizer import Tokenizer
from genus.train.memory import Memories
from small import shrunk


def truncate_seq_pair(first: int, second: int, room: int) -> tuple[int, int]:
    """BERT's released code, run_classifier.py, _truncate_seq_pair, on lengths."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_longest_first_equals_the_released_code(first: int, second: int, room: int) -> None:
    assert longest_first((first, second), room) == truncate_seq_pair(first, second, room)


@pytest.fixture(scope="module")
def encoded(tokenizer: Tokenizer) -> EncodedTexts:
    rng = np.random.default_rng(0)
    texts = [(" ".join(rng.choice(["cat", "dog", "saw", "abc"], rng.integers(1, 30))),) for _ in range(50)]
    return encode(tokenizer, texts, np.arange(50), "sequence_classification", 24)


@pytest.mark.parametrize("pair", [False, True])
def test_framing_and_cutting_equal_hugging_face(tokenizer: Tokenizer, pair: bool) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend, pad_token="[PAD]")
    texts = [
        ("cat dog saw", "hammer"),
        ("cat " * 30, "dog " * 29),
        ("cat " * 30, "dog"),
        ("cat", "dog saw " * 20),
        ("", ""),
    ]
    columns = [[text[side] for text in texts] for side in range(1 + pair)]
    expected = theirs(*columns, truncation="longest_first", max_length=21, return_token_type_ids=True)
    ours = encode(tokenizer, [text[: 1 + pair] for text in texts], np.zeros(len(texts)), "sequence_regression", 21)
    assert [ours.example(i).tokens.ids.tolist() for i in range(len(ours))] == expected["input_ids"]
    assert [ours.example(i).tokens.segments.tolist() for i in range(len(ours))] == expected["token_type_ids"]
    assert ours.lengths.tolist() == [len(ids) for ids in expected["input_ids"]]


@pytest.mark.parametrize("pair", [False, True])
def test_the_target_stands_where_the_frame_says(pair: bool) -> None:
    """XLNet's frame ends with the token that stands for the whole sequence, BERT's begins with it."""
    for kind, specials in ((WordPiece, None), (Unigram, XLNET)):
        part = kind(vocab_size=60) if specials is None else kind(vocab_size=60, special_tokens=specials)
        tokenizer = part.train(["a cat and a dog and a saw"] * 20)
        ours = encode(tokenizer, [("a cat", "a dog")[: 1 + pair]], np.zeros(1), "sequence_regression", 21)
        (place,), _ = ours.example(0).targets["sequence_regression"]
        assert ours.example(0).tokens.ids[place] == tokenizer.vocabulary.cls
        assert place == (0 if specials is None else len(ours.example(0).tokens.ids) - 1)


def test_no_room_for_text(tokenizer: Tokenizer) -> None:
    with pytest.raises(GenusError, match="max_length: 3 leaves no room"):
        encode(tokenizer, [("cat", "dog")], np.zeros(1), "sequence_regression", 3)


def labels(feed: Shuffled, numbers: range) -> list[int]:
    return [label for number in numbers for label in feed[number].targets["sequence_classification"].label.tolist()]


def test_every_example_once_an_epoch(encoded: EncodedTexts) -> None:
    feed = Shuffled(encoded, 10, seed=3)
    first, second = labels(feed, range(5)), labels(feed, range(5, 10))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert (feed.epoch(5), feed.epoch(10)) == (1.0, 2.0)


def test_an_epoch_may_end_within_a_micro_batch(encoded: EncodedTexts) -> None:
    feed = Shuffled(encoded, 12, seed=3)
    assert Counter(labels(feed, range(25))) == Counter(dict.fromkeys(range(50), 6))


def test_dividing_a_batch_changes_no_example(encoded: EncodedTexts) -> None:
    whole, halves = Shuffled(encoded, 16, seed=3), Shuffled(encoded, 8, seed=3)
    assert Counter(labels(whole, range(3, 4))) == Counter(labels(halves, range(6, 8)))


def test_a_micro_batch_depends_on_its_seed_and_number_only(encoded: EncodedTexts) -> None:
    one, other = Shuffled(encoded, 8, seed=1), pickle.loads(pickle.dumps(Shuffled(encoded, 8, seed=1)))
    other[0]
    assert torch.equal(one[7].tokens.ids, other[7].tokens.ids)
    assert not torch.equal(one[7].tokens.ids[:20], Shuffled(encoded, 8, seed=2)[7].tokens.ids[:20])


def test_targets_stand_at_the_first_token(encoded: EncodedTexts) -> None:
    batch = Shuffled(encoded, 16, seed=0)[0]
    targets, packed = batch.targets["sequence_classification"], batch.tokens
    assert (packed.ids[targets.index] == encoded.vocabulary.cls).all()
    assert (packed.positions[targets.index] == 0).all()
    for index, label in zip(targets.index.tolist(), targets.label.tolist(), strict=True):
        expected = encoded.example(label).tokens.ids
        assert packed.ids[index : index + len(expected)].tolist() == expected.tolist()


def recompilations(encoded: EncodedTexts, *, few_shapes: bool) -> tuple[int, list[float]]:
    """Return how many graphs each compiled region got in 30 micro-batches, and the losses."""
    recipe = shrunk(catalog.load("bert/tiny"))
    objective = SequenceClassification(labels=tuple(map(str, range(50))))
    torch.manual_seed(0)
    network = recipe.model.build(encoded.vocabulary.size)
    learner = Learner(network, {objective.name: objective.build(recipe.model, encoded.vocabulary.size)}).eval()
    torch._dynamo.reset()
    graphs: list[object] = []

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    for region in (*network.compile_units(), *learner.compile_units()):
        region.compile(dynamic=False, backend=count)
    regions = 3  # alike layers are one: the embedding, the layer, the head
    feed = Shuffled(encoded, 16, seed=0, few_shapes=few_shapes)
    with torch.no_grad():
        losses = [learner(feed[number]).sums[objective.name].item() for number in range(30)]
    torch._dynamo.reset()
    return len(graphs) // regions, losses


def test_compiled_fine_tuning_meets_few_shapes_and_the_same_losses(encoded: EncodedTexts) -> None:
    """PyTorch compiles a region at most 8 times, then runs it uncompiled."""
    many, expected = recompilations(encoded, few_shapes=False)
    few, losses = recompilations(encoded, few_shapes=True)
    assert few <= 4 < many
    assert losses == pytest.approx(expected, rel=1e-5)


def test_sorted_batches_hold_every_example_once(encoded: EncodedTexts) -> None:
    numbers = []
    for chosen, batch in by_length(encoded):
        numbers += chosen.tolist()
        assert batch.targets["sequence_classification"].label.tolist() == chosen.tolist()
    assert sorted(numbers) == list(range(50))


def test_a_network_that_remembers_takes_micro_batches_of_any_number_of_rows(encoded: EncodedTexts) -> None:
    """They go on from nothing: what is remembered would be another example's."""
    recipe = shrunk(catalog.load("transformer-xl/mini"))
    objective = SequenceClassification(labels=tuple(map(str, range(50))))
    network = recipe.model.build(encoded.vocabulary.size)
    learner = Learner(network, {objective.name: objective.build(recipe.model, encoded.vocabulary.size)}).eval()
    batches = [Shuffled(encoded, size=6, seed=0)[number] for number in range(8)]
    assert len({len(batch.tokens.ids) for batch in batches}) > 1
    memories = Memories()
    for batch in batches:
        given = memories.given(batch, network, 0)
        step = learner(given)
        memories.keep(given, 0, step.memory)
        assert step.sums["sequence_classification"] == learner(batch).sums["sequence_classification"]
    assert not memories.slots
