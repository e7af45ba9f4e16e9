"""Curation: text as people have it becomes text for pretraining, and every removal has a reason.

A `Curation` is a row of steps. A `Rewrite` changes a text, a `Filter` removes a document or some of its lines by a
named rule, a `CorpusFilter` does so knowing what else is in the corpus, such as copies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from genus.curate.document import Document

EMPTY = "empty"
"""The rule that removes a document of which a step leaves nothing."""


class Removal(NamedTuple):
    """Something that a step removes, or would change."""

    rule: str
    text: str


@dataclass(slots=True)
class Outcome:
    """What a step makes of a text."""

    text: str
    """What is left; "": the document is removed."""
    document: Removal | None = None
    """The rule that removes the whole document, and the text by which it does; None: none does."""
    lines: list[Removal] = field(default_factory=list)
    """What is removed of a document that stays."""
    found: list[str] = field(default_factory=list)
    """Names of what was found in the text, which the report counts."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was found out of the document, by field: it goes along with the text from here on."""
    group: str | None = None
    """The group in which the report counts the document, such as its language, whether it stays or not."""


class Step(Part, ABC):
    """A choice of one step of a curation."""

    markup: ClassVar[str | None] = None
    """The markup out of which the step takes the text, as in `genus.text.sources.MARKUP`; None: out of none."""

    @property
    def contamination(self) -> str:
        """What a model card says of evaluation tables that the step looks for; "": it looks for none."""
        return ""

    @property
    def marks(self) -> str | None:
        """The field by which the step says which documents belong together; None: it does not."""
        return None

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that the step reads: if they change, a curation that was stopped does not go on."""
        return ()

    def check(self) -> None:
        """Check, before any text is read, that the step can work.

        Raises:
            GenusError: a library or a file is missing.
        """


class DocumentStep(Step, ABC):
    """A step that needs to know no more than the documents of a block of text, each by itself."""

    @abstractmethod
    def outcomes(self, documents: Sequence[Document]) -> Iterable[Outcome]:
        """Return of each document what is left of it, and what is removed by which rule."""


class TextStep(DocumentStep, ABC):
    """A step that needs to know no more than one text."""

    def outcomes(self, documents: Sequence[Document]) -> Iterable[Outcome]:
        """Return of each document what is left of its text."""
        return (self.apply(document.text) for document in documents)

    @abstractmethod
    def apply(self, text: str) -> Outcome:
        """Return what is left of a text, and what is removed by which rule."""


class Rewrite(TextStep, ABC):
    """A step that changes texts."""

    @abstractmethod
    def rewrite(self, text: str) -> str:
        """Return the changed text; "" removes the document."""

    def apply(self, text: str) -> Outcome:
        """Return the changed text."""
        new = self.rewrite(text).strip()
        return Outcome(new, None if new else Removal(EMPTY, text))


class Filter(TextStep, ABC):
    """A step that removes documents, or lines of them."""


class DocumentFilter(Filter, ABC):
    """A filter that keeps or removes whole documents."""

    @abstractmethod
    def rule(self, text: str) -> str | None:
        """Return the name of the rule that removes the document; None keeps it."""

    def apply(self, text: str) -> Outcome:
        """Return the text, or the rule that removes it."""
        rule = self.rule(text)
        return Outcome(text) if rule is None else Outcome("", Removal(rule, text))


class Keys(ABC):
    """The keys of all documents of a corpus, in its order, with access to their texts."""

    @property
    @abstractmethod
    def documents(self) -> int:
        """Number of documents."""

    @abstractmethod
    def shards(self) -> Iterator[NDArray[np.generic]]:
        """Yield the keys of the documents shard by shard, as arrays (keys, ...), mapped from disk."""

    @abstractmethod
    def text(self, document: int) -> str:
        """Return the text of a document by its number."""

    @abstractmethod
    def derive(
        self, name: str, function: Callable[[NDArray[Any], NDArray[np.int64]], NDArray[Any]]
    ) -> Sequence[NDArray[Any]]:
        """Return for each shard what a function makes of its keys and of the number of keys of each document.

        The engine makes them, a file each: what is there already is not made again.

        Args:
            name: of the files.
            function: a function of a module, or an object with its choices, that can be sent to other processes.
        """

    @abstractmethod
    def keep(self, name: str, parts: Iterable[NDArray[np.uint64]]) -> Kept:
        """Write arrays one after another into a file that `derive`'s functions may read."""

    @abstractmethod
    def scratch(self, number: int, kind: type[np.generic]) -> NDArray[Any]:
        """Return so many noughts to write over, which need a disk rather than memory."""


class Kept(ABC):
    """Numbers in a file, which other processes can read."""

    @abstractmethod
    def load(self) -> NDArray[np.uint64]:
        """Return the numbers, mapped from disk where they are on this machine."""


class Decision(NamedTuple):
    """What a `CorpusFilter` decides of a corpus."""

    removed: NDArray[Any]
    """(keys of the corpus,) whether that of which a key stands is removed, or what else `apply` takes of it."""
    facts: dict[str, Any]
    """What else the report says."""


class CorpusFilter(Step, ABC):
    """A step that removes documents, or parts of them, by what else is in the corpus.

    It sees every text twice: `keys` says in a few numbers what is in it, `decide` looks at the keys of all texts, and
    `apply` removes what was decided.
    """

    @abstractmethod
    def keys(self, text: str) -> NDArray[np.generic]:
        """Return the keys of a text, (keys, ...), of one type and shape for all texts."""

    def keys_of(self, texts: Sequence[str]) -> list[NDArray[Any]]:
        """Return the keys of each of many texts, which may be faster than one by one."""
        return [self.keys(text) for text in texts]

    @abstractmethod
    def decide(self, keys: Keys) -> Decision:
        """Decide what is removed, from the keys of all documents."""

    @abstractmethod
    def apply(self, text: str, removed: NDArray[Any]) -> Outcome:
        """Return what is left of a text, given the decision on each of its keys."""


class Curation(Part):
    """A whole curation: the steps in their order."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        """Check that there is a step."""
        if not self.steps:
            raise ValueError("a curation needs a step")

    @property
    def names(self) -> list[str]:
        """The steps as the report and `--set` name them: their place and kind."""
        return [f"{number} {type(step).__name__}" for number, step in enumerate(self.steps)]

    def passes(self) -> list[tuple[range, int | None]]:
        """Return the passes over the corpus: places of document steps, and that of the corpus filter that ends it."""
        found: list[tuple[range, int | None]] = []
        begin = 0
        for number, step in enumerate(self.steps):
            if isinstance(step, CorpusFilter):
                found.append((range(begin, number), number))
                begin = number + 1
        return [*found, (range(begin, len(self.steps)), None)]
