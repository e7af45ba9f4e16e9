"""Names in text, written as text: an encoder-decoder lists the entities of a sentence with their types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genus.evaluate.metrics import Metric  # a choice is read by its annotation
from genus.evaluate.tags import entities, scheme_of
from genus.evaluate.text_metrics import TokenLoss
from genus.evaluate.written import BETWEEN_SPANS, ExactMatch, SpanF1
from genus.tasks.tagging import Tagging
from genus.tasks.text_to_text import TextToText

if TYPE_CHECKING:
    from genus.tasks.dataset import Label


class EntitiesToText(TextToText):
    """Entities to text: the words of a row are the source, its entities the target, as `PER: John Smith $$ LOC: Paris`.

    Words and tags are read as by `Tagging`; a sentence without entities has an empty target.

    Source: released code of mT5, multilingual_t5/preprocessors.py, wikiann; its prefix is `tag: `.
    """

    texts: tuple[str, ...] = ("tokens",)
    label: str = "ner_tags"
    metrics: tuple[Metric, ...] = (SpanF1(), ExactMatch(), TokenLoss())
    prefix: str = "tag: "

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return the source and the target of a row.

        Raises:
            ValueError: no list of words or of tags, or not one tag per word.
        """
        words, tags = Tagging(texts=self.texts, label=self.label).read(row)
        source = (self.prefix + " ".join(words),)
        if tags is None:
            return source, None
        found = sorted(entities([*tags], scheme_of([[*tags]])))
        return source, (f" {BETWEEN_SPANS} ".join(f"{kind}: {' '.join(words[a:b])}" for a, b, kind in found),)
