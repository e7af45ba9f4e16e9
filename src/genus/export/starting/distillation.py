"""A model folder as the teacher of a run: found, remembered, and the student's first weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import UsageError
from genus.export.folder import LoadedModel, load
from genus.export.weights import fingerprint
from genus.files import read_json, write_json
from genus.objectives.pretraining.distillation import Distillation, DistillationHead
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.recipe import Recipe

RECORD = "teacher.json"
"""Where in its folder a run remembers who teaches it."""


@dataclass(frozen=True)
class TeacherFolder:
    """A teacher who has been read."""

    folder: Path
    model: LoadedModel

    def tokenizer(self, *others: Path | None) -> Path:
        """Return the folder of the tokenizer that the student shares with the teacher.

        Args:
            others: where other tokenizers may lie that someone wants to be used.

        Raises:
            UsageError: one of them is another.
        """
        for folder in others:
            if folder is not None and (folder / "tokenizer.json").exists():
                self._compare(folder)
        return self.folder

    def taught(self, recipe: Recipe) -> Recipe:
        """Return the recipe under this teacher, with as many rows of the vocabulary as it has.

        Raises:
            UsageError: the teacher cannot teach it.
        """
        trained, longest = self.model.recipe, self.model.recipe.model.max_length
        for number, stage in enumerate(recipe.stages):
            if longest is not None and stage.max_length > longest:
                raise UsageError(
                    f"stages.{number}: max_length {stage.max_length} is past the {longest} positions of the teacher "
                    f"{self.folder}"
                )
        known = [one for one in trained.exported.objectives if one.name in self.model.learner.heads]
        each = (
            one.with_teacher(trained.model, known) if isinstance(one, Distillation) else one
            for one in recipe.objectives
        )
        return replace(recipe, objectives=tuple(each), padded_vocab_size=trained.padded_vocab_size)

    def begin(self, learner: Learner) -> None:
        """Give the teacher to the heads that learn from one."""
        for head in learner.heads.values():
            if isinstance(head, DistillationHead):
                head.set_teacher(self.model.learner)

    def init_student(self, learner: Learner) -> str:
        """Give the student the teacher's weights, if they fit: embeddings, evenly spaced layers, heads; say which.

        Of L layers, layer i of S takes the one nearest to i (L - 1) / (S - 1): the first, the last, and between them
        every other one where there are half as many. So BERT's twelve make 0, 2, 4, 7, 9, 11, as in the released code
        (scripts/extract_distilbert.py; its --vocab_transform takes the whole head too).
        """
        teacher, fitting = self.model.learner, {}
        layers = spaced(len(learner.network.layer_groups()) - 1, len(teacher.network.layer_groups()) - 1)
        renamed, given = prefixes(learner, teacher, layers), teacher.state_dict()
        for name, tensor in learner.state_dict().items():
            prefix = next((prefix for prefix in renamed if name.startswith(prefix)), "")
            source = renamed.get(prefix, "") + name.removeprefix(prefix)
            found = given.get(source)
            if found is None and not prefix:
                continue
            if found is None or found.shape != tensor.shape:
                theirs = "no such tensor" if found is None else f"{tuple(found.shape)}"
                return f"the student starts from fresh weights: {name} is {tuple(tensor.shape)}, the teacher's {theirs}"
            fitting[name] = found
        learner.load_state_dict(fitting, strict=False)
        return f"the student starts from layers {', '.join(map(str, layers))} of the teacher's, counted from 0"

    def remember(self, run: Path) -> bool:
        """Write down who teaches a run; return whether it is new."""
        record = {"folder": str(self.folder.resolve()), "fingerprint": self.fingerprint()}
        if not (run / RECORD).exists():
            write_json(run / RECORD, record)
            return True
        if read_json(run / RECORD) != record:
            write_json(run / RECORD, record)
        return False

    def fingerprint(self) -> str:
        """Return a hash of the teacher's weights."""
        return fingerprint(self.model.learner.state_dict())

    def _compare(self, folder: Path) -> None:
        """Refuse a tokenizer with other pieces."""
        own, other = self.model.tokenizer.pieces, Tokenizer.load(folder).pieces
        if own != other:
            pairs = enumerate(zip(own, other, strict=False))
            how = next((f"piece {number} is {a!r}, not {b!r}" for number, (a, b) in pairs if a != b),
                       f"{len(own):,} pieces, not {len(other):,}")  # fmt: skip
            raise UsageError(f"{self.folder}: this teacher's tokenizer is another than that of {folder} ({how})")


def teacher_of(recipe: Recipe, run: Path, given: Path | None) -> TeacherFolder | None:
    """Return the teacher of a run: the given one, or the one it began with; None where the recipe wants none.

    Args:
        recipe: what is trained.
        run: the run's folder.
        given: a model folder.

    Raises:
        GenusError: the folder cannot be read.
        UsageError: none is given where one is wanted, or the other way round, or another than the run began with.
    """
    if not any(isinstance(objective, Distillation) for objective in recipe.objectives):
        if given is not None:
            raise UsageError(f"--teacher: {recipe.name} learns from none; take a recipe that does, such as distilbert")
        return None
    known = read_json(run / RECORD) if (run / RECORD).exists() else {}
    if given is None and not known:
        raise UsageError(f"{recipe.name} learns from a trained model: say which with --teacher MODEL")
    found = Path(known["folder"]) if given is None else given
    teaching = TeacherFolder(found, load(found))
    if known and teaching.fingerprint() != known["fingerprint"]:
        raise UsageError(f"{found}: is not the teacher that {run} began with, which was {known['folder']}; "
                         "give that one, or start in another folder")  # fmt: skip
    return teaching


def spaced(students: int, teachers: int) -> list[int]:
    """Return the teacher's layer from which each of the student's starts, evenly spaced from the first to the last."""
    gaps = max(1, students - 1)
    return [(2 * layer * (teachers - 1) + gaps) // (2 * gaps) for layer in range(students)] if teachers else []


def prefixes(student: Learner, teacher: Learner, layers: list[int]) -> dict[str, str]:
    """Return what the names of each layer of the student begin with, and those of the layer that it starts from."""
    mine, theirs = (
        [f"{names[level]}." for level in learner.network.layer_groups()[1:]]
        for learner in (student, teacher)
        for names in [{module: name for name, module in learner.named_modules()}]
    )
    return {name: theirs[layer] for name, layer in zip(mine, layers, strict=False)}
