"""Station 2, documents to ids: the slot `TokenizerConfig`, its trained form `Tokenizer`, and the token store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from genus.part import Count, Part

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import tokenizers

    from genus.tokens.cached_encoders import TextEncoder
    from genus.tokens.tokenizer import Tokenizer


ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
"""The roles of special tokens, in the order in which a vocabulary that is trained begins with them."""


class SpecialTokens(Part):
    """The special tokens by role, and the templates that frame a text, a pair of texts, or a target text with them.

    Every role is optional, and one token may have several. Templates are written as for
    `tokenizers.processors.TemplateProcessing`: `$A` and `$B` are the texts, `:1` gives a segment number, everything
    else is a special token.
    """

    pad: str | None = None
    """Padding. A packed model never looks at it, so that a vocabulary can do without."""
    unk: str | None = None
    """What a text becomes that the vocabulary cannot write."""
    bos: str | None = None
    """Beginning of a sequence."""
    eos: str | None = None
    """End of a sequence."""
    cls: str | None = None
    """Stands for the whole sequence in classification."""
    sep: str | None = None
    """Separates, or ends, segments."""
    mask: str | None = None
    """Stands in the place of a token that is to be restored."""
    extra: tuple[str, ...] = ()
    """Further special tokens: sentinels (`<extra_id_0>`), control codes, reserved tokens."""
    single: str = "$A"
    """Template of one text."""
    pair: str = "$A $B"
    """Template of two texts in one sequence."""
    target: str | None = None
    """Template of the second stream of a pair of streams, as an encoder-decoder has; None: that of one text."""
    summary: Literal["first", "last"] = "first"
    """Which token of a framed sequence has the state for all of it: `cls` in front, or the last one."""
    in_text: bool = True
    """Whether the name of a special token in a document is that token; otherwise it is text like any other."""

    def __post_init__(self) -> None:
        """Refuse templates of anything but texts and special tokens.

        Raises:
            ValueError: naming the template and what is wrong in it.
        """
        known = {"$A", "$B", *self.names()}
        for name, template in (("single", self.single), ("pair", self.pair), ("target", self.target or "$A")):
            found = [step for step, _ in steps(template)]
            if strange := [step for step in found if step not in known]:
                raise ValueError(f"{name}: {strange[0]!r} in {template!r} is neither $A, $B nor a special token")
            texts = ["$A", "$B"] if name == "pair" else ["$A"]
            if [step for step in found if step in {"$A", "$B"}] != texts:
                raise ValueError(f"{name}: expected a template of {' and '.join(texts)}, got {template!r}")

    def roles(self) -> dict[str, str]:
        """Return the special tokens that are there by their roles."""
        pairs = zip(ROLES, (self.pad, self.unk, self.cls, self.sep, self.mask, self.bos, self.eos), strict=True)
        return {role: name for role, name in pairs if name is not None}

    def names(self) -> list[str]:
        """Return all special tokens, each once, those with a role first."""
        return list(dict.fromkeys([*self.roles().values(), *self.extra]))

    def framing(self, segments: int) -> int:
        """Return how many special tokens frame one segment or two."""
        return len(steps(self.single if segments == 1 else self.pair)) - segments

    @property
    def target_framing(self) -> int:
        """How many special tokens frame the second stream of a pair of streams."""
        return len(steps(self.target or self.single)) - 1


def steps(template: str) -> list[tuple[str, int]]:
    """Return the steps of a template: `$A`, `$B` or a special token, and its segment number."""
    found = []
    for step in template.split():
        name, separator, number = step.rpartition(":")
        found.append((name, int(number)) if separator and name and number.isdigit() else (step, 0))
    return found


class TokenizerConfig(Part, ABC):
    """A choice of tokenization, before it has been trained on a corpus.

    Every concrete part has the fields `vocab_size` (the size asked for, special tokens included) and `specials`.
    """

    reads_any: ClassVar[bool] = False
    """Whether it adopts any tokenizer, and so is asked last."""

    vocab_size: Count
    special_tokens: SpecialTokens

    @property
    def unknown(self) -> str:
        """What becomes of a word that the vocabulary does not have, in words."""
        return f"cut into pieces; a character that is none becomes {self.special_tokens.unk or 'nothing'}"

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Train the vocabulary on texts and return the tokenizer; it may come out smaller than `vocab_size`.

        Raises:
            GenusError: there is no text.
        """

    @abstractmethod
    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return, for every piece of the vocabulary in order of id, whether it starts a word."""

    def as_inner_word(self, word: str) -> str:
        """Return a word, of those that a text is given as, so written that its ids alone are those within the text."""
        return word

    def normalizers(self) -> list[Part]:
        """Return what changes a text before the backend sees it, and so decides ids beside the backend."""
        return []

    @abstractmethod
    def encoder(self, backend: tokenizers.Tokenizer, typecode: str) -> TextEncoder:
        """Return the fastest encoder that gives the backend's ids, as arrays of `typecode`."""

    def save_slow_files(self, backend: tokenizers.Tokenizer, folder: Path) -> None:
        """Write the vocabulary files of those who do not read `tokenizer.json`."""
        backend.model.save(str(folder))

    @abstractmethod
    def hf_config(self) -> dict[str, Any]:
        """Return what `tokenizer_config.json` says of this tokenization: its class there, and the class's options."""

    @classmethod
    @abstractmethod
    def from_folder(
        cls, folder: Path, backend: tokenizers.Tokenizer | None
    ) -> tuple[Self, tokenizers.Tokenizer] | None:
        """Read a folder in the Hugging Face layout; None where it holds another tokenization.

        Args:
            folder: holds `tokenizer_config.json` and such, if anything.
            backend: what `tokenizer.json` holds; None where only the legacy vocabulary files are there.
        """
