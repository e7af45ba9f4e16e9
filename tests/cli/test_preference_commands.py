"""Learning from preferences on the command line, and what cannot be used in a line each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from small_run import document, write

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    Captured = pytest.CaptureFixture[str]

SMALL = [
    "--set", "tokens.vocab_size=300", "--set", "tokens.min_frequency=1", "--set", "model.layers=1",
    "--set", "model.hidden=32", "--set", "model.attention.heads=2", "--set", "model.feedforward.size=64",
    "--set", "stages=[{max_length=32, batch=8, micro_batch=8}]", "--set", "budget.amount=4",
    "--set", "model.embedding.position.length=32",
]  # fmt: skip
RUN = ["--run", "device=cpu", "--run", "workers=0", "--run", "tracker=none"]
QUICK = ["--seeds", "1", "--set", "finetuning.epochs=1", "--set", "finetuning.max_length=32", *RUN]
ROLLOUTS = "objectives.0.rollouts"
FEW = ["--tokens", "4", "--episodes", "16", "--set", f"{ROLLOUTS}.batch=8", "--set", f"{ROLLOUTS}.normalize=8", *RUN]
WORDS = ["the", "film", "was", "good", "and", "the", "story", "was", "bad", "but", "all", "of", "it", "was", "long"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder, a classifier of another kind, and prompts."""
    folder = tmp_path_factory.mktemp("preferences")
    rows = [{"text": " ".join((WORDS * 3)[start : start + 12]) + "."} for start in range(14) for _ in range(4)]
    write(folder / "text.jsonl", rows)
    labeled = [{"text": f"It was {one} {number}.", "label": one} for number in range(12) for one in ("good", "bad")]
    write(folder / "labeled.jsonl", labeled)
    write(folder / "prompts.jsonl", [{"prompt": f"the {one}"} for one in WORDS])
    text, held = str(folder / "text.jsonl"), ["--run", "held_out=0.1"]
    assert main(["pretrain", "gpt2/tiny", text, "--out", str(folder / "gpt"), *SMALL, *RUN, *held]) == 0
    assert main(["pretrain", "bert/tiny", text, "--out", str(folder / "bert"), *SMALL, *RUN, *held]) == 0
    classifier = ["finetune", str(folder / "bert"), str(folder / "labeled.jsonl"), "--out", str(folder / "classifier")]
    assert main([*classifier, *QUICK]) == 0
    return folder


def options(made: Path, **changed: object) -> list[str]:
    """Return the options of a reward and prompts."""
    given = {"reward": made / "classifier", "reward-class": "good", "prompts": made / "prompts.jsonl"} | changed
    return [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]


def test_from_responses_to_a_reward_model_and_a_policy(made: Path, tmp_path: Path, capsys: Captured) -> None:
    """A classifier of an encoder labels, a reward model learns from it, a policy from that, which generates."""
    rated = tmp_path / "rated.jsonl"
    told = document(capsys, "respond", made / "gpt", *options(made, out=rated), "--tokens", 4, *RUN)
    assert told["prompts"] == len(WORDS)
    assert told["mean_best_reward"] >= told["mean_reward"]
    rows = [json.loads(line) for line in rated.read_text().splitlines()]
    assert len(rows) == len(WORDS)
    assert all(row["rewards"][row["best"]] == max(row["rewards"]) for row in rows)
    learning = ["finetune", str(made / "gpt"), str(rated), "--task", "preference", "--choices", "responses"]
    assert main([*learning, "--label", "best", "--out", str(tmp_path / "reward"), *QUICK]) == 0
    capsys.readouterr()
    given = options(made, reward=tmp_path / "reward", **{"reward-class": None})
    found = document(capsys, "prefer", made / "gpt", *given, "--out", tmp_path / "policy", "--beta", 0.1, *FEW)
    assert found["progress"]["step"] == 2 * 4
    assert {"reward", "kl"} <= found["progress"]["evaluation"].keys()
    assert main(["prefer", str(made / "gpt"), *given, "--out", str(tmp_path / "policy"), "--beta", "0.1", *FEW]) == 2
    assert "resume it, or take another folder" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "policy"), "the film", "--max-tokens", "3"]) == 0
    config = json.loads((tmp_path / "policy" / "model" / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]
    recipe = json.loads((tmp_path / "policy" / "recipe.json").read_text())
    assert recipe["objectives"][0]["rollouts"]["penalty"] == {"kind": "FixedKL", "beta": 0.1}
    assert main(["show", str(tmp_path / "policy")]) == 0


def test_direct_preference_and_evaluation_of_a_reward_model(made: Path, tmp_path: Path, capsys: Captured) -> None:
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "it was", "chosen": " good", "rejected": " bad"}] * 30)
    tune = ["finetune", str(made / "gpt"), str(pairs), *QUICK]
    assert (
        main([*tune, "--task", "direct-preference", "--task-set", "beta=0.5", "--out", str(tmp_path / "direct")]) == 0
    )
    assert main(["generate", str(tmp_path / "direct"), "the film", "--max-tokens", "3"]) == 0
    assert main([*tune, "--task", "preference", "--out", str(tmp_path / "reward")]) == 0
    capsys.readouterr()
    found = document(capsys, "evaluate", tmp_path / "reward", pairs)
    assert 0 <= found["accuracy"] <= 1
    assert main(["evaluate", str(tmp_path / "direct"), str(pairs), "--task", "direct-preference"]) == 2


@pytest.mark.parametrize(
    ("changed", "code", "told"),
    [
        ({"reward-class": "great"}, 2, "'great' is no class of the model; name one of bad, good"),
        ({"reward-class": None}, 2, "--reward-class: is missing; name one of bad, good"),
        ({"reward": "gpt"}, 2, "was not fine-tuned, so that it has nothing to say of texts"),
        ({"text": "promt"}, 1, "there is no column 'promt'. Did you mean 'prompt'?"),
        ({"prompts": "nothing.jsonl"}, 1, "there is no such file"),
        ({"tokens": "32"}, 2, "positions to a response of 32; shorten it, or take fewer --tokens"),
        ({"accumulate": "3"}, 2, "8 responses are no multiple of 3"),
        ({"target-kl": "-1"}, 2, "more than 0"),
    ],
)
def test_what_cannot_be_used(
    made: Path, tmp_path: Path, capsys: Captured, changed: dict[str, str | None], code: int, told: str
) -> None:
    within = {name: made / value for name, value in changed.items() if name in ("reward", "prompts") and value}
    given = options(made, **(changed | within))
    assert main(["prefer", str(made / "gpt"), "--out", str(tmp_path / "run"), *FEW, *given]) == code
    said = capsys.readouterr().err
    *before, last = said.strip().splitlines()
    assert told in last
    assert all("has another vocabulary than the policy" in line for line in before)


def test_an_encoder_is_no_policy(made: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["prefer", str(made / "bert"), "--out", str(tmp_path / "run"), *FEW, *options(made)]) == 2
    assert "the policy is no causal language model" in capsys.readouterr().err
    assert main(["respond", str(made / "bert"), *options(made, out=tmp_path / "r.jsonl"), *RUN]) == 2
    assert "the policy is no causal language model" in capsys.readouterr().err


def test_a_table_without_the_columns(made: Path, tmp_path: Path, capsys: Captured) -> None:
    table = write(tmp_path / "t.jsonl", [{"prompt": "a", "chosen": "b", "rejekted": "c"}] * 3)
    given = ["finetune", str(made / "gpt"), str(table), "--out", str(tmp_path / "x"), "--task", "preference", *QUICK]
    assert main(given) == 1
    assert "there is no column 'rejected'. Did you mean 'rejekted'?" in capsys.readouterr().err
    assert main([*given, "--choices", "responses"]) == 2
    assert "name the column that says which is best (--label best)" in capsys.readouterr().err
