"""Fine-tuning few parameters: what is kept, saved, read, refused, and chosen for each text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from genus.adapt import trained
from genus.adapt.adapters import Adapters
from genus.adapt.biases import Biases
from genus.adapt.last_layers import LastLayers
from genus.adapt.lora import LoRA
from genus.adapt.prefix_tuning import PrefixTuning
from genus.adapt.prompt_tuning import PromptTuning
from genus.errors import GenusError, UsageError
from genus.export import folder as models
from genus.export.adapted.folder import load, load_adapter, merged
from genus.model.pooler import Pooler
from genus.recipe import Recipe
from genus.tasks import study
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.predict import predict, predict_by
from genus.tasks.regression import Regression
from genus.tasks.start import Start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.adapt import Adaptation
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

ROUNDING = 1e-5
"""Float32 sums in another order."""
KINDS: dict[str, Adaptation] = {
    "lora": LoRA(rank=4, targets=("query", "value", "feedforward"), dropout=0.1),
    "adapters": Adapters(size=8),
    "prefix": PrefixTuning(length=4, projection=16),
    "prompt": PromptTuning(length=4),
    "biases": Biases(),
    "last": LastLayers(layers=1),
}
TEXTS = [("a cat and a dog and a saw and a bird .",), ("a saw and a drill and a horse and a pliers .",)] * 3


@pytest.fixture(scope="module")
def data(write_rows: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("train", 96, 1), ("validation", 32, 2)):
        write_rows(folder / f"{name}.jsonl", count, seed)
    return folder


@pytest.fixture(scope="module")
def base(recipe: Recipe, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """A model with random weights, taken for pretrained, with a pooler."""
    torch.manual_seed(0)
    whole = replace(recipe, tokens=tokenizer.tokens, model=recipe.model.pooled(Pooler()))
    path = tmp_path_factory.mktemp("base") / "base"
    models.save(path, whole, whole.learner(), tokenizer)
    found = models.load(path)
    return Start(found.recipe, found.tokenizer, found.learner, path)


def with_adaptation(start: Start, adaptation: Adaptation, epochs: float = 2) -> Start:
    settings = replace(start.recipe.finetuning, adaptation=adaptation, epochs=epochs)
    settings = replace(settings, optimizer=replace(settings.optimizer, lr=1e-2))
    return replace(start, recipe=replace(start.recipe, finetuning=settings))


@pytest.fixture(scope="module")
def tuned(base: Start, data: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model folder of each kind, of one task or another."""
    found = {}
    for kind, adaptation in KINDS.items():
        task = Regression(label="share") if kind == "adapters" else Classification()
        folder = tmp_path_factory.mktemp(kind) / "out"
        finetune(with_adaptation(base, adaptation), task, Files.find(data), folder, seeds=(0,), run=run)
        found[kind] = folder / "model"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_holds_what_was_trained_alone_and_answers_as_in_training(
    kind: str, tuned: dict[str, Path], base: Start, data: Path
) -> None:
    files = {path.name for path in tuned[kind].iterdir()}
    assert files == {"README.md", "recipe.json", "task.json", "adapter_config.json", "adapter_model.safetensors"}
    model = load(tuned[kind])
    sizes = sum(tensor.numel() for tensor in load_file(tuned[kind] / "adapter_model.safetensors").values())
    assert sizes == sum(tensor.numel() for tensor in trained(model.learner).values())
    assert base.learner is not None
    assert sizes < sum(weight.numel() for weight in base.learner.parameters())
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (tuned[kind].parent / "seed-0" / "validation.jsonl").read_text().splitlines()]
    for answer, line in zip(predict(model, [(row["text"],) for row in rows]), lines, strict=True):
        assert answer.predicted == pytest.approx(line["predicted"], abs=1e-4)
        assert answer.scores == pytest.approx(line["scores"], abs=ROUNDING)


@pytest.mark.parametrize("kind", ["lora", "adapters", "prefix"])
def test_something_is_learned_of_what_pretraining_knows(
    kind: str, start: Start, write_rows: Callable[..., object], run: Run, tmp_path: Path
) -> None:
    """That is another task of the same words, on which a network was trained whole."""
    for name, count, seed in (("train", 160, 1), ("validation", 32, 2)):
        write_rows(tmp_path / f"{name}.jsonl", count, seed)
    files = Files.find(tmp_path)
    finetune(start, Regression(label="share"), files, tmp_path / "whole", seeds=(0,), run=run)
    found = models.load(tmp_path / "whole" / "model")
    known = Start(found.recipe, found.tokenizer, found.learner, tmp_path / "whole" / "model")
    report = finetune(
        with_adaptation(known, KINDS[kind], 4), Classification(), files, tmp_path / "few", seeds=(0,), run=run
    )
    assert report.trials[0].metrics["validation"]["accuracy"] > 0.9  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["lora", "biases", "last"])
def test_merged_answers_the_same_and_is_plain(kind: str, tuned: dict[str, Path], tmp_path: Path) -> None:
    before = predict(load(tuned[kind]), TEXTS)
    whole = merged(load(tuned[kind]))
    models.save(tmp_path / "whole", whole.recipe, whole.learner, whole.tokenizer)
    for old, new in zip(before, predict(models.load(tmp_path / "whole"), TEXTS), strict=True):
        assert new.scores == pytest.approx(old.scores, abs=ROUNDING)


@pytest.mark.parametrize("kind", ["adapters", "prefix", "prompt"])
def test_what_is_no_change_of_weights_is_not_merged(kind: str, tuned: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="cannot be merged: what it adds is no change of the weights"):
        merged(load(tuned[kind]))


def test_several_adapters_share_a_base_and_each_text_names_its_own(tuned: dict[str, Path], base: Start) -> None:
    assert base.path is not None
    source = models.load(base.path)
    adapters = {kind: load_adapter(path, source) for kind, path in tuned.items()}
    names = [*KINDS]
    found = predict_by(adapters, names, TEXTS)
    for place, name in enumerate(names):
        alone = predict(load(tuned[name]), [TEXTS[place]])[0]
        assert found[place].predicted == pytest.approx(alone.predicted, abs=ROUNDING)
        assert found[place].scores == pytest.approx(alone.scores, abs=ROUNDING)
    addresses = {weight.data_ptr() for weight in source.learner.parameters()}
    for name, model in adapters.items():
        frozen = [weight for weight in model.learner.parameters() if not weight.requires_grad]
        assert {weight.data_ptr() for weight in frozen} <= addresses, name
    with pytest.raises(UsageError, match="there is no model 'lor'"):
        predict_by(adapters, ["lor"], TEXTS[:1])


def test_the_weights_that_are_kept_are_those_that_are_trained(
    base: Start, data: Path, run: Run, tmp_path: Path
) -> None:
    kept = []

    class Spy(study.BestCheckpoint):
        def __call__(self, learner: object) -> dict[str, float]:
            found = super().__call__(learner)  # type: ignore[arg-type]
            kept.append(self.weights)
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "BestCheckpoint", Spy)
        start = with_adaptation(base, LoRA(rank=2), epochs=1)
        finetune(start, Classification(), Files.find(data), tmp_path / "out", seeds=(0,), run=run)
    assert kept
    for weights in kept:
        assert all(".lora." in name or name.startswith("heads.") for name in weights)


def test_results_of_another_adaptation_are_not_taken_for_its_own(
    base: Start, data: Path, run: Run, tmp_path: Path
) -> None:
    files, folder = Files.find(data), tmp_path / "out"
    first = finetune(with_adaptation(base, LoRA(rank=2), 1), Classification(), files, folder, seeds=(0,), run=run)
    again = finetune(with_adaptation(base, LoRA(rank=2), 1), Classification(), files, folder, seeds=(0, 1), run=run)
    assert again.trials[0] == first.trials[0]
    with pytest.raises(UsageError, match="holds results of other choices"):
        finetune(with_adaptation(base, LoRA(rank=3), 1), Classification(), files, folder, seeds=(0,), run=run)


def test_another_base_is_refused_in_a_line(tuned: dict[str, Path], base: Start, tmp_path: Path) -> None:
    assert base.path is not None
    torch.manual_seed(1)
    models.save(tmp_path / "other", base.recipe, base.recipe.learner(), base.tokenizer)
    with pytest.raises(GenusError, match=r"was trained on another base than .*other, whose weights differ"):
        load(tuned["lora"], tmp_path / "other")
    with pytest.raises(UsageError, match=r"--base: .* is no adapter"):
        load(base.path, base.path)
    lost = tmp_path / "lost"
    lost.mkdir()
    for path in tuned["lora"].iterdir():
        (lost / path.name).write_bytes(path.read_bytes())
    config = json.loads((lost / "adapter_config.json").read_text())
    (lost / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "nowhere"}))
    with pytest.raises(GenusError, match="its base 'nowhere' is not there; name the folder of the base with --base"):
        load(lost)
    assert predict(load(lost, base.path), TEXTS) == predict(load(tuned["lora"]), TEXTS)


def test_other_shapes_are_refused_in_a_line(tuned: dict[str, Path], base: Start, tmp_path: Path) -> None:
    """Also where the fingerprint is lost, as in a file that another tool wrote again."""
    from safetensors.torch import save_file

    for path in tuned["lora"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file({name: tensor[:-1] if "lora_B" in name else tensor for name, tensor in tensors.items()},
              tmp_path / "adapter_model.safetensors")  # fmt: skip
    with pytest.raises(GenusError, match="do not belong together: one of them has another shape of") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


REFUSED: dict[str, tuple[Adaptation, dict[str, Any], str]] = {
    "random weights": (LoRA(), {}, "few parameters are trained of a pretrained model; leave --random out"),
    "no room in front": (PrefixTuning(length=500), {"max_length": 32}, "32 and 500 in front is over the model's 512"),
    "more layers than there are": (LastLayers(layers=3), {}, "layers: the network has 2 with weights of their own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line(case: str, base: Start, data: Path, run: Run, tmp_path: Path) -> None:
    adaptation, settings, line = REFUSED[case]
    start = with_adaptation(base, adaptation)
    start = replace(start, recipe=replace(start.recipe, finetuning=replace(start.recipe.finetuning, **settings)))
    start = replace(start, learner=None) if case == "random weights" else start
    with pytest.raises(UsageError, match=line) as error:
        finetune(start, Classification(), Files.find(data), tmp_path / "out", seeds=(0,), run=run)
    assert "\n" not in str(error.value)


def test_an_adapter_is_no_base(tuned: dict[str, Path], data: Path, run: Run, tmp_path: Path) -> None:
    model = load(tuned["lora"])
    with pytest.raises(UsageError, match="the model is an adapter on a base"):
        finetune(
            Start(model.recipe, model.tokenizer, model.learner), Classification(), Files.find(data), tmp_path / "out",
            seeds=(0,), run=run,
        )  # fmt: skip


def test_a_recipe_of_before_has_no_adaptation(recipe: Recipe) -> None:
    table = recipe.written()
    del table["finetuning"]["adaptation"]
    assert Recipe.from_json(table) == recipe
