"""A fine-tuning by `transformers.Trainer`, on examples that are tokenized already."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

if TYPE_CHECKING:
    from pathlib import Path

    from finetune_runs import Tuned

    from genus.objectives.supervised import FineTuned


class Stopwatch(TrainerCallback):
    """Measures the seconds from the first update to the last."""

    def __init__(self) -> None:
        self.begun = self.seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begin."""
        self.begun = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """End."""
        self.seconds = time.perf_counter() - self.begun


def train(
    model: Path,
    folder: Path,
    examples: list[dict[str, Any]],
    objective: FineTuned,
    tuned: Tuned,
    seed: int,
    *,
    half: bool,
    grouped: bool,
) -> float:
    """Fine-tune and save to a folder; return the seconds of the updates.

    Args:
        model: the folder of the weights.
        folder: receives the model.
        examples: ids and labels.
        objective: names the classes; none: answers of questions, or numbers.
        tuned: settings.
        seed: of the head, the order and dropout.
        half: bfloat16.
        grouped: batches of texts of alike length.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=tuned.epochs,
        per_device_train_batch_size=tuned.batch,
        learning_rate=tuned.lr,
        weight_decay=0.01,
        warmup_steps=0.1,
        lr_scheduler_type="linear",
        seed=seed,
        use_cpu=True,
        bf16=half,
        train_sampling_strategy="group_by_length" if grouped else "random",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
    )
    classes = dict(enumerate(objective.classes))
    names = {"id2label": classes, "label2id": {name: number for number, name in classes.items()}}
    if "start_positions" in examples[0]:
        kind, options = AutoModelForQuestionAnswering, {}
    elif not objective.pooled:
        kind, options = AutoModelForTokenClassification, names
    else:
        kind, options = AutoModelForSequenceClassification, names if objective.classes else {"num_labels": 1}
    padded = DataCollatorForTokenClassification if kind is AutoModelForTokenClassification else DataCollatorWithPadding
    clock = Stopwatch()
    set_seed(seed)
    trainer = Trainer(
        model=kind.from_pretrained(model, **options),
        args=arguments,
        train_dataset=examples,
        data_collator=padded(tokenizer),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.train()
    trainer.save_model(str(folder))
    return clock.seconds
