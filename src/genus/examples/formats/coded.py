"""Control codes: pieces of documents, each after the codes of its document (CTRL).

Legend: D documents, E examples.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.tokenizer import Tokenizer
    from genus.tokens.vocabulary import Vocabulary

MOST = 1_000
"""Codes of a corpus that are remembered, the most frequent ones."""
AT_ONCE = 1 << 20
"""Codes that are compared at once."""
SHOWN, CUT = 8, 40
"""Codes that a notice names, and characters of a prompt that it shows."""


class CodedDocuments(ExampleFormat):
    """Documents cut into pieces that fill a row, each after the control codes of its document.

    A code is text: the tokens of a domain, a title, a URL or a date, as the ordinary vocabulary has them, and a
    document can have several. They stand before every piece, so that all text is written under them. They are given,
    and no targets; each token of the text is a target once, and so is the end token after each document. A document
    without codes has the end token in their place.

    Source: Keskar et al. 2019 (CTRL), section 3; released code, training_utils/make_tf_records.py.
    Deviation: there, a sequence can go on in the next document of the same code, and the first token of a sequence is
    a target of the one before it too.
    """

    stochastic: ClassVar[bool] = False

    codes: tuple[str, ...] = ()
    """The codes of the training text, the most frequent first; a run fills them in, so that a model tells its codes."""

    @property
    def control_codes(self) -> tuple[str, ...]:
        """The codes of the training text."""
        return self.codes

    def of_corpus(self, stores: Collection[Store], tokenizer: Tokenizer) -> Self:
        """Return the format with the codes of a corpus, up to `MOST`."""
        found: Counter[str] = Counter()
        for store in stores:
            found.update(counted(store, tokenizer))
        return replace(self, codes=tuple(name for name, _ in found.most_common(MOST)))

    def unfamiliar(self, store: Store, tokenizer: Tokenizer) -> str:
        """Return a notice of the codes of a text that training did not have; "" if there are none."""
        found = [name for name in counted(store, tokenizer) if name not in self.codes]
        if not found or len(self.codes) >= MOST:
            return ""
        return f"{len(found):,} control codes, such as {found[0]!r}, stood before no text in training"

    def unfamiliar_prompt(self, prompt: str) -> str:
        """Return a notice of a prompt that begins with no code of training."""
        found = (prompt[len(code) :] for code in self.codes if prompt.startswith(code))
        if not self.codes or len(self.codes) >= MOST or any(not rest[:1].isalnum() for rest in found):
            return ""
        named = ", ".join(repr(code) for code in self.codes[:SHOWN]) + (", ..." if len(self.codes) > SHOWN else "")
        return f"the prompt {prompt[:CUT]!r} begins with no control code of training ({named})"

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into pieces; an example's label is 1 if it ends its document.

        Raises:
            GenusError: the corpus has no codes, or a document's leave no room for text.
        """
        if store.codes is None:
            raise GenusError(
                "CodedDocuments needs control codes, and the text has none: name their field with --codes, or take "
                "--codes @folder or --codes @file"
            )
        chosen = slice(documents.first, documents.last)
        code, code_end = store.sentences[store.codes[chosen]].T
        first, end = store.sentences[store.documents[chosen]].T
        own = code_end - code
        head = np.where(own > 0, own, int(vocabulary.end is not None))
        room = limits["tokens"] - head
        if (room < 1).any():
            raise GenusError(
                f"a document's control codes have {own.max():,} tokens, which leaves no text in rows of "
                f"{limits['tokens']}: choose max_length {own.max() + 1} or more, or shorter codes"
            )
        number = -(-(end - first) // room)
        document = np.repeat(np.arange(len(first)), number)
        within = np.arange(len(document)) - np.repeat(np.cumsum(number) - number, number)
        start = first[document] + within * room[document]
        stop = np.minimum(start + room[document], end[document])
        return EpochPlan(
            offsets=np.arange(0, 2 * len(document) + 1, 2),
            start=np.stack([code[document], start], axis=1).flatten(),
            stop=np.stack([code_end[document], stop], axis=1).flatten(),
            segment=np.zeros(2 * len(document), dtype=np.int8),
            label=(stop == end[document]).astype(np.int8),
            lengths={"tokens": head[document] + stop - start},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the piece after its codes, from which its first token is predicted, and the end token if it ends."""
        code, text = plan.text(2 * index, store), plan.text(2 * index + 1, store)
        if not len(code) and vocabulary.end is not None:
            code = np.array([vocabulary.end])
        ids = np.concatenate([code, text])
        given = np.arange(len(ids)) < len(code)
        following = vocabulary.end if plan.label[index] else None
        return Example({"tokens": Sequence(ids, 0 * ids, given, following=following, learned=~given)}, {})


def counted(store: Store, tokenizer: Tokenizer) -> Counter[str]:
    """Return the control codes of a store's documents as text, each with its number of documents."""
    found: Counter[tuple[int, ...]] = Counter()
    if store.codes is None:
        return Counter()
    for first in range(0, len(store.codes), AT_ONCE):
        begin, end = store.codes[first : first + AT_ONCE].T
        sentence = np.repeat(begin - np.cumsum(end - begin) + (end - begin), end - begin) + np.arange(
            (end - begin).sum()
        )
        start = store.sentences[sentence]
        length = store.sentences[sentence + 1] - start
        for size in np.unique(length).tolist():
            found.update(_alike(store.ids, start[length == size], size))
    texts: Counter[str] = Counter()
    for ids, number in found.items():
        texts[tokenizer.decode(ids) or "".join(tokenizer.pieces[one] for one in ids)] += number
    return texts


def _alike(ids: NDArray[np.unsignedinteger], start: NDArray[np.int64], size: int) -> dict[tuple[int, ...], int]:
    """Return the distinct runs of `size` ids that begin at these places, each with how often it occurs."""
    runs, number = np.unique(ids[start[:, None] + np.arange(size)], axis=0, return_counts=True)
    return dict(zip(map(tuple, runs.tolist()), number.tolist(), strict=True))
