"""The Hugging Face architecture of a learner, in whose names its adapter is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.export.layouts import layout_for
from genus.export.layouts.maps import place
from genus.export.translate import foreign

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from genus.export.layouts import Layout
    from genus.export.layouts.maps import Map
    from genus.objectives import Learner
    from genus.part import Json
    from genus.recipe import Recipe

TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}
"""peft's `task_type` by the end of the transformers class name."""


@dataclass(frozen=True)
class Architecture:
    """Layout, configuration and heads of a learner."""

    layout: Layout
    config: Json
    heads: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe, learner: Learner) -> Architecture | None:
        """Return the architecture of a learner; None where no Hugging Face class has it."""
        fitting = layout_for(recipe, learner.heads)
        return None if fitting is None else cls(*fitting, tuple(learner.heads))

    @property
    def table(self) -> dict[str, Map | tuple[str, ...]]:
        """The table of tensor names."""
        return self.layout.table(self.heads)

    @property
    def task(self) -> str | None:
        """Peft's `task_type`; None where it has none."""
        (name,) = self.config["architectures"]
        return next((task for end, task in TASKS.items() if name.endswith(end)), None)

    def theirs(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's and heads' tensors under Hugging Face's names."""
        return dict(foreign(tensors, self.layout, self.heads, self.config))

    def ours(self, names: Iterable[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return those of our tensors of these names that are given under Hugging Face's names."""
        found: dict[str, Tensor] = {}
        for name in names:
            row = place(name, self.table)
            if name == row.ours[0] and all(one in tensors for one in row.theirs):
                parts = row.row.op(self.config).inverse(tuple(tensors[one] for one in row.theirs))
                found |= dict(zip(row.ours, parts, strict=True))
        return found

    def modules(self, names: Iterable[str]) -> list[str]:
        """Return the names of modules that hold these tensors of Hugging Face: of a head, its outermost one."""
        found: dict[str, None] = {}
        for name in names:
            inner = self.layout.prefix and name.startswith(self.layout.prefix)
            found[name.rpartition(".")[0] if inner or not self.layout.prefix else name.split(".")[0]] = None
        return list(found)
