"""Back-translation: texts are written in another language, and from this in their own again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.generate import Decoding, Request
from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.objectives.supervised import SOURCE
from genus.part import Count
from genus.tasks.augment.models import read_model
from genus.tasks.augment.texts import ChangedTexts
from genus.tasks.dataset import LabeledRow
from genus.tasks.predict import objective_of
from genus.tasks.remembered import remembered
from genus.tasks.text_to_text import TextToText

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

LARGEST = 1 << 62
"""Of the numbers by which a text's draws are keyed."""


class BackTranslation(ChangedTexts):
    """What the model `back` writes for what the model `there` writes for a text; an empty result leaves it as it was.

    Source: Sennrich et al. 2016 (arXiv:1511.06709); as augmentation Xie et al. 2020 (arXiv:1904.12848), section 2.2,
    whose released code samples at a temperature of 0.8 (back_translate/run.sh). Deviation: there paragraphs are cut
    into sentences, here a text is written whole, up to `finetuning.max_length` tokens of the folders.
    """

    there: str = ""
    """Folder of a model that translates a text, trained as --task text-to-text or pretrained so."""
    back: str = ""
    """Folder of a model that translates it back."""
    there_prefix: str | None = None
    """What stands before a text, as T5's `translate English to German: `; None: what the folder remembers."""
    back_prefix: str | None = None
    """What stands before what `there` wrote; None: what the folder remembers."""
    decoding: Decoding = Sampling(temperature=0.8)
    copies: Count = 1

    def number_of_copies(self, rows: int) -> int:
        """Return the copies."""
        return self.copies

    def changed(self, texts: Sequence[str], draws: Sequence[np.random.Generator], rows: int) -> list[str]:
        """Return the texts, translated there and back.

        Raises:
            GenusError: a model writes nothing for a source.
            UsageError: a folder is not named.
        """
        keys = [rng.integers(LARGEST, size=2).tolist() for rng in draws]
        abroad = self._written("there", self.there, self.there_prefix, texts, [one for one, _ in keys])
        home = self._written("back", self.back, self.back_prefix, abroad, [other for _, other in keys])
        return [new or text for new, text in zip(home, texts, strict=True)]

    def _written(
        self, choice: str, folder: str, prefix: str | None, texts: Sequence[str], keys: Sequence[int]
    ) -> list[str]:
        """Return what a model writes for each text."""
        source = read_model(folder, choice)
        if prefix is None:
            known = remembered(source)
            prefix = "" if known is None else known.source_prefix
        task = TextToText(texts=("text",))
        objective = objective_of(source, task)
        if SOURCE not in objective.adds:
            raise GenusError(f"{folder}: writes nothing for a source; take an encoder-decoder that translates")
        rows = [LabeledRow(number, (prefix + text,), None) for number, text in enumerate(texts, 1)]
        encoded = task.encode(source.tokenizer, rows, objective, source.recipe.finetuning.max_length)
        engine = Engine(source.learner, source.recipe.model, source.tokenizer, seed=self.seed)
        requests = [
            Request(encoded.streams(number).streams[SOURCE].ids.tolist(), encoded.target_length, key=key)
            for number, key in enumerate(keys)
        ]
        return [results[0].text.strip() for results in engine.generate(requests, self.decoding)]
