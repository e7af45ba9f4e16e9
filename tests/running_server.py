"""A server of small models in a thread, for tests that ask it over HTTP."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from genus.objectives.pooling import First
from genus.objectives.supervised.embedding import Prompt, SentenceEmbedder
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from serving import running, small_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genus.serve.limits import Limits

HEADS = {
    "lm": None,
    "embedder": SentenceEmbedder(pooling=First(), prompts=(Prompt(name="query", text="our letter "),)),
    "classifier": SequenceClassification(labels=("good", "bad", "dull"), texts=1),
    "reranker": MultiLabelClassification(labels=("relevant",), texts=2),
    "regressor": SequenceRegression(texts=2, mean=2.0, std=0.5),
}
"""What the models of a server are for, by their names."""


def model_folders(where: Path) -> dict[str, Path]:
    """Write a small model of each kind; return the folders by name."""
    heads = enumerate(HEADS.items())
    return {name: small_model(where / name, objective=head, seed=seed) for seed, (name, head) in heads}


@contextmanager
def served_models(folders: dict[str, Path], limits: Limits | None = None, **options: Any) -> Iterator[httpx.Client]:
    """Context manager: a client of a server of these models, which is ready."""
    with (
        running(folders, limits, **options) as address,
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
    ):
        yield client
