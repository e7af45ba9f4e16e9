"""Free answers by prompt: what the model writes, of which an answer is extracted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, ClassVar, Literal

from genus.errors import UsageError
from genus.part import Count
from genus.prompts import Answered, PromptedTask
from genus.prompts.columns import compiled
from genus.prompts.template import Template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.prompts import Asked, TableRow
    from genus.prompts.answerer import Answerer


class Generation(PromptedTask):
    """A free answer, by greedy decoding.

        exact_match  share of rows in which what is extracted from the text is the right answer, without the white
                     space around both

    With `shot` as a chain of thought and `extract` as the pattern of its last sentence, the model reasons first.
    """

    scoring: ClassVar[str] = "generation"

    max_tokens: Count = 64
    stop: tuple[str, ...] = ("\n",)
    """Strings before which a text ends."""
    labels: tuple[str, ...] = ()
    """The only texts that are allowed; none: any."""
    extract: str = ""
    """Regular expression of the answer within the text: its first group, or all of it; empty: the text itself."""
    metrics: tuple[Literal["exact_match"], ...] = ("exact_match",)

    def __post_init__(self) -> None:
        """Check expression, stop strings and labels (UsageError)."""
        super().__post_init__()
        compiled(self.extract)
        if "" in self.stop:
            raise UsageError("stop: an empty string would end every text before its first token; leave it out")
        if any(not label.strip() for label in self.labels):
            raise UsageError("labels: one is empty; name it")
        for one, other in itertools.permutations(self.labels, 2):
            if other.startswith(one):
                raise UsageError(f"labels: {one!r} is the beginning of {other!r}, so that a text can mean both; "
                                 "name them otherwise, or take MultipleChoice")  # fmt: skip

    def right_answer(self, row: TableRow) -> str:
        """Return the answer.

        Raises:
            ValueError: it is empty, or none of the labels.
        """
        found = Template(self.answer).filled(row.values).strip()
        if not found:
            raise ValueError(f"the answer {self.answer!r} is empty")
        if self.labels and found not in self.labels:
            raise ValueError(f"the answer {found!r:.60} is none of the labels {', '.join(map(repr, self.labels))}")
        return found

    def answers(self, asked: Sequence[Asked], answerer: Answerer) -> list[Answered]:
        """Return what the model writes for each row, and the answer in it."""
        right = [self.right_answer(one.row) for one in asked]
        prompts = [one.prompt for one in asked]
        long = answerer.too_long(prompts)
        if not answerer.cut and any(long):
            place = str(asked[long.index(True)].row)
            raise UsageError(f"{place}: the prompt has no fewer tokens than the model positions; take fewer --shots, "
                             "or drop its left end (--cut-prompts)")  # fmt: skip
        allowed = [tuple(self.following(one, label) for label in self.labels) for one in asked]
        texts = answerer.generated(prompts, self.max_tokens, self.stop, allowed)
        found = [self.extracted(text) for text in texts]
        return [
            Answered({"exact_match": float(own == answer)}, {"text": text, "predicted": own, "answer": answer}, was_cut)
            for text, own, answer, was_cut in zip(texts, found, right, long, strict=True)
        ]

    def extracted(self, text: str) -> str | None:
        """Return the answer within a text, None if there is none."""
        found = compiled(self.extract).search(text) if self.extract else None
        if self.extract and found is None:
            return None
        return text.strip() if found is None else (found[1 if found.re.groups else 0] or "").strip()
