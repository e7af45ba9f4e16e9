"""What an attack on a table came to: an outcome for each row, and the report on all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.attack.transfer import Transferred
from genus.evaluate.bert_score import BertScore
from genus.evaluate.interval import Interval, bootstrapped_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.part import Json

QUANTILES = {"least": 0.0, "lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "largest": 1.0}


@dataclass(frozen=True)
class Outcome:
    """What came of one row."""

    number: int
    """Of the row among those with a label, from 0 on."""
    line: int
    """Of the row in its table."""
    label: str
    before: str
    """What the classifier tells of the texts as they are."""
    after: str
    """What it tells of the changed ones, tokenized anew; as `before` where it was wrong, so that nothing was tried."""
    texts: tuple[str, ...]
    changed: str
    """The text that was changed, as the attack left it."""
    attacked: int
    """Index of that text."""
    queries: int
    seconds: float
    tokens_changed: float
    """Share of the tokens of the text that changed."""
    similarity: BertScore
    cosine: float
    """Of the mean states of both texts by the same encoder."""
    perplexities: tuple[float, float] | None
    """Under the causal language model, before and after; None without one, or of a text without a token."""
    transferred: Transferred | None = None

    @property
    def right(self) -> bool:
        """Whether the classifier is right of the texts as they are, so that they are attacked."""
        return self.before == self.label

    @property
    def fooled(self) -> bool:
        """Whether it was right, and errs on the changed texts."""
        return self.right and self.after != self.label

    @classmethod
    def from_json(cls, found: Json) -> Outcome:
        """Return the outcome of a written one."""
        own = dict(found)
        own |= {"texts": tuple(found["texts"]), "similarity": BertScore(**found["similarity"])}
        own["perplexities"] = found["perplexities"] and tuple(found["perplexities"])
        own["transferred"] = found["transferred"] and Transferred(**found["transferred"])
        return cls(**own)


@dataclass(frozen=True)
class Spread:
    """How numbers are distributed."""

    mean: float
    quantiles: dict[str, float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the mean and quantiles; None of no numbers."""
        if not values:
            return None
        found = np.quantile(values, [*QUANTILES.values()]).tolist()
        return cls(float(np.mean(values)), dict(zip(QUANTILES, found, strict=True)))


@dataclass(frozen=True)
class OfClass:
    """The rows of one class."""

    label: str
    rows: int
    right: int
    """Of which the classifier is right before the attack."""
    fooled: int
    recall: float | None
    """Mean BERTScore recall of those on which it was fooled; None where there are none."""


@dataclass(frozen=True)
class Report:
    """The report on an attack."""

    model: str
    table: str
    attack: Json
    models: dict[str, str]
    """Folders of the other models, by their use."""
    notes: list[str]
    outcomes: list[Outcome]
    classes: tuple[str, ...]
    transfer: str | None = None
    """Folder of the classifier that the attack was transferred to."""

    @property
    def fooled(self) -> list[Outcome]:
        """The rows on which the classifier was fooled."""
        return [one for one in self.outcomes if one.fooled]

    @property
    def tried(self) -> list[Outcome]:
        """The rows that were attacked."""
        return [one for one in self.outcomes if one.right]

    @property
    def accuracies(self) -> dict[str, Interval]:
        """Accuracy before and after, and of the other classifier, with bootstrap intervals over rows."""
        found = {
            "accuracy before": share(self.outcomes, lambda one: one.right),
            "accuracy after": share(self.outcomes, lambda one: one.right and not one.fooled),
        }
        moved = [one.transferred for one in self.outcomes if one.transferred is not None]
        if moved:
            found["accuracy of the other before"] = share(moved, lambda one: one.right)
            found["accuracy of the other after"] = share(moved, lambda one: one.right and not one.fooled)
        return found

    @property
    def spreads(self) -> dict[str, Spread | None]:
        """Distributions over the rows on which the classifier was fooled; of queries and seconds over those tried."""
        fooled, tried = self.fooled, self.tried
        told = [one.perplexities for one in fooled if one.perplexities is not None]
        moved = [one.transferred for one in tried if one.transferred is not None and one.transferred.right]
        found = {
            "BERTScore recall": [one.similarity.recall for one in fooled],
            "BERTScore precision": [one.similarity.precision for one in fooled],
            "BERTScore F1": [one.similarity.f1 for one in fooled],
            "cosine similarity": [one.cosine for one in fooled],
            "share of tokens changed": [one.tokens_changed for one in fooled],
            "perplexity before": [before for before, _ in told],
            "perplexity after": [after for _, after in told],
            "queries": [float(one.queries) for one in tried],
            "queries of the other": [float(one.queries) for one in moved],
            "seconds": [one.seconds for one in tried],
        }
        return {name: Spread.of(values) for name, values in found.items()}

    def by_class(self) -> list[OfClass]:
        """Return what came of the rows of each class that occurs."""
        found = []
        for label in self.classes:
            own = [one for one in self.outcomes if one.label == label]
            recalls = [one.similarity.recall for one in own if one.fooled]
            if own:
                right, mean = sum(one.right for one in own), float(np.mean(recalls)) if recalls else None
                found.append(OfClass(label, len(own), right, len(recalls), mean))
        return found

    def to_json(self) -> Json:
        """Return the report as JSON."""
        return {
            "model": self.model,
            "table": self.table,
            "attack": self.attack,
            "models": self.models,
            "transfer": self.transfer,
            "notes": self.notes,
            "rows": len(self.outcomes),
            "attacked": len(self.tried),
            "fooled": len(self.fooled),
            "accuracies": {name: asdict(one) for name, one in self.accuracies.items()},
            "distributions": {name: one and asdict(one) for name, one in self.spreads.items()},
            "classes": [asdict(one) for one in self.by_class()],
            "outcomes": [asdict(one) for one in self.outcomes],
        }


def share(several: Sequence[Any], holds: Callable[[Any], bool]) -> Interval:
    """Return the share of which something holds, with a bootstrap interval."""
    values = [float(holds(one)) for one in several]
    return bootstrapped_mean(values) if len(values) > 1 else Interval(values[0], None, None, 1)
