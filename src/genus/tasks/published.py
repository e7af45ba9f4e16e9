"""What papers report on public datasets, as they wrote it, to stand beside one's own results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Published:
    """Scores of one model by the name of the task, in percent; of two metrics as the paper has them."""

    model: str
    where: str
    """Paper, table, and which rows the scores are of."""
    scores: Mapping[str, str]


GLUE_TASKS = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")
_BERT = "Devlin et al. 2018, table 1, test: F1 of QQP and MRPC, Spearman of STS-B, MNLI matched/mismatched"
_ROBERTA = "Liu et al. 2019, table 5, development set, MNLI matched/mismatched"
_ROBERTA_TASKS = ("mnli", "qnli", "qqp", "rte", "sst2", "mrpc", "cola", "stsb", "wnli")


def _row(model: str, where: str, tasks: tuple[str, ...], scores: str) -> Published:
    """Return a table's row, whose cells are separated by white space; `-` is none."""
    found = dict(zip(tasks, scores.split(), strict=True))
    return Published(model, where, {task: score for task, score in found.items() if score != "-"})


GLUE_PUBLISHED = (
    _row("BiLSTM+ELMo+Attn", _BERT, GLUE_TASKS, "76.4/76.1 64.8 79.8 90.4 36.0 73.3 84.9 56.8"),
    _row("OpenAI GPT", _BERT, GLUE_TASKS, "82.1/81.4 70.3 87.4 91.3 45.4 80.0 82.3 56.0"),
    _row("BERT base", _BERT, GLUE_TASKS, "84.6/83.4 71.2 90.5 93.5 52.1 85.8 88.9 66.4"),
    _row("BERT large", _BERT, GLUE_TASKS, "86.7/85.9 72.1 92.7 94.9 60.5 86.5 89.3 70.1"),
    _row("BERT large", _ROBERTA, _ROBERTA_TASKS, "86.6 92.3 91.3 70.4 93.2 88.0 60.6 90.0 -"),
    _row("XLNet large", _ROBERTA, _ROBERTA_TASKS, "89.8 93.9 91.8 83.8 95.6 89.2 63.6 91.8 -"),
    _row("RoBERTa", _ROBERTA, _ROBERTA_TASKS, "90.2/90.2 94.7 92.2 86.6 96.4 90.9 68.0 92.4 91.3"),
)
_ALBERT = "Lan et al. 2019, table 2, development set, SQuAD F1/EM, 125,000 steps on books and Wikipedia"
_ALBERT_TASKS = ("squad", "squad2", "mnli", "sst2", "race")
_BASE = "Liu et al. 2019, table 2, development set, SQuAD F1, base models on books and Wikipedia"
PUBLISHED = (
    *GLUE_PUBLISHED,
    _row("BERT base", _ALBERT, _ALBERT_TASKS, "90.4/83.2 80.4/77.6 84.5 92.8 68.2"),
    _row("BERT large", _ALBERT, _ALBERT_TASKS, "92.2/85.5 85.0/82.2 86.6 93.0 73.9"),
    _row("ALBERT base", _ALBERT, _ALBERT_TASKS, "89.3/82.3 80.0/77.1 81.6 90.3 64.0"),
    _row("ALBERT xxlarge", _ALBERT, _ALBERT_TASKS, "94.1/88.3 88.1/85.1 88.0 95.2 82.3"),
    _row("RoBERTa (full sentences)", _BASE, _ALBERT_TASKS, "90.4 79.1 84.7 92.5 64.8"),
    _row("XLNet base (K = 7)", _BASE, _ALBERT_TASKS, "- 81.3 85.8 92.7 66.1"),
)
"""Copied from the course's slides, which show the papers' tables; CoNLL-2003 is in none of them."""


def on(*tasks: str) -> list[Published]:
    """Return what is published on any of the tasks, with the scores on these only."""
    found = [Published(one.model, one.where, {t: one.scores[t] for t in tasks if t in one.scores}) for one in PUBLISHED]
    return [one for one in found if one.scores]
