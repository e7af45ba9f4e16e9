"""Adapter folders are peft's: read by peft over the exported base with the same outputs, and peft's are read here."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from genus import catalog
from genus.adapt.ia3 import IA3
from genus.adapt.lora import LoRA
from genus.adapt.prefix_tuning import PrefixTuning
from genus.adapt.prompt_tuning import PromptTuning
from genus.batch import IGNORE, Batch, Packed, Targets
from genus.export import folder as models
from genus.export.adapted.folder import Base, load, merged, save
from genus.model.roles import MAP_ROLES
from genus.objectives import answering
from genus.tasks.classification import Classification
from genus.tasks.completion import Completion
from genus.tasks.start import Start
from genus.tasks.text_to_text import TextToText
from small import documents, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.adapt import Adaptation
    from genus.objectives import Learner

transformers = pytest.importorskip("transformers")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
ROUNDING = 1e-5
"""Float32 sums in another order."""
LENGTHS = (9, 6)
SPREAD = 0.1
"""Of what is trained: T5's scores have no scale, and of large updates a softmax is so steep that rounding is seen."""
KINDS: dict[str, Adaptation] = {
    "lora": LoRA(rank=3, alpha=5.0),
    "lora of all": LoRA(rank=2, targets=MAP_ROLES, stabilized=True),
    "prefix": PrefixTuning(length=4, projection=7),
    "prompt": PromptTuning(length=3),
    "ia3": IA3(),
}
CASES = [
    *[(name, "classes", kind) for name in ("bert", "roberta") for kind in KINDS],
    *[("gpt2", what, kind) for what in ("classes", "words") for kind in KINDS if kind != "ia3"],
    *[("llama", what, kind) for what in ("classes", "words") for kind in KINDS],
    *[("t5", "texts", kind) for kind in KINDS],
]
SIDES = (("encoder", "attention"), ("decoder", "attention"), ("decoder", "cross"))
TASKS = {"classes": Classification(), "words": Completion(), "texts": TextToText()}
CLASSES = {
    "classes": "AutoModelForSequenceClassification", "words": "AutoModelForCausalLM", "texts": "AutoModelForSeq2SeqLM",
}  # fmt: skip
TYPES = {"classes": "SEQ_CLS", "words": "CAUSAL_LM", "texts": "SEQ_2_SEQ_LM"}
SIZES = {"t5": [f"model.{side}.{what}.size=16" for side, what in SIDES]}
"""Heads as wide as the model together: so many numbers peft takes the keys of a layer to have."""
LABELS = ["a", "b", "c"]
Made = tuple[Start, "Path"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Return a function from a member to its small pretrained self, and the folder that it is exported to."""
    made: dict[str, Made] = {}

    def make(name: str) -> Made:
        if name not in made:
            recipe = catalog.overridden(shrunk(catalog.load(name)), SIZES.get(name, []))
            recipe = replace(recipe, padded_vocab_size=None)
            tokenizer = recipe.tokens.train(documents())
            recipe = replace(recipe, tokens=tokenizer.tokens)
            torch.manual_seed(0)
            learner, folder = recipe.learner(), tmp_path_factory.mktemp(name) / "base"
            with torch.no_grad():  # biases and norms too
                for weight in learner.parameters():
                    weight.add_(0.1 * torch.randn_like(weight))
            models.save(folder, recipe, learner, tokenizer)
            source = models.load(folder)
            made[name] = Start(source.recipe, source.tokenizer, source.learner, folder), folder
        return made[name]

    return make


def adapted(start: Start, what: str, adaptation: Adaptation) -> tuple[Any, Learner]:
    """Return a recipe of a task with an adaptation, and its learner, in which all that is trained is random."""
    settings = replace(start.recipe.finetuning, adaptation=adaptation, task_tokens=None, max_length=16)
    settings = replace(settings, language_model=0.0)
    objective: Any = TASKS[what].objective(LABELS).continued(start.recipe.objectives, start.recipe.model)
    if what == "classes" and start.recipe.model.causal:
        objective = replace(objective, bias=False, dropout=0.0)  # as Hugging Face's classes have it
    recipe = start.fine_tuned(objective, settings)
    learner = start.build(recipe, seed=1)
    with torch.no_grad():
        for weight in learner.parameters():
            if weight.requires_grad:
                weight.add_(SPREAD * torch.randn_like(weight))
    head: Any = next(iter(learner.heads.values()))
    return replace(recipe, objectives=(objective.folded(head),)), learner


def texts() -> list[torch.Tensor]:
    """Return the ids of texts."""
    torch.manual_seed(3)
    return [torch.randint(7, 90, (length,)) for length in LENGTHS]


def batch_of(learner: Learner, what: str, first: bool) -> Batch:
    """Return both texts in one row, and of an encoder-decoder as sources too."""
    ids, ends = torch.cat(texts()), torch.tensor(LENGTHS).cumsum(0)
    packed = Packed.laid(ids, [LENGTHS], len(ids), {"segment": torch.zeros_like(ids)})
    index = torch.arange(len(ids))
    if what == "classes":
        index = ends - torch.tensor(LENGTHS) if first else ends - 1
    head: Any = next(iter(learner.heads.values()))
    targets = {head.target: Targets(index, torch.full_like(index, IGNORE))}
    return Batch({"tokens": packed} | ({"source": packed} if what == "texts" else {}), targets)


def ours(learner: Learner, what: str, first: bool) -> torch.Tensor:
    """Return the logits of both texts, (N, V) of whole texts or (T, V) of tokens."""
    with answering(learner):
        ((_, found),) = learner.outputs(batch_of(learner, what, first)).items()
    return found["logits"]


@torch.no_grad()
def theirs(model: Any, what: str) -> torch.Tensor:
    """Return the same of peft, text by text; in front of a text's own tokens it may have others."""
    found = []
    for ids in texts():
        given = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
        if what == "texts":
            given["decoder_input_ids"] = ids[None]
        logits = model.eval()(**given).logits[0]
        found.append(logits[None] if what == "classes" else logits[-len(ids) :])
    return torch.cat(found)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether outputs are the same, but for rounding, which is relative to the largest."""
    difference = float((found - expected).abs().max() / max(1.0, float(expected.abs().max())))
    return found.shape == expected.shape and difference < ROUNDING


def read_by_peft(base: Path, adapter: Path, what: str) -> Any:
    more = {"num_labels": len(LABELS)} if what == "classes" else {}
    model = getattr(transformers, CLASSES[what]).from_pretrained(base, **more)
    return peft.PeftModel.from_pretrained(model, adapter)


@pytest.mark.parametrize(("name", "what", "kind"), CASES)
def test_peft_reads_what_is_written_here(
    name: str, what: str, kind: str, bases: Callable[[str], Made], tmp_path: Path
) -> None:
    start, base = bases(name)
    recipe, learner = adapted(start, what, KINDS[kind])
    first = not recipe.model.causal
    before = ours(learner, what, first)
    save(tmp_path / "adapter", recipe, learner, Base(base, start.fingerprint()))
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "recipe.json",
    }  # fmt: skip
    assert close(theirs(read_by_peft(base, tmp_path / "adapter", what), what), before)
    again = load(tmp_path / "adapter")
    assert close(ours(again.learner, what, first), before)
    plain = start.build(replace(recipe, finetuning=replace(recipe.finetuning, adaptation=None)), seed=1)
    assert not torch.allclose(ours(plain, what, first), before, atol=1e-2), "nothing was adapted"


@pytest.mark.parametrize(
    ("name", "what", "kind"), [case for case in CASES if case[2] in ("lora", "lora of all", "ia3")]
)
def test_merged_is_a_plain_folder_with_the_same_outputs(
    name: str, what: str, kind: str, bases: Callable[[str], Made], tmp_path: Path
) -> None:
    start, base = bases(name)
    recipe, learner = adapted(start, what, KINDS[kind])
    first = not recipe.model.causal
    before, weights = ours(learner, what, first), start.fingerprint()
    save(tmp_path / "adapter", recipe, learner, Base(base, weights))
    whole = merged(load(tmp_path / "adapter"))
    models.save(tmp_path / "merged", whole.recipe, whole.learner, whole.tokenizer)
    again = models.load(tmp_path / "merged")
    assert close(ours(again.learner, what, first), before)
    assert again.recipe.finetuning.adaptation is None
    assert start.fingerprint() == weights
    model = getattr(transformers, CLASSES[what]).from_pretrained(tmp_path / "merged")
    assert close(theirs(model, what), before)


TARGETS = {
    "bert": ["query", "value", "output.dense"], "roberta": ["query", "key"], "gpt2": ["c_attn", "c_fc"],
    "llama": ["q_proj", "v_proj", "down_proj"], "t5": ["q", "v", "wi"],
}  # fmt: skip


def config_of_peft(name: str, what: str, kind: str) -> Any:
    task = TYPES[what]
    if kind == "prefix":
        return peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=4)
    if kind == "prompt":
        return peft.PromptTuningConfig(task_type=task, num_virtual_tokens=4)
    if kind == "ia3":
        last = {"bert": "output.dense", "roberta": "output.dense", "llama": "down_proj", "t5": "wo"}[name]
        keys = {"bert": ["key", "value"], "roberta": ["key", "value"], "llama": ["k_proj", "v_proj"], "t5": ["k", "v"]}
        last = rf".*\.layer\.\d+\.{last}" if name in ("bert", "roberta") else last
        targets: Any = [*keys[name], last]
        if name in ("bert", "roberta"):
            targets = rf".*\.(key|value)|{last}"
            return peft.IA3Config(task_type=task, target_modules=targets, feedforward_modules=last)
        return peft.IA3Config(task_type=task, target_modules=targets, feedforward_modules=[last])
    pattern = {"rank_pattern": {TARGETS[name][0]: 2}, "alpha_pattern": {TARGETS[name][0]: 7}} if kind != "lora" else {}
    return peft.LoraConfig(
        task_type=task, r=3, lora_alpha=5, target_modules=TARGETS[name], use_rslora=kind != "lora", **pattern
    )


@pytest.mark.parametrize(("name", "what", "kind"), CASES)
def test_what_peft_writes_is_read_here(
    name: str, what: str, kind: str, bases: Callable[[str], Made], tmp_path: Path
) -> None:
    _, base = bases(name)
    more = {"num_labels": len(LABELS)} if what == "classes" else {}
    model = peft.get_peft_model(
        getattr(transformers, CLASSES[what]).from_pretrained(base, **more), config_of_peft(name, what, kind)
    )
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(SPREAD * torch.randn_like(weight))
    model.save_pretrained(tmp_path / "adapter")
    if name == "roberta" and kind in ("prefix", "prompt"):
        told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
        assert told["modules_to_save"]
    found = load(tmp_path / "adapter", base)
    first = not found.recipe.model.causal
    assert close(ours(found.learner, what, first), theirs(model, what))
    assert found.recipe.finetuning.adaptation is not None
