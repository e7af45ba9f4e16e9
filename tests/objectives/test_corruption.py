"""BART's corruptions: what each leaves of a text, how often, and how long it can become."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus import pipeline
from genus.catalog import load
from genus.errors import GenusError
from genus.examples import Example, Sequence
from genus.objectives.corruption import Corruption, Text
from genus.objectives.corruption.order import DocumentRotation, SentencePermutation
from genus.objectives.corruption.tokens import TextInfilling, TokenDeletion, TokenMasking, poisson
from genus.objectives.pretraining.denoising_autoencoder import DenoisingAutoencoder
from genus.tokens.store import prepare
from genus.tokens.vocabulary import Vocabulary

START, PAD, END, MASK = range(4)
SPECIALS, SIZE = 4, 500
WORDS = Vocabulary(
    size=SIZE,
    roles={"bos": START, "pad": PAD, "eos": END, "sep": END, "mask": MASK},
    special=np.arange(SIZE) < SPECIALS,
    word_start=(np.arange(SIZE) < SPECIALS) | (np.arange(SIZE) % 3 == 0),
    single=((START, None, 0), (None, 0, 0), (END, None, 0)),
    pair=((START, None, 0), (None, 0, 0), (END, None, 0), (None, 1, 0), (END, None, 0)),
    target=((END, None, 0), (START, None, 0), (None, 0, 0), (END, None, 0)),
)
"""A third of the pieces begin a word."""
SHARES = st.floats(0.0, 1.0)
UNITS = st.sampled_from(["word", "token"])
CORRUPTIONS = st.one_of(
    st.builds(TokenMasking, rate=SHARES, random=SHARES),
    st.builds(TokenDeletion, rate=SHARES),
    st.builds(TextInfilling, rate=SHARES, span=st.floats(0.1, 6), unit=UNITS, random=SHARES),
    st.builds(SentencePermutation, share=SHARES),
    st.builds(DocumentRotation, share=SHARES),
)


def text_of(length: int, sentences: int = 3, seed: int = 0) -> Text:
    """Return different tokens, in so many sentences of about the same length."""
    ids = SPECIALS + np.random.default_rng(seed).permutation(SIZE - SPECIALS)[:length]
    return Text(ids, np.arange(length) * sentences // max(length, 1))


def corrupted(corruption: Corruption, text: Text, seed: int = 0) -> Text:
    return corruption.corrupt(text, WORDS, np.random.default_rng(seed))


def matches(source: list[int], text: list[int]) -> list[tuple[int, list[int]]]:
    """Return the runs of masks between tokens that are left, each with the tokens of the text that are gone there."""
    found, at, run = [], 0, 0
    for token in [*source, None]:
        if token == MASK:
            run += 1
            continue
        end = len(text) if token is None else text.index(token, at)
        found.append((run, text[at:end]))
        at, run = end + 1, 0
    return found


@given(mix=st.lists(CORRUPTIONS, max_size=4), length=st.integers(0, 60), seed=st.integers(0, 9))
def test_any_mix_keeps_to_the_lengths_that_were_known(mix: list[Corruption], length: int, seed: int) -> None:
    """And the decoder writes the text as it was, after what it begins with."""
    objective, text = DenoisingAutoencoder(corruptions=tuple(mix)), text_of(length)
    raw = Sequence(*WORDS.frame(text.ids))
    raw.sentences = lambda: np.pad(text.sentence, 1, constant_values=-1)
    example = objective.prepare_example(Example({"tokens": raw}, {}), WORDS, np.random.default_rng(seed))
    source, tokens = (example.streams[name].ids for name in ("source", "tokens"))
    told = objective.lengths({"tokens": np.array([length + 2])}, WORDS)
    assert len(source) <= told["source"][0]
    assert len(tokens) == told["tokens"][0] == length + 3
    assert (source[0], source[-1]) == (START, END)
    assert tokens.tolist() == [END, START, *text.ids, END]
    index, label = example.targets[objective.target]
    assert index.tolist() == list(range(length + 2))
    assert label.tolist() == [START, *text.ids, END]


@given(rate=SHARES, random=SHARES, length=st.integers(0, 60), seed=st.integers(0, 9))
def test_masked_and_deleted_tokens(rate: float, random: float, length: int, seed: int) -> None:
    """As many as the rate says, rounded up; all others stay as they were."""
    text, number = text_of(length), math.ceil(rate * length - 1e-9)
    source = corrupted(TokenMasking(rate=rate), text, seed).ids
    assert (source == MASK).sum() == number
    assert (source == text.ids)[source != MASK].all()
    some = corrupted(TokenMasking(rate=rate, random=random), text, seed).ids
    assert ((some != text.ids) <= (source == MASK)).all()  # the same places
    assert not WORDS.special[some[some != MASK]].any()
    left = corrupted(TokenDeletion(rate=rate), text, seed)
    assert len(left.ids) == length - number
    assert left.ids.tolist() == [token for token in text.ids.tolist() if token in set(left.ids.tolist())]


def test_places_and_random_tokens_are_drawn_evenly() -> None:
    text, draws = text_of(8), 4000
    masked = np.stack([corrupted(TokenMasking(rate=0.25), text, seed).ids == MASK for seed in range(draws)])
    np.testing.assert_allclose(masked.mean(0), 0.25, atol=0.03)
    some = np.stack([corrupted(TokenMasking(rate=0.5, random=0.3), text, seed).ids for seed in range(draws)])
    assert (some == MASK).sum() / (4 * draws) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("mean", [3.0, 3.5, 0.5])
def test_span_lengths_are_poisson_up_to_the_released_end(mean: float) -> None:
    """scipy's probabilities, up to the first length whose own is under 1e-7, divided by their sum."""
    stats = pytest.importorskip("scipy.stats")
    chances, law = poisson(mean), stats.poisson(mean)
    assert law.pmf(len(chances) - 1) < 1e-7 <= law.pmf(len(chances) - 2)
    np.testing.assert_allclose(chances, law.pmf(np.arange(len(chances))) / law.cdf(len(chances) - 1), rtol=1e-10)
    lengths = TextInfilling(span=mean).lengths(60_000, np.random.default_rng(0))[:-1]
    observed = np.bincount(lengths, minlength=len(chances))
    expected = chances * len(lengths)
    common = expected > 20
    assert (
        stats.chisquare(observed[common], expected[common] * observed[common].sum() / expected[common].sum()).pvalue
        > 1e-3
    )
    assert lengths.mean() == pytest.approx(mean, rel=0.02)


@given(total=st.integers(0, 40), mean=st.floats(0.1, 6), seed=st.integers(0, 9))
def test_span_lengths_sum_to_the_budget(total: int, mean: float, seed: int) -> None:
    lengths = TextInfilling(span=mean).lengths(total, np.random.default_rng(seed))
    assert lengths.sum() == total
    assert (lengths >= 0).all()
    assert not len(lengths) or lengths[-1] > 0


@given(rate=SHARES, mean=st.floats(0.1, 6), length=st.integers(0, 60), unit=UNITS, seed=st.integers(0, 9))
def test_what_infilling_leaves(rate: float, mean: float, length: int, unit: str, seed: int) -> None:
    """Tokens stay in order; where some are gone there is a mask for each span; whole words go."""
    text = text_of(length)
    infilling = TextInfilling(rate=rate, span=mean, unit=unit)  # type: ignore[arg-type]
    source = corrupted(infilling, text, seed)
    found = matches(source.ids.tolist(), text.ids.tolist())
    assert all(masks > 0 for masks, gone in found if gone)
    words = np.flatnonzero(WORDS.word_start[text.ids])
    begins = set(np.union1d(words, [0]).tolist()) if unit == "word" else set(range(length))
    for _, gone in found:
        if gone:
            first, end = (text.ids.tolist().index(gone[place]) for place in (0, -1))
            assert first in begins
            assert end + 1 in begins | {length}
    budget = math.ceil(rate * len(begins & set(range(length))) - 1e-9)
    all_gone = {token for _, gone in found for token in gone}
    assert len(all_gone & {text.ids[place] for place in begins if place < length}) <= budget
    assert source.sentence is not None
    assert len(source.sentence) == len(source.ids)
    assert (np.diff(source.sentence) >= 0).all()


def exact(length: int, total: int, mean: float, most: int = 4) -> dict[tuple[int, ...], float]:
    """Return the probability of each source of `length` tokens of which spans take `total`, by enumeration.

    Spans with more than `most` zeros among them are left out: their probability is below that of the test's error.
    """
    weights = [mean**k / math.factorial(k) for k in range(20)]
    chance = [weight / sum(weights) for weight in weights]
    found: Counter[tuple[int, ...]] = Counter()

    def lengths(left: int, zeros: int, spans: tuple[int, ...], share: float) -> None:
        if not left:
            place(zeros, spans, share)
            return
        if zeros < most:
            lengths(left, zeros + 1, spans, share * chance[0])
        for size in range(1, left):
            lengths(left - size, zeros, (*spans, size), share * chance[size])
        lengths(0, zeros, (*spans, left), share * (1 - sum(chance[:left])))

    def place(zeros: int, spans: tuple[int, ...], share: float) -> None:
        starts = list(itertools.permutations(range(length), len(spans)))
        for begins in starts:
            hidden = {at for begin, size in zip(begins, spans, strict=True) for at in range(begin + 1, begin + size)}
            left = [MASK if at in begins else at + SPECIALS for at in range(length) if at not in hidden]
            number = min(zeros, length - len(left) + 1)
            ways = list(itertools.combinations(range(len(left) + number), number))
            for way in ways:
                rest = iter(left)
                made = tuple(MASK if at in way else next(rest) for at in range(len(left) + number))
                found[made] += share / len(starts) / len(ways)

    lengths(total, 0, (), 1.0)
    return dict(found)


@pytest.mark.parametrize(("length", "rate"), [(3, 0.3), (4, 0.5)])
@pytest.mark.parametrize("mean", [3.0, 1.0])
def test_sources_have_the_probabilities_of_the_released_arithmetic(length: int, rate: float, mean: float) -> None:
    """Of every source of a short text: half the sum of the differences is what sampling leaves."""
    draws = 20_000
    expected = exact(length, math.ceil(rate * length), mean)
    assert sum(expected.values()) == pytest.approx(1, abs=0.02)
    infilling, text = TextInfilling(rate=rate, span=mean, unit="token"), Text(SPECIALS + np.arange(length))
    rng = np.random.default_rng(0)
    drawn = Counter(tuple(infilling.corrupt(text, WORDS, rng).ids.tolist()) for _ in range(draws))
    apart = sum(abs(drawn[one] / draws - expected.get(one, 0.0)) for one in drawn.keys() | expected.keys()) / 2
    noise = sum(math.sqrt(chance / draws) for chance in expected.values()) / 2
    assert apart < noise + 0.02


def test_shares_of_long_texts() -> None:
    """30 % of the words and a mask for three of them, but for spans that overlap, which share words and a mask."""
    text = text_of(400)
    sources = [corrupted(TextInfilling(rate=0.3, random=0.0), text, seed).ids for seed in range(100)]
    words = WORDS.word_start[text.ids].sum()
    gone = np.mean([words - WORDS.word_start[source[source != MASK]].sum() for source in sources])
    assert 0.24 < gone / words < 0.3
    masks = np.mean([(source == MASK).sum() for source in sources])
    assert 0.8 < masks / (0.3 * words / 3) < 1


@given(share=SHARES, sentences=st.integers(1, 8), seed=st.integers(0, 9))
def test_sentences_change_places_whole(share: float, sentences: int, seed: int) -> None:
    text = text_of(24, sentences)
    source = corrupted(SentencePermutation(share=share), text, seed)
    assert sorted(source.ids) == sorted(text.ids)
    assert text.sentence is not None
    assert source.sentence is not None
    runs = [number for number, _ in itertools.groupby(source.sentence.tolist())]
    assert sorted(runs) == list(range(sentences))
    for number in range(sentences):
        assert (source.ids[source.sentence == number] == text.ids[text.sentence == number]).all()
    assert sum(place != number for place, number in enumerate(runs)) <= math.ceil(share * sentences - 1e-9)


def test_every_order_of_sentences_is_as_likely() -> None:
    text = text_of(9)
    orders = Counter(tuple(corrupted(SentencePermutation(), text, seed).ids[::3]) for seed in range(3000))
    assert len(orders) == 6
    assert min(orders.values()) > 410  # of 500; four standard deviations are 82


def test_sentences_must_be_known() -> None:
    with pytest.raises(GenusError, match="needs to know where sentences end") as caught:
        corrupted(SentencePermutation(), Text(np.arange(5)))
    assert "\n" not in str(caught.value)


def test_a_document_begins_at_any_token() -> None:
    text = text_of(5)
    sources = [corrupted(DocumentRotation(), text, seed).ids for seed in range(2500)]
    for source in sources:
        at = text.ids.tolist().index(source[0])
        assert source.tolist() == [*text.ids[at:], *text.ids[:at]]
    first = Counter(int(source[0]) for source in sources)
    assert len(first) == 5
    assert min(first.values()) > 410  # of 500
    kept = [(corrupted(DocumentRotation(share=0.4), text, seed).ids == text.ids).all() for seed in range(2500)]
    assert np.mean(kept) == pytest.approx(0.6 + 0.4 / 5, abs=0.04)


def test_corruptions_come_one_after_the_other() -> None:
    """Masks that infilling put in move with their sentence, and sentences are known after tokens are gone."""
    text = text_of(30)
    mix = (TokenDeletion(rate=0.2), TextInfilling(rate=0.3), SentencePermutation())
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    source, _ = DenoisingAutoencoder(corruptions=mix).divided(text, WORDS, rng)
    for one in mix:
        text = one.corrupt(text, WORDS, again)
    assert source.tolist() == text.ids.tolist()
    assert text.sentence is not None
    assert len([number for number, _ in itertools.groupby(text.sentence.tolist())]) == 3


@pytest.mark.parametrize("span", [0.0, 1e-9, 17.0, 1e9])
def test_spans_that_would_never_sum_up_are_refused(span: float) -> None:
    with pytest.raises(ValueError, match=r"a mean length from 0\.1 to 16"):
        TextInfilling(span=span)
    assert TextInfilling(span=16.0).lengths(50, np.random.default_rng(0)).sum() == 50


def test_only_what_puts_masks_in_needs_one() -> None:
    order = (SentencePermutation(), TokenDeletion(), DocumentRotation())
    assert DenoisingAutoencoder(corruptions=order).needs_tokens == frozenset()
    assert DenoisingAutoencoder(corruptions=(*order, TextInfilling())).needs_tokens == {"mask"}
    assert DenoisingAutoencoder(corruptions=order).needs_sentences
    assert not DenoisingAutoencoder(corruptions=order[1:]).needs_sentences


def test_the_targets_are_the_documents_byte_for_byte(tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the ordinary feed of the row: what the decoder learns to write decodes to the text of the file."""
    folder = tmp_path_factory.mktemp("documents")
    written = [f"Die Brücke {n} ist alt.  It stands\tstill!\nNo {n}? — ok ภาษา." for n in range(40)]
    (folder / "corpus.txt").write_text("\n\n".join(written), encoding="utf-8")
    recipe = load("bart/tiny").overlay({"tokens": {"vocab_size": 300}})
    tokenizer = recipe.tokens.train(written)
    store = prepare([folder / "corpus.txt"], tokenizer, folder / "store", workers=1)
    feed = pipeline.training_feed(recipe.with_tokens(tokenizer.tokens), store, tokenizer, stage=0)
    restored: Counter[str] = Counter()
    moved = 0
    for number in range(math.ceil(1 / feed.epoch(1))):
        batch = feed[number]
        targets = batch.targets["denoising_autoencoder"]
        owner = batch.tokens.sequence[targets.index[targets.counted()]]
        for entry in owner.unique().tolist():
            labels = targets.label[targets.counted()][owner == entry].tolist()
            assert (labels[0], labels[-1]) == (0, 2)
            restored[tokenizer.decode(labels)] += 1
        source = batch.streams["source"]
        moved += sum(int((source.ids[a:b] == tokenizer.vocabulary.mask).any()) for a, b in source.spans())
    assert set(restored) >= set(written)
    assert moved > 30
