"""Random Reformers of Hugging Face, read and written back: states, logits, loss, gradients, with the same rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from oracle import transformers
from torch import Tensor

from genus.batch import Batch, Packed, Targets
from genus.errors import GenusError
from genus.export.folder import LoadedModel, load
from genus.export.verify import verify
from hand import equal_rows

if TYPE_CHECKING:
    from pathlib import Path

FLOAT32 = 1e-5
"""Relative; float32 has 24 bits, 6e-8, and a few layers of sums in another order lose two digits."""
FLOAT64 = 1e-10
"""Our states are multiples of 2^-36, 1.5e-11; a wrong formula cannot hide here."""
VOCABULARY, LENGTH, ROWS = 40, 32, 2


@dataclass(frozen=True)
class Shape:
    layers: tuple[str, ...]
    decoder: bool
    rounds: int
    buckets: int | list[int]
    local: int = 4
    lsh: int = 4
    after: int = 0
    chunk: int = 0
    activation: str = "relu"

    def config(self, **more: Any) -> Any:
        return transformers.ReformerConfig(
            attn_layers=list(self.layers), hidden_size=16, num_attention_heads=2, attention_head_size=6,
            feed_forward_size=24, axial_pos_shape=(4, 16), axial_pos_embds_dim=(4, 12), max_position_embeddings=64,
            vocab_size=VOCABULARY, num_hashes=self.rounds, num_buckets=self.buckets, hidden_act=self.activation,
            lsh_attn_chunk_length=self.lsh, local_attn_chunk_length=self.local, is_decoder=self.decoder, hash_seed=0,
            local_num_chunks_after=self.after, lsh_num_chunks_after=self.after, chunk_size_feed_forward=self.chunk,
            hidden_dropout_prob=0.0, local_attention_probs_dropout_prob=0.0, use_cache=False, **more,
        )  # fmt: skip


SHAPES = [
    Shape(("local", "lsh", "local", "lsh"), True, 1, [2, 4]),
    Shape(("local", "local", "lsh"), True, 4, 4, local=4, lsh=8, chunk=8),
    Shape(("lsh", "lsh"), True, 2, 8, local=8),
    Shape(("local", "lsh"), False, 1, [2, 4], activation="gelu_new"),
    Shape(("local", "lsh", "lsh"), False, 3, 4, after=1),
    Shape(("lsh", "lsh"), False, 2, 8),
    Shape(("local", "local"), False, 1, 8, lsh=8),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{'-'.join(s.layers)}-{s.decoder}-{s.rounds}")


def build(shape: Shape, kind: str, **more: Any) -> Any:
    """Return a model with every parameter random but the output bias, which transformers holds and does not add."""
    torch.manual_seed(0)
    model = getattr(transformers, f"Reformer{kind}")(shape.config(**more)).eval()
    return oracle.scramble(model, std=0.3, held={"lm_head.bias"})


def reading(folder: Path, model: Any) -> LoadedModel:
    model.save_pretrained(folder)
    oracle.write_tokenizer(folder, "bert", VOCABULARY)
    return load(folder)


def with_head(shape: Shape) -> str:
    return "ModelWithLMHead" if shape.decoder else "ForMaskedLM"


def rows(length: int = LENGTH) -> tuple[Tensor, Batch]:
    """Return random rows of one sequence each, as both libraries take them."""
    ids = torch.randint(5, VOCABULARY, (ROWS, length), generator=torch.Generator().manual_seed(1))
    return ids, Batch({"tokens": equal_rows(ids)}, {})


@shapes
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)])
def test_states_and_logits(tmp_path: Path, shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
    model = build(shape, with_head(shape)).to(dtype)
    learner = reading(tmp_path, model.float()).learner.to(dtype).eval()
    model.to(dtype)
    for length in (LENGTH, 8, 3):
        ids, batch = rows(length)
        for layer in model.reformer.encoder.layers if length == 8 else ():
            layer.feed_forward.chunk_size_feed_forward = 0  # there, a chunk must divide the length
        with torch.no_grad():
            expected = model.reformer(ids).last_hidden_state
            found = learner.network(batch)["tokens"]
            (head,) = learner.heads.values()
            logits = head.lm_head(found)
            assert oracle.relative(found.view_as(expected), expected) <= tolerance
            assert oracle.relative(logits.view(ROWS, length, -1), model.lm_head(expected)) <= tolerance
        for layer in model.reformer.encoder.layers:
            layer.feed_forward.chunk_size_feed_forward = 0


@shapes
def test_sequences_that_share_rows(tmp_path: Path, shape: Shape) -> None:
    """They are padded to whole chunks there, each alone; in one direction, empty chunks of other lengths see nobody."""
    if shape.local != shape.lsh and not shape.decoder and len(set(shape.layers)) > 1:
        pytest.skip("Hugging Face pads to a common multiple of both chunks: then a sequence's last chunk is empty")
    model = build(shape, "Model")
    network = reading(tmp_path, model).learner.network.eval()
    for layer in model.encoder.layers:
        layer.feed_forward.chunk_size_feed_forward = 0
    lengths = [12, 5, 9, 3, 7, 28]
    ids = [torch.randint(5, VOCABULARY, (length,)) for length in lengths]
    total = sum(lengths)
    packed = Packed.laid(torch.cat(ids), [lengths], total)
    with torch.no_grad():
        found = network(Batch({"tokens": packed}, {}))["tokens"]
        expected = torch.cat([model(one[None]).last_hidden_state[0] for one in ids])
    assert oracle.relative(found, expected) <= FLOAT32


@shapes
def test_loss_and_gradients(tmp_path: Path, shape: Shape) -> None:
    model = build(shape, with_head(shape))
    found = reading(tmp_path, model)
    learner = found.learner.eval()
    model.train()
    model.reformer.embeddings.position_embeddings.eval()  # in training it wants the grid full
    ids, batch = rows()
    (name,) = learner.heads
    labels = torch.randint(5, VOCABULARY, ids.shape)
    places = torch.arange(ROWS * LENGTH).view(ROWS, LENGTH)
    index, label = (places[:, :-1], labels[:, 1:]) if shape.decoder else (places, labels)
    batch = Batch(batch.streams, {name: Targets(index.flatten(), label.flatten())})
    expected = model(ids, labels=labels).loss
    expected.backward()
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert oracle.relative(loss.detach(), expected.detach()) <= FLOAT32
    oracle.same_gradients(found, model)


@pytest.mark.parametrize("labels", [1, 3])
def test_sequence_classification(tmp_path: Path, labels: int) -> None:
    model = build(SHAPES[4], "ForSequenceClassification", num_labels=labels)
    learner = reading(tmp_path, model).learner.eval()
    (name,) = learner.heads
    assert name == ("sequence_regression" if labels == 1 else "sequence_classification")
    ids, batch = rows()
    first = Targets(torch.arange(ROWS) * LENGTH, torch.zeros(ROWS, dtype=torch.int64))
    batch = Batch(batch.streams, {name: first})
    with torch.no_grad():
        (found,) = learner.outputs(batch)[name].values()
        assert oracle.relative(found, model(ids).logits) <= FLOAT32


@shapes
@pytest.mark.parametrize("kind", ["Model", "head", "ForSequenceClassification"])
def test_there_and_back_is_the_identity(tmp_path: Path, shape: Shape, kind: str) -> None:
    if kind == "ForSequenceClassification" and shape.decoder:
        pytest.skip("a first token that sees no other says nothing of the sequence")
    kind = with_head(shape) if kind == "head" else kind
    model = build(shape, kind, **({"num_labels": 4} if "Sequence" in kind else {}))
    found = reading(tmp_path / "theirs", model)
    oracle.there_and_back(tmp_path / "ours", found, model, free={"hash_seed", "use_cache", "classifier_dropout"})
    names = {"hidden", *found.learner.heads}
    assert verify(tmp_path / "ours", found.learner).keys() == names | {f"transformers/{name}" for name in names}


def test_an_output_bias_that_came_with_a_model_is_kept(tmp_path: Path) -> None:
    """Older releases of transformers added it; our training leaves it as it is."""
    model = build(SHAPES[0], "ModelWithLMHead")
    torch.nn.init.normal_(model.lm_head.bias)
    learner = reading(tmp_path, model).learner.eval()
    ids, batch = rows()
    head = learner.heads["causal_lm"].lm_head
    with torch.no_grad():
        found = head(learner.network(batch)["tokens"])
        assert oracle.relative(found.view(ROWS, LENGTH, -1), model(ids).logits + model.lm_head.bias) <= FLOAT32
    assert not [name for name, _ in learner.named_parameters() if name == "heads.causal_lm.lm_head.bias"]


@pytest.mark.parametrize(
    ("more", "problem"),
    [({"axial_pos_embds": False}, "axial_pos_embds"), ({"attn_layers": ["local", "global"]}, "attn_layers")],
)
def test_other_mathematics_is_refused(tmp_path: Path, more: dict[str, Any], problem: str) -> None:
    from folders import edit

    model = build(SHAPES[0], "Model")
    model.save_pretrained(tmp_path)
    oracle.write_tokenizer(tmp_path, "bert", VOCABULARY)
    edit(tmp_path / "config.json", **more)
    with pytest.raises(GenusError, match=problem):
        load(tmp_path)
