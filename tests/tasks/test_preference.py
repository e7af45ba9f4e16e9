"""Preferences: what tables may look like, reward models, and direct preference optimization against its equations."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from genus.batch import Batch
from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel, load
from genus.model.head.lm_head import LMHead
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.feed import Shuffled
from genus.tasks.finetune import finetune
from genus.tasks.preference import DirectPreference, Preference
from genus.tasks.start import Start
from genus.train.run import Run
from hand import equal_rows
from toys.gpt import ROW

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.objectives.supervised.direct_preference import DirectPreferenceHead
    from genus.tokens.tokenizer import Tokenizer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RUN = Run(device="cpu", precision="float32", workers=0, tracker="none")
ANIMALS = ["cats", "dogs", "saws", "birds", "drills", "hammers", "horses", "pliers"]
PAIRS = [
    {"prompt": f"How are the {name} {number}?", "chosen": " They are good.", "rejected": " They are bad."}
    for number, name in enumerate(ANIMALS * 8)
]
TEXTS = [row["prompt"] + row["chosen"] + row["rejected"] for row in PAIRS]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return ROW.tokens.train(TEXTS)


@pytest.fixture(scope="module")
def start(tokenizer: Tokenizer) -> Start:
    plain = replace(ROW.finetuning, task_tokens=None, language_model=0.0, epochs=4)
    row = replace(ROW, tokens=tokenizer.tokens, finetuning=plain)
    torch.manual_seed(0)
    return Start(row, tokenizer, row.learner())


def table(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_of_pairs_lists_and_messages() -> None:
    pair = {"prompt": "Q", "chosen": " yes", "rejected": " no"}
    assert Preference().read(pair) == (("Q", " yes", " no"), "0")
    assert Preference(separator="\n").read(pair)[0][0] == "Q\n"
    assert Preference().read({"chosen": "a b", "rejected": "a c"}) == (("", "a b", "a c"), "0")
    said = {name: [{"role": "user", "content": "Q"}, {"role": "assistant", "content": name}] for name in ("A", "B")}
    assert Preference().read({"prompt": "Q", "chosen": said["A"], "rejected": said["B"]}) == (("Q", "A", "B"), "0")
    four = Preference(choices=("responses",), label="best")
    assert four.read({"prompt": "Q", "responses": ["a", "b", "c", "d"], "best": 2}) == (("Q", "a", "b", "c", "d"), "2")
    with pytest.raises(ValueError, match="none of the 2 choices"):
        four.read({"prompt": "Q", "responses": ["a", "b"], "best": 7})
    with pytest.raises(ValueError, match="no list of two responses"):
        four.read({"prompt": "Q", "responses": ["a"], "best": 0})
    with pytest.raises(ValueError, match="no messages"):
        Preference().read({"chosen": [1], "rejected": "b"})


def test_what_a_table_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="no column 'rejected'"):
        read(table(tmp_path / "t.jsonl", [{"prompt": "Q", "chosen": "a"}]), Preference())
    with pytest.raises(UsageError, match="which is best"):
        Preference(choices=("responses",))
    with pytest.raises(UsageError, match="one column of the prompts"):
        Preference(texts=("a", "b"))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "task"),
    [("hh_rlhf/harmless_base_test.jsonl.gz", Preference()),
     ("ultrafeedback_sample/train_prefs.jsonl.gz", Preference(separator="\n\n"))],
)  # fmt: skip
def test_published_tables(file: str, task: Preference) -> None:
    rows = read(DATA / file, task)
    assert len(rows) in (2312, 500)
    assert all(len(row.texts) == 3 and row.label == "0" for row in rows)


def test_the_end_of_a_text_is_read_and_its_beginning_is_lost(tokenizer: Tokenizer) -> None:
    rows = [LabeledRow(1, ("word " * 50, "end.", "other end of it."), "1")]
    found = Preference().encode(tokenizer, rows, Preference().objective([]), 16)
    for (ids,), response in zip(found.texts, rows[0].texts[1:], strict=True):
        whole = tokenizer.encode([rows[0].texts[0] + response], specials=False)[0]
        assert ids.tolist() == whole[-len(ids) :]
        assert len(ids) <= 16
    assert "lose the beginning" in found.warnings[0]


def test_a_new_reward_head_has_the_papers_deviation() -> None:
    torch.manual_seed(0)
    wide = ROW.model.overlay({"hidden": 512})
    head = Preference().objective([]).build(wide, 8)
    weight = head.classes.weight  # type: ignore[union-attr]
    assert cast("torch.Tensor", weight).std().item() == pytest.approx(513**-0.5, rel=0.15)


def test_a_reward_model_recovers_a_planted_rule(start: Start, tmp_path: Path) -> None:
    """And its loss of pairs is that of Bradley and Terry."""
    from genus.preferences.rewards import Reward

    path = table(tmp_path / "pairs.jsonl", PAIRS)  # type: ignore[arg-type]
    report = finetune(start, Preference(), Files(path), tmp_path / "run", seeds=[0], run=RUN)
    assert report.best.metrics["validation"]["accuracy"] == 1.0
    found = load(tmp_path / "run" / "model")
    reward = Reward(tmp_path / "run" / "model", found)
    good, bad = reward(["How are the cats 3? They are good.", "How are the cats 3? They are bad."])
    assert good > bad
    rows = [LabeledRow(1, ("How are the dogs 1?", " They are good.", " They are bad."), "0")]
    encoded = Preference().encode(found.tokenizer, rows, reward.objective, 48)
    sums = found.learner.eval()(Shuffled(encoded, 1, 0)[0]).sums
    one, two = reward(["How are the dogs 1? They are good.", "How are the dogs 1? They are bad."])
    assert sums["reward_model"].item() == pytest.approx(-np.log(1 / (1 + np.exp(two - one))), rel=1e-3, abs=1e-6)
    with pytest.raises(UsageError, match="has no classes"):
        Reward(tmp_path, found, "positive")


def dpo(start: Start, rows: list[LabeledRow], beta: float = 0.3) -> tuple[Learner, Batch]:
    """Return a learner in float64 whose policy has moved from its reference, and a batch of rows."""
    task = DirectPreference(beta=beta)
    objective = task.objective([]).continued(start.recipe.objectives, start.recipe.model)
    recipe = start.fine_tuned(objective, start.recipe.finetuning)
    learner = start.build(recipe, 0).double()
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return learner.eval(), Shuffled(task.encode(start.tokenizer, rows, objective, 48), len(rows), 0)[0]


def log_probability(learner: Learner, tokenizer: Tokenizer, prompt: str, response: str) -> torch.Tensor:
    """Return log p(response, end | prompt), token by token, each by a forward pass of its own."""
    before, after = (tokenizer.encode([text], specials=False)[0] for text in (prompt, response))
    assert tokenizer.vocabulary.end is not None
    after = [*after, tokenizer.vocabulary.end]
    total = torch.zeros((), dtype=torch.float64)
    for place, token in enumerate(after):
        ids = torch.tensor([before + after[:place]])
        state = learner.network(Batch({"tokens": equal_rows(ids)}, {}))["tokens"][-1:]
        logits = learner.heads["causal_lm"].lm_head(state)[0]  # type: ignore[operator]
        total = total + logits[token] - logits.exp().sum().log()
    return total


def test_direct_preference_loss_and_gradient(start: Start) -> None:
    """Rafailov et al. 2023, equation 7, and the gradient of section 4 from gradients of log-probabilities alone."""
    texts = [
        ("How are the cats 1?", " They are good.", " Bad."),
        ("And dogs?", " Fine.", " They are bad, all of them."),
    ]
    beta = 0.3
    learner, batch = dpo(start, [LabeledRow(n, one, "0") for n, one in enumerate(texts)], beta)
    reference = cast("DirectPreferenceHead", learner.heads["causal_lm"]).teacher
    sums = learner(batch).sums
    sums["direct_preference"].backward()
    found = {name: one.grad.clone() for name, one in learner.named_parameters() if one.grad is not None}
    learner.zero_grad()
    wanted = 0.0
    for prompt, chosen, rejected in texts:
        own = [log_probability(learner, start.tokenizer, prompt, one) for one in (chosen, rejected)]
        with torch.no_grad():
            known = [log_probability(reference, start.tokenizer, prompt, one) for one in (chosen, rejected)]
        better, worse = (beta * (a.item() - b.item()) for a, b in zip(own, known, strict=True))
        wanted += -np.log(1 / (1 + np.exp(-(better - worse))))
        weight = -beta / (1 + np.exp(-(worse - better)))
        (weight * (own[0] - own[1])).backward()
    assert sums["direct_preference"].item() == pytest.approx(wanted, rel=1e-5)
    assert found
    for name, parameter in learner.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-6), name
    assert all(one.grad is None for one in reference.parameters())


def test_before_training_the_loss_is_that_of_a_coin(start: Start) -> None:
    rows = [LabeledRow(1, ("How?", " So.", " Not."), "0")]
    task = DirectPreference()
    objective = task.objective([]).continued(start.recipe.objectives, start.recipe.model)
    learner = start.build(start.fine_tuned(objective, start.recipe.finetuning), 0).eval()
    sums = learner(Shuffled(task.encode(start.tokenizer, rows, objective, 48), 1, 0)[0]).sums
    assert sums["direct_preference"].item() == pytest.approx(np.log(2), rel=1e-6)


def test_direct_preference_of_a_planted_rule_is_published_as_a_language_model(start: Start, tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.jsonl", PAIRS)  # type: ignore[arg-type]
    before = copy.deepcopy(cast("Learner", start.learner))
    report = finetune(start, DirectPreference(), Files(path), tmp_path / "run", seeds=[0], run=RUN)
    assert report.best.metrics["validation"]["accuracy"] == 1.0
    found: LoadedModel = load(tmp_path / "run" / "model")
    assert [*found.learner.heads] == ["causal_lm"]
    assert found.recipe.objectives == (CausalLM(output=LMHead(bias="none")),)
    gains = []
    for learner in (before, found.learner):
        good, bad = (
            log_probability(learner.double(), start.tokenizer, "How are the cats 1?", f" They are {one}.")
            for one in ("good", "bad")
        )
        gains.append((good - bad).item())
    assert gains[1] > gains[0] + 0.5


def test_direct_preference_needs_a_language_model(start: Start) -> None:
    with pytest.raises(UsageError, match="need a causal language model"):
        DirectPreference().objective([]).continued((), start.recipe.model)
