"""Station 3, ids to examples: pure functions of the token store and a key.

An example format plans a block of the store for an epoch (which spans make which example), and reads one example of the
plan; the objectives then corrupt it. Both draw only from generators keyed by (seed, epoch, number), so any worker can
make any example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from genus.part import Count, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.examples.blocks import Documents
    from genus.model import Model
    from genus.text import Corpus, Fields
    from genus.tokens.store import Store
    from genus.tokens.tokenizer import Tokenizer
    from genus.tokens.vocabulary import Vocabulary

    Limits = Mapping[str, int]
    """Maximum sequence length in tokens, by stream."""
    Lengths = Mapping[str, NDArray[np.int64]]
    """(examples,) length of each example's sequence in tokens, by stream."""


@dataclass(slots=True)
class Sequence:
    """One sequence of one stream, before packing. L is its length."""

    ids: NDArray[np.int64]
    segments: NDArray[np.int64]
    fixed: NDArray[np.bool_]
    """(L,) true where the token must not be corrupted (the special tokens of the frame)."""
    order: NDArray[np.int64] | None = None
    """(L,) order of factorization: a token attends to those that come no later in it; None: no such order."""
    following: int | None = None
    """Id of the token that follows the last one in the text; None where the format does not provide it."""
    continues: bool = False
    """Whether it continues the previous row of its stream, so that the recurrence memory is kept."""
    through: int | None = None
    """Number of its first tokens that the next row of the stream continues; the rest is lookahead. None: all."""
    backward: bool = False
    """Whether its text is reversed."""
    task: int | None = None
    """Index of its task, for models with task embeddings."""
    learned: NDArray[np.bool_] | None = None
    """(L,) false where the token is given, such as those of a prompt, and no target of `CausalLM`; None: all are."""
    prefix: int | None = None
    """Number of its first tokens that are a prefix, which prefix masks let all of them see; None: it has none."""
    sentences: Callable[[], NDArray[np.int64]] | None = None
    """Returns (L,) a number for each token, the same for those of one sentence, -1 in the frame; it is called where it
    is needed. None: it is not known where sentences end."""
    positions: NDArray[np.int64] | None = None
    """(L,) positions of the tokens, where they are not all tokens of a text, or some are asked for behind it; None: 0,
    1, 2, ..."""
    pixels: NDArray[np.uint8] | None = None
    """(L, pixels) of the patch of each token of an image (`Packed.pixels`)."""
    picture: Callable[[np.random.Generator | None], NDArray[np.uint8]] | None = None
    """Returns the pixels of an image that is not read yet: with a generator at a random place of it, else in its
    middle. None: they are read, or the tokens are those of a text."""


@dataclass(slots=True)
class Example:
    """One training example: sequences by stream, and targets by name as pairs (index in the sequence, label)."""

    streams: dict[str, Sequence]
    targets: dict[str, tuple[NDArray[np.int64], NDArray[np.int64] | NDArray[np.float32]]]

    @property
    def tokens(self) -> Sequence:
        """The sequence of the stream `tokens`, the only one of a one-stream model."""
        return self.streams["tokens"]


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The examples of one block of the store in one epoch, as spans of tokens.

    Example e is spans [offsets[e], offsets[e+1]); span s is store tokens [start[s], stop[s]) in segment `segment[s]`.
    """

    offsets: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    segment: NDArray[np.int8]
    label: NDArray[np.int8]
    """(examples,) label from the format (such as 1: the second segment is random), -1 if the format has none."""
    lengths: Lengths
    """Lengths in tokens of the examples with special tokens, at most the limits."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.offsets) - 1

    def text(self, span: int, store: Store) -> NDArray[np.int64]:
        """Return the token ids (tokens,) int64 of a span."""
        return store.ids[self.start[span] : self.stop[span]].astype("int64")

    def sentences(self, span: int, store: Store) -> NDArray[np.int64]:
        """Return (tokens,) the number in the store of the sentence of each token of a span."""
        start, stop = int(self.start[span]), int(self.stop[span])
        first = int(np.searchsorted(store.sentences, start, side="right"))
        last = int(np.searchsorted(store.sentences, stop))
        ends = np.concatenate([[start], store.sentences[first:last], [stop]])
        return np.repeat(np.arange(first - 1, last), np.diff(ends))


class ExampleFormat(Part, ABC):
    """An example format: it cuts a corpus into training examples (sequences, segments, labels)."""

    provides: ClassVar[frozenset[str]] = frozenset()
    """Names of the targets that the format provides, such as `next_sentence`."""
    facts: ClassVar[frozenset[str]] = frozenset({"segment"})
    """Names of the per-token features that the format provides (`Packed.facts`)."""

    streams: ClassVar[frozenset[str]] = frozenset({"tokens"})
    """Names of the streams of its examples: `tokens`, and any stream that it is conditioned on."""

    texts: ClassVar[int] = 1
    """Largest number of texts that an example is framed of: 2 for pairs."""

    tells_sentences: ClassVar[bool] = False
    """Whether its examples tell which sentence each token is of (`Sequence.sentences`)."""

    stochastic: ClassVar[bool] = True
    """Whether the plan depends on seed and epoch; otherwise all epochs use one plan."""

    @property
    def classes(self) -> int:
        """Number of classes of its labels."""
        return 2

    reads_codes: ClassVar[bool] = False
    """Whether its examples have the codes of images, which a discrete VAE makes before a run begins."""

    nothing: ClassVar[str] = "the corpus has no text of which {format} can make an example"
    """What is wrong with a corpus of which no block has an example."""

    dupe_factor: Count | None = None
    """Number of fixed versions of the data, as in BERT's duplicated static masking; None: a new one per epoch."""

    def of_corpus(self, stores: Collection[Store], tokenizer: Tokenizer) -> Self:
        """Return the format with what it keeps of the training corpus in the recipe; by default itself."""
        return self

    def check_fields(self, fields: Fields) -> None:
        """Check that the fields of a text, before it is read, give what the format needs; by default any do.

        Raises:
            UsageError: they do not.
        """

    def texts_of(self, corpus: Corpus, folder: Path) -> Corpus:
        """Return the text of what a run is given, made in a folder if it is no text yet; by default it is text."""
        return corpus

    def for_model(self, model: Model) -> Self:
        """Return the format with what it makes as the model reads it, such as its size of images; by default itself."""
        return self

    def pixels(self, stream: str) -> int | None:
        """Return how many pixels a token of a stream has (`Packed.pixels`); None: it has an id."""
        return None

    def check_model(self, model: Model) -> None:
        """Check that examples are as a model reads them, as long and of as many codes (ValueError); by default any."""

    def check_limits(self, limits: Limits) -> None:
        """Check that examples can be as short as rows, whatever text they are of (ValueError); by default any can."""

    def left_out(self, store: Store, vocabulary: Vocabulary, limits: Limits) -> str:
        """Return a notice of the documents of which no example of these limits is made; "" where all are used."""
        return ""

    def unfamiliar(self, store: Store, tokenizer: Tokenizer) -> str:
        """Return a notice of what a text has that the training corpus of the format had not; "" if there is nothing."""
        return ""

    def unfamiliar_prompt(self, prompt: str) -> str:
        """Return a notice of a prompt that begins as no example of training did; "" if it may have."""
        return ""

    @property
    def control_codes(self) -> tuple[str, ...]:
        """The control codes that stood before texts in training, as far as the format tells them; none by default."""
        return ()

    @abstractmethod
    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents of the store into the examples of one epoch, none of them longer than the limits.

        It is a function of its arguments alone, and may find no example. Text from elsewhere may be of any document of
        the store.

        Args:
            documents: which ones: a block of about a million sentences, or all for formats that are `Streams`.
            store: the corpus.
            vocabulary: of its tokens.
            limits: the largest length of a sequence, by stream.
            seed: of all draws, whose key is (seed, PLAN, epoch, number of the block).
            epoch: number of the version of the data.
        """

    @abstractmethod
    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return example `index` of the plan, framed by special tokens, uncorrupted, with the format's targets."""
