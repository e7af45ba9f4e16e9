"""Commands for learning from preferences: `prefer`, and `respond`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.options import AsJson, Folder, Out, Running, Settings, chosen_run, generating_run
from genus.cli.output import columns, document
from genus.errors import GenusError, UsageError, say

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.preferences.rewards import Reward
    from genus.train.run import Run

EPISODES = 10_000
"""Responses that are learned from, where nothing else is said (ours; released code, launch.py: 1,000,000)."""
HELD_OUT = 64
"""Prompts of evaluations, at most a fifth of all."""
ROLLOUTS = "objectives.0.rollouts"
PromptTable = Annotated[
    Path,
    typer.Option("--prompts", metavar="TABLE", help="A table with a column of prompts (.jsonl, .csv, .parquet, ...)."),
]
PromptColumn = Annotated[str, typer.Option("--text", metavar="COLUMN", help="The column of the prompts.")]
RewardFolder = Annotated[
    Path,
    typer.Option(
        "--reward",
        metavar="MODEL",
        help="What rates responses: a reward model (finetune --task preference), a classifier, or a regression.",
        show_default=False,
    ),
]
RewardClass = Annotated[
    str | None,
    typer.Option("--reward-class", metavar="NAME", help="Of a classifier: the class whose log-odds are the reward."),
]
Tokens = Annotated[int, typer.Option(help="The most tokens of a response.")]
Temperature = Annotated[float, typer.Option(help="Of sampling, and of the policy's log-probabilities.")]
Stop = Annotated[str, typer.Option(help="A string that ends a response.")]
Unended = Annotated[
    float | None,
    typer.Option(help="The reward of a response that does not end by itself or by --stop; published: -1."),
]
Beta = Annotated[
    float | None,
    typer.Option(help="The penalty on the divergence from the policy as it was; fixed where no --target-kl is given."),
]
TargetKL = Annotated[
    float | None,
    typer.Option("--target-kl", help="Change the penalty so that the divergence is so many nats; published: 6."),
]
Episodes = Annotated[int, typer.Option(help="Responses that are learned from in all.")]
Accumulate = Annotated[int, typer.Option(help="Forward passes into which an update is divided.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]
Seed = Annotated[int, typer.Option(help="Of all draws.")]
OutFile = Annotated[Path, typer.Option("--out", metavar="FILE", help="The .jsonl to write.", show_default=False)]
MaybeReward = Annotated[
    Path | None, typer.Option("--reward", metavar="MODEL", help="What rates responses; without it people may.")
]
Samples = Annotated[int, typer.Option(help="Responses to each prompt.")]


def prefer(
    policy: Folder,
    reward: RewardFolder,
    prompts: PromptTable,
    out: Out,
    text: PromptColumn = "prompt",
    reward_class: RewardClass = None,
    tokens: Tokens = 24,
    temperature: Temperature = 0.7,
    stop: Stop = "",
    unended: Unended = None,
    beta: Beta = None,
    target_kl: TargetKL = None,
    episodes: Episodes = EPISODES,
    accumulate: Accumulate = 1,
    settings: Settings = [],
    running: Running = [],
    seed: Seed = 0,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train a language model by reinforcement learning to write what a reward model prefers (PPO)."""
    from dataclasses import asdict, replace

    from genus.catalog import overridden
    from genus.cli.folders import read_model
    from genus.preferences.prefer import Prompts, policy_recipe, prefer, settled

    run = chosen_run(running, log_every=4, checkpoint_every=100, evaluate_every=100)
    source = read_model(policy)
    asked = [f"{ROLLOUTS}.tokens={tokens}", f"{ROLLOUTS}.temperature={temperature}", *_penalty(beta, target_kl)]
    asked += [f"{ROLLOUTS}.stop={json.dumps(stop)}"] if stop else []
    asked += [] if unended is None else [f"{ROLLOUTS}.unended={unended}"]
    recipe = overridden(replace(policy_recipe(source), seed=seed), [*asked, *settings])
    recipe = settled(recipe, episodes, accumulate)
    judge = _reward(reward, reward_class, run, source)
    summary = prefer(
        source, judge, Prompts.divided(read_prompts(prompts, text), HELD_OUT), out, recipe, run, resume=resume
    )
    reached = summary.progress
    if as_json:
        document({"folder": out, "model": out / "model", "stopped": summary.stopped, "progress": asdict(reached)})
    else:
        print(columns(["held out", ""], [[name, f"{value:.4f}"] for name, value in sorted(reached.evaluation.items())]))
        print(f"{reached.step:,} updates, {reached.seconds:,.0f} s; the model is {out / 'model'}")
    if summary.stopped:
        raise KeyboardInterrupt


def respond(
    policy: Folder,
    prompts: PromptTable,
    out: OutFile,
    reward: MaybeReward = None,
    text: PromptColumn = "prompt",
    reward_class: RewardClass = None,
    samples: Samples = 4,
    tokens: Tokens = 24,
    temperature: Temperature = 0.7,
    stop: Stop = "",
    running: Running = [],
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write several responses to each prompt, and which a reward model prefers (best of n).

    The file is what `finetune --task preference --choices responses --label best` learns a reward model from.
    """
    from dataclasses import replace

    from genus.cli.folders import read_model
    from genus.cli.output import Counter
    from genus.files import write_text
    from genus.objectives.reinforcement.ppo import Rollouts
    from genus.preferences.rated import rated
    from genus.train.world import device_of_run

    if samples < 1:
        raise UsageError(f"--samples: expected at least 1, got {samples}")
    run, asked = generating_run(running), read_prompts(prompts, text)
    source = read_model(policy)
    judge = None if reward is None else _reward(reward, reward_class, run, source)
    source.learner.to(device_of_run(run))
    chosen = replace(Rollouts(), tokens=tokens, temperature=temperature, stop=stop)
    counter, rows = Counter("responding", "prompts"), []
    for row in rated(source, judge, asked, chosen, samples, seed=seed, precision=run.precision):
        rows.append(row)
        counter(len(rows), len(asked))
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    told: dict[str, Any] = {"file": out, "prompts": len(rows)}
    if judge is not None:
        told |= {
            "mean_reward": sum(sum(row["rewards"]) / samples for row in rows) / len(rows),
            "mean_best_reward": sum(max(row["rewards"]) for row in rows) / len(rows),
        }
    if as_json:
        document(told)
    else:
        print(columns(["", ""], [[name.replace("_", " "), str(value)] for name, value in told.items()]))


def read_prompts(path: Path, column: str) -> list[str]:
    """Return the prompts in a column of a table.

    Raises:
        GenusError: the table cannot be read, has no rows, or lacks the column; a cell holds something else.
    """
    from genus.tasks.column import texts_in

    found = texts_in(path, column)
    if not found:
        raise GenusError(f"{path}: holds no rows")
    return found


def _penalty(beta: float | None, target: float | None) -> list[str]:
    """Return the settings of the penalty that the options ask for."""
    kind = "AdaptiveKL" if beta is None or target is not None else "FixedKL"
    given = {"beta": beta, "target": target}
    return [f"{ROLLOUTS}.penalty={kind}"] + [
        f"{ROLLOUTS}.penalty.{name}={value}" for name, value in given.items() if value is not None
    ]


def _reward(folder: Path, label: str | None, run: "Run", policy: "LoadedModel") -> "Reward":
    """Return what rates a policy's responses, on the run's device; that it has another vocabulary is said."""
    from genus.cli.folders import read_model
    from genus.preferences.rewards import Reward
    from genus.train.world import device_of_run

    found = Reward(folder, read_model(folder), label, run.precision).to(device_of_run(run))
    if found.model.tokenizer.pieces != policy.tokenizer.pieces:
        say(f"--reward {folder}: has another vocabulary than the policy, and reads its responses as text")
    return found
