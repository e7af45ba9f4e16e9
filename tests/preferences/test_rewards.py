"""Rewards of texts: log-odds, values and scores; by any vocabulary; and what gives none is refused in a line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from toy_policy import PROMPTS, learned, policy

from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel
from genus.objectives.reinforcement.ppo import Rollouts
from genus.objectives.supervised.reward import RewardModel
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.preferences.rated import rated
from genus.preferences.rewards import Reward
from genus.tasks.predict import predict
from genus.tasks.start import Start
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from toys.gpt import ROW

if TYPE_CHECKING:
    from genus.objectives.supervised import FineTuned

FOLDER = Path("reward")
TEXTS = ["the cat sat", "a dog in a barn was far away", "mat"]


def judge(objective: FineTuned, max_length: int = 48) -> LoadedModel:
    """Return a model of random weights with another vocabulary than the policy's."""
    tokenizer = ByteBPE(vocab_size=300, special_tokens=GPT2).train(["naïve café and any other text"] * 20)
    plain = replace(ROW.finetuning, task_tokens=None, language_model=0.0, max_length=max_length)
    row = replace(ROW, tokens=tokenizer.tokens, finetuning=plain)
    recipe = Start(row, tokenizer).fine_tuned(objective, plain)
    torch.manual_seed(5)
    return LoadedModel(recipe, recipe.learner(), tokenizer)


def test_a_classifier_gives_the_log_odds_of_a_class() -> None:
    model = judge(SequenceClassification(labels=("bad", "fine", "good")))
    chances = [one.scores for one in predict(model, [(text,) for text in TEXTS])]
    for label in ("bad", "good"):
        wanted = [np.log(p[label] / (1 - p[label])) for p in chances]  # type: ignore[call-overload]
        assert Reward(FOLDER, model, label)(TEXTS) == pytest.approx(wanted, abs=1e-5)
    two = judge(SequenceClassification(labels=("negative", "positive")))
    assert Reward(FOLDER, two, "positive")(TEXTS) == pytest.approx(-Reward(FOLDER, two, "negative")(TEXTS))


def test_a_regression_gives_its_value() -> None:
    model = judge(SequenceRegression(mean=3.0, std=2.0))
    wanted = [one.predicted for one in predict(model, [(text,) for text in TEXTS])]
    assert Reward(FOLDER, model)(TEXTS) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("objective", "label", "told"),
    [
        (
            SequenceClassification(labels=("bad", "good")),
            "godo",
            "'godo' is no class of the model; name one of bad, good",
        ),
        (SequenceClassification(labels=("bad", "good")), None, "--reward-class: is missing; name one of bad, good"),
        (RewardModel(), "good", "RewardModel has no classes; leave it out"),
    ],
)
def test_classes_are_checked_at_the_start(objective: FineTuned, label: str | None, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Reward(FOLDER, judge(objective), label)


def test_a_model_that_was_not_fine_tuned_rates_nothing() -> None:
    with pytest.raises(UsageError, match="was not fine-tuned, so that it has nothing to say of texts"):
        Reward(FOLDER, policy())


def test_a_reward_that_is_not_finite_is_named_with_its_text() -> None:
    model = judge(RewardModel())
    with torch.no_grad():
        model.learner.heads["reward_model"].classes.bias.fill_(torch.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(GenusError, match="gives nan for 'the cat sat', which is no finite number"):
        Reward(FOLDER, model)(TEXTS)


def test_texts_that_are_cut_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    reward = Reward(FOLDER, judge(RewardModel(), max_length=4))
    reward(TEXTS)
    assert "lose the beginning" in capsys.readouterr().err
    reward(TEXTS)
    assert "lose the beginning" not in capsys.readouterr().err


def test_a_policy_learns_by_a_reward_of_another_vocabulary(tmp_path: Path) -> None:
    model = judge(SequenceClassification(labels=("bad", "good")))
    assert model.tokenizer.vocabulary.size != policy().tokenizer.vocabulary.size
    learned(tmp_path, 32, reward=Reward(FOLDER, model, "good"))
    assert (tmp_path / "model" / "config.json").exists()


def test_rated_responses_name_the_best_and_are_the_same_in_any_company() -> None:
    reward, chosen = Reward(FOLDER, judge(RewardModel())), Rollouts(tokens=6, temperature=1.0)
    found = list(rated(policy(), reward, PROMPTS, chosen, 4))
    assert [row["prompt"] for row in found] == PROMPTS
    for row in found[:5]:
        alone = reward([row["prompt"] + text for text in row["responses"]])
        assert row["rewards"] == pytest.approx(alone, abs=1e-5)
        assert row["best"] == int(np.argmax(alone))
    assert list(rated(policy(), None, PROMPTS[:3], chosen, 4)) == [
        {name: row[name] for name in ("prompt", "responses")} for row in found[:3]
    ]
