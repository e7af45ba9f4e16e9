"""Model folders of every head, of random weights, and requests of the Open Inference Protocol, for its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from genus.objectives.supervised.choice import MultipleChoice
from genus.objectives.supervised.embedding import Prompt, SentenceEmbedder
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.objectives.supervised.token import TokenClassification
from genus.serve.limits import Limits
from serving import small_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives.supervised import FineTuned

HEAD = "Inference-Header-Content-Length"
HEADS: dict[str, FineTuned] = {
    "embedder": SentenceEmbedder(prompts=(Prompt(name="query", text="seven "),)),
    "labels": SequenceClassification(labels=("good", "bad", "größer"), texts=1),
    "several": MultiLabelClassification(labels=("a", "b"), texts=1),
    "pairs": SequenceRegression(texts=2),
    "relevance": MultiLabelClassification(labels=("relevant",), texts=2),
    "tags": TokenClassification(labels=("B-PER", "I-PER", "O"), usual="O"),
    "answers": SpanExtraction(null_threshold=0.0),
    "choices": MultipleChoice(),
}
LIMITS = Limits(texts=32, tokens=4000, body_bytes=100_000)


def model_folders(where: Path) -> dict[str, Path]:
    """Write model folders and return them by name."""
    found = {name: small_model(where / name, objective=head) for name, head in HEADS.items()}
    return found | {"masked": small_model(where / "masked"), "causal": small_model(where / "causal", "gpt/tiny")}


def tensor(name: str, data: Any) -> dict[str, Any]:
    """Return an input of texts in JSON."""
    return {"name": name, "shape": [*np.array(data, object).shape], "datatype": "BYTES", "data": data}
