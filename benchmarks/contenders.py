"""The contenders of `throughput.py`: this library and Hugging Face's classes, given the same sequences and targets."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.batch import IGNORE, Batch, Targets
from genus.examples import Example, Sequence
from genus.examples.pack import fill_rows, pack
from genus.model import attend
from genus.model.encoder import Encoder
from genus.model.speed import compile_learner, keep_memory, products_by_onednn
from genus.objectives.next_sentence import NextSentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.recipe import Recipe

MASKED = 0.15
MASK_ID = 103
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4


@dataclass(frozen=True)
class Levers:
    """What makes a step fast, each to be turned off alone."""

    half: bool = True
    """bfloat16 autocast; float32 without."""
    compiled: bool = True
    memory_kept: bool = True
    onednn: bool = True
    """Float32 products by oneDNN: matters without `half`."""
    own_attention: bool = True
    """Probabilities written out on CPUs, variable-length flash attention on CUDA; PyTorch's fused attention without."""
    targets_only: bool = True
    """Logits at the targets; at every cell without."""
    packed: bool = True
    """Several sequences a row; one a row, and padding, without."""
    no_dropout: bool = True
    """The recipe's dropout without."""


@contextlib.contextmanager
def process(levers: Levers) -> Iterator[None]:
    """Set what is the process's for one contender, and set it back to how a process starts."""
    if levers.memory_kept:
        keep_memory()
    if levers.onednn:
        products_by_onednn()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        with contextlib.suppress(AttributeError, OSError, TypeError):
            library = ctypes.CDLL(None)
            for switch, value in ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**26), (M_MMAP_MAX, 2**16)):
                library.mallopt(switch, value)  # where glibc's own adaption comes to rest
            library.malloc_trim(0)


def sequences(lengths: NDArray[np.int64], vocab_size: int, seed: int) -> list[Example]:
    """Draw a sequence of each length, with masked targets and a class."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        ids = rng.integers(1_000, vocab_size, length)
        chosen = np.sort(rng.permutation(length)[: max(1, round(MASKED * length))])
        targets = {"masked": (chosen, ids[chosen]), "next_sentence": (np.zeros(1, int), rng.integers(0, 2, 1))}
        ids = ids.copy()
        ids[chosen] = MASK_ID
        made.append(Example({"tokens": Sequence(ids, ids * 0, ids < 0)}, targets))
    return made


class Ours:
    """A recipe's learner and optimizer."""

    def __init__(
        self, recipe: Recipe, examples: list[Example], length: int, levers: Levers, device: torch.device
    ) -> None:
        self.levers, self.device = levers, device
        model = without_dropout(recipe) if levers.no_dropout else recipe
        torch.manual_seed(recipe.seed)
        self.learner = model.learner().to(device)
        self.optimizer = recipe.optimizer.build(self.learner)
        if levers.compiled:
            compile_learner(self.learner.network, self.learner.heads.values())
        self.batch = self._batch(examples, length, recipe).to(device)
        self.counts = self.learner.counts(self.batch)

    def _batch(self, examples: list[Example], length: int, recipe: Recipe) -> Batch:
        lengths = np.array([len(example.tokens.ids) for example in examples])
        rows = [[examples[i] for i in row] for row in fill_rows(lengths, length)]
        batch = pack(rows if self.levers.packed else [[example] for example in examples], length, 0)
        names = {name for objective in recipe.objectives for name in objective.max_targets(1, 1)}
        batch = replace(batch, targets={name: batch.targets[name] for name in names})
        return batch if self.levers.targets_only else everywhere(batch)

    def step(self) -> None:
        """Forward, backward, update."""
        with self._as_levers_say():
            sums = self.learner(self.batch)
        self.learner.objective(sums, self.counts).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def infer(self) -> None:
        """Make hidden states; nothing is kept."""
        self.learner.eval()
        with torch.no_grad(), self._as_levers_say():
            self.learner.network(self.batch)

    @contextlib.contextmanager
    def _as_levers_say(self) -> Iterator[None]:
        chosen = attend.choose
        if not self.levers.own_attention:
            attend.choose = lambda *_: "fused"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.levers.half):
                yield
        finally:
            attend.choose = chosen


class Theirs:
    """Hugging Face's class for the recipe's objectives, padded."""

    def __init__(
        self, recipe: Recipe, examples: list[Example], length: int, levers: Levers, device: torch.device
    ) -> None:
        self.levers, self.device = levers, device
        torch.manual_seed(recipe.seed)
        self.model = hugging_face(recipe, levers, device).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=levers.compiled or None)
        self.run = torch.compile(self.model, dynamic=False) if levers.compiled else self.model
        encoder = self.model.base_model
        self.encoder = torch.compile(encoder, dynamic=False) if levers.compiled else encoder
        self.inputs = {name: value.to(device) for name, value in padded(recipe, examples, length).items()}

    def step(self) -> None:
        """Forward, backward, update."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.levers.half):
            loss = self.run(**self.inputs).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def infer(self) -> None:
        """Make hidden states; nothing is kept."""
        self.model.eval()
        inputs = {name: self.inputs[name] for name in ("input_ids", "attention_mask") if name in self.inputs}
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.levers.half):
            self.encoder(**inputs)


def without_dropout(recipe: Recipe) -> Recipe:
    """Return the recipe with every dropout at 0."""
    for path in ("model.dropout", "model.attention.dropout", "model.embedding.dropout"):
        recipe = recipe.override(path, 0.0)
    return recipe


def everywhere(batch: Batch) -> Batch:
    """Return the batch with a masked target at every cell, most of them ignored: logits are made everywhere."""
    targets = batch.targets["masked"]
    label = torch.full_like(batch.tokens.ids, IGNORE)
    label[targets.index] = targets.label
    return replace(batch, targets=batch.targets | {"masked": Targets(torch.arange(len(label)), label)})


def padded(recipe: Recipe, examples: list[Example], length: int) -> dict[str, torch.Tensor]:
    """Return Hugging Face's inputs: one sequence a row, and a mask only where there is padding."""
    shape = (len(examples), length)
    ids, mask, labels = np.zeros(shape, int), np.zeros(shape, int), np.full(shape, IGNORE)
    for row, example in enumerate(examples):
        size = len(example.tokens.ids)
        ids[row, :size], mask[row, :size] = example.tokens.ids, 1
        where, what = example.targets["masked"]
        labels[row, where] = what
    inputs = {"input_ids": ids, "labels": labels}
    if not mask.all():
        inputs["attention_mask"] = mask
    if pairs(recipe):
        inputs["next_sentence_label"] = np.concatenate([example.targets["next_sentence"][1] for example in examples])
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


def pairs(recipe: Recipe) -> bool:
    return any(isinstance(objective, NextSentence) for objective in recipe.objectives)


def hugging_face(recipe: Recipe, levers: Levers, device: torch.device) -> Any:
    """Build the class that has the recipe's objectives, with the recipe's sizes."""
    import transformers

    model = recipe.model
    assert isinstance(model, Encoder)
    vocab_size = recipe.tokens.vocab_size
    dropout = 0.0 if levers.no_dropout else 0.1
    shape = {
        "vocab_size": vocab_size + (-vocab_size % 64 if device.type == "cuda" and levers.compiled else 0),
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.attention.heads,  # type: ignore[attr-defined]
        "intermediate_size": model.feedforward.size,  # type: ignore[attr-defined]
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "attn_implementation": "sdpa",
    }
    if pairs(recipe):
        return transformers.BertForPreTraining(transformers.BertConfig(**shape))
    config = transformers.RobertaConfig(**shape, max_position_embeddings=514, type_vocab_size=1)
    return transformers.RobertaForMaskedLM(config)
