"""Several adapters on one base answer in one pass as each answers alone, and as peft answers with them."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.adapt.adapters import Adapters
from genus.adapt.ia3 import IA3
from genus.adapt.last_layers import LastLayers
from genus.adapt.lora import LoRA
from genus.adapt.mixture import Mixture, mixtures_of
from genus.adapt.prefix_tuning import PrefixTuning
from genus.export.folder import LoadedModel, fitting_tokenizer, save
from genus.inference.engine import Inference
from genus.model.attention.masks import Causal
from genus.model.roles import MAP_ROLES
from genus.objectives import Learner
from genus.serve.tokenwise import STATES, EveryToken, with_states
from genus.serve.tokenwise import works as of_tokens
from genus.tasks.answer import works
from genus.tasks.classification import Classification
from genus.tasks.dataset import LabeledRow
from genus.tasks.encode import EncodedTexts
from genus.tasks.predict import predict, predict_by
from genus.tasks.tagging import Tagging
from small import documents

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.adapt import Adaptation
    from genus.inference import Work
    from genus.tasks import Task

TEXTS = ["the old river", "seven stones carry the long letter in winter " * 3, "a", "letters " * 20, "river stone"]
EXACT, ROUNDING = 1e-10, 1e-5
WIDE = LoRA(rank=3, alpha=9.0, targets=tuple(role for role in MAP_ROLES if role != "recurrent"))


def base_of(name: str) -> LoadedModel:
    """Return a small model of random weights, in float64."""
    recipe = catalog.load(f"{name}/tiny")
    tokenizer = replace(recipe.tokens, vocab_size=300).train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    torch.manual_seed(0)
    return LoadedModel(recipe, recipe.learner().double().eval(), tokenizer)


def adapted(base: LoadedModel, adaptation: Adaptation | None, task: Task, labels: tuple[str, ...], seed: int = 1,
            **changed: Any) -> LoadedModel:  # fmt: skip
    """Return a model of a task on a base, whose tensors it shares, with all that is trained at random."""
    objective = task.objective(labels).continued(base.recipe.objectives, base.recipe.model)
    settings = replace(base.recipe.finetuning, adaptation=adaptation)
    recipe = replace(base.recipe, objectives=(objective,), finetuning=settings)
    recipe = replace(recipe, model=replace(recipe.model, **changed))
    torch.manual_seed(seed)
    learner = recipe.learner().double()
    given = {f"network.{name}": tensor for name, tensor in base.learner.network.state_dict().items()}
    known = {name: given[name] for name in learner.state_dict() if name in given}
    if adaptation is not None:
        adaptation.apply(learner, known)
        learner.double()
    own = {name for name, weight in learner.named_parameters() if adaptation is not None and weight.requires_grad}
    learner.load({**learner.state_dict(), **{name: one.clone() if name in own else one for name, one in known.items()}})
    with torch.no_grad():
        for name, weight in learner.named_parameters():
            if name not in known:
                weight.normal_(std=0.3)
    return LoadedModel(recipe, learner.eval(), fitting_tokenizer(base.tokenizer, recipe.model, (objective,)))


def asked(model: LoadedModel, task: Task) -> list[Work]:
    """Return what is asked of a model: all texts."""
    words = isinstance(task, Tagging)
    rows = [LabeledRow(n, tuple(text.split()) if words else (text,), None) for n, text in enumerate(TEXTS, 1)]
    (objective,) = model.recipe.objectives
    return [*works(model.learner, task.encode(model.tokenizer, rows, objective, 96))]  # type: ignore[arg-type]


class Counted(Inference):
    """Notes how many works each pass has."""

    def __init__(self, mixtures: Sequence[Mixture] = ()) -> None:
        super().__init__("float32", mixtures)
        self.passes: list[int] = []

    def forward(self, works: Sequence[Work]) -> list[Any]:
        self.passes.append(len(works))
        return super().forward(works)


def crowd(base: LoadedModel) -> list[tuple[LoadedModel, Task]]:
    """Return models of two tasks on one base: with updates of several ranks, scales and maps, and none."""
    labels, tags = ("x", "y", "z"), ("O", "B-x", "I-x")
    tagger = Classification() if base.recipe.model.causal else Tagging()
    return [
        (adapted(base, LoRA(rank=4), Classification(), labels, 1), Classification()),
        (adapted(base, WIDE, Classification(), ("a", "b"), 2), Classification()),
        (adapted(base, LoRA(rank=2, stabilized=True), tagger, tags, 3), tagger),
        (adapted(base, None, Classification(), labels, 4), Classification()),
    ]


@pytest.mark.parametrize("name", ["bert", "albert", "bigbird", "linformer", "reformer", "gpt", "genus", "electra",
                                  "megatron-bert", "llama"])  # fmt: skip
def test_a_pass_of_several_adapters_answers_as_each_alone(name: str) -> None:
    models = crowd(base_of(name))
    each = [asked(*pair) for pair in models]
    alone = [Inference().run(works) for works in each]
    (mixture,) = mixtures_of([model.learner for model, _ in models])
    engine = Counted([mixture])
    found = engine.run([work for works in each for work in works])
    assert engine.passes[0] == len(found), "all share one pass"
    for one, other in zip(found, [answer for answers in alone for answer in answers], strict=True):
        np.testing.assert_allclose(one, other, atol=EXACT)
    assert engine.mixtures or name in ("bigbird", "reformer"), "those with other tokens need passes of their own"
    assert not np.allclose(alone[0], [each[:, :3] for each in alone[3]], atol=1e-3), "updates change answers"


@pytest.mark.parametrize("name", ["xlnet", "transformer-xl", "lstm", "t5"])
def test_what_cannot_be_mixed_has_passes_of_its_own(name: str) -> None:
    """Maps of distances, time-major tokens, two streams: whatever is adapted, answers stay those of each alone."""
    base = base_of(name)
    every = LoRA(rank=2, targets=MAP_ROLES)
    models = [adapted(base, every, Classification(), ("x", "y"), seed) for seed in (1, 2)]
    each = [asked(model, Classification()) for model in models]
    engine = Counted(mixtures_of([model.learner for model in models]))
    found = engine.run([work for works in each for work in works])
    alone = [answer for works in each for answer in Inference().run(works)]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=EXACT)
    assert not engine.mixtures


def test_other_adaptations_bases_and_architectures_are_not_mixed() -> None:
    base, other = base_of("bert"), base_of("bert")
    kinds: list[Adaptation] = [IA3(), Adapters(size=4), PrefixTuning(length=2), LastLayers(layers=1)]
    first = adapted(base, LoRA(), Classification(), ("x", "y"))
    attention = replace(base.recipe.model.attention, mask=Causal())  # type: ignore[attr-defined]
    strangers = [
        *[adapted(base, kind, Classification(), ("x", "y")) for kind in kinds],
        adapted(other, LoRA(), Classification(), ("x", "y")),
        adapted(base, LoRA(), Classification(), ("x", "y"), attention=attention),
    ]
    mixture = Mixture(first.learner)
    for model in strangers:
        assert not mixture.add(model.learner)
        assert model.learner not in mixture
    assert mixture.add(base.learner)
    assert base.learner in mixture
    mixture.remove(base.learner)
    assert first.learner not in mixture, "who is alone needs no mixture"


def test_states_of_an_adapter_and_of_its_base_share_a_pass() -> None:
    base = base_of("bert")
    model = adapted(base, LoRA(rank=4), Classification(), ("x", "y"))
    encoded = replace(asked(model, Classification())[0].encoded, target=STATES)  # type: ignore[attr-defined]
    each = [of_tokens(EveryToken, with_states(one.learner), encoded) for one in (base, model)]
    engine = Counted(mixtures_of([base.learner, model.learner]))
    together = engine.run([*each[0], *each[1]])
    assert engine.passes == [2 * len(TEXTS)]
    for one, alone in zip(together, [*Inference().run(each[0]), *Inference().run(each[1])], strict=True):
        np.testing.assert_allclose(one, alone, atol=ROUNDING)  # vectors of tokens are told in float32
    assert not np.allclose(together[0], together[len(TEXTS)], atol=1e-2)


def test_threads_of_one_mixture_get_their_own_answers() -> None:
    models = crowd(base_of("bert"))
    each = [asked(*pair) for pair in models]
    alone = [Inference().run(works) for works in each]
    engine, wrong = Inference("float32", mixtures_of([model.learner for model, _ in models])), list[int]()

    def ask(number: int) -> None:
        for _ in range(4):
            pair = [each[number][0], each[number - 1][1]]
            found = engine.run(pair)
            if not (np.allclose(found[0], alone[number][0]) and np.allclose(found[1], alone[number - 1][1])):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_texts_that_name_their_adapter_are_answered_as_alone() -> None:
    base = base_of("bert")
    base.learner.float()
    labels = ("x", "y", "z")
    kinds: dict[str, Adaptation | None] = {"a": LoRA(rank=4), "b": LoRA(rank=2), "c": IA3(), "plain": None}
    models = {name: adapted(base, kind, Classification(), labels, n) for n, (name, kind) in enumerate(kinds.items())}
    for model in models.values():
        model.learner.float()
    names = [[*models][n % 4] for n in range(len(TEXTS))]
    found = predict_by(models, names, [(text,) for text in TEXTS])
    for name, text, answer in zip(names, TEXTS, found, strict=True):
        (alone,) = predict(models[name], [(text,)])
        assert answer.predicted == alone.predicted
        assert answer.scores == pytest.approx(alone.scores, abs=ROUNDING)
    assert predict_by(models, [], []) == []


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_peft_answers_the_same_with_the_adapters_of_each_row(tmp_path: Path) -> None:
    """peft's `adapter_names` chooses an adapter for each row of a batch."""
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft")
    base = base_of("bert")
    save(tmp_path, base.recipe, base.learner.float(), base.tokenizer)
    plain = transformers.BertModel.from_pretrained(tmp_path, add_pooling_layer=False)
    first = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"])
    theirs = peft.get_peft_model(plain, first, "first")
    theirs.add_adapter("second", peft.LoraConfig(r=2, lora_alpha=6, target_modules=["query", "key"]))
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.3)
    rows = torch.randint(5, base.tokenizer.vocabulary.size, (3, 11))
    names = ["first", "__base__", "second"]
    with torch.no_grad():
        expected = theirs.eval()(input_ids=rows, adapter_names=names).last_hidden_state
    found = [base.learner, read_from(theirs, "first", base, LoRA(rank=4, alpha=8.0)),
             read_from(theirs, "second", base, LoRA(rank=2, alpha=6.0, targets=("query", "key")))]  # fmt: skip
    learners = dict(zip(("__base__", "first", "second"), map(with_states, found), strict=True))
    texts: list[tuple[Any, ...]] = [(row.numpy().astype(np.int32),) for row in rows]
    bare = replace(base.tokenizer.vocabulary, single=((None, 0, 0),))
    encoded = EncodedTexts(texts, np.zeros(3, np.float32), STATES, bare, 40, np.zeros(0, np.int64))
    asked_of = [of_tokens(EveryToken, learners[name], encoded)[number] for number, name in enumerate(names)]
    (mixture,) = mixtures_of([*learners.values()])
    engine = Counted([mixture])
    for own, other in zip(engine.run(asked_of), expected, strict=True):
        np.testing.assert_allclose(own, other.numpy(), atol=ROUNDING)
    assert engine.passes == [3]


def read_from(theirs: Any, name: str, base: LoadedModel, adaptation: LoRA) -> Learner:
    """Return a learner on the tensors of the base, with the numbers of one of peft's adapters."""
    network = base.recipe.model.build(base.tokenizer.vocabulary.size)
    learner = Learner(network, {})
    state = base.learner.network.state_dict()
    adaptation.apply(learner, [f"network.{key}" for key in state])
    numbers = {}
    for key, weight in theirs.named_parameters():
        if f".{name}.weight" in key:
            layer, part = key.split(".layer.")[1].split(".")[0], key.split(".self.")[1].split(".")[0]
            which = "down" if "lora_A" in key else "up"
            numbers[f"network.layers.{layer}.attention.{part}.lora.{which}.weight"] = weight.detach()
    assert numbers.keys() == learner.state_dict().keys() - {f"network.{key}" for key in state}
    learner.load({**{f"network.{key}": tensor for key, tensor in state.items()}, **numbers})
    return learner.eval()
