"""Hugging Face's class of a row's size, trained by `transformers.Trainer` for so many seconds.

What nobody chooses is the default of the installed `TrainingArguments` (in 5.23.0 training_args.py, lines 777 to 867:
batches of 8, a learning rate of 5e-5 that falls linearly from the first step on, AdamW with betas of 0.9 and 0.999, no
weight decay, gradients clipped at norm 1) and of the class, dropout among it. Text is cut as the examples run_mlm.py
and run_clm.py of transformers do it, and masked by its `DataCollatorForLanguageModeling`: 15 %, of these 80/10/10.
"""

from __future__ import annotations

import json
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from contenders import Levers, build
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from genus.export.layouts import layout_for
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.train.precision import number_format

if TYPE_CHECKING:
    from pathlib import Path

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

    from genus.optim import Schedule
    from genus.recipe import Recipe

ENDLESS = 1 << 40
"""Steps: the clock ends a run."""
TOLD = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "per_device_train_batch_size",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "weight_decay",
    "max_grad_norm",
    "bf16",
)
"""Arguments that stand in the results."""


class Clock(TrainerCallback):
    """Ends a training after so many seconds, and tells how much of them is spent."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.begun = seconds, 0.0

    @property
    def passed(self) -> float:
        """Seconds since training began, 0 before."""
        return time.perf_counter() - self.begun if self.begun else 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begin."""
        self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop where the seconds are spent."""
        if self.passed >= self.seconds:
            control.should_training_stop = True


class TimedTrainer(Trainer):
    """A `Trainer` whose learning rate depends on the seconds spent, as ours does, so that it ends at 0 with them.

    Its own schedule needs the number of steps in advance. Its default's curve is the same: Linear equals transformers'
    `get_linear_schedule_with_warmup`, with the fraction of the seconds in place of that of the steps.
    """

    def __init__(self, clock: Clock, curve: Schedule, **arguments: Any) -> None:
        self.clock, self.curve = clock, curve
        super().__init__(callbacks=[clock], **arguments)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """Return the schedule; Trainer asks it for the next learning rate after every step."""
        curve, clock = self.curve, self.clock
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda _: curve.factor(min(1.0, clock.passed / clock.seconds))
        )
        return self.lr_scheduler


def ours(recipe: Recipe) -> dict[str, Any]:
    """Return the arguments that train as a recipe says: optimizer, batch, precision."""
    optimizer = recipe.optimizer
    assert isinstance(optimizer, AdamW)
    return {
        "learning_rate": optimizer.lr,
        "per_device_train_batch_size": recipe.stages[0].batch,
        "adam_beta1": optimizer.betas[0],
        "adam_beta2": optimizer.betas[1],
        "adam_epsilon": optimizer.eps,
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.clip_norm or 0.0,
        "bf16": number_format("auto", torch.device("cpu")) is torch.bfloat16,
    }


def train(recipe: Recipe, words: Path, text: Path, folder: Path, *, tuned: bool) -> dict[str, Any]:
    """Train the class of a recipe's size for the seconds of its budget; return what it took.

    Args:
        recipe: gives the size, the length of a row, the seconds and the seed.
        words: the tokenizer's folder.
        text: the documents, as JSON lines.
        folder: receives the model, in `model`.
        tuned: with the recipe's optimizer, schedule, batch and dropout, not the defaults.
    """
    tokenizer = AutoTokenizer.from_pretrained(words)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=ENDLESS,
        seed=recipe.seed,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        include_num_input_tokens_seen=True,
        **(ours(recipe) if tuned else {}),
    )
    masked = "mask" in recipe.objectives[0].needs_tokens
    clock = Clock(recipe.budget.amount)
    trainer = TimedTrainer(
        clock,
        recipe.schedule if tuned else Linear(warmup=0.0),
        model=model(recipe, tokenizer, own_dropout=not tuned),
        args=arguments,
        data_collator=DataCollatorForLanguageModeling(tokenizer) if masked else default_data_collator,
        train_dataset=blocks(text, tokenizer, recipe.stages[0].max_length),
        processing_class=tokenizer,
    )
    trainer.train()
    seconds = clock.passed
    trainer.save_model(str(folder / "model"))
    state = trainer.state
    told = {name: getattr(trainer.args, name) for name in TOLD}
    return {
        "tokens": state.num_input_tokens_seen,
        "steps": state.global_step,
        "seconds": seconds,
        "class": type(trainer.model).__name__,
        "arguments": told | {"optim": told["optim"].value, "lr_scheduler_type": told["lr_scheduler_type"].value},
    }


def model(recipe: Recipe, tokenizer: Any, *, own_dropout: bool) -> Any:
    """Return the class that an export of the recipe names for its first objective, with random weights.

    Args:
        recipe: gives the sizes and the seed.
        tokenizer: gives the number of pieces.
        own_dropout: with the class's default rates, not the recipe's.
    """
    found = layout_for(recipe.exported, [recipe.objectives[0].name])
    assert found is not None
    _, config = found
    (architecture,) = config.pop("architectures")
    if own_dropout:
        config = {key: value for key, value in config.items() if "drop" not in key}
    torch.manual_seed(recipe.seed)
    levers = Levers(compiled=False)
    return build(architecture, config, len(tokenizer), tokenizer.pad_token_id, levers, torch.device("cpu"))


def blocks(text: Path, tokenizer: Any, length: int) -> list[dict[str, list[int]]]:
    """Return all documents one after the other, cut into blocks of one length; what remains is dropped.

    Each has its own ids as labels, which the class of a causal model shifts, and a collator that masks replaces.
    """
    documents = [json.loads(line)["text"] for line in text.read_text(encoding="utf-8").splitlines()]
    encoded = tokenizer(documents, return_special_tokens_mask=True)
    joined = {key: list(chain.from_iterable(lists)) for key, lists in encoded.items()}
    starts = range(0, len(joined["input_ids"]) // length * length, length)
    joined["labels"] = joined["input_ids"]
    return [{key: ids[start : start + length] for key, ids in joined.items()} for start in starts]
