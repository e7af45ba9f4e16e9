"""The random field beside its definition: every sequence of tags written out; the LSTM beside PyTorch's."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from genus import catalog
from genus.batch import IGNORE, Batch, Targets
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model import States
from genus.model.initialization import Normal, initialize
from genus.objectives.supervised.crf import LinearChainCRF
from genus.objectives.supervised.recurrent import RecurrentTokenClassification, sequences

TAGS, SMALL = 3, 1e-12
"""Float64 sums in another order."""


@pytest.fixture
def crf() -> LinearChainCRF:
    torch.manual_seed(0)
    field = LinearChainCRF(TAGS).double()
    initialize(field, Normal(std=1.0))
    return field.requires_grad_(False)


def score(field: LinearChainCRF, scores: torch.Tensor, tags: tuple[int, ...]) -> float:
    """Lample et al. 2016, section 2.2, written out."""
    total = float(field.begin[tags[0]] + field.end[tags[-1]])
    total += sum(float(scores[place, tag]) for place, tag in enumerate(tags))
    return total + sum(float(field.follow[one, other]) for one, other in itertools.pairwise(tags))


def test_sums_marginals_and_the_best_path_are_those_of_all_paths(crf: LinearChainCRF) -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([4, 1, 3, 2])
    scores = torch.randn(4, 4, TAGS, dtype=torch.float64)
    sums, marginals, best = crf.log_sums(scores, lengths), crf.log_marginals(scores, lengths), crf.best(scores, lengths)
    for number, length in enumerate(lengths.tolist()):
        paths = list(itertools.product(range(TAGS), repeat=length))
        each = np.array([score(crf, scores[number], path) for path in paths])
        assert sums[number].item() == pytest.approx(math.log(np.exp(each).sum()), abs=SMALL)
        assert tuple(best[number, :length].tolist()) == paths[int(each.argmax())]
        for place, tag in itertools.product(range(length), range(TAGS)):
            with_tag = sum(math.exp(one) for one, path in zip(each, paths, strict=True) if path[place] == tag)
            assert marginals[number, place, tag].item() == pytest.approx(
                math.log(with_tag) - sums[number].item(), abs=1e-10
            )


def test_a_loss_sums_over_what_words_without_a_label_may_have(crf: LinearChainCRF) -> None:
    torch.manual_seed(2)
    scores, lengths = torch.randn(2, 4, TAGS, dtype=torch.float64), torch.tensor([4, 2])
    labels = torch.tensor([[0, -1, 2, -1], [1, 0, 5, 5]])
    found = crf.losses(scores, lengths, labels.clamp(max=2))
    for number, length in enumerate(lengths.tolist()):
        paths = list(itertools.product(range(TAGS), repeat=length))
        given = labels[number, :length].tolist()
        fit = [path for path in paths if all(label in (-1, tag) for label, tag in zip(given, path, strict=True))]
        some, every = (sum(math.exp(score(crf, scores[number], path)) for path in several) for several in (fit, paths))
        assert found[number].item() == pytest.approx(math.log(every / some), abs=SMALL)
    assert torch.autograd.gradcheck(lambda x: crf.losses(x, lengths, labels.clamp(max=2)), scores.requires_grad_())


def batch_of(lengths: list[int], row: int = 12) -> tuple[Batch, torch.Tensor]:
    """Return a batch of sequences whose even tokens are the words, in rows that hold several, and padding targets."""
    rng, examples = np.random.default_rng(0), []
    for length in lengths:
        ids, words = rng.integers(5, 20, length), np.arange(0, length, 2)
        labels = rng.integers(0, TAGS, len(words))
        labels[1::3] = IGNORE
        sequence = Sequence(ids, np.zeros(length, np.int64), np.zeros(length, bool))
        examples.append(Example({"tokens": sequence}, {"words": (words, labels)}))
    rows, room = [[]], row
    for one in examples:
        size = len(one.streams["tokens"].ids)
        if size > room:
            rows.append([])
            room = row
        rows[-1].append(one)
        room -= size
    batch = pack(rows, {"tokens": row}, 0, len(examples) + 3, {"words": 40}, streams=False)
    return batch, torch.randn(batch.tokens.ids.numel(), 16)


def spread(lengths: list[int]) -> list[int]:
    return [len(range(0, length, 2)) for length in lengths]


LENGTHS = [5, 6, 1, 9, 3, 12]


def test_targets_stand_in_the_order_of_tokens_and_know_their_sequence() -> None:
    batch, _ = batch_of(LENGTHS)
    found = sequences(batch.targets["words"], batch.tokens)
    assert [end - begin for begin, end in found] == spread(LENGTHS)
    index = batch.targets["words"].index[: found[-1][1]]
    assert (index.diff() > 0).all()


@pytest.mark.parametrize("crf", [False, True])
def test_the_head_is_pytorchs_lstm_and_the_random_field_of_each_sentence_alone(crf: bool) -> None:
    torch.manual_seed(3)
    model = catalog.load("bert/tiny").override("model.hidden", 16).override("model.attention.heads", 2).model
    choice = RecurrentTokenClassification(labels=("a", "b", "c"), layers=2, size=7, crf=crf, dropout=0.0)
    head = choice.build(model, 20).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    batch, states = batch_of(LENGTHS)
    states = states.double()
    batch = Batch(batch.streams, {head.target: batch.targets["words"]})
    targets: Targets = batch.targets[head.target]
    theirs = nn.LSTM(16, 7, 2, bidirectional=True, batch_first=True).double()
    for layer, one in enumerate(head.layers):
        for direction, way in zip(one.directions, ("", "_reverse"), strict=True):
            own = {
                f"weight_ih_l{layer}{way}": direction.input.weight, f"bias_ih_l{layer}{way}": direction.input.bias,
                f"weight_hh_l{layer}{way}": direction.recurrent.weight,
                f"bias_hh_l{layer}{way}": torch.zeros_like(direction.input.bias),
            }  # fmt: skip
            theirs.load_state_dict(theirs.state_dict() | own)
    spans = sequences(targets, batch.tokens)
    several = [states[targets.index[begin:end]] for begin, end in spans]
    padded, _ = pad_packed_sequence(theirs(pack_sequence(several, enforce_sorted=False))[0], batch_first=True)
    scores = head.classes(padded)
    outputs = head.outputs(None, States({"tokens": states}), batch)
    sums = head(None, States({"tokens": states}), batch)
    total = 0.0
    for number, (begin, end) in enumerate(spans):
        length, alone = end - begin, scores[number : number + 1, : end - begin]
        labels = targets.label[begin:end]
        if not crf:
            assert torch.allclose(outputs["logits"][begin:end], alone[0], atol=1e-12, rtol=0)
            total += nn.functional.cross_entropy(alone[0], labels, ignore_index=IGNORE, reduction="sum").item()
            continue
        size = torch.tensor([length])
        # outputs are in float32 even of a network in float64
        assert torch.allclose(outputs["logits"][begin:end].double(), head.crf.log_marginals(alone, size)[0], atol=1e-5)
        assert outputs["path"][begin:end].tolist() == head.crf.best(alone, size)[0].tolist()
        total += head.crf.losses(alone, size, labels.where(labels != IGNORE, torch.tensor(-1))[None]).item()
    assert sums[head.loss].item() == pytest.approx(total, rel=1e-5)
    assert head.counts(batch)[head.loss].item() == int((targets.label != IGNORE).sum())
