"""An attack on the rows of a table: restartable, one group of rows after another."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch.nn import functional as F

from genus.attack import Attempt, Example
from genus.attack.models import identity
from genus.attack.outcomes import Outcome
from genus.attack.tokens import changed_share
from genus.errors import UsageError
from genus.evaluate.bert_score import bert_score
from genus.export.weights import fingerprint
from genus.files import expecting, read_json, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.attack import Attack
    from genus.attack.models import Models
    from genus.attack.transfer import Transfer
    from genus.part import Json
    from genus.tasks.dataset import LabeledRow

CHOICES, OUTCOMES = "choices.json", "outcomes.jsonl"
"""Files of an attack: what it was asked with, and what came of each row that is finished."""
Done = Callable[[float, int], None]
"""Called with how many rows are finished, those in work as a share, and of how many."""


@dataclass(frozen=True)
class AttackedTable:
    """The labeled rows of a table, and how they are attacked."""

    models: Models
    attack: Attack
    rows: Sequence[LabeledRow]
    """With a label each."""
    path: Path
    transfer: Transfer | None = None

    @cached_property
    def examples(self) -> list[Example]:
        """The rows as examples.

        Raises:
            GenusError: a label that the classifier does not know.
        """
        labels = self.models.target.task.targets(self.rows, self.models.target.objective, self.path).tolist()
        return [
            Example(number, row.texts, label, self.attack.of_pair(len(row.texts)))
            for number, (row, label) in enumerate(zip(self.rows, labels, strict=True))
        ]

    def choices(self) -> Json:
        """Return all that outcomes depend on, but how many rows are attacked."""
        models, content = self.models, [list(row.content) for row in self.rows]
        return {
            "attack": self.attack.written(),
            "rows": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
            "target": identity(models.target.model),
            "encoder": fingerprint(models.encoder.learner.state_dict()),
            "layer": models.encoder.layer,
            "fluency": identity(models.fluency),
            "masked": identity(models.masked),
            "transfer": None if self.transfer is None else identity(self.transfer.other.model),
            "samples of transfer": None if self.transfer is None else self.transfer.most,
        }

    def outcomes(self, folder: Path, limit: int | None = None, progress: Done | None = None) -> list[Outcome]:
        """Return what came of the first rows; those that are finished in the folder are not attacked again.

        Args:
            folder: holds the outcomes, which are written whole after each group.
            limit: how many rows; None: all.
            progress: is told of rows.

        Raises:
            UsageError: the folder holds an attack by other choices, or the models do not fit.
            GenusError: what it holds is damaged, or a label is unknown.
        """
        self.attack.check(self.models)
        examples, found = self.examples[:limit], begun(folder, self.choices())
        rest = [one for one in examples if one.number not in found]
        told = self.models.target.told([one.texts for one in rest]).tolist()
        wrong = [(one, index) for one, index in zip(rest, told, strict=True) if index != one.label]
        for one, index in wrong:
            found[one.number] = self.outcome(one, Attempt.unchanged(one), index, 0.0)
        tried = [one for one, index in zip(rest, told, strict=True) if index == one.label]
        done = len(examples) - len(tried)
        for group in self.attack.groups(self.models, tried):
            for outcome in self._attacked(group, done, len(examples), progress):
                found[outcome.number] = outcome
            done += len(group)
            write(folder, found)
        write(folder, found)
        return [found[one.number] for one in examples]

    def _attacked(self, group: Sequence[Example], done: int, total: int, progress: Done | None) -> list[Outcome]:
        """Return the outcomes of a group, each with its part of the time."""
        begun_at = time.monotonic()

        def tell(share: float) -> None:
            if progress is not None:
                progress(round(done + share * len(group), 2), total)

        attempts = self.attack.attempts(self.models, group, tell)
        seconds = (time.monotonic() - begun_at) / len(group)
        outcomes = [
            self.outcome(one, attempt, one.label, seconds) for one, attempt in zip(group, attempts, strict=True)
        ]
        tell(1.0)
        return outcomes

    def outcome(self, example: Example, attempt: Attempt, told: int, seconds: float) -> Outcome:
        """Return what came of an attempt: the changed text is read again by all models, from its characters.

        Args:
            example: the row.
            attempt: on it.
            told: index of the class that the classifier tells of the texts as they are.
            seconds: that the attempt took.
        """
        target, encoder, row = self.models.target, self.models.encoder, self.rows[example.number]
        after = int(target.told([example.changed(attempt.text)])[0])
        candidate, reference = encoder.read([attempt.text, example.text])
        ids = target.model.tokenizer.encode([example.text, attempt.text], specials=False)
        both = self.models.perplexity(example.text), self.models.perplexity(attempt.text)
        return Outcome(
            number=example.number,
            line=row.line,
            label=target.classes[example.label],
            before=target.classes[told],
            after=target.classes[after],
            texts=example.texts,
            changed=attempt.text,
            attacked=example.attacked,
            queries=attempt.queries,
            seconds=seconds,
            tokens_changed=changed_share(*ids),
            similarity=bert_score(candidate, reference),
            cosine=float(F.cosine_similarity(candidate.mean_H, reference.mean_H, dim=0)),
            perplexities=None if both[0] is None or both[1] is None else (both[0], both[1]),
            transferred=None if self.transfer is None else self.transfer.transferred(target, example, attempt),
        )


def begun(folder: Path, choices: Json) -> dict[int, Outcome]:
    """Return what is finished in a folder, by the number of the row, and remember the choices there.

    Raises:
        UsageError: it holds an attack by other choices.
        GenusError: what it holds is damaged.
    """
    path, remedy = folder / CHOICES, "take another folder"
    if not path.exists():
        write_json(path, choices)
        return {}
    known = read_json(path)
    if changed := sorted(name for name in {**known, **choices} if known.get(name) != choices.get(name)):
        raise UsageError(f"{folder}: holds an attack by another choice of {changed[0]}; {remedy}")
    if not (folder / OUTCOMES).exists():
        return {}
    with expecting(folder / OUTCOMES, remedy):
        lines = (folder / OUTCOMES).read_text(encoding="utf-8").splitlines()
        found = [Outcome.from_json(json.loads(line)) for line in lines]
    return {one.number: one for one in found}


def write(folder: Path, found: dict[int, Outcome]) -> None:
    """Write all outcomes, in the order of the rows."""
    lines = (json.dumps(asdict(found[number]), ensure_ascii=False) + "\n" for number in sorted(found))
    write_text(folder / OUTCOMES, "".join(lines))
