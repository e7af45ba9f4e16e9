"""The contenders of `throughput.py`: this library and Hugging Face's classes, given the same sequences and targets."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from genus.batch import IGNORE, Batch, Targets
from genus.examples import Example, Sequence
from genus.examples.feed.bins import bin_pack
from genus.examples.feed.pack import pack
from genus.export.layouts import layout_for
from genus.model.attention import plan as attention_plan
from genus.model.compile import compile_learner
from genus.model.cpu import disable_malloc_trim, use_onednn_matmul
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.tokens.vocabulary import Vocabulary
from genus.train.precision import number_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from genus.objectives import Objective
    from genus.recipe import Recipe

OF_TOKENS = ("masked_lm", "permutation_lm")
"""Targets that are tokens of the sequence."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4


NATIVE_HALF = number_format("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu")) is torch.bfloat16


@dataclass(frozen=True)
class Levers:
    """What makes a step fast, each to be turned off alone."""

    half: bool = NATIVE_HALF
    """bfloat16 autocast; float32 without, and where the device has no bfloat16 of its own."""
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
        disable_malloc_trim()
    if levers.onednn:
        use_onednn_matmul()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        with contextlib.suppress(AttributeError, OSError, TypeError):
            library = ctypes.CDLL(None)
            for switch, value in ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**26), (M_MMAP_MAX, 2**16)):
                library.mallopt(switch, value)  # where glibc's own adaption comes to rest
            library.malloc_trim(0)


@dataclass(frozen=True)
class Shared:
    """What both sides do: the recipe with the objectives that Hugging Face's class has, and that class."""

    recipe: Recipe
    architecture: str | None
    """None: no class is like it, and it is compared with nothing."""
    config: dict[str, Any]
    pad: int


def shared(recipe: Recipe) -> Shared:
    """Return the work that can be compared: what a model folder of the recipe holds, in one turn.

    An objective without a place in the class is left out on both sides; one that houses a whole model stays.
    """
    whole = recipe.exported
    first = whole.stages[0]
    learning = whole.learning(whole.task_steps(first)[0])
    whole = replace(whole, objectives=learning, stages=(replace(first.whole(), share=1.0),))
    found = layout_for(whole, [objective.name for objective in whole.objectives])
    if found is None:
        return Shared(whole, None, {}, 0)
    layout, config = found
    kept = [one for one in whole.objectives if layout.kept([one.name]) or houses(one, whole)]
    (architecture,) = config.pop("architectures")
    return Shared(replace(whole, objectives=tuple(kept)), architecture, config, layout.pad or 0)


def houses(objective: Objective, recipe: Recipe) -> bool:
    """Return whether an objective has a whole model in its head."""
    return bool(companions(objective, recipe))


def companions(objective: Objective, recipe: Recipe) -> dict[str, Any]:
    """Return the models in an objective's head."""
    with torch.device("meta"):
        network = recipe.model.build(recipe.tokens.vocab_size)
        return dict(objective.build(recipe.model, recipe.tokens.vocab_size).auxiliary_models(network))


def vocabulary(size: int, pad: int) -> Vocabulary:
    """Return one of made-up pieces, five of them special."""
    unk, cls, sep, mask = [number for number in range(5) if number != pad][:4]
    frame = ((cls, None, 0), (None, 0, 0), (sep, None, 0))
    special, starts = np.arange(size) < 5, np.ones(size, bool)
    roles = {"pad": pad, "unk": unk, "cls": cls, "sep": sep, "mask": mask}
    return Vocabulary(size, roles, special, starts, frame, frame, texts=("a",) * size)


def sequences(work: Shared, lengths: NDArray[np.int64]) -> list[Example]:
    """Draw a sequence of each length, with what the objectives hide of it, and a class where one wants one."""
    recipe, rng = work.recipe, np.random.default_rng(work.recipe.seed)
    words = vocabulary(recipe.tokens.vocab_size, work.pad)
    made = []
    for length in lengths:
        ids = rng.integers(1_000 if words.size > 2_000 else 5, words.size, length)
        classes = {name: (np.zeros(1, int), rng.integers(0, 2, 1)) for name in recipe.examples.provides}
        example = Example({"tokens": Sequence(ids, ids * 0, ids < 0)}, classes)
        for objective in recipe.objectives:
            example = objective.prepare_example(example, words, rng)
        made.append(example)
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
        rows = [[examples[i] for i in row] for row in bin_pack({"tokens": lengths}, {"tokens": length})]
        batch = pack(rows if self.levers.packed else [[example] for example in examples], length, 0)
        names = {name for objective in recipe.objectives for name in objective.max_targets(1, 1)}
        batch = replace(batch, targets={name: batch.targets[name] for name in names if name in batch.targets})
        return batch if self.levers.targets_only else everywhere(batch)

    def step(self) -> None:
        """Forward, backward, update."""
        with self._as_levers_say():
            sums = self.learner(self.batch).sums
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
        chosen = attention_plan.choose
        if not self.levers.own_attention:
            attention_plan.choose = lambda *_, **__: "sdpa"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.levers.half):
                yield
        finally:
            attention_plan.choose = chosen


class Theirs:
    """Hugging Face's class for the recipe's objectives, padded."""

    def __init__(
        self, work: Shared, examples: list[Example], length: int, levers: Levers, device: torch.device
    ) -> None:
        self.levers, self.device = levers, device
        torch.manual_seed(work.recipe.seed)
        self.model = hugging_face(work, levers, device).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=levers.compiled or None)
        self.run = torch.compile(self.model, dynamic=False) if levers.compiled else self.model
        encoder = self.model.base_model
        self.encoder = torch.compile(encoder, dynamic=False) if levers.compiled else encoder
        made = padded(examples, length, work.pad, inspect.signature(self.model.forward).parameters)
        self.inputs = {name: value.to(device) for name, value in made.items()}

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


class Replaced(nn.Module):
    """A generator and a discriminator of Hugging Face's in one step, as ELECTRA's authors train them."""

    WEIGHT = 50.0

    def __init__(self, generator: Any, discriminator: Any) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        generator.set_input_embeddings(discriminator.get_input_embeddings())
        generator.tie_weights()

    @property
    def base_model(self) -> Any:
        """The discriminator's encoder."""
        return self.discriminator.base_model

    def forward(self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None) -> Any:
        """Return the loss of both."""
        first = self.generator(input_ids=input_ids, labels=labels, attention_mask=attention_mask)
        hidden = labels != IGNORE
        with torch.no_grad():
            uniform = torch.rand_like(first.logits, dtype=torch.float32).clamp(min=1e-9)
            sampled = (first.logits.float() - (-uniform.log()).log()).argmax(-1)
        original = torch.where(hidden, labels, input_ids)
        shown = torch.where(hidden, sampled, input_ids)
        second = self.discriminator(input_ids=shown, labels=(shown != original).long(), attention_mask=attention_mask)
        return SimpleNamespace(loss=first.loss + self.WEIGHT * second.loss)


def without_dropout(recipe: Recipe) -> Recipe:
    """Return the recipe with every dropout at 0."""
    objectives = [_undropped(objective.to_json()) for objective in recipe.objectives]
    return recipe.overlay({"model": _undropped(recipe.model.to_json()), "objectives": objectives})


def _undropped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: 0.0 if key.endswith("dropout") else _undropped(inner) for key, inner in value.items()}
    return [_undropped(inner) for inner in value] if isinstance(value, list) else value


def everywhere(batch: Batch) -> Batch:
    """Return the batch with a masked target at every cell, most of them ignored: logits are made everywhere."""
    targets = batch.targets["masked_lm"]
    label = torch.full_like(batch.tokens.ids, IGNORE)
    label[targets.index] = targets.label
    return replace(batch, targets=batch.targets | {"masked_lm": Targets(torch.arange(len(label)), label)})


def padded(examples: list[Example], length: int, pad: int, wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return Hugging Face's inputs: one sequence a row, and a mask only where there is padding.

    Args:
        examples: as our objectives show them to the model.
        length: of a row.
        pad: the id of padding.
        wanted: the inputs that the class takes.
    """
    shape = (len(examples), length)
    ids, mask, labels = np.full(shape, pad), np.zeros(shape, int), np.full(shape, IGNORE)
    for row, example in enumerate(examples):
        size = len(example.tokens.ids)
        ids[row, :size], mask[row, :size] = example.tokens.ids, 1
        where, what = next(example.targets[name] for name in OF_TOKENS if name in example.targets)
        labels[row, where] = what
    inputs = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
    if not mask.all():
        inputs["attention_mask"] = torch.from_numpy(mask)
    for name in wanted:
        if name.endswith("_label"):  # of two segments; one class calls their order `next_sentence`
            classes = [one.targets[own][1] for one in examples for own in one.targets.keys() - {*OF_TOKENS}]
            inputs[name] = torch.from_numpy(np.concatenate(classes))
    return permuted(inputs, examples, length) if "perm_mask" in wanted else inputs


def permuted(inputs: dict[str, Tensor], examples: list[Example], length: int) -> dict[str, Tensor]:
    """Return the inputs with who may see whom by the order of each row, and second states at its targets only."""
    order = torch.zeros(len(examples), length, dtype=torch.int64)
    for row, example in zip(order, examples, strict=True):
        if example.tokens.order is not None:
            row[: len(example.tokens.order)] = torch.from_numpy(example.tokens.order)
    late = torch.eye(length, dtype=torch.bool) & (order > 0)[:, :, None]
    unseen = (order[:, :, None] < order[:, None, :]) | late
    found = inputs["labels"] != IGNORE
    most = int(found.sum(1).max())
    place = found.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    return inputs | {
        "labels": inputs["labels"].gather(1, place),
        "perm_mask": unseen.float(),
        "target_mapping": nn.functional.one_hot(place, length).float(),
    }


def hugging_face(work: Shared, levers: Levers, device: torch.device) -> Any:
    """Build the class that has the recipe's architecture and objectives, as an export of it would say."""
    recipe = without_dropout(work.recipe) if levers.no_dropout else work.recipe
    again = shared(recipe)
    assert again.architecture is not None
    model = build(again.architecture, again.config, recipe.tokens.vocab_size, work.pad, levers, device)
    for objective in recipe.objectives:
        for companion in companions(objective, recipe).values():
            inner = replace(recipe, model=companion.model, objectives=(MaskedLM(),))
            found = layout_for(inner, ["masked_lm"])
            assert found is not None
            layout, config = found
            (name,) = config.pop("architectures")
            small = build(name, config, recipe.tokens.vocab_size, layout.pad or 0, levers, device)
            return Replaced(small, model)
    return model


def build(architecture: str, config: dict[str, Any], size: int, pad: int, levers: Levers, device: torch.device) -> Any:
    """Build a class with a configuration, with fresh weights."""
    import transformers

    kind = getattr(transformers, architecture)
    told = {key: value for key, value in config.items() if key != "model_type"}
    told |= {"vocab_size": size + (-size % 64 if device.type == "cuda" and levers.compiled else 0), "pad_token_id": pad}
    if kind._supports_sdpa:
        told["attn_implementation"] = "sdpa"
    return kind(kind.config_class(**told))
