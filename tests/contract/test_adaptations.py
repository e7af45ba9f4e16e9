"""Every adaptation of every member: it trains what its formula counts and nothing else, or says in a line why not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from genus import catalog
from genus.adapt.adapters import Adapters
from genus.adapt.biases import Biases
from genus.adapt.ia3 import IA3
from genus.adapt.last_layers import LastLayers
from genus.adapt.lora import LoRA
from genus.adapt.prefix_tuning import PrefixTuning
from genus.adapt.prompt_tuning import PromptTuning
from genus.errors import GenusError
from genus.model.roles import MAP_ROLES
from genus.tasks.classification import Classification
from genus.tasks.dataset import LabeledRow
from genus.tasks.feed import Shuffled
from genus.tasks.start import Start
from small import documents, of_texts, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from genus.adapt import Adaptation
    from genus.batch import Batch
    from genus.objectives import Learner
    from genus.recipe import Recipe

MEMBERS = [member for member in catalog.members() if of_texts(catalog.load(member))]
KINDS: dict[str, Adaptation] = {
    "lora": LoRA(rank=3, targets=MAP_ROLES),
    "adapters": Adapters(size=5),
    "prefix": PrefixTuning(length=4, projection=6),
    "prompt": PromptTuning(length=3),
    "biases": Biases(),
    "last": LastLayers(layers=1),
    "head": LastLayers(layers=0),
    "ia3": IA3(),
}
REFUSALS = {
    "bigbird": {"prefix": "BlockSparseAttention has no place"},
    "linformer": {"prefix": "LinformerAttention has no place"},
    "reformer": {"prefix": "has no place for trained keys"},
    "xlnet": {"prefix": "TwoStreamAttention has no place", "prompt": "the memory of earlier text"},
    "transformer-xl": {"prefix": "RelativeAttention has no place", "prompt": "the memory of earlier text"},
    "t5": {"biases": "the pretrained network has no biases"},
    "byt5": {"biases": "the pretrained network has no biases"},
    "llama": {"biases": "the pretrained network has no biases"},
    "chinchilla": {"prefix": "RelativeAttention has no place"},
}
OF_LSTM = {
    "adapters": "no attention and feed-forward", "prefix": "LSTMNetwork has no keys", "prompt": "LSTMNetwork takes no",
    "ia3": "no keys, values",
}  # fmt: skip
REFUSALS |= {"lstm": OF_LSTM, "elmo": OF_LSTM}
STEPS = 3


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Start, Recipe, Batch]]:
    """Return a function from a member to its pretrained small self, the recipe of a task, and a batch of it."""
    made: dict[str, tuple[Start, Recipe, Batch]] = {}

    def begin(name: str) -> tuple[Start, Recipe, Batch]:
        if name not in made:
            made.clear()
            made[name] = _begin(name)
        return made[name]

    return begin


def _begin(name: str) -> tuple[Start, Recipe, Batch]:
    recipe = replace(shrunk(catalog.load(name)), padded_vocab_size=None)
    tokenizer = recipe.tokens.train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    torch.manual_seed(0)
    start = Start(recipe, tokenizer, recipe.learner())
    settings = replace(recipe.finetuning, max_length=20, task_tokens=None, language_model=0.0)
    rows = [LabeledRow(number, (text,), "ab"[number % 2]) for number, text in enumerate(documents(6))]
    objective = Classification().objective(["a", "b"]).continued(recipe.objectives, recipe.model)
    tuned = start.fine_tuned(objective, settings)
    encoded = Classification().encode(start.reader(objective, settings), rows, objective, 20)
    return start, tuned, Shuffled(encoded, 6, 0)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MEMBERS)
def test_what_it_counts_is_trained_and_nothing_else(
    name: str, kind: str, begun: Callable[[str], tuple[Start, Recipe, Batch]]
) -> None:
    start, recipe, batch = begun(name)
    adaptation = KINDS[kind]
    adapted = replace(recipe, finetuning=replace(recipe.finetuning, adaptation=adaptation))
    if (line := REFUSALS.get(name.split("/")[0], {}).get(kind)) is not None:
        with pytest.raises(GenusError, match=line) as error:
            start.build(adapted, seed=1)
        assert "\n" not in str(error.value)
        return
    plain, learner = start.build(recipe, seed=1), start.build(adapted, seed=1)
    trained = [weight for weight in learner.parameters() if weight.requires_grad]
    assert start.learner is not None
    known = {name for name in start.learner.state_dict() if name.startswith("network.")}
    new = own_of_the_task(plain, known)
    assert sum(weight.numel() for weight in trained) == new + FORMULAS[kind](plain, adaptation, known)
    before = {name: tensor.clone() for name, tensor in learner.named_parameters()}
    optimizer: Any = recipe.finetuning.optimizer.build(learner)
    assert {id(weight) for group in optimizer.param_groups for weight in group["params"]} == {id(w) for w in trained}
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    learner.train()
    for _ in range(STEPS):
        step = learner(batch)
        learner.objective(step.sums, learner.counts(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    for where, weight in learner.named_parameters():
        moved = not torch.equal(weight, before[where])
        assert moved == weight.requires_grad or (weight.requires_grad and unread(where, weight)), where
    assert {id(weight) for weight in optimizer.state} <= {id(weight) for weight in trained}


def unread(name: str, weight: torch.Tensor) -> bool:
    """Return whether a trained weight may stay: biases of keys change no softmax, and a state at the last token is of
    one step back, which no recurrent map has a part in."""
    return name.endswith(("key.bias", "key_bias")) or "directions.1.recurrent" in name


def own_of_the_task(plain: Learner, known: Set[str]) -> int:
    """Return the number of parameters that pretraining did not give: those of the head, and of a pooler."""
    heads = sum(weight.numel() for weight in plain.heads.parameters())
    return heads + sum(
        weight.numel() for name, weight in plain.named_parameters() if name.startswith("network.") and name not in known
    )


def layers(plain: Learner) -> list[nn.Module]:
    """Return the modules of layers, each once."""
    return [module for name, module in plain.network.named_modules() if "layers" in name.split(".")]


def linears(plain: Learner) -> list[nn.Linear]:
    return [module for module in layers(plain) if isinstance(module, nn.Linear)]


def lora(plain: Learner, adaptation: LoRA, known: Set[str]) -> int:
    return sum(adaptation.rank * (one.in_features + one.out_features) for one in linears(plain))


def adapters(plain: Learner, adaptation: Adapters, known: Set[str]) -> int:
    ends = {id(one.out): one.out for one in layers(plain) if hasattr(one, "out") and isinstance(one.out, nn.Linear)}
    each = [2 * adaptation.size * one.out_features + one.out_features + adaptation.size for one in ends.values()]
    norms = [name for name, module in plain.named_modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm)]
    own = {name: weight for name, weight in plain.named_parameters() if name.rpartition(".")[0] in norms}
    return sum(each) + sum(weight.numel() for name, weight in own.items() if name in known)


def prefix(plain: Learner, adaptation: PrefixTuning, known: Set[str]) -> int:
    host: Any = getattr(plain.network, "decoder", plain.network)
    choice, hidden = host.choice, host.hidden
    attention = choice.attention.of_layer(0)
    heads, size = attention.head_sizes(choice.hidden)
    keys = (attention.key_heads or heads) * size
    inner = adaptation.projection or 0
    return int(adaptation.length * hidden + (hidden + 1) * inner + (inner + 1) * choice.layers * 2 * keys)


def prompt(plain: Learner, adaptation: PromptTuning, known: Set[str]) -> int:
    host: Any = getattr(plain.network, "encoder", plain.network)
    return int(adaptation.length * host.choice.embedding_width)


def biases(plain: Learner, adaptation: Biases, known: Set[str]) -> int:
    own = {name: weight for name, weight in plain.named_parameters() if name in known}
    return sum(weight.numel() for name, weight in own.items() if name.endswith("bias"))


def last(plain: Learner, adaptation: LastLayers, known: Set[str]) -> int:
    host: Any = getattr(plain.network, "decoder", plain.network)
    modules = [list(host.layers.children())[-1], getattr(host, "norm", None), getattr(host, "pooler", None)]
    own = {id(weight): weight.numel() for one in modules if one is not None for weight in one.parameters()}
    fresh = {id(weight) for name, weight in plain.named_parameters() if name not in known}
    return sum(size for key, size in own.items() if key not in fresh)


def ia3(plain: Learner, adaptation: IA3, known: Set[str]) -> int:
    found = 0
    for name, module in plain.network.named_modules():
        if isinstance(module, nn.Linear) and "layers" in name.split("."):
            if name.endswith((".key", ".value")):
                found += module.out_features
            elif name.endswith(".out") and "feedforward" in name:
                found += module.in_features
    return found


FORMULAS: dict[str, Callable[..., int]] = {
    "lora": lora, "adapters": adapters, "prefix": prefix, "prompt": prompt, "biases": biases, "last": last,
    "head": lambda *_: 0, "ia3": ia3,
}  # fmt: skip


def test_kinds_are_all_there() -> None:
    from genus.adapt import Adaptation
    from genus.part import slots_of

    assert {type(kind).__name__ for kind in KINDS.values()} == set(slots_of(Adaptation))  # type: ignore[type-abstract]
    assert json.dumps(KINDS["lora"].to_json())
