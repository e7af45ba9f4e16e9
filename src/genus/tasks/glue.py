"""The GLUE tasks as data: columns and metrics (Wang et al. 2018, table 1; arXiv:1804.07461).

Of two metrics, the first is the one that Devlin et al. 2018, section 4.1, report: F1 for MRPC and QQP, Spearman for
STS-B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.evaluate.metrics import F1, Accuracy, Matthews
from genus.tasks.classification import Classification
from genus.tasks.regression import Regression

if TYPE_CHECKING:
    from genus.tasks import Task

GLUE: dict[str, Task] = {
    "cola": Classification(texts=("sentence",), metrics=(Matthews(), Accuracy())),
    "sst2": Classification(texts=("sentence",)),
    "mrpc": Classification(texts=("sentence1", "sentence2"), metrics=(F1(), Accuracy())),
    "stsb": Regression(texts=("sentence1", "sentence2")),
    "qqp": Classification(texts=("question1", "question2"), metrics=(F1(), Accuracy())),
    "mnli": Classification(texts=("premise", "hypothesis")),
    "qnli": Classification(texts=("question", "sentence")),
    "rte": Classification(texts=("sentence1", "sentence2")),
    "wnli": Classification(texts=("sentence1", "sentence2")),
}
