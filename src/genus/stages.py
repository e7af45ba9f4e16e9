"""Stages of pretraining: periods with their rows, batch and share of the budget, and tasks that take turns in one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.examples.feed.mixture import Mixture
from genus.examples.feed.tasks import TaskFeed, TaskSchedule
from genus.part import Count, Part, Positive, Share

if TYPE_CHECKING:
    from genus.model import Model


class TaskStep(Part):
    """One task of multi-task training: objectives that share training steps, and their number of steps per round."""

    objectives: tuple[str, ...]
    """Names of objectives, such as `masked_lm`."""
    steps: Count = 1


class Stage(Part):
    """A period of pretraining at one sequence length, such as BERT's 90 % of steps at 128 and 10 % at 512."""

    max_length: Count
    """Row length: the longest sequence, special tokens included."""
    batch: Count
    """Batch size: rows of `max_length` tokens per update, over all processes and accumulation steps."""
    micro_batch: Count
    """Rows per forward pass of one process; `batch` is a multiple of it. It bounds memory and changes no result."""
    share: Share = 1.0
    """Fraction of the budget; the shares of a recipe's stages sum to 1."""
    source_length: Count | None = None
    """Row length of the stream `source`, for models that read one."""

    @property
    def limits(self) -> dict[str, int]:
        """Row length in tokens, by stream."""
        source = {} if self.source_length is None else {"source": self.source_length}
        return {"tokens": self.max_length} | source

    @property
    def updated(self) -> tuple[str, ...] | None:
        """Patterns of the names of the parameters that are updated; None: all."""
        return None

    def fitted(self, model: Model) -> Stage:
        """Return the stage with rows of other streams as the model reads them; here as they are."""
        return self

    def whole(self) -> Stage:
        """Return the stage without task steps: all objectives learn from every step."""
        return Stage(
            max_length=self.max_length,
            batch=self.batch,
            micro_batch=self.micro_batch,
            share=self.share,
            source_length=self.source_length,
        )

    def cycle(self, names: tuple[str, ...]) -> tuple[TaskStep, ...]:
        """Return the task steps of a round, for objectives of these names: here one task step with all of them."""
        return (TaskStep(objectives=names),)

    def feed(self, feeds: tuple[TaskFeed, ...], seed: int) -> TaskSchedule | Mixture:
        """Return the feed of the stage from those of its task steps, which here alternate step by step."""
        return TaskSchedule(feeds, self.batch // self.micro_batch, seed)


class PartialStage(Stage):
    """A stage in which only some parameters are updated; the gradients of the others are computed, and dropped."""

    trainable: tuple[str, ...]
    """Names of the parameters that are updated, with * for any text, as in `network.encoder.*`."""

    def whole(self) -> Stage:
        """Return the stage, which has no task steps."""
        return self

    @property
    def updated(self) -> tuple[str, ...] | None:
        """The names, as `trainable`."""
        return self.trainable


class ImageStage(Stage):
    """A stage of images and texts: a row of each stream holds one pair, or as many as fit."""

    image_length: Count
    """Row length of the stream `image`: patches of an image, and its class token."""

    @property
    def limits(self) -> dict[str, int]:
        """Row length in tokens, by stream."""
        return {**super().limits, "image": self.image_length}

    def whole(self) -> Stage:
        """Return the stage, which has no task steps."""
        return self

    def fitted(self, model: Model) -> Stage:
        """Return the stage with rows as long as an image of the model."""
        return replace(self, image_length=model.max_length_of("image") or self.image_length)


class MultiTaskStage(Stage):
    """A multi-task stage: each step trains the objectives of one task; objectives without a task do not learn here.

    The objectives of any member can be trained one after the other (continual), side by side (multi-task), or with new
    ones joining the old (continual multi-task; Sun et al. 2019, ERNIE 2.0, section 3.1).
    """

    tasks: tuple[TaskStep, ...]

    def cycle(self, names: tuple[str, ...]) -> tuple[TaskStep, ...]:
        """Return the task steps of a round, as `tasks` lists them."""
        return self.tasks


class MixtureStage(Stage):
    """Temperature-scaled mixing: each batch mixes rows of all tasks, in proportion to min(size, limit)^(1/temperature).

    The size of a task is the number of examples that its format makes of the corpus; its `steps` are not read.

    Source: Raffel et al. 2019, section 3.5.2.
    """

    tasks: tuple[TaskStep, ...]
    limit: Count | None = None
    """K, the artificial limit on the size of a task, in examples."""
    temperature: Positive = 1.0
    """T: 1 mixes in proportion to size, a large T mixes equally."""

    def cycle(self, names: tuple[str, ...]) -> tuple[TaskStep, ...]:
        """Return the tasks."""
        return self.tasks

    def feed(self, feeds: tuple[TaskFeed, ...], seed: int) -> TaskSchedule | Mixture:
        """Return the mixture of the tasks' feeds."""
        return Mixture.by_size(feeds, seed, self.limit, self.temperature)
