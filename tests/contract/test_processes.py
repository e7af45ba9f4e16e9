"""Steps of several processes are those of one, for every member and in every way of parallelism."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import steps_of_several
import torch

from forked import ranks
from genus import catalog, pipeline
from genus.recipe import Recipe
from genus.train.parallel.replicated import Replicated
from genus.train.parallel.sharded import Sharded
from genus.train.parallel.tensor import TensorParallel
from genus.train.world import World
from small import shrunk, stored

if TYPE_CHECKING:
    from pathlib import Path

    from genus.batch import Batch
    from genus.train.parallel import Parallel

MEMBERS = {member: next(iter(rows)) for member, rows in sorted(catalog.members().items())}
MEMBERS["t5, layers shared"] = "t5/base-shared"
"""The row of each member, and one whose encoder and decoder have the same layers."""
LOSSES = 1e-6
"""Float32 losses of numbers near 1, summed in another order."""
SUMMATION = 1e-5
"""The same of gradients, and of weights after ten steps."""
WAYS: dict[int, dict[str, Parallel]] = {
    2: {
        "replicated": Replicated(),
        "stage 1": Sharded(stage=1),
        "stage 2": Sharded(stage=2),
        "stage 3": Sharded(),
        "split": TensorParallel(),
        "split tokens": TensorParallel(sequence=True),
    },
    4: {
        "replicas": Sharded(replicas=2),
        "split, replicated": TensorParallel(),
        "split, sharded": TensorParallel(data=Sharded()),
        "split tokens, sharded": TensorParallel(sequence=True, data=Sharded()),
        "split, stage 1": TensorParallel(data=Sharded(stage=1)),
    },
}
QUICK = {2: {"replicated", "stage 3", "split", "split tokens"}, 4: {"split, sharded", "replicas"}}
USUAL = {2: {"bert", "t5", "xlnet", "reformer"}, 4: {"bert"}}
"""What is tried by default; all the rest is slow."""
NOT_SHARDED = {"reformer"}
NOT_SPLIT = {"reformer", "bigbird", "linformer"}
"""Members that say in one line that they cannot be: reversible layers, and attention that draws for each head or has
matrices over the length."""
NOT_SPLIT_TOKENS = NOT_SPLIT | {"xlnet", "transformer-xl", "t5, layers shared"}
"""The same of tokens: attention over a memory too, and layers of two stacks."""


def cases() -> list[Any]:
    found = []
    for processes, ways in WAYS.items():
        for member in MEMBERS:
            for way in ways:
                quick = member in USUAL[processes] and way in QUICK[processes]
                marks = () if quick else pytest.mark.slow
                found.append(pytest.param(processes, member, way, marks=marks, id=f"{processes}-{member}-{way}"))
    return found


def divisible(recipe: Recipe) -> Recipe:
    """Return a recipe whose heads can be split in two, and the vocabulary in four."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            heads = {"key_heads": 2} if value.get("key_heads") else {}
            own = {"heads": 2} if value.get("kind") == "GeneratorConfig" else {}
            return {key: changed(inner) for key, inner in value.items()} | heads | own
        return [changed(inner) for inner in value] if isinstance(value, list) else value

    return Recipe.from_json(changed(recipe.to_json()))


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function from a member to it made small, and the micro-batches of its first steps."""
    folder = tmp_path_factory.mktemp("stores")

    @cache
    def make(member: str) -> tuple[Recipe, list[Batch]]:
        recipe = divisible(shrunk(catalog.load(MEMBERS[member]))).override("stages.0.micro_batch", 4)
        tokenizer = recipe.tokens.train([line for line in corpus.read_text().splitlines()])
        store = stored(recipe, corpus, tokenizer, folder / member)
        recipe = replace(recipe, tokens=tokenizer.tokens)
        recipe = replace(recipe, padded_vocab_size=-(-recipe.vocab_rows // 4) * 4)
        feed = pipeline.training_feed(recipe, store, tokenizer, stage=0)
        return recipe, [feed[number] for number in range(3 * steps_of_several.MICRO_BATCHES)]

    return make


@pytest.fixture(scope="module")
def several(made: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function from a number of processes to the steps of all members that were asked for, by member."""
    asked: dict[int, dict[str, set[str]]] = {}
    for item in request.session.items:
        case = getattr(item, "callspec", None)
        if getattr(item, "module", None) is request.module and case and "way" in case.params:
            own = asked.setdefault(case.params["processes"], {}).setdefault(case.params["member"], set())
            own.add(case.params["way"])

    @cache
    def run(processes: int) -> dict[str, dict[str, Any]]:
        folder = tmp_path_factory.mktemp(f"of-{processes}")
        for member, names in asked[processes].items():
            recipe, batches = made(member)
            ways = {name: way.to_json() for name, way in WAYS[processes].items() if name in names}
            row = {"recipe": recipe.to_json(), "batches": batches, "ways": ways, "steps": 10}
            torch.save(row, folder / f"{member}.pt")
        ranks(processes, "steps_of_several", folder)
        return {member: torch.load(folder / f"{member}.found", weights_only=False) for member in asked[processes]}

    return run


@pytest.fixture(scope="module")
def alone(made: Any) -> Any:
    """Return a function from a member to the steps of one process."""

    @cache
    def run(member: str) -> dict[str, Any]:
        recipe, batches = made(member)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as torchrun's processes have: a sum in another order may turn a ReLU
        try:
            world = World(0, 1, torch.device("cpu"))
            return steps_of_several.steps(steps_of_several.make(recipe), batches, world, number=10)
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.mark.parametrize(("processes", "member", "way"), cases())
def test_several_processes_make_the_steps_of_one(
    processes: int, member: str, way: str, several: Any, alone: Any
) -> None:
    one, found = alone(member), several(processes)[member][way]
    whole = NOT_SPLIT_TOKENS if "tokens" in way else NOT_SPLIT if "split" in way else NOT_SHARDED
    refused = way != "replicated" and member in whole
    assert isinstance(found, str) == refused, found
    if isinstance(found, str):
        assert "\n" not in found
        assert "cannot be" in found
        return
    assert bool(found["pieces"]) == (way != "replicated")
    assert found["tokens"] == one["tokens"]
    assert found["loss"] == pytest.approx(one["loss"], rel=LOSSES)
    norms = one["exact"] if found["pieces"] else one["norm"]  # PyTorch sums squares of whole tensors in float32
    assert found["norm"][0] == pytest.approx(norms[0], rel=SUMMATION)  # later a ReLU may be 0 in one and not in another
    for name, value in one["outputs"].items():
        torch.testing.assert_close(found["outputs"][name], value, rtol=10 * SUMMATION, atol=10 * SUMMATION, msg=name)
    assert found["weights"].keys() == one["weights"].keys()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=SUMMATION, atol=SUMMATION, msg=name)
