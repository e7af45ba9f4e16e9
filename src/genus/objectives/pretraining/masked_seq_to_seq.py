"""Masked sequence to sequence: a decoder predicts the tokens that are masked in what the encoder reads (MASS).

Legend: E texts, L sequence length, K masked tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples import Example, Sequence
from genus.objectives.masking import Masking  # a choice is read by its annotation
from genus.objectives.masking.fragments import FragmentMasking
from genus.objectives.pretraining.text_to_text import FromSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Lengths
    from genus.model import Model
    from genus.tokens.vocabulary import Frames, Vocabulary


class MaskedSeqToSeq(FromSource):
    """Masked sequence to sequence: -Σ log p(x_t | masked sequence, masked tokens before t), over the masked tokens.

    The decoder reads the token before each masked one, as it was, and predicts that one. Its tokens keep the positions
    that they have in the whole sequence; all others are left out of it. With `FragmentMasking` its input is
    x_{u-1} ... x_{v-1} for the fragment x_u ... x_v; other maskings are those of the paper's ablation.

    Source: Song et al. 2019, sections 3.2 and 4.1; released code, masked_dataset.py, restricted_mask_sent. In the
    paper, the decoder's first input is a mask token. Deviation: in MASS-unsupNMT, cross-attention leaves masks out.
    """

    needs_tokens: ClassVar[frozenset[str]] = frozenset({"mask"})

    masking: Masking = FragmentMasking()

    @property
    def in_words(self) -> str:
        """Description in words: the masking rate, and the unit that is masked together."""
        return f"{super().in_words} ({self.masking.rate:.0%}, {self.masking.in_words})"

    @property
    def counts_tokens(self) -> bool:
        """Whether the masking needs the token counts of the corpus."""
        return self.masking.counts_tokens

    def check(self, model: Model) -> None:
        """Check that the model is causal, and its positions for tokens are as many as for their source (ValueError)."""
        super().check(model)
        written, read = (model.max_length_of(stream) for stream in ("tokens", "source"))
        if written is not None and (read is None or read > written):
            raise ValueError(f"objectives: MaskedSeqToSeq keeps the positions of a source in the decoder, which has "
                             f"{written}; take as many in model.decoder as in model.encoder")  # fmt: skip

    def lengths(self, raw: Lengths, frames: Frames) -> Lengths:
        """Return the lengths of framed texts, and the largest numbers of their masked tokens."""
        text = raw["tokens"]
        wanted: NDArray[np.float64] = np.maximum(np.ceil(self.masking.rate * text), 1)
        if (most := self.masking.max_predictions) is not None:
            wanted = np.minimum(wanted, most)
        return {"source": text, "tokens": np.minimum(wanted.astype(np.int64), np.maximum(text - 1, 0))}

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with both streams, and the masked tokens as targets of those before them."""
        whole = example.tokens
        chosen, ids = self.masking.corrupt(whole, vocabulary, rng)
        chosen = chosen[chosen > 0]
        before = chosen - 1
        tokens = Sequence(whole.ids[before], 0 * before, np.zeros(len(before), np.bool_), positions=before)
        streams = {**example.streams, "source": replace(whole, ids=ids), "tokens": tokens}
        targets = {**example.targets, self.target: (np.arange(len(chosen)), whole.ids[chosen])}
        return Example(streams, targets)
