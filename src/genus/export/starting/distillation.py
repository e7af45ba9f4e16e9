"""Knowledge distillation from a model folder: the teacher of a run, and initialization of the student from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel, load
from genus.export.weights import fingerprint
from genus.files import read_json, write_json
from genus.objectives.pretraining.distillation import Distillation, DistillationHead
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.recipe import Recipe

RECORD = "teacher.json"
"""File in the run folder that records the teacher."""


@dataclass(frozen=True)
class TeacherFolder:
    """A loaded teacher model and its folder."""

    folder: Path
    model: LoadedModel

    def tokenizer(self, *others: Path | None) -> Path:
        """Return the folder of the teacher's tokenizer, which the student shares.

        Args:
            others: folders of other tokenizers that may have been requested; None and missing ones are ignored.

        Raises:
            UsageError: one of them differs from the teacher's.
        """
        for folder in others:
            if folder is not None and (folder / "tokenizer.json").exists():
                self._compare(folder)
        return self.folder

    def taught(self, recipe: Recipe) -> Recipe:
        """Return the recipe with this teacher in its objectives, and with the teacher's padded vocabulary size.

        Raises:
            UsageError: the teacher does not fit, for example because it has too few positions.
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
        """Set the teacher of the distillation heads."""
        for head in learner.heads.values():
            if isinstance(head, DistillationHead):
                head.set_teacher(self.model.learner)

    def init_student(self, learner: Learner) -> str:
        """Initialize the student from the teacher (embeddings, evenly spaced layers, heads), and return what was done.

        Layer i of S takes the teacher's layer, of L, that is nearest to i (L - 1) / (S - 1), from the first to the
        last. For BERT's twelve layers these are 0, 2, 4, 7, 9, 11, as in the released code
        (scripts/extract_distilbert.py; its --vocab_transform takes the whole head too). If a shape differs, no weights
        are taken.
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
        """Record the teacher in the run folder; return whether there was no record before."""
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
        """Raise a UsageError if the tokenizer in a folder has other pieces than the teacher's."""
        own, other = self.model.tokenizer.pieces, Tokenizer.load(folder).pieces
        if own != other:
            pairs = enumerate(zip(own, other, strict=False))
            how = next((f"piece {number} is {a!r}, not {b!r}" for number, (a, b) in pairs if a != b),
                       f"{len(own):,} pieces, not {len(other):,}")  # fmt: skip
            raise UsageError(f"{self.folder}: this teacher's tokenizer is another than that of {folder} ({how})")


def teacher_of(recipe: Recipe, run: Path, given: Path | None) -> TeacherFolder | None:
    """Return the teacher of a run: the given or the recorded one; None for a recipe without distillation.

    Args:
        recipe: the recipe to train.
        run: the run folder.
        given: the teacher's model folder, if given.

    Raises:
        GenusError: the teacher's folder cannot be read.
        UsageError: a teacher is missing, is given for a recipe without distillation, or is not the recorded one.
    """
    if recipe.examples.reads_codes:
        return None  # what is given is a discrete VAE
    if not any(isinstance(objective, Distillation) for objective in recipe.objectives):
        if given is not None:
            raise UsageError(f"--teacher: {recipe.name} learns from none; take a recipe that does, such as distilbert")
        return None
    known = read_json(run / RECORD) if (run / RECORD).exists() else {}
    if known and not all(isinstance(known.get(name), str) for name in ("folder", "fingerprint")):
        raise GenusError(f"{run / RECORD}: is damaged; remove it and say the teacher with --teacher MODEL")
    if given is None and not known:
        raise UsageError(f"{recipe.name} learns from a trained model: say which with --teacher MODEL")
    found = Path(known["folder"]) if given is None else given
    teaching = TeacherFolder(found, load(found))
    if known and teaching.fingerprint() != known["fingerprint"]:
        raise UsageError(f"{found}: is not the teacher that {run} began with, which was {known['folder']}; "
                         "give that one, or start in another folder")  # fmt: skip
    return teaching


def spaced(students: int, teachers: int) -> list[int]:
    """Return the teacher's layer for each layer of the student, evenly spaced from the first to the last."""
    gaps = max(1, students - 1)
    return [(2 * layer * (teachers - 1) + gaps) // (2 * gaps) for layer in range(students)] if teachers else []


def prefixes(student: Learner, teacher: Learner, layers: list[int]) -> dict[str, str]:
    """Return {name prefix of a student's layer: name prefix of the teacher's layer that initializes it}."""
    mine, theirs = (
        [f"{names[level]}." for level in learner.network.layer_groups()[1:]]
        for learner in (student, teacher)
        for names in [{module: name for name, module in learner.named_modules()}]
    )
    return {name: theirs[layer] for name, layer in zip(mine, layers, strict=False)}
