"""Contextual augmentation: some tokens of a text are drawn anew from a masked language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from genus.errors import GenusError
from genus.evaluate.token_prediction import Predictor
from genus.examples import Sequence
from genus.generate.sampling import Sampling
from genus.part import Count, NotNegative, SomeShare
from genus.tasks.augment.models import read_model
from genus.tasks.augment.texts import ChangedTexts
from genus.tasks.spans import stripped

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray

    from genus.examples import Example
    from genus.export.folder import LoadedModel

TOGETHER = 32
"""Texts in a forward pass."""


@dataclass(frozen=True)
class Masked:
    """A text with M masked tokens."""

    ids: NDArray[np.int64]
    """(M,) what was masked."""
    spans: NDArray[np.int64]
    """(M, 2) the characters of each, from the first to the one after the last, in ascending order."""
    example: Example

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return len(self.example.tokens.ids)

    def written(self, text: str, pieces: Several[str], ids: NDArray[np.int64]) -> str:
        """Return the text with other tokens in the masked places; the others are as they were written."""
        for (start, stop), new, old in zip(self.spans[::-1].tolist(), ids[::-1], self.ids[::-1], strict=True):
            if new != old:
                start, stop = stripped(text, start, stop)
                text = text[:start] + pieces[new] + text[stop:]
        return text


class MaskedReplacement(ChangedTexts):
    """A share of a text's tokens, at least one, is masked and drawn from softmax(logits / temperature) of the model.

    Special and unknown tokens are neither masked nor drawn; a token that begins a word is replaced by such a one, and
    one within a word by one within. All masked tokens of a text are predicted at once. Of a text over the model's
    length only the first tokens change. What is not masked stays as it is written.

    Source: Kobayashi 2018 (arXiv:1805.06201), section 2, with a masked model (Wu et al. 2018, arXiv:1812.06705) that
    does not read labels: a replacement may be of another class where the share is large.
    """

    model: str = ""
    """Folder of a masked language model."""
    share: SomeShare = 0.15
    """Share of the tokens: as many as BERT masks in pretraining (Devlin et al. 2018, section 3.1)."""
    temperature: NotNegative = 1.0
    """0: the most probable token."""
    copies: Count = 1

    def number_of_copies(self, rows: int) -> int:
        """Return the copies."""
        return self.copies

    def changed(self, texts: Several[str], draws: Several[np.random.Generator], rows: int) -> list[str]:
        """Return the texts with replaced tokens.

        Raises:
            GenusError: the model is none that predicts masked tokens.
            UsageError: no model is named.
        """
        source = read_model(self.model, "model")
        predictor = Predictor.find(source.learner, "masked")
        if predictor is None or "mask" not in source.tokenizer.vocabulary.roles:
            raise GenusError(f"{self.model}: predicts no masked tokens; take a masked language model, such as bert")
        room = source.recipe.finetuning.max_length
        room = min(room, source.recipe.model.max_length or room) - source.tokenizer.vocabulary.framing(1)
        masked = [self._masked(source, predictor, text, rng, room) for text, rng in zip(texts, draws, strict=True)]
        found = [*texts]
        able = sorted(
            (number for number, one in enumerate(masked) if len(one.ids)), key=lambda number: masked[number].length
        )
        for start in range(0, len(able), TOGETHER):
            chosen = able[start : start + TOGETHER]
            new = self._drawn(source, predictor, [masked[number] for number in chosen], [draws[n] for n in chosen])
            for number, ids in zip(chosen, new, strict=True):
                found[number] = masked[number].written(texts[number], source.tokenizer.vocabulary.texts, ids)
        return found

    def _masked(
        self, source: LoadedModel, predictor: Predictor, text: str, rng: np.random.Generator, room: int
    ) -> Masked:
        """Return a text with masked tokens; with none where it has no token that can be."""
        vocabulary = source.tokenizer.vocabulary
        found, spans = source.tokenizer.encode_with_offsets(text)
        ids, spans = found[:room].astype(np.int64), spans[:room]
        able = np.flatnonzero(~vocabulary.special[ids] & (spans[:, 1] > spans[:, 0]))
        number = min(len(able), max(1, int(self.share * len(ids))))
        at_M = np.sort(rng.choice(able, number, replace=False)) if number else able
        sequence = Sequence(*vocabulary.frame(ids))
        text_T = np.flatnonzero(~sequence.fixed)
        return Masked(ids[at_M], spans[at_M], predictor.hide(sequence, text_T[at_M], vocabulary))

    def _drawn(
        self, source: LoadedModel, predictor: Predictor, masked: Several[Masked], draws: Several[np.random.Generator]
    ) -> list[NDArray[np.int64]]:
        """Return the drawn ids of each of the texts."""
        vocabulary = source.tokenizer.vocabulary
        rows, length = [[one.example] for one in masked], max(one.length for one in masked)
        logits_MV, _ = predictor.logits(rows, length, vocabulary.pad, "float32")
        logits_MV = logits_MV[:, : vocabulary.size].float().cpu()
        begins_M = torch.from_numpy(vocabulary.word_start[np.concatenate([one.ids for one in masked])])
        begins_V = torch.from_numpy(vocabulary.word_start)
        left_out = torch.from_numpy(vocabulary.special) | torch.tensor([not text for text in vocabulary.texts])
        logits_MV = logits_MV.masked_fill(left_out | (begins_M[:, None] != begins_V), float("-inf"))
        uniform_M = np.concatenate([rng.random(len(one.ids)) for one, rng in zip(masked, draws, strict=True)])
        drawn_M = Sampling(temperature=self.temperature).choose(logits_MV, torch.from_numpy(uniform_M)).numpy()
        return cast("list[NDArray[np.int64]]", np.split(drawn_M, np.cumsum([len(one.ids) for one in masked])[:-1]))
