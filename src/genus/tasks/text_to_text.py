"""Text to text: an encoder-decoder is fine-tuned to write the target of a row, given its source.

Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import LIKELIHOOD, Metric  # a choice is read by its annotation
from genus.evaluate.text_metrics import Perplexity, TokenAccuracy, TokenLoss
from genus.evaluate.written import ExactMatch, referenced
from genus.examples import Example, Sequence
from genus.generate import Decoding, Request  # a choice is read by its annotation
from genus.generate.configuration import Configuration
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.objectives.supervised import SOURCE
from genus.objectives.supervised.text_to_text import Seq2SeqLM
from genus.part import Count, Positive
from genus.tasks import Task
from genus.tasks.cell import label_in, several_in, text_in, written
from genus.tasks.classification import classes
from genus.tasks.encode import in_the_median
from genus.tasks.token_targets import EncodedTokens

if TYPE_CHECKING:
    from collections.abc import Sequence as Several
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.examples import Lengths
    from genus.model import Model
    from genus.objectives import Learner, Objective
    from genus.objectives.supervised import FineTuned
    from genus.part import Json
    from genus.tasks.answer import Outputs
    from genus.tasks.dataset import Label, LabeledRow
    from genus.tokens.tokenizer import Tokenizer

NO_NUMBER = -1.0
"""What a text that is no number counts as (released code of T5, t5/data/postprocessors.py, string_to_float)."""


class TextToText(Task):
    """Text to text: a source is read by the encoder, its target is written by the decoder.

    The source is the prefix and the text; of several columns, each text with its name before it: `sentence1: ...`. A
    list of texts, as sentences, is one text. The target is a label, in words if there are `names`; a list of labels is
    several references, of which the first is learned.

    Source: Raffel et al. 2019, section 2.4 and appendix D.
    """

    learns: ClassVar = Seq2SeqLM
    judged: ClassVar[tuple[str, ...]] = (LIKELIHOOD, "written texts", "classes", "numbers")

    texts: tuple[str, ...] = ("source",)
    label: str = "target"
    metrics: tuple[Metric, ...] = (TokenLoss(), Perplexity(), TokenAccuracy(), ExactMatch())
    prefix: str = ""
    """Text before every source, such as `summarize: `."""
    names: tuple[str, ...] = ()
    """The words for labels that are numbers, from 0."""
    step: Positive | None = None
    """Labels are numbers, written as the nearest multiple of this, with one decimal; None: as they are."""
    decoding: Decoding = Greedy()
    """How texts are written in evaluation, and by the published model where nothing else is said."""
    target_length: Count | None = None
    """The most tokens of a target, special tokens included; None: `finetuning.max_length`."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: no column of texts, no metric, or one that does not judge texts; pairs in both orders.
        """
        if not self.texts or self.symmetric:
            raise UsageError("texts: name the columns of the source; they are read in this order alone")
        self._check_metrics(())

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the source."""
        return self.texts

    @property
    def chosen_by(self) -> tuple[Metric, ...]:
        """All metrics, if the first one judges what is written; else those for which nothing needs to be written."""
        if self.metrics[0].judges != LIKELIHOOD:
            return self.metrics
        return tuple(metric for metric in self.metrics if metric.judges == LIKELIHOOD)

    @property
    def source_prefix(self) -> str:
        """The prefix."""
        return self.prefix

    @property
    def generation(self) -> Json:
        """The decoding, and the length of targets if one is chosen."""
        return Configuration(self.decoding, max_tokens=self.target_length).to_json()

    def generated(self, generation: Json) -> Self:
        """Return the task with the folder's decoding and length."""
        found = Configuration.of(generation, reads_source=True)
        return replace(self, decoding=found.decoding, target_length=found.max_tokens)

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return the source and the targets of a row.

        Raises:
            ValueError: a column holds something else, or a label has no name.
        """
        texts = [self._text(row, column) for column in self.texts]
        if len(texts) > 1:
            texts = [f"{column}: {text}" for column, text in zip(self.texts, texts, strict=True)]
        targets = tuple(self._in_words(one) for one in self._labels(row))
        return (self.prefix + " ".join(texts),), targets[0] if len(targets) == 1 else targets or None

    def _text(self, row: dict[str, Any], column: str) -> str:
        """Return the text of a column; of a list, all of it."""
        if isinstance(row[column], list):
            return " ".join(written(one, column) for one in row[column])
        return text_in(row, column)

    def _labels(self, row: dict[str, Any]) -> list[str]:
        """Return the labels of a row."""
        if isinstance(row.get(self.label), list):
            several = several_in(row, self.label, "targets") or []
            return [text for one in several if (text := written(one, self.label).strip())]
        label = label_in(row, self.label)
        return [] if label is None else [label]

    def _in_words(self, label: str) -> str:
        """Return the target of a label."""
        if self.step is not None:
            try:
                return f"{round(float(label) / self.step) * self.step:.1f}"
            except ValueError:
                raise ValueError(f"column {self.label!r}: {label!r:.80} is no number") from None
        if not self.names or label in self.names:
            return label
        if not label.isdecimal() or int(label) >= len(self.names):
            raise ValueError(f"column {self.label!r}: {label!r:.80} is no number from 0 to {len(self.names) - 1}, and "
                             f"none of {', '.join(self.names)}")  # fmt: skip
        return self.names[int(label)]

    def objective(self, labels: Several[str]) -> Seq2SeqLM:
        """Return the objective, which knows the classes if a metric judges them.

        Raises:
            GenusError: there is only one class.
        """
        if not any(metric.judges == "classes" for metric in self.metrics):
            return Seq2SeqLM(texts=1)
        return Seq2SeqLM(texts=1, labels=self.names or classes(labels, self.label))

    def pretrained(self, objectives: Several[Objective], model: Model) -> Seq2SeqLM | None:
        """Return the objective of a model that writes without fine-tuning too.

        Raises:
            UsageError: the model reads no source.
        """
        return Seq2SeqLM(texts=1, labels=self.names).continued(objectives, model)

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Several[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedPairs:
        """Tokenize sources and targets, each by itself; of one that is too long the end is cut.

        Where both are one sequence, this has `max_length`; the target gets `target_length` of it, by default a half.

        Raises:
            GenusError: the lengths leave no room for text beside the special tokens.
        """
        vocabulary, apart = tokenizer.vocabulary, SOURCE in objective.adds
        longest = self.target_length or (max_length if apart else max_length // 2)
        whole = max_length if apart else max_length - longest + vocabulary.target_start
        rooms = whole - vocabulary.framing(1), longest - vocabulary.target_framing
        if min(rooms) < 1:
            raise GenusError(f"max_length: {whole} of a source, {longest} of a target leave no room for text "
                             "between the special tokens; take more")  # fmt: skip
        targets = [row.labels[0] if row.labels else "" for row in rows]
        sources = tokenizer.encode([text for row in rows for text in row.texts], specials=False)
        wanted = tokenizer.encode(targets, specials=False)
        over = [
            np.array([len(ids) - room for ids in side]) for side, room in zip((sources, wanted), rooms, strict=True)
        ]
        kept = [min(len(ids), rooms[1]) / max(1, len(ids)) for ids in wanted]
        return EncodedPairs(
            texts=[
                (np.array(source[: rooms[0]], np.int32), np.array(target[: rooms[1]], np.int32))
                for source, target in zip(sources, wanted, strict=True)
            ],
            labels=np.array([row.label is not None for row in rows]),
            target=objective.target,
            vocabulary=vocabulary,
            max_length=whole,
            cut=over[0][over[0] > 0],
            objective=objective,
            size=np.array([len(target.encode()) for target in targets]) * np.array(kept),
            references=tuple(row.labels for row in rows),
            tokenizer=tokenizer,
            decoding=self.decoding,
            target_length=longest,
            cut_targets=over[1][over[1] > 0],
        )


@dataclass(frozen=True)
class EncodedPairs(EncodedTokens):
    """Tokenized sources with their targets. A target is each token that the decoder writes, and the end token."""

    references: tuple[tuple[str, ...], ...]
    """The targets of each row as they are written; none where it has none."""
    tokenizer: Tokenizer
    decoding: Decoding
    target_length: int
    """The most tokens that are written."""
    cut_targets: NDArray[np.int64]
    """(K,) how many tokens each of those targets lost that were too long."""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) lengths of the decoder's sequences in tokens, special tokens included; of one sequence all of it."""
        target = np.array([len(target) for _, target in self.texts]) + self.vocabulary.target_framing
        return target if self.of_two_streams else self._sources + target - self.vocabulary.target_start

    @cached_property
    def stream_lengths(self) -> Lengths:
        """Lengths in tokens by stream."""
        return {"tokens": self.lengths} | ({SOURCE: self._sources} if self.of_two_streams else {})

    @property
    def longest(self) -> NDArray[np.int64]:
        """(N,) tokens of each row, on both sides."""
        return np.array(sum(self.stream_lengths.values()))

    @property
    def of_two_streams(self) -> bool:
        """Whether the model reads sources as a stream of their own."""
        return SOURCE in self.objective.adds

    @property
    def _sources(self) -> NDArray[np.int64]:
        """(N,) lengths of the sources in tokens, special tokens included."""
        return np.array([len(source) for source, _ in self.texts]) + self.vocabulary.framing(1)

    def streams(self, index: int) -> Example:
        """Return what the encoder and the decoder read of a row; without a target, no token is learned."""
        source, target = (ids.astype(np.int64) for ids in self.texts[index])
        tokens = Sequence(*self.vocabulary.frame_target(target))
        if not self.labels[index]:
            tokens = replace(tokens, learned=np.zeros(len(tokens.ids), dtype=np.bool_))
        return Example({SOURCE: Sequence(*self.vocabulary.frame(source)), "tokens": tokens}, {})

    @property
    def is_empty(self) -> bool:
        """Whether no row has a token of source and target."""
        return not any(len(source) and len(target) for source, target in self.texts)

    @property
    def warnings(self) -> list[str]:
        """Messages on empty and cut texts; none if there are none."""
        found, rows = [], f"{len(self):,} rows"
        empty = sum(not len(source) for source, _ in self.texts)
        wordless = sum(
            not len(target) and any(given) for (_, target), given in zip(self.texts, self.references, strict=True)
        )
        for number, what in ((empty, "source"), (wordless, "target")):
            if number:
                found.append(f"{number:,} of {rows} have an empty {what}, or one of which the tokenizer leaves nothing")
        source = f"finetuning.max_length={self.max_length}" if self.of_two_streams else str(self.max_length)
        for lost, what, most in (
            (self.cut, "source", source),
            (self.cut_targets, "target", f"target_length={self.target_length}"),
        ):
            if len(lost):
                found.append(f"{len(lost):,} of {rows} have a {what} over {most} tokens, which loses its end, "
                             f"{in_the_median(lost)}; take more")  # fmt: skip
        return found

    def written(self, learner: Learner, model: Model, precision: str) -> list[str]:
        """Return what the decoder writes for each source."""
        engine = Engine(learner, model, self.tokenizer, precision=precision)
        sources = (self.streams(index).streams[SOURCE].ids for index in range(len(self)))
        requests = [Request(ids.tolist(), self.target_length) for ids in sources]
        order = np.argsort([len(request.prompt) for request in requests], kind="stable")[::-1]
        found = engine.generate([requests[index] for index in order], self.decoding)
        texts = dict(zip(order.tolist(), (results[0].text.strip() for results in found), strict=True))
        return [texts[index] for index in range(len(self))]

    def for_metrics(self, objective: FineTuned, outputs: Outputs, judges: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return truth and predictions of the labeled rows: likelihoods, texts, their classes, or their numbers."""
        if judges == LIKELIHOOD:
            return self.likelihoods(outputs)
        assert outputs.texts is not None, "nothing was written"
        texts = [text for text, given in zip(outputs.texts, self.labels, strict=True) if given]
        truth = [several for several in self.references if several]
        if judges == "classes":
            number = {label: place for place, label in enumerate(objective.classes)}
            none = len(number)
            return np.array([number.get(one[0], none) for one in truth]), np.array(
                [number.get(one, none) for one in texts]
            )
        if judges == "numbers":
            return np.array([_number(one[0]) for one in truth]), np.array([_number(one) for one in texts])
        return referenced(truth), np.array(texts, dtype=object)

    def answers(self, objective: FineTuned, outputs: Outputs) -> list[tuple[Any, Any]]:
        """Return what is written for each row, with nats and tokens of its target, where it has one."""
        assert outputs.texts is not None, "nothing was written"
        scores = [told for _, told in super().answers(objective, outputs)]
        return list(zip(outputs.texts, scores, strict=True))


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return NO_NUMBER
    return found if np.isfinite(found) else NO_NUMBER
