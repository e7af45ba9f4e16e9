"""Random Hugging Face models of several shapes, the same sequences padded and packed, and what must be the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.export.folder import LoadedModel, load, save
from genus.export.layouts import layout_for
from genus.export.translate import foreign
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from genus.batch import Batch
    from genus.objectives import Learner

transformers = pytest.importorskip("transformers")

FLOAT32 = 1e-5
"""float32 has 24 bits, 6e-8; sums over tens of terms and a few layers in another order lose two digits."""
FLOAT64 = 1e-13
"""The same sums with 53 bits, 1e-16: a wrong formula cannot hide here."""
precisions = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)])

LENGTHS = (12, 5, 9, 3, 7)
SPECIAL = 5
"""Special tokens come first, in the order of BERT's or of RoBERTa's; RoBERTa's mask is last."""


@dataclass(frozen=True)
class Shape:
    kind: str
    layers: int
    hidden: int
    heads: int
    inner: int
    vocab: int
    positions: int
    activation: str
    segments: int
    eps: float

    def settings(self) -> dict[str, Any]:
        """Return the settings that BERT and the architectures made of its parts have."""
        return {
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.positions + (2 if self.kind == "roberta" else 0),
            "hidden_act": self.activation,
            "type_vocab_size": self.segments,
            "layer_norm_eps": self.eps,
        }

    def config(self, **more: Any) -> Any:
        make = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig}[self.kind]
        return make(**self.settings(), **more)


@dataclass(frozen=True)
class OfStem(Shape):
    """A model of any architecture; the tokenizer is BERT's or RoBERTa's, which are as good as any here."""

    stem: str = "Bert"
    own: tuple[tuple[str, Any], ...] = ()
    """Settings beside the usual ones; of these classes that have others, all."""

    def config(self, **more: Any) -> Any:
        make = getattr(transformers, f"{self.stem}Config")
        usual = {} if "vocab_size" in dict(self.own) else self.settings()
        return make(**(usual | dict(self.own) | more))

    def inputs(self) -> dict[str, torch.Tensor]:
        """Return the padded sequences; DistilBERT knows no segments."""
        return {k: v for k, v in padded(self).items() if k != "token_type_ids" or self.stem != "DistilBert"}


SIZES = ("bert", 2, 24, 3, 40, 101, 40, "gelu_new", 2, 1e-12)
DISTIL = (("vocab_size", 101), ("n_layers", 2), ("dim", 24), ("n_heads", 3), ("hidden_dim", 40))
XLNET = (("vocab_size", 101), ("n_layer", 2), ("d_model", 24), ("n_head", 3), ("d_inner", 40), ("mem_len", 6))
OF_STEMS = [
    OfStem(*SIZES, "Bert", (("classifier_dropout", 0.2),)),
    OfStem("roberta", 2, 24, 3, 40, 300, 40, "gelu", 2, 1e-5, "Roberta"),
    OfStem("roberta", 2, 24, 3, 40, 300, 40, "gelu", 2, 1e-5, "Camembert"),
    OfStem(*SIZES, "Albert", (("embedding_size", 8), ("num_hidden_groups", 2))),
    OfStem(*SIZES, "DistilBert", DISTIL),
    OfStem(*SIZES, "Electra", (("embedding_size", 12),)),
    OfStem(*SIZES, "XLNet", XLNET),
    OfStem(*SIZES, "BigBird", (("block_size", 4), ("num_random_blocks", 1))),
    OfStem(*SIZES, "BigBird", (("attention_type", "original_full"),)),
    OfStem(*SIZES, "Ernie", (("use_task_id", True), ("task_type_vocab_size", 3))),
    OfStem(*SIZES, "MegatronBert"),
]
"""One of every architecture with classes for tokens."""

BERT = [
    Shape("bert", 1, 8, 1, 16, 30, 12, "gelu", 2, 1e-12),
    Shape("bert", 2, 24, 3, 40, 101, 40, "gelu_new", 2, 1e-12),
    Shape("bert", 3, 32, 4, 96, 64, 16, "relu", 3, 1e-6),
]
ROBERTA = [
    Shape("roberta", 1, 8, 2, 16, 261, 12, "gelu", 1, 1e-5),
    Shape("roberta", 2, 24, 3, 40, 300, 40, "gelu_new", 2, 1e-5),
    Shape("roberta", 3, 32, 8, 96, 280, 16, "relu", 1, 1e-12),
]


def build(shape: Shape, architecture: str, seed: int = 0, **more: Any) -> Any:
    """Return a random model."""
    torch.manual_seed(seed)
    return scramble(getattr(transformers, architecture)(shape.config(**more)).eval())


def scramble(model: Any, std: float = 0.2, held: Collection[str] = ()) -> Any:
    """Make every parameter random, biases and norms too, so that no wrong name goes unseen; but those that are held."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in held:
                parameter.normal_(std=std)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(1)
    return model


def write_tokenizer(folder: Path, kind: str, size: int) -> None:
    """Write the legacy vocabulary files of a tokenizer with as many pieces."""
    folder.mkdir(exist_ok=True)
    if kind == "bert":
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"p{number}" for number in range(size - 5))]
        (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        return
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *letters]
    merges = [("a", letter) for letter in letters][: size - len(pieces) - 1]
    pieces += ["".join(merge) for merge in merges] + ["<mask>"]
    (folder / "vocab.json").write_text(json.dumps({p: n for n, p in enumerate(pieces)}), encoding="utf-8")
    (folder / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")


def tokenizer(folder: Path, kind: str, size: int) -> Tokenizer:
    write_tokenizer(folder, kind, size)
    return Tokenizer.load(folder)


def reading(folder: Path, model: Any, shape: Shape) -> LoadedModel:
    """Write a model as Hugging Face does, with a tokenizer, and read it."""
    model.save_pretrained(folder)
    write_tokenizer(folder, shape.kind, shape.vocab)
    return load(folder)


def sequences(shape: Shape, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(SPECIAL, shape.vocab - 1, length) for length in LENGTHS]


def segments(shape: Shape) -> list[np.ndarray]:
    return [np.arange(length) * shape.segments // length for length in LENGTHS]


def padded(shape: Shape) -> dict[str, torch.Tensor]:
    """Return the sequences as Hugging Face takes them: one a row, padded, with a mask."""
    size = (len(LENGTHS), max(LENGTHS))
    found = {
        "input_ids": torch.full(size, 1 if shape.kind == "roberta" else 0),
        "attention_mask": torch.zeros(size, dtype=torch.int64),
        "token_type_ids": torch.zeros(size, dtype=torch.int64),
    }
    for row, (ids, segment) in enumerate(zip(sequences(shape), segments(shape), strict=True)):
        found["input_ids"][row, : len(ids)] = torch.from_numpy(ids)
        found["attention_mask"][row, : len(ids)] = 1
        found["token_type_ids"][row, : len(ids)] = torch.from_numpy(segment)
    return found


def packed(shape: Shape, targets: list[dict[str, Any]] | None = None) -> Batch:
    """Return the same sequences packed, several a row: 12; 5 and 7; 9 and 3."""
    named = targets or [{} for _ in LENGTHS]
    examples = [
        Example({"tokens": Sequence(ids, segment, np.zeros(len(ids), dtype=bool))}, given)
        for ids, segment, given in zip(sequences(shape), segments(shape), named, strict=True)
    ]
    return pack([[examples[0]], [examples[1], examples[4]], [examples[2], examples[3]]], max(LENGTHS), 0)


def masked_targets(shape: Shape, pairs: str | None = None) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Return two masked tokens a sequence, and the same as Hugging Face takes them.

    With the name of an objective over pairs, each sequence has a label of it too: 0, 1, 0, ...
    """
    rng = np.random.default_rng(2)
    given: list[dict[str, Any]] = []
    labels = torch.full((len(LENGTHS), max(LENGTHS)), -100)
    for row, length in enumerate(LENGTHS):
        index = np.sort(rng.permutation(length)[:2])
        label = rng.integers(SPECIAL, shape.vocab - 1, 2)
        labels[row, index] = torch.from_numpy(label)
        given.append({"masked_lm": (index, label)} | ({pairs: (np.array([0]), np.array([row % 2]))} if pairs else {}))
    return given, labels


PLACES = {0: 0, 1: 12, 4: 17, 2: 24, 3: 33}
"""Where each sequence begins on the packed axis."""


def in_order(values: torch.Tensor) -> torch.Tensor:
    """Return values of the packed axis sequence by sequence, in the order of `LENGTHS`, without the dead cells."""
    return torch.cat([values[PLACES[n] : PLACES[n] + length] for n, length in enumerate(LENGTHS)])


def first(values: torch.Tensor) -> torch.Tensor:
    """Return values of the packed axis at the first token of each sequence, in the order of `LENGTHS`."""
    return values[[PLACES[n] for n in range(len(LENGTHS))]]


def live(values: torch.Tensor) -> torch.Tensor:
    """Return padded values (B, L, ...) without the padding, sequence by sequence."""
    return torch.cat([values[n, :length] for n, length in enumerate(LENGTHS)])


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference over the largest number expected."""
    assert found.shape == expected.shape
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max())


def gradients(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}


def pooled(learner: Learner, hidden: torch.Tensor, head: str) -> torch.Tensor:
    """Return what a head says of each sequence, in the order of `LENGTHS`."""
    return learner.heads[head].classes(learner.network.pool(first(hidden)))


def token_logits(learner: Learner, hidden: torch.Tensor) -> torch.Tensor:
    """Return the logits of each token, sequence by sequence."""
    return learner.heads["masked_lm"].lm_head(in_order(hidden))


def same_states(
    learner: Learner,
    model: Any,
    shape: Shape,
    tolerance: float,
    *,
    inputs: dict[str, torch.Tensor] | None = None,
    batch: Batch | None = None,
) -> None:
    """Ask both for hidden states and the pooled first token."""
    with torch.no_grad():
        expected = model(**(inputs or padded(shape)))
        hidden = learner.eval().network(batch or packed(shape))["tokens"]
        assert relative(in_order(hidden), live(expected.last_hidden_state)) <= tolerance
        assert relative(learner.network.pool(first(hidden)), expected.pooler_output) <= tolerance


def same_classes(learner: Learner, model: Any, shape: Shape, inputs: dict[str, torch.Tensor] | None = None) -> None:
    """Ask both for what their one head says of a sequence: of one label, it is a regression."""
    (head,) = learner.heads
    assert head == ("sequence_regression" if model.config.num_labels == 1 else "sequence_classification")
    with torch.no_grad():
        expected = model(**(inputs or padded(shape))).logits
        hidden = learner.eval().network(packed(shape))["tokens"]
        assert relative(pooled(learner, hidden, head), expected) <= FLOAT32


def same_gradients(
    found: LoadedModel,
    model: Any,
    *,
    learner: Learner | None = None,
    bound: float = FLOAT32,
    still: str | tuple[str, ...] = "key.bias",
) -> None:
    """Compare every gradient, over the largest of its tensor; those that are 0, of keys' biases, over that of all.

    Args:
        found: what was read of the model.
        model: theirs, its gradients computed.
        learner: whose gradients are compared, if it is not the one that was read.
        bound: the largest difference.
        still: how the names of keys' biases end.
    """
    layout, config = layout_for(found.recipe, found.learner.heads) or pytest.fail("no layout")
    exact = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    largest = max(float(gradient.abs().max()) for gradient in exact.values())
    compared = set()
    for name, gradient in foreign(gradients(learner or found.learner), layout, found.learner.heads, config):
        scale = largest if name.endswith(still) else float(exact[name].abs().max())
        assert float((gradient - exact[name]).abs().max()) <= bound * scale, name
        compared.add(name)
    assert exact.keys() == compared


def same_masked(
    found: LoadedModel, model: Any, batch: Batch, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    """Compare logits, loss and every gradient of a masked language model, on sequences packed here and padded there."""
    learner = found.learner.eval()
    expected = model(**inputs, labels=labels)
    expected.loss.backward()
    with torch.no_grad():
        logits = token_logits(learner, learner.network(batch)["tokens"])
        assert relative(logits, live(expected.logits)) <= FLOAT32
    loss = learner.objective(learner(batch).sums, learner.counts(batch))
    loss.backward()
    assert relative(loss.detach(), expected.loss.detach()) <= FLOAT32
    same_gradients(found, model)


FREE = {"_name_or_path", "transformers_version", "problem_type", "pad_token_id", "bos_token_id", "eos_token_id"}
FREE |= {"sentence_transformers"}
"""What a configuration may say otherwise when it comes back; special tokens are written from the tokenizer, and what a
regression is for, to `CrossEncoder`."""


def there_and_back(
    folder: Path, found: LoadedModel, model: Any, *, free: Collection[str] = (), unused: Collection[str] = ()
) -> LoadedModel:
    """Write what was read of a model, and return how it is read again.

    To Hugging Face it is the same model, bit for bit, but for tensors that are `unused` and keys that are `free`.
    """
    save(folder, found.recipe, found.learner, found.tokenizer)
    again, problems = type(model).from_pretrained(folder, output_loading_info=True)
    assert problems.pop("missing_keys") == set(unused)
    assert not any(problems.values()), problems
    weights = again.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], x) for name, x in model.state_dict().items() if name not in unused)
    before, after = model.config.to_dict(), again.config.to_dict()
    held = FREE | set(free)
    assert {k: v for k, v in before.items() if k not in held} == {k: v for k, v in after.items() if k not in held}
    third = load(folder)
    assert third.recipe == found.recipe
    assert list(third.learner.heads) == list(found.learner.heads)
    return third
