"""The GLUE tasks as data: columns and metrics (Wang et al. 2018, table 1; arXiv:1804.07461).

Of two metrics, the first is the one that Devlin et al. 2018, section 4.1, report: F1 for MRPC and QQP, Spearman for
STS-B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.evaluate.metrics import F1, Accuracy, Matthews, Pearson, Spearman
from genus.tasks.classification import Classification
from genus.tasks.regression import Regression
from genus.tasks.text_to_text import TextToText

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

OFFICIAL: dict[str, dict[str, str | list[str]]] = {
    "mrpc": {"texts": ["#1 String", "#2 String"], "label": "Quality"},
    "stsb": {"label": "score"},
    "qqp": {"label": "is_duplicate"},
    "mnli": {"texts": ["sentence1", "sentence2"], "label": "gold_label"},
}
"""Columns of the tables of GLUE's own site, where they differ from those of Hugging Face's hub, as tensorflow_datasets'
glue.py reads them; CoLA's has no header."""

NLI = ("entailment", "neutral", "contradiction")
GLUE_AS_TEXT: dict[str, TextToText] = {
    "cola-as-text": TextToText(
        texts=("sentence",),
        prefix="cola sentence: ",
        label="label",
        names=("unacceptable", "acceptable"),
        metrics=(Matthews(), Accuracy()),
    ),
    "sst2-as-text": TextToText(
        texts=("sentence",),
        prefix="sst2 sentence: ",
        label="label",
        names=("negative", "positive"),
        metrics=(Accuracy(),),
    ),
    "mrpc-as-text": TextToText(
        texts=("sentence1", "sentence2"),
        prefix="mrpc ",
        label="label",
        names=("not_equivalent", "equivalent"),
        metrics=(F1(), Accuracy()),
    ),
    "stsb-as-text": TextToText(
        texts=("sentence1", "sentence2"),
        prefix="stsb ",
        label="label",
        step=0.2,
        metrics=(Spearman(), Pearson()),
    ),
    "qqp-as-text": TextToText(
        texts=("question1", "question2"),
        prefix="qqp ",
        label="label",
        names=("not_duplicate", "duplicate"),
        metrics=(F1(), Accuracy()),
    ),
    "mnli-as-text": TextToText(
        texts=("hypothesis", "premise"), prefix="mnli ", label="label", names=NLI, metrics=(Accuracy(),)
    ),
    "qnli-as-text": TextToText(
        texts=("question", "sentence"),
        prefix="qnli ",
        label="label",
        names=("entailment", "not_entailment"),
        metrics=(Accuracy(),),
    ),
    "rte-as-text": TextToText(
        texts=("sentence1", "sentence2"),
        prefix="rte ",
        label="label",
        names=("entailment", "not_entailment"),
        metrics=(Accuracy(),),
    ),
    "wnli-as-text": TextToText(
        texts=("sentence1", "sentence2"),
        prefix="wnli ",
        label="label",
        names=("not_entailment", "entailment"),
        metrics=(Accuracy(),),
    ),
}
"""The same as text to text: prefixes, columns in alphabetical order, labels in words, similarity in steps of 0.2; an
answer that is no label is wrong (Raffel et al. 2019, appendix D; released code, t5/data/preprocessors.py: glue, stsb,
and t5/data/glue_utils.py; the names of the labels are those of tensorflow_datasets)."""
