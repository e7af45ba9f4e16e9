"""Station 2, tokenization: the slot `TokenizerConfig`, the trained `Tokenizer`, and the token store."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from genus.part import Part, VocabSize
from genus.tokens.vocabulary import sentinels_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import tokenizers

    from genus.tokens.cached_encoders import TextEncoder
    from genus.tokens.tokenizer import Tokenizer


ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
"""Roles of special tokens, in the order in which a trained vocabulary begins with them."""


class SpecialTokens(Part):
    """Special tokens by role, and the templates that add them to a text, a text pair or a target text.

    Every role is optional, and one token may have several roles. Templates have the syntax of
    `tokenizers.processors.TemplateProcessing`: `$A` and `$B` are the texts, `:1` is a segment id (token type id),
    everything else is a special token.
    """

    pad: str | None = None
    """Padding. Packed models do not attend to it, so a vocabulary need not have it."""
    unk: str | None = None
    """Unknown token: replaces text that the vocabulary cannot represent."""
    bos: str | None = None
    """Beginning of a sequence."""
    eos: str | None = None
    """End of a sequence."""
    cls: str | None = None
    """Represents the whole sequence in classification."""
    sep: str | None = None
    """Separates or ends segments."""
    mask: str | None = None
    """Replaces a token that is to be predicted."""
    extra: tuple[str, ...] = ()
    """Further special tokens: sentinels (`<extra_id_0>`), control codes, reserved tokens."""
    single: str = "$A"
    """Template of one text."""
    pair: str = "$A $B"
    """Template of two texts in one sequence."""
    target: str | None = None
    """Template of the second stream (the decoder's, in an encoder-decoder); None: the template of one text."""
    summary: Literal["first", "last"] = "first"
    """Token whose hidden state represents the whole sequence: `cls` at the front, or the last token."""
    in_text: bool = True
    """Whether the name of a special token in a document becomes that token; otherwise it is treated as text."""

    def __post_init__(self) -> None:
        """Check that templates consist of their texts and of special tokens only.

        Raises:
            ValueError: a template holds something else, or other texts; the message names it.
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
        """Return {role: special token} for the roles that have one."""
        pairs = zip(ROLES, (self.pad, self.unk, self.cls, self.sep, self.mask, self.bos, self.eos), strict=True)
        return {role: name for role, name in pairs if name is not None}

    def names(self) -> list[str]:
        """Return all distinct special tokens, those with a role first."""
        return list(dict.fromkeys([*self.roles().values(), *self.extra]))

    def framing(self, segments: int) -> int:
        """Return how many special tokens frame one segment or two."""
        return len(steps(self.single if segments == 1 else self.pair)) - segments

    def segments(self, texts: int) -> int:
        """Return how many segment ids the template of one text or two has, from 0 on."""
        return 1 + max(segment for _, segment in steps(self.single if texts == 1 else self.pair))

    @property
    def target_framing(self) -> int:
        """How many special tokens frame the second stream of a pair of streams."""
        return len(steps(self.target or self.single)) - 1

    @property
    def target_start(self) -> int:
        """How many special tokens stand before the second stream of a pair of streams."""
        return [step for step, _ in steps(self.target or self.single)].index("$A")


class TaskTokens(Part):
    """Special tokens that fine-tuning adds to the vocabulary of a decoder: start, delimiter and extract token.

    A text becomes `start text extract`, a pair `start a delimiter b extract`, each after what the vocabulary's own
    template puts in front of a text. The state of the extract token represents the whole sequence.

    Source: Radford et al. 2018 (GPT), section 3.3 and figure 1; released code, train.py: names and order.
    """

    start: str = "_start_"
    delimiter: str = "_delimiter_"
    extract: str = "_classify_"

    @property
    def names(self) -> tuple[str, ...]:
        """The tokens in the order of their ids."""
        return self.start, self.delimiter, self.extract

    def framing(self, own: SpecialTokens) -> SpecialTokens:
        """Return special tokens with the three among them, and their templates."""
        ahead = itertools.takewhile(lambda step: step != "$A", (step for step, _ in steps(own.single)))
        before = " ".join(step for step in ahead if step not in self.names)
        return replace(
            own,
            extra=tuple(dict.fromkeys((*own.extra, *self.names))),
            single=f"{before} {self.start} $A {self.extract}".strip(),
            pair=f"{before} {self.start} $A {self.delimiter} $B {self.extract}".strip(),
            summary="last",
        )


def steps(template: str) -> list[tuple[str, int]]:
    """Return the steps of a template: (`$A`, `$B` or a special token, segment id)."""
    found = []
    for step in template.split():
        name, separator, number = step.rpartition(":")
        found.append((name, int(number)) if separator and name and number.isdigit() else (step, 0))
    return found


class TokenizerConfig(Part, ABC):
    """A choice of tokenizer, before it is trained on a corpus.

    Every concrete part has the fields `vocab_size` (the requested size, special tokens included) and `special_tokens`.
    """

    reads_any: ClassVar[bool] = False
    """Whether `from_folder` accepts every tokenizer; such a part is tried last."""

    needs_unknown: ClassVar[bool] = False
    """Whether text that the vocabulary cannot represent needs an unknown token."""

    vocab_size: VocabSize
    special_tokens: SpecialTokens

    def __post_init__(self) -> None:
        """Raise a ValueError if the unknown token is missing where one is needed."""
        if self.needs_unknown and self.special_tokens.unk is None:
            raise ValueError(f"special_tokens: {type(self).__name__} needs an unknown token; name it as unk")

    @property
    def sentinels(self) -> tuple[str, ...]:
        """The pieces that stand for hidden spans, in their order: `<extra_id_0>`, `<extra_id_1>`, ...

        Where no further special token is named so, they are all of those.
        """
        return sentinels_of(self.special_tokens.extra)

    @property
    def unknown(self) -> str:
        """Description of how an out-of-vocabulary word is tokenized."""
        return f"cut into pieces; a character that is none becomes {self.special_tokens.unk or 'nothing'}"

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Train the vocabulary on texts and return the tokenizer; the vocabulary may be smaller than `vocab_size`.

        Raises:
            GenusError: there is no text.
        """

    @abstractmethod
    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return whether each piece of the vocabulary, in order of id, starts a word (for whole-word masking)."""

    def as_inner_word(self, word: str) -> str:
        """Return a word of a pre-split text, with the leading space that makes its ids equal to those inside a text."""
        return word

    def of_words(self, backend: tokenizers.Tokenizer) -> tuple[Self, tokenizers.Tokenizer]:
        """Return part and backend for texts that are given as words, whose ids are then those of `as_inner_word`."""
        return self, backend

    def normalizers(self) -> list[Part]:
        """Return the parts that change a text before the backend tokenizes it, on which ids depend too."""
        return []

    @abstractmethod
    def encoder(self, backend: tokenizers.Tokenizer, typecode: str) -> TextEncoder:
        """Return the fastest encoder that gives the same ids as the backend, in arrays of `typecode`."""

    def save_slow_files(self, backend: tokenizers.Tokenizer, folder: Path) -> None:
        """Write the legacy vocabulary files, for slow tokenizers that do not read `tokenizer.json`."""
        backend.model.save(str(folder))

    @abstractmethod
    def hf_config(self) -> dict[str, Any]:
        """Return the entries for `tokenizer_config.json`: `tokenizer_class` and the options of that class."""

    @classmethod
    @abstractmethod
    def from_folder(
        cls, folder: Path, backend: tokenizers.Tokenizer | None
    ) -> tuple[Self, tokenizers.Tokenizer] | None:
        """Read a folder in the Hugging Face layout; None if its tokenizer has another algorithm.

        Args:
            folder: may hold `tokenizer_config.json` and similar files.
            backend: the content of `tokenizer.json`; None if there are only legacy vocabulary files.
        """
