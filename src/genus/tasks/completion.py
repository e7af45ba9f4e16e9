"""Completion of prompts, as instruction data have them: a causal language model is fine-tuned on the completions.

Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Metric  # a choice is read by its annotation
from genus.evaluate.text_metrics import BitsPerByte, Perplexity, TokenAccuracy, TokenLoss
from genus.examples import Example, Sequence
from genus.objectives.supervised.completion import CompletionLM
from genus.tasks import Task
from genus.tasks.cell import text_in
from genus.tasks.encode import in_the_median
from genus.tasks.token_targets import EncodedTokens

if TYPE_CHECKING:
    from collections.abc import Sequence as Several
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.model import Model
    from genus.objectives import Objective
    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import Label, LabeledRow
    from genus.tokens.tokenizer import Tokenizer
    from genus.tokens.vocabulary import Vocabulary


class Completion(Task):
    """Completion: a causal language model learns to go on from the prompt of a row with its completion.

    The tokens of completions are targets, and so is the end token after each; those of prompts are given.
    """

    learns: ClassVar = CompletionLM
    judged: ClassVar[tuple[str, ...]] = ("texts",)

    texts: tuple[str, ...] = ("prompt",)
    label: str = "completion"
    metrics: tuple[Metric, ...] = (TokenLoss(), Perplexity(), BitsPerByte(), TokenAccuracy())

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: other than one column of prompts, or a metric that does not judge texts.
        """
        if len(self.texts) != 1:
            raise UsageError(f"texts: expected the one column of the prompts, got {len(self.texts)}")
        super().__post_init__()

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return prompt and completion of a row with the white space around them; None if there is no completion.

        Raises:
            ValueError: a column holds something else.
        """
        (prompt,) = self.texts
        completion = text_in(row, self.label) if self.label in row else ""
        return (text_in(row, prompt),), completion or None

    def objective(self, labels: Several[str]) -> CompletionLM:
        """Return the objective, which goes on with the language model's head."""
        return CompletionLM(texts=1)

    def pretrained(self, objectives: Several[Objective], model: Model) -> CompletionLM:
        """Return the objective of a language model, which completes prompts without fine-tuning too."""
        return CompletionLM(texts=1).continued(objectives, model)

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Several[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedCompletions:
        """Tokenize prompts and completions, each by itself; a row that is too long loses the beginning of its prompt.

        Raises:
            GenusError: `max_length` leaves no room for text beside the special tokens.
        """
        before, after = around(tokenizer.vocabulary)
        room = max_length - len(after) - len(before)
        most = room if len(before) else room - 1  # a completion has something before it
        if most < 1:
            raise GenusError(f"max_length: {max_length} leaves no room for text between the special tokens; take more")
        prompts = tokenizer.encode([row.texts[0] for row in rows], specials=False)
        completions = tokenizer.encode(["".join(row.labels) for row in rows], specials=False)
        texts: list[tuple[NDArray[np.int32], ...]] = []
        for prompt, completion in zip(prompts, completions, strict=True):
            completed = np.array(completion[:most], np.int32)
            over = max(0, len(prompt) + len(completed) - room)
            texts.append((np.array(prompt[over:], np.int32), completed))
        kept = [len(own) / max(1, len(ids)) for (_, own), ids in zip(texts, completions, strict=True)]
        lost = np.array([len(ids) + len(own) - room for ids, own in zip(prompts, completions, strict=True)], np.int64)
        return EncodedCompletions(
            texts=texts,
            labels=np.array([row.label is not None for row in rows]),
            target=objective.target,
            vocabulary=tokenizer.vocabulary,
            max_length=max_length,
            cut=lost[lost > 0],
            objective=objective,
            size=np.array([len("".join(row.labels).encode()) for row in rows]) * np.array(kept),
        )


@dataclass(frozen=True)
class EncodedCompletions(EncodedTokens):
    """Tokenized prompts with their completions. A target is each token of a completion, and the end token after it."""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) lengths in tokens, special tokens included."""
        return np.array([len(self.sequence(index).ids) for index in range(len(self))])

    def streams(self, index: int) -> Example:
        """Return a prompt with its completion."""
        return Example({"tokens": self.sequence(index)}, {})

    def sequence(self, index: int) -> Sequence:
        """Return a prompt with its completion between special tokens, of which those before the completion are given.

        The end token stands at its end, and before a completion that has nothing else before it.
        """
        prompt, completion = (ids.astype(np.int64) for ids in self.texts[index])
        ids, fixed, goes_on = framed(self.vocabulary, prompt, completion)
        return Sequence(ids, np.zeros(len(ids), dtype=np.int64), fixed, learned=goes_on & bool(self.labels[index]))

    @property
    def warnings(self) -> list[str]:
        """Messages on rows that were too long; none if all fit."""
        if not len(self.cut):
            return []
        return [
            f"{len(self.cut):,} of {len(self):,} rows are longer than finetuning.max_length={self.max_length} tokens "
            f"and lose the beginning of their prompts, or the end of longer completions, {in_the_median(self.cut)}; "
            "take more"
        ]


def framed(
    vocabulary: Vocabulary, prompt: NDArray[np.int64], continuation: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return ids of a prompt and what goes on from it, which are special, and which come after the prompt.

    The end token stands at its end, and in front where nothing else does.
    """
    before, after = around(vocabulary)
    if not len(before) + len(prompt):
        before = after[-1:]
    ids = np.concatenate([before, prompt, continuation, after])
    place = np.arange(len(ids)) - len(before) - len(prompt)
    return ids, (place < -len(prompt)) | (place >= len(continuation)), place >= 0


def around(vocabulary: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids before a text and after it: those of the template, and an end token if it does not end so."""
    template = [special for special, _, _ in vocabulary.single]
    at = template.index(None)
    after = template[at + 1 :]
    if vocabulary.end is not None and after[-1:] != [vocabulary.end]:
        after.append(vocabulary.end)
    return np.array(template[:at], dtype=np.int64), np.array(after, dtype=np.int64)
