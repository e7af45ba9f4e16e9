"""Learning from preferences: PPO with fixed and adaptive penalties, DPO, and the best of n, by reward against KL.

    python benchmarks/preferences.py --data ../shared/data --out runs/preferences
    python benchmarks/preferences.py --data ../shared/data --out runs/preferences-quick --quick    # in a few minutes

As the mock sentiment task of Ziegler et al. 2019, in small: a decoder is pretrained on film reviews, a classifier of
their sentiment is the reward, and responses go on from the first words of other reviews. DPO, and the reward model, and
fine-tuning on the best responses learn from responses of the decoder that the classifier has rated. All are measured on
the same held-out prompts. What is finished is not done again: stop it at any moment and run the same command.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preferences_figure import figure, page

from genus.cli import main as command
from genus.cli.folders import read_model
from genus.files import write_json, write_text
from genus.preferences.prefer import built, policy_recipe, rollouts_of, settled
from genus.preferences.rewards import Reward
from genus.preferences.rollouts import Policy
from genus.tasks.table import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RESULTS = Path(__file__).parent / "results"
WORDS = 8
"""Of a review, which responses go on from."""
BEST_OF = (1, 2, 4, 8, 16)
CPU = ["--run", "device=cpu", "--run", "tracker=none", "--run", "workers=0"]


def main() -> None:
    """Run what is not finished, and write the results."""
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    prepare(options)
    found: dict[str, Any] = {"choices": told(options), "reward_model": reward_model(options), "runs": {}}
    for name, make in ways(options).items():
        found["runs"][name] = once(options.out / name, partial(make, options, options.out / name))
        write_json(options.results / "preferences.json", found)
        print(f"{name}: {brief(found['runs'][name])}; {time.time() - begun:.0f} s", flush=True)
    write_json(options.results / "preferences.json", found)
    write_text(options.results / "preferences.svg", figure(found["runs"], alone=True))
    write_text(options.results / "preferences.html", page(found))


def parsed() -> argparse.Namespace:
    """Return the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder with imdb/")
    made.add_argument("--out", type=Path, required=True, help="where models and runs are kept")
    made.add_argument("--results", type=Path, help="where the JSON and the figure are written; by default the results")
    made.add_argument("--quick", action="store_true", help="the smallest size, which shows that all of it runs")
    made.add_argument("--row", default="gpt2/mini", help="the decoder")
    made.add_argument("--pieces", type=int, default=8000, help="of its vocabulary")
    made.add_argument("--seeds", type=int, default=2, help="of each run of PPO and DPO")
    made.add_argument("--pretraining", type=int, default=1500, help="steps")
    made.add_argument("--episodes", type=int, default=6400, help="responses that each run of PPO learns from")
    made.add_argument("--prompts", type=int, default=2000)
    made.add_argument("--labels", type=int, default=6000, help="reviews that the classifier learns from")
    made.add_argument("--tokens", type=int, default=16, help="of a response")
    made.add_argument("--betas", nargs="+", type=float, default=[0.03, 0.1, 0.3], help="fixed penalties of PPO")
    made.add_argument("--targets", nargs="+", type=float, default=[2.0, 6.0], help="of the adaptive penalty, in nats")
    made.add_argument("--dpo-betas", nargs="+", type=float, default=[0.03, 0.1, 0.3])
    made.add_argument("--measured", type=int, default=256, help="held-out prompts")
    made.add_argument("--rate", type=float, default=1e-4, help="peak learning rate of PPO, for a model so small")
    options = made.parse_args()
    options.results = options.results or (options.out / "results" if options.quick else RESULTS)
    if options.quick:
        options.seeds, options.pretraining, options.episodes, options.prompts, options.labels = 1, 40, 256, 100, 300
        options.row, options.pieces, options.measured = "gpt2/tiny", 1000, 64
        options.betas, options.targets, options.dpo_betas = [0.1], [2.0], [0.1]
    return options


def told(options: argparse.Namespace) -> dict[str, Any]:
    """Return what results depend on."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in ("out", "results", "data")
    }


def once(folder: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a result that is there, or make it."""
    result = folder.with_name(f"{folder.name}.json")
    if not result.exists():
        write_json(result, make())
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def genus(*arguments: object) -> None:
    """Run a command; what fails, or is stopped, ends the study."""
    if code := command([str(one) for one in arguments]):
        sys.exit(code)


def reviews(options: argparse.Namespace, split: str) -> Iterator[dict[str, Any]]:
    """Yield the reviews of a split."""
    for _, row in rows(options.data / "imdb" / f"{split}.jsonl.xz"):
        yield row


def prepare(options: argparse.Namespace) -> None:
    """Make texts, the decoder, the classifier, prompts and rated responses, unless they are there."""
    out, size = options.out, 400 if options.quick else 20_000
    if not (out / "prompts.jsonl").exists():
        every = list(reviews(options, "train"))
        lines(out / "text.jsonl", [{"text": row["text"]} for row in every[:size]])
        labels = [{"text": row["text"][:600], "label": ["negative", "positive"][row["label"]]} for row in every]
        lines(out / "sentiment.jsonl", labels[: options.labels])
        starts = [" ".join(row["text"].split()[:WORDS]) for row in reviews(options, "test")]
        starts = list(dict.fromkeys(starts))
        lines(out / "held_out.jsonl", [{"prompt": one} for one in starts[: options.measured]])
        lines(out / "prompts.jsonl", [{"prompt": one} for one in starts[options.measured :][: options.prompts]])
    if not (out / "decoder" / "done.json").exists():
        more = ["--resume"] if (out / "decoder" / "checkpoints").exists() else []
        sets = ["--set", f"tokens.vocab_size={options.pieces}", "--set", f"budget.amount={options.pretraining}"]
        genus("pretrain", options.row, out / "text.jsonl", "--out", out / "decoder", *sets, *CPU, *more)
        write_json(out / "decoder" / "done.json", {})
    if not (out / "classifier" / "report.json").exists():
        sets = ["--set", f"finetuning.epochs={1 if options.quick else 3}", "--set", "finetuning.max_length=128"]
        genus(
            "finetune", out / "decoder", out / "sentiment.jsonl", "--out", out / "classifier", "--seeds", 1, *sets, *CPU
        )
    respond(options)


def respond(options: argparse.Namespace) -> None:
    """Have the decoder's responses rated, and make tables of them, unless they are there."""
    out = options.out
    for name, samples in (("rated", 4), ("held_out_rated", max(BEST_OF))):
        if not (out / f"{name}.jsonl").exists():
            prompts = out / ("prompts.jsonl" if name == "rated" else "held_out.jsonl")
            drawn: list[object] = [
                "--samples",
                samples,
                "--temperature",
                1,
                "--tokens",
                options.tokens,
                "--seed",
                samples,
            ]
            more = [*judge(options), *drawn, *CPU]
            genus("respond", out / "decoder", "--prompts", prompts, "--out", out / f"{name}.jsonl", *more)
    if not (out / "pairs.jsonl").exists():
        rated = [row for _, row in rows(out / "rated.jsonl")]
        told_of = [row for row in rated if best(row).strip()]  # the end token may come first
        lines(out / "completions.jsonl", [{"prompt": row["prompt"], "completion": best(row)} for row in told_of])
        lines(
            out / "pairs.jsonl",
            [{"prompt": row["prompt"], "chosen": best(row), "rejected": worst(row)} for row in rated],
        )


def lines(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write a table."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in found))


def best(row: dict[str, Any]) -> str:
    """Return the best response of a row."""
    return str(row["responses"][row["best"]])


def worst(row: dict[str, Any]) -> str:
    """Return the response of the smallest reward."""
    return str(row["responses"][row["rewards"].index(min(row["rewards"]))])


def judge(options: argparse.Namespace) -> list[object]:
    """Return the options of the reward."""
    return ["--reward", options.out / "classifier", "--reward-class", "positive"]


def reward_model(options: argparse.Namespace) -> dict[str, Any]:
    """Return how often a reward model of the best of four agrees with the rule that named it."""

    def make() -> dict[str, Any]:
        out = options.out / "reward"
        sets = ["--set", f"finetuning.epochs={1 if options.quick else 3}", "--choices", "responses", "--label", "best"]
        task = ["--task", "preference", "--seeds", 1, *sets]
        genus("finetune", options.out / "decoder", options.out / "rated.jsonl", "--out", out, *task, *CPU)
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        return {"accuracy": report["seeds"][0]["metrics"]["validation"]["accuracy"], "chance": 0.25}

    return once(options.out / "reward", make)


def ways(options: argparse.Namespace) -> dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]]:
    """Return what makes each row of the results, by name."""
    found: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
        "best-of-n": best_of_n,
        "sft-best-of-4": sft,
    }
    for seed in range(options.seeds):
        for beta in options.betas:
            found[f"ppo-beta-{beta:g}-seed-{seed}"] = ppo(["--beta", beta], seed)
        for target in options.targets:
            found[f"ppo-target-{target:g}-seed-{seed}"] = ppo(["--target-kl", target], seed)
        for beta in options.dpo_betas:
            found[f"dpo-{beta:g}-seed-{seed}"] = dpo(beta, seed)
    found["ppo-reward-model-seed-0"] = ppo(["--target-kl", options.targets[-1]], 0, learned=True)
    return found


def best_of_n(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the mean reward of the best of n responses, and the most that their KL can be: log n - (n - 1) / n."""
    rated = [row["rewards"] for _, row in rows(options.out / "held_out_rated.jsonl")]
    points = [
        {"n": n, "kl": math.log(n) - (n - 1) / n, "reward": statistics.mean(max(one[:n]) for one in rated)}
        for n in BEST_OF
    ]
    return {"curve": points, **points[-1]}


def ppo(
    penalty: list[object], seed: int, *, learned: bool = False
) -> Callable[[argparse.Namespace, Path], dict[str, Any]]:
    """Return what trains by PPO, on the classifier's reward, or on that of the reward model."""

    def make(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
        more = ["--resume"] if (folder / "checkpoints").exists() else []
        by: list[object] = ["--reward", options.out / "reward"] if learned else judge(options)
        sets: list[object] = ["--set", f"optimizer.lr={options.rate}", "--run", "checkpoint_every=100", "--seed", seed]
        sets += ["--tokens", options.tokens, "--temperature", 1, "--episodes", options.episodes]
        prompts = options.out / "prompts.jsonl"
        genus(
            "prefer", options.out / "decoder", "--prompts", prompts, "--out", folder, *by, *penalty, *sets, *CPU, *more
        )
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
        made = [row for row in map(json.loads, text.splitlines()) if "rollout/kl" in row]
        names = {"kl": "rollout/kl", "reward": "rollout/raw_reward", "beta": "rollout/beta", "tokens": "rollout/tokens"}
        curve = [{name: row[key] for name, key in names.items()} for row in made]
        kind = "curve_by_reward_model" if learned else "curve"  # the former is in other units
        return measured(options, folder) | {kind: curve, "seed": seed}

    return make


def dpo(beta: float, seed: int) -> Callable[[argparse.Namespace, Path], dict[str, Any]]:
    """Return what trains by DPO."""

    def make(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
        sets = ["--task-set", f"beta={beta}", "--set", f"seed={seed}", "--set", "finetuning.keep=last"]
        sets += ["--set", f"finetuning.epochs={1 if options.quick else 2}"]
        return tuned(options, folder, "pairs", "direct-preference", sets) | {"seed": seed}

    return make


def sft(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fine-tune on the best of four responses."""
    return tuned(
        options, folder, "completions", "completion", ["--set", f"finetuning.epochs={1 if options.quick else 2}"]
    )


def tuned(options: argparse.Namespace, folder: Path, data: str, task: str, sets: list[str]) -> dict[str, Any]:
    """Fine-tune the decoder on a table, and measure it."""
    if not (folder / "report.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        table = options.out / f"{data}.jsonl"
        genus("finetune", options.out / "decoder", table, "--out", folder, "--task", task, "--seeds", 1, *sets, *CPU)
    return measured(options, folder)


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the reward of a policy's responses to held-out prompts, and their KL to the decoder."""
    source, start = read_model(folder), read_model(options.out / "decoder")
    sets = {"tokens": options.tokens, "temperature": 1.0}
    recipe = settled(policy_recipe(start).overlay({"objectives": {"0": {"rollouts": sets}}}), 64)
    reward = Reward(options.out / "classifier", read_model(options.out / "classifier"), "positive")
    prompts = [row["prompt"] for _, row in rows(options.out / "held_out.jsonl")]
    name, value = (one.name for one in recipe.objectives)
    policy = Policy(
        recipe.model,
        start.tokenizer,
        built(start, recipe).eval(),
        name,
        value,
        reward,
        rollouts_of(recipe),
        0,
        "float32",
    )
    found = policy.measured(built(source, recipe).eval(), prompts, (0.0, 1.0))
    return {key: found[key] for key in ("reward", "kl", "entropy")}


def brief(found: dict[str, Any]) -> str:
    """Return a result in a few words."""
    return f"reward {found['reward']:.2f} at {found['kl']:.2f} nats"


if __name__ == "__main__":
    main()
