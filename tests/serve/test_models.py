"""The models of a server: names, memory, reloading, adapters on one base."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from genus.adapt.lora import LoRA
from genus.errors import GenusError, UsageError
from genus.export.adapted import folder as adapters
from genus.export.folder import load
from genus.export.weights import fingerprint
from genus.model.roles import linear_maps
from genus.objectives.supervised.sequence import SequenceClassification
from genus.serve.limits import Limits
from genus.serve.models import Models, Source
from genus.serve.passes import Passes
from genus.serve.served import Served
from genus.serve.ticket import Refused, Ticket, current
from genus.serve.writing import Wish
from genus.tasks.embed import as_embedder, embed
from genus.tasks.predict import predict
from genus.train.run import Run
from serving import small_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN = Run(device="cpu", precision="float32")
LABELED = SequenceClassification(labels=("good", "bad"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return three folders of classifiers."""
    where = tmp_path_factory.mktemp("models")
    return [small_model(where / f"m{seed}", objective=LABELED, seed=seed) for seed in range(3)]


def served(folders: list[Path], limits: Limits | None = None) -> Iterator[Models]:
    """Yield models of folders, by the folders' names."""
    made = Models([Source(folder.name, folder) for folder in folders], limits or Limits(), RUN)
    yield made
    made.close()


@pytest.fixture
def models(folders: list[Path]) -> Iterator[Models]:
    """Yield the models without a limit of memory."""
    yield from served(folders)


@contextmanager
def held(passes: Passes) -> Iterator[None]:
    """Context manager: the thread of passes is at something else."""
    gate = threading.Event()

    def wait() -> None:
        gate.wait(30)

    passes.later(wait)
    try:
        yield
    finally:
        gate.set()


def test_one_thread_computes_for_all_models_whatever_they_are_asked(folders: list[Path], tmp_path: Path) -> None:
    """Each thread that multiplies matrices leaves buffers behind: models that come and go bring none of their own."""
    writer = small_model(tmp_path / "writer", "gpt/tiny")
    made = Models([Source("classifier", folders[0]), Source("writer", writer)], Limits(), RUN)
    computing = set[threading.Thread]()
    hook = register_module_forward_pre_hook(lambda *_: computing.add(threading.current_thread()))
    try:
        made.load_all()
        for _ in range(2):
            for name in made.names:
                made.reload(name)
            with made.use("classifier") as one:
                one.predict([("the old river",)], "classify")
            with made.use("writer") as one:
                assert all([*one.write(Wish(prompt="the", max_tokens=2, beams=beams))] for beams in (None, 2))
                assert one.likelihood(["the old river"])
        computing.add(made.passes(threading.current_thread))
    finally:
        hook.remove()
        made.close()
    assert len(computing) == 1


def test_models_answer_by_name_and_the_first_without_one(models: Models, folders: list[Path]) -> None:
    for name, folder in [("m1", folders[1]), (None, folders[0]), ("", folders[0])]:
        with models.use(name) as one:
            (answer,) = one.predict([("the old river",)], "classify")
        (expected,) = predict(load(folder), [("the old river",)])
        assert answer.predicted == expected.predicted
        np.testing.assert_allclose([*answer.scores.values()], [*expected.scores.values()], atol=1e-6)


def test_an_unknown_name_is_refused_with_what_is_near(models: Models) -> None:
    with pytest.raises(Refused, match="there is no model 'm9'") as refused, models.use("m9"):
        pass
    assert refused.value.status == 404


def test_two_models_of_one_name_are_refused(folders: list[Path]) -> None:
    with pytest.raises(UsageError, match="two models are called 'a'"):
        Models([Source("a", folders[0]), Source("a", folders[1])], Limits(), RUN)


def test_what_was_not_asked_for_longest_is_unloaded_and_comes_back(folders: list[Path]) -> None:
    size = sum(load(folders[0]).learner.state_dict()[name].nbytes for name in load(folders[0]).learner.tensors())
    for made in served(folders, Limits(memory=2.5 * size / 1e9)):
        made.load_all()
        assert [made.ready(name) for name in made.names] == [False, True, True]
        with made.use("m1"), made.use("m0"):
            assert [made.ready(name) for name in made.names] == [True, True, False]


def test_a_model_in_use_is_not_unloaded(folders: list[Path]) -> None:
    for made in served(folders, Limits(memory=1e-9)):
        with made.use("m0") as one, made.use("m1") as other:
            assert one.predict([("a",)], "classify")
            assert other.predict([("a",)], "classify")
        with made.use("m2"):
            assert [made.ready(name) for name in made.names] == [False, False, True]


def test_reloading_loses_no_request_and_a_bad_folder_changes_nothing(tmp_path: Path) -> None:
    folder = small_model(tmp_path / "m", objective=LABELED, seed=1)
    (made,) = [Models([Source("m", folder)], Limits(), RUN)]
    made.load_all()
    stop, wrong = threading.Event(), list[object]()
    known = {tuple(predict(load(folder), [("river",)])[0].scores.values())}

    def ask() -> None:
        while not stop.is_set():
            try:
                with made.use("m") as one:
                    wrong.append(tuple(one.predict([("river",)], "classify")[0].scores.values()))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    small_model(folder, objective=LABELED, seed=2)
    known.add(tuple(predict(load(folder), [("river",)])[0].scores.values()))
    made.reload("m")
    stop.set()
    for thread in threads:
        thread.join()
    assert len(known) == 2
    assert all(any(np.allclose(one, each, atol=1e-6) for each in known) for one in wrong), wrong[:3]
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(GenusError):
        made.reload("m")
    with made.use("m") as one:
        assert one.predict([("river",)], "classify")
    made.close()


def test_who_has_a_model_may_ask_it_until_the_end(models: Models) -> None:
    """A request asks several times, and its model is closed after the last one."""
    models.load_all()
    for change in (models.reload, models.unload):
        with models.use("m1") as one:
            changing = threading.Thread(target=change, args=("m1",))
            changing.start()
            changing.join(1)
            assert changing.is_alive()
            assert one.predict([("a",)], "classify")
        changing.join(30)
        assert not changing.is_alive()
        assert one.inference.closed
        assert models.ready("m1") is (change == models.reload)
        with models.use("m1") as other:
            assert other is not one
            assert other.predict([("a",)], "classify")


def adapter_folders(where: Path, name: str = "bert/tiny") -> list[Path]:
    """Write a base and two adapters on it, with all that is trained at random; return the folders."""
    base = small_model(where / "base", name)
    model = load(base)
    written = []
    for seed in (1, 2):
        source = load(base)
        adaptation = LoRA(rank=2 * seed)
        recipe = replace(
            source.recipe, objectives=(LABELED,), finetuning=replace(source.recipe.finetuning, adaptation=adaptation)
        )
        torch.manual_seed(seed)
        learner = recipe.learner()
        learner.network.load_state_dict(source.learner.network.state_dict(), strict=False)
        adaptation.apply(learner, {f"network.{name}" for name in source.learner.network.state_dict()})
        with torch.no_grad():
            for parameter in learner.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.1)
        known = adapters.Base(base, fingerprint(model.learner.network.state_dict()))
        adapters.save(where / f"a{seed}", recipe, learner, known)
        written.append(where / f"a{seed}")
    return [base, *written]


@pytest.mark.parametrize("name", ["bert/tiny", "gpt/tiny"])
def test_adapters_share_the_weights_of_their_base(tmp_path: Path, name: str) -> None:
    base, *written = adapter_folders(tmp_path, name)
    made = Models([Source(one.name, one) for one in (base, *written)], Limits(), RUN)
    made.load_all()
    with made.use("base") as own, made.use("a1") as first, made.use("a2") as second:
        shared = {*own.weights} & {*first.weights} & {*second.weights}
        assert sum(own.weights[at] for at in shared) > 0.9 * sum(own.weights.values())
        found = [one.predict([("the old river",)], "classify")[0].scores for one in (first, second)]
    for folder, scores in zip(written, found, strict=True):
        (expected,) = predict(adapters.load(folder), [("the old river",)])
        np.testing.assert_allclose([*scores.values()], [*expected.scores.values()], atol=1e-6)
    assert found[0] != found[1]
    made.close()


def test_requests_for_several_adapters_and_their_base_share_passes(tmp_path: Path) -> None:
    base, *written = adapter_folders(tmp_path)
    made = Models([Source(one.name, one) for one in (base, *written)], Limits(), RUN)
    made.load_all()
    texts = [("the old river",), ("seven stones carry the long letter in winter",)]
    known = {folder.name: [one.scores for one in predict(adapters.load(folder), texts)] for folder in written}
    vectors = embed(as_embedder(load(base)), [text for (text,) in texts])
    found: dict[str, Any] = {}

    def ask(name: str) -> None:
        with made.use(name) as one:
            plain = name == "base"
            found[name] = one.embed([text for (text,) in texts]) if plain else one.predict(texts, "classify")

    with made.use("base") as own, made.use("a1") as first:
        assert own.inference is first.inference
        passes: list[int] = []
        own.inference.watch = lambda works, tokens, seconds: passes.append(works)
        threads = [threading.Thread(target=ask, args=(name,)) for name in ("base", "a1", "a2")]
        with held(made.passes):  # others compute, and what is asked waits
            until = time.monotonic() + 10
            for thread in threads:
                thread.start()
            while len(own.inference.queue.works) < 6 and time.monotonic() < until:
                time.sleep(0.01)
        for thread in threads:
            thread.join(30)
    assert passes == [6]
    np.testing.assert_allclose(found["base"], vectors, atol=1e-5)
    for name, scores in known.items():
        for one, other in zip(found[name], scores, strict=True):
            assert one.scores == pytest.approx(other, abs=1e-5)
    made.unload("base")
    with made.use("a1") as one:
        assert not one.inference.closed, "others still use what the base began"
        assert one.predict(texts, "classify")[0].scores == pytest.approx(known["a1"][0], abs=1e-5)
    with made.use("base") as fresh, made.use("a2") as second:
        assert fresh.inference is not second.inference, "it has other tensors now"
    queue = second.inference
    for name in ("a1", "a2"):
        assert not queue.closed
        made.unload(name)
    assert queue.closed
    made.close()


def test_in_half_precision_weights_are_cast_once_but_for_those_that_adapters_know(
    folders: list[Path], tmp_path: Path
) -> None:
    """The vectors are the same to the last bit; a model of several stages gives some too."""
    run = Run(device="cpu", precision="bfloat16")
    several = small_model(tmp_path / "several", "ernie2/tiny")
    for folder in (folders[0], several):
        found: list[Any] = []
        for is_base in (False, True):
            passes = Passes()
            one = Served("m", load(folder), Limits(), run, passes, is_base=is_base)
            formats = {each.get_parameter("weight").dtype for _, _, each in linear_maps(one.model.learner.network)}
            assert formats == {torch.float32 if is_base else torch.bfloat16}
            token = current.set(Ticket())
            found.append(one.embed(["the old river", "stones"]))
            current.reset(token)
            one.close()
            passes.close()
        np.testing.assert_array_equal(*found)
