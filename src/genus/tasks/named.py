"""Tasks by the names of their public datasets: columns and metrics, and the sequence length of the papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.tasks.choice import Choice
from genus.tasks.glue import GLUE, GLUE_AS_TEXT
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.tagging import Tagging

if TYPE_CHECKING:
    from genus.tasks import Task


@dataclass(frozen=True, slots=True)
class Named:
    """The task of a dataset, as its tables have it."""

    task: Task
    max_length: int | None = None
    """Tokens of a sequence in the papers; None: those of the model's own settings."""


NAMED: dict[str, Named] = {
    **{name: Named(task) for name, task in {**GLUE, **GLUE_AS_TEXT}.items()},
    # BERT's released code, run_squad.py: max_seq_length 384, doc_stride 128
    "squad": Named(QuestionAnswering(), max_length=384),
    "squad2": Named(QuestionAnswering(), max_length=384),
    "conll2003": Named(Tagging()),
    # fairseq, examples/roberta/README.race.md: sequences of 512
    "race": Named(Choice(texts=("article", "question"), choices=("options",), label="answer"), max_length=512),
    "race-passages": Named(
        Choice(texts=("article", "questions"), choices=("options",), label="answers"), max_length=512
    ),
    "dream": Named(Choice(texts=("dialogue", "question"), choices=("choice",), label="answer"), max_length=512),
    "arc": Named(Choice(texts=("question",), choices=("choices",), label="answerKey")),
    "xcopa": Named(Choice(texts=("premise", "question"), choices=("choice1", "choice2"), label="label")),
}
"""The columns are those of Hugging Face's hub; `race-passages` has all questions of a passage in one row."""
