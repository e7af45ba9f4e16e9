"""A caption and the codes of its image as one sequence, from which both are predicted token by token."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.formats.image_captions import FOLDER, check_images, each, image_of
from genus.files import expecting
from genus.images import store
from genus.model.embedding.codes import TextThenCodes
from genus.part import Count, parts_within
from genus.text import TEXT, Corpus, Fields

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.model import Model
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

TEXT_TOKENS, IMAGE_TOKENS = "text_tokens", "image_tokens"
"""Names of the targets."""
CODES = "codes"
"""Name of the folder with the codes of all images, beside the token store of their captions."""
DATA, META = "codes.bin", "meta.json"


class CaptionedCodes(ExampleFormat):
    """A caption of up to `text` tokens, filled up by padding, and then the codes of its image, row by row.

    Padding has the id V at every place of the text; the model has a vector of its own for each. At position `text`
    the image starts, and code i stands one place after its own, so that every state predicts what belongs there. A
    caption that is longer loses its end. Targets of the text are its tokens, without padding.

    Source: Ramesh et al. 2021, section 2.2, and appendix B.1 with figure 10.
    """

    provides: ClassVar[frozenset[str]] = frozenset({TEXT_TOKENS, IMAGE_TOKENS})
    stochastic: ClassVar[bool] = False
    nothing: ClassVar[str] = "no caption has any text; look at the column that --field names"
    reads_codes: ClassVar[bool] = True

    text: Count = 256
    """Places of the text, the token that begins it included."""
    grid: Count = 32
    """Codes of each side of an image."""
    codes: Count = 8192
    """Size of the codebook."""
    side: Count = 256
    """Pixels of each side of an image, as the discrete VAE reads it."""
    codebook: str = ""
    """Fingerprint of the discrete VAE whose codes were learned; "" before a run."""
    broken: Literal["refuse", "skip"] = "refuse"
    """What is done with images that cannot be read, or have no caption: an error, or they are left out and counted."""

    @property
    def length(self) -> int:
        """Tokens of an example."""
        return self.text + self.grid**2

    def for_model(self, model: Model) -> Self:
        """Return the format as it is: a model does not say where its text ends."""
        return self

    def check_model(self, model: Model) -> None:
        """Check that the model has the same text, codes and grid (ValueError)."""
        own = {(self.text, self.codes)}
        laid = {(one.text, one.codes) for one in parts_within(model, TextThenCodes)}
        if laid != own or model.max_length != self.length:
            raise ValueError(
                f"examples: have {self.text} tokens of text and {self.grid} x {self.grid} codes of {self.codes:,}, the "
                "model others; set text, grid and codes alike everywhere"
            )

    def check_limits(self, limits: Limits) -> None:
        """Check that a row holds text and image (ValueError)."""
        if limits["tokens"] < self.length:
            raise ValueError(f"stages: max_length {limits['tokens']} is less than {self.text} tokens of text and "
                             f"{self.grid**2} codes; take stages.0.max_length={self.length}")  # fmt: skip

    def texts_of(self, corpus: Corpus, folder: Path) -> Corpus:
        """Return the captions of images, whose store is made in the folder, or found there."""
        column = store.TEXT if corpus.fields.text == TEXT.text else corpus.fields.text
        found = store.prepare(corpus.sources, folder / FOLDER, column, self.side, skip=self.broken == "skip")
        return Corpus([found.captions], Fields(store.TEXT, kept=(store.NUMBER,), together=store.NUMBER))

    def left_out(self, store: Store, vocabulary: Vocabulary, limits: Limits) -> str:
        """Return a notice of the captions that lose their end."""
        first, last = store.sentences[store.documents].T
        most = self.text - vocabulary.framing(1)
        long = int((last - first > most).sum())
        return f"{long:,} of {len(first):,} captions are longer than {self.text} tokens and lose their end" * bool(long)

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Return an example for each caption.

        Raises:
            GenusError: the corpus has no images.
        """
        check_images(store, self, "images with captions")
        return each(store, documents, self.text - vocabulary.framing(1), self.length)

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return caption and codes in one sequence, with both kinds of targets."""
        number = image_of(store, int(plan.start[index]))
        return self.example(plan.text(index, store), codes_of(store, self)[number].astype(np.int64), vocabulary)

    def example(self, text: NDArray[np.int64], codes: NDArray[np.int64], vocabulary: Vocabulary) -> Example:
        """Return the example of a text's ids, of which as many are taken as fit, and of an image's codes."""
        ids, _, fixed = vocabulary.frame(text[: self.text - vocabulary.framing(1)])
        empty = self.text - len(ids)
        whole = np.concatenate([ids, np.full(empty, vocabulary.size), [0], codes[:-1]]).astype(np.int64)
        kept = np.concatenate([fixed, np.ones(empty + len(codes), dtype=np.bool_)])
        at = np.arange(len(ids) - 1), self.text + np.arange(len(codes))
        example = Example({"tokens": Sequence(whole, np.zeros_like(whole), kept)}, {})
        example.targets.update({TEXT_TOKENS: (at[0], ids[1:]), IMAGE_TOKENS: (at[1], codes)})
        return example

    def prompt(self, text: NDArray[np.int64], codes: NDArray[np.int64], vocabulary: Vocabulary) -> list[int]:
        """Return what a model reads before it predicts the code after some: text, padding, the start and the codes."""
        ids, _, _ = vocabulary.frame(text[: self.text - vocabulary.framing(1)])
        return [*ids.tolist(), *[vocabulary.size] * (self.text - len(ids)), 0, *codes.tolist()]


def codes_of(captions: Store, choice: CaptionedCodes) -> NDArray[np.unsignedinteger]:
    """Return the codes (images, grid²) beside a token store of captions.

    Raises:
        GenusError: there are none, or those of another codebook.
    """
    if captions.folder is None:
        raise GenusError("a store of captions in memory has no codes beside it; prepare it in a folder")
    return opened(captions.folder.parent / CODES, choice)


@lru_cache(maxsize=8)
def opened(folder: Path, choice: CaptionedCodes) -> NDArray[np.unsignedinteger]:
    """Open codes (images, grid²) of images.

    Raises:
        GenusError: there are none, they are damaged, or those of another codebook.
    """
    with expecting(folder / META, f"delete {folder} and begin again"):
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        if choice.codebook not in ("", meta["codebook"]):
            raise GenusError(f"{folder}: holds codes of another codebook ({meta['codebook']}, not {choice.codebook}); "
                             "delete it, or take another folder")  # fmt: skip
        data = np.memmap(folder / DATA, kind_of(meta["codes"]), "r")
        fits = (meta["codes"], meta["grid"]) == (choice.codes, choice.grid)
        if not fits or len(data) != meta["images"] * meta["grid"] ** 2:
            raise GenusError(f"{folder}: is damaged, or of other images; delete it and begin again")
        return np.asarray(data).reshape(meta["images"], -1)


def kind_of(codes: int) -> np.dtype[np.unsignedinteger]:
    """Return the type in which codes are kept."""
    return np.dtype("<u2" if codes <= 1 << 16 else "<u4")


def with_codebook(choice: CaptionedCodes, fingerprint: str) -> CaptionedCodes:
    """Return the format with the fingerprint of its discrete VAE."""
    return replace(choice, codebook=fingerprint)
