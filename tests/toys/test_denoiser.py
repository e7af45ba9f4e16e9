"""An encoder-decoder made of files only, through the ordinary stations: packed, isolated, cached, resumed, counted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from genus import pipeline
from genus.batch import Batch
from genus.cost import TRAINING, StageFlops, component_cost, cost
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.export.folder import load
from genus.export.verify import verify
from genus.objectives.noise.tokens import SpanNoise
from genus.objectives.pretraining.text_to_text import Denoising
from genus.stages import MixtureStage, TaskStep
from genus.tasks.classification import Classification
from genus.tasks.start import Start
from genus.tokens.store import Store
from genus.tokens.tokenizer import Tokenizer
from hand import equal_rows
from small import RUN, losses
from toys.denoiser import ROW
from toys.encoder_decoder import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from toys.encoder_decoder import EncoderDecoderNetwork

VOCABULARY = 60
DOUBLE = 1e-10
"""Of float64: sums of a hundred products in another order, through four layers."""
FLOPS = 0.02
"""As in the tests of the catalog's costs."""
EXAMPLES = [[(9, 14), (1, 3), (6, 0)], [(12, 21)], [(4, None), (7, 9)], []]
"""(tokens, source) of each example by rows: one source is empty, one example has none, one row holds nothing."""
LIMITS = {"tokens": 20, "source": 26}
LONG = {"tokens": 600, "source": 640}
"""Rows past the length up to which a CPU writes probabilities out, so that the fused kernel is taken."""


def sequence(ids: NDArray[np.int64]) -> Sequence:
    return Sequence(ids, 0 * ids, np.zeros(len(ids), dtype=np.bool_))


def example(tokens: int, source: int | None, rng: np.random.Generator) -> Example:
    lengths = {"tokens": tokens} | ({} if source is None else {"source": source})
    streams = {name: sequence(rng.integers(1, VOCABULARY, length)) for name, length in lengths.items()}
    ids = streams["tokens"].ids
    return Example(streams, {"denoising": (np.arange(len(ids) - 1), ids[1:])})


def examples() -> list[list[Example]]:
    rng = np.random.default_rng(0)
    return [[example(*lengths, rng) for lengths in row] for row in EXAMPLES]


def learner() -> Learner:
    """Return the toy with weights large enough that everything that is seen matters."""
    torch.manual_seed(0)
    parts = {
        name: replace(part, initialization=replace(part.initialization, std=0.2))
        for name, part in (("encoder", MODEL.encoder), ("decoder", MODEL.decoder))
    }
    row = replace(ROW, model=replace(MODEL, **parts), tokens=replace(ROW.tokens, vocab_size=VOCABULARY))
    return row.learner()


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy with dropout, and checkpoints at 30 and 60."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    dropout = {"encoder": {"dropout": 0.1}, "decoder": {"dropout": 0.1}}
    pipeline.pretrain(ROW.overlay({"model": dropout}), [corpus], folder, replace(RUN, checkpoint_every=30, keep=9))
    return folder


def test_it_learns(trained: Path) -> None:
    """From the entropy of an even guess among 200 pieces to below that of its corpus's words."""
    found = losses(trained)
    assert found[0] > 5.0
    assert np.mean(found[-5:]) < 3.5


def test_a_killed_run_is_bit_for_bit_the_run_that_was_not(trained: Path, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / "checkpoints" / "checkpoint-60")
    run = replace(RUN, checkpoint_every=30, keep=9)
    pipeline.pretrain(load(trained / "model").recipe, [corpus], folder, run, resume=True)
    assert losses(folder) == losses(trained)
    before, after = (load(one / "model").learner.state_dict() for one in (trained, folder))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_its_folder_is_read_back(trained: Path) -> None:
    """And compared on what it reads: states and logits of tokens that attend to a source."""
    found = load(trained / "model")
    assert verify(trained / "model", found.learner) == {"hidden": 0.0, "denoising": 0.0}


def test_a_task_of_one_stream_is_refused_in_one_line(trained: Path) -> None:
    found = load(trained / "model")
    start = Start(found.recipe, found.tokenizer, found.learner)
    message = "reads the stream source, which none of DocSentences, SequenceClassification gives"
    with pytest.raises(UsageError, match=message):
        start.fine_tuned(Classification().objective(["a", "b"]), found.recipe.finetuning)


class ShortSpans(Denoising):
    """The same objective under a name of its own."""


def test_two_ways_to_denoise_are_mixed_within_every_batch(corpus: Path, tmp_path: Path) -> None:
    """Rows of both, at rates by their sizes; all batches have the same shapes, and entries of both streams agree."""
    turns = (TaskStep(objectives=("denoising",)), TaskStep(objectives=("short_spans",)))
    stage = MixtureStage(max_length=36, source_length=48, batch=16, micro_batch=8, tasks=turns)
    objectives = (Denoising(noise=SpanNoise(rate=0.3)), ShortSpans(noise=SpanNoise(rate=0.3, span=2.0)))
    row = replace(ROW, objectives=objectives, stages=(stage,), budget=replace(ROW.budget, amount=4.0))
    pipeline.pretrain(row, [corpus], tmp_path / "run", RUN)
    assert len(losses(tmp_path / "run")) == 4
    tokenizer = Tokenizer.load(tmp_path / "run" / "tokenizer")
    feed = pipeline.training_feed(row, Store.open(tmp_path / "run" / "store", tokenizer), tokenizer, 0)
    batches = [feed[number] for number in range(6)]
    for batch in batches:
        both = [batch.streams[name].lengths_of_entries() for name in ("tokens", "source")]
        assert torch.equal(both[0] > 0, both[1] > 0)
        assert batch.tokens.offsets.shape == batches[0].tokens.offsets.shape
        assert [one.counted().any() for one in batch.targets.values()] == [True, True]
    fill = sum(batch.streams["source"].tokens for batch in batches) / (6 * 8 * 48)
    assert fill > 0.8


def own(batch: Batch, place: tuple[int, int]) -> dict[str, Tensor]:
    """Return which tokens (T,) of each stream are of the example at a place (row, number in it)."""
    row, number = place
    entry = sum(len(examples) + 1 for examples in EXAMPLES[:row]) + number
    return {name: packed.sequence == entry for name, packed in batch.streams.items()}


def test_packed_equals_one_by_one() -> None:
    """States, losses and gradients, of sources that are empty and missing too."""
    whole = learner().double()
    rows = examples()
    batch = pack(rows, LIMITS, 0)
    step = whole(batch)
    step.sums["denoising"].backward()
    gradients = {name: cast("Tensor", one.grad).clone() for name, one in whole.named_parameters()}
    states = whole.network(batch).streams
    whole.zero_grad()
    total = torch.zeros(())
    for row, examples_of_row in enumerate(rows):
        for number, one in enumerate(examples_of_row):
            sizes = {name: max(1, len(one.streams[name].ids)) if name in one.streams else 1 for name in LIMITS}
            alone = pack([[one]], sizes, 0)
            loss = whole(alone).sums["denoising"]
            loss.backward()
            total = total + loss.detach()
            for name, where in own(batch, (row, number)).items():
                mine = whole.network(alone)[name][: int(where.sum())]
                torch.testing.assert_close(states[name][where], mine, rtol=DOUBLE, atol=DOUBLE)
    torch.testing.assert_close(step.sums["denoising"].detach(), total, rtol=1e-6, atol=0)  # losses are float32
    for name, one in whole.named_parameters():
        scale = max(gradients[name].abs().max().item(), 1.0)
        torch.testing.assert_close(cast("Tensor", one.grad), gradients[name], rtol=1e-6, atol=1e-9 * scale, msg=name)


def changed(batch: Batch, stream: str, where: Tensor) -> Batch:
    packed = batch.streams[stream]
    ids = torch.where(where, (packed.ids + 7) % (VOCABULARY - 1) + 1, packed.ids)
    return replace(batch, streams={**batch.streams, stream: replace(packed, ids=ids)})


@torch.no_grad()
def states(network: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
    return cast("dict[str, Tensor]", network(batch).streams)


@pytest.mark.parametrize("limits", [LIMITS, LONG], ids=["probabilities", "fused"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_no_example_reaches_another_in_any_stream(limits: dict[str, int], half: bool) -> None:
    """Not one bit of another example's states moves; those of its own do."""
    network, batch = learner().network.eval(), pack(examples(), limits, 0)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        before = states(network, batch)
        for place in ((0, 0), (1, 0), (2, 1)):
            mine = own(batch, place)
            for stream in ("source", "tokens"):
                after = states(network, changed(batch, stream, mine[stream]))
                for name, value in before.items():
                    moved = (value != after[name]).any(-1)
                    assert not moved[~mine[name]].any(), f"{name} of another example moved with {stream} of {place}"
                    assert bool(moved[mine[name]].any()) == (stream == "source" or name == "tokens")


def test_no_later_token_moves_an_earlier_state_nor_the_source() -> None:
    network, batch = learner().network.eval(), pack(examples(), LIMITS, 0)
    mine = own(batch, (1, 0))["tokens"]
    later = mine & (batch.tokens.positions >= 5)
    before, after = states(network, batch), states(network, changed(batch, "tokens", later))
    assert torch.equal((before["tokens"] != after["tokens"]).any(-1), later)
    assert torch.equal(before["source"], after["source"])


STEPS = 6


def next_ids(network: EncoderDecoderNetwork, states: Tensor) -> Tensor:
    return (states @ network.token_embedding.weight.T).argmax(-1)


@torch.no_grad()
def greedy(network: EncoderDecoderNetwork, source: Tensor, first: int) -> list[int]:
    """Return what is generated of a source, reading everything again for each token."""
    ids = torch.tensor([first])
    for _ in range(STEPS):
        streams = {"tokens": equal_rows(ids[None]), "source": equal_rows(source[None])}
        ids = torch.cat([ids, next_ids(network, network(Batch(streams, {}))["tokens"][-1:])])
    return ids[1:].tolist()


@torch.no_grad()
def test_cached_generation_equals_reading_everything_again() -> None:
    """Token for token: the encoder reads packed sources once, and cross-attention reads its keys from a cache."""
    network = cast("EncoderDecoderNetwork", learner().double().network.eval())
    torch.manual_seed(1)
    sources = [torch.randint(1, VOCABULARY, (length,)) for length in (5, 11, 1, 8)]
    sizes = {"cache": [STEPS + 1] * 4, "source_cache": [len(source) for source in sources]}
    caches = {}
    for name, capacities in sizes.items():
        cache = network.decoder.cache(sum(capacities), cross=name == "source_cache")
        assert cache is not None
        for slot, capacity in enumerate(capacities):
            cache.open(slot, capacity)
        caches[name] = cache
    order = (2, 0, 3, 1)
    new = {"tokens": {slot: [2 + slot] for slot in order}, "source": {slot: sources[slot].tolist() for slot in order}}
    streams = {"tokens": caches["cache"].packed(new["tokens"]), "source": caches["source_cache"].packed(new["source"])}
    found = network(Batch(streams, {}), **caches)["tokens"]
    made = [next_ids(network, found[[order.index(slot) for slot in range(4)]])]
    read: list[Tensor] = []
    network.encoder.register_forward_hook(lambda *given: read.append(torch.ones(())))
    while len(made) < STEPS:
        tokens = caches["cache"].packed({slot: [one] for slot, one in enumerate(made[-1].tolist())})
        made.append(next_ids(network, network(Batch({"tokens": tokens}, {}), **caches)["tokens"]))
    assert not read
    generated = torch.stack(made, 1).tolist()
    assert generated == [greedy(network, source, 2 + slot) for slot, source in enumerate(sources)]
    assert len({tuple(ids) for ids in generated}) == 4


def full(row: Recipe, rows: int, tokens: int, source: int) -> Batch:
    rng = np.random.default_rng(0)
    made = [[example(tokens, source, rng)] for _ in range(rows)]
    every = [[replace(one, targets={"denoising": (np.arange(tokens), one.tokens.ids)})] for [one] in made]
    return pack(every, {"tokens": tokens, "source": source}, 0)


@pytest.mark.parametrize(("tokens", "source"), [(40, 64), (48, 16), (24, 160)])
def test_flops_agree_with_pytorch(tokens: int, source: int) -> None:
    """Forward and backward, of the toy and its head; keys and values of a source belong to its tokens."""
    row, rows = replace(ROW, tokens=replace(ROW.tokens, vocab_size=VOCABULARY)), 3
    whole = row.learner()
    batch = full(row, rows, tokens, source)
    with FlopCounterMode(display=False) as forward:
        sums = whole(batch).sums
    with FlopCounterMode(display=False) as backward:
        whole.objective(sums, whole.counts(batch)).backward()
    ours = component_cost(row, {"tokens": tokens, "source": source}).flops * rows * tokens
    assert forward.get_total_flops() == pytest.approx(ours, rel=FLOPS)
    total = forward.get_total_flops() + backward.get_total_flops()
    assert total == pytest.approx(TRAINING * ours, rel=FLOPS)
    assert StageFlops(row, row.stages[0])(batch.lengths()) == pytest.approx(TRAINING * ours)


def test_parameters_are_those_of_the_built_toy() -> None:
    whole = ROW.learner()
    assert cost(ROW).parameters == sum(one.numel() for one in whole.parameters())
    assert cost(ROW).network == sum(one.numel() for one in whole.network.parameters())
    decoder = MODEL.decoder.build(VOCABULARY)
    assert MODEL.decoder.parameters(VOCABULARY) == sum(one.numel() for one in decoder.parameters())


def test_flops_go_by_the_lengths_of_both_streams() -> None:
    """A batch costs what its examples cost each; one without a source or without tokens costs less than any with."""
    flops = StageFlops(ROW, ROW.stages[0])
    batch = pack(examples(), LIMITS, 0)
    lengths = batch.lengths()
    assert lengths == {"tokens": [9, 1, 6, 12, 4, 7], "source": [14, 3, 0, 21, 0, 9]}
    each = zip(lengths["tokens"], lengths["source"], strict=True)
    assert flops(lengths) == pytest.approx(sum(flops({"tokens": [t], "source": [s]}) for t, s in each))
    assert flops({"tokens": [6], "source": [0]}) < flops({"tokens": [6], "source": [9]})
    assert 0 < flops({"tokens": [0], "source": [9]}) < flops({"tokens": [6], "source": [9]})
    assert flops({"tokens": [], "source": []}) == flops({"tokens": [0], "source": [0]}) == 0
