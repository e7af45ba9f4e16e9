"""What a model says at every token of a text: its hidden states, and the weights of the vocabulary's terms.

Legend: M tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.objectives import Head, Learner
from genus.tasks.answer import RowWork
from genus.tasks.embed import tell
from genus.tasks.encode import EncodedTexts, room_for

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch, Targets
    from genus.evaluate.token_prediction import Predictor
    from genus.examples import Example
    from genus.export.folder import LoadedModel
    from genus.model import Network, States
    from genus.objectives import Sums
    from genus.tokens.tokenizer import Tokenizer

Text = str | Sequence[int]
"""A text, or the ids of its tokens."""
SPLADE_TOKENS = 2048
"""Token positions of a pass that has the logits of all of them: few enough for memory."""
STATES = "states"
"""Name of the head that gives hidden states, of its target and of its output."""


def encoded(
    model: LoadedModel, texts: Sequence[Text], target: str, prompt: str = "", *, repeated: bool = False
) -> EncodedTexts:
    """Tokenize single texts; ids are taken as they are. `repeated`: for an encoder-decoder, which reads them twice.

    The template's special tokens are set around both. Ids may have them too, as other tokenizers give them.

    Raises:
        UsageError: the vocabulary has no such id.
    """
    tokenizer, longest = model.tokenizer, model.recipe.finetuning.max_length
    found = tokenizer.encode([prompt + text if isinstance(text, str) else prompt for text in texts], specials=False)
    rows = [ids if isinstance(t, str) else [*ids, *_plain(tokenizer, t)] for t, ids in zip(texts, found, strict=True)]
    room = room_for(1, tokenizer.vocabulary, longest)
    over = np.array([len(ids) - room for ids in rows], np.int64)
    kept: list[tuple[NDArray[np.int32], ...]] = [(np.array(ids[:room], np.int32),) for ids in rows]
    labels = np.zeros(len(kept), np.float32)
    return EncodedTexts(kept, labels, target, tokenizer.vocabulary, longest, over[over > 0], repeated=repeated)


def to_embed(model: LoadedModel, texts: Sequence[Text], target: str, prompt: str = "") -> EncodedTexts:
    """Return `encoded` texts for vectors; say which were empty or cut."""
    found = encoded(model, texts, target, prompt)
    empty = sum(not (text.strip() if isinstance(text, str) else text) for text in texts)
    tell(empty, len(found.cut), found.max_length, prompt)
    return found


def _plain(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """Return ids without those that the template sets around a text."""
    check_ids(tokenizer, ids)
    around = {*tokenizer.vocabulary.frame(np.zeros(0, np.int64))[0].tolist()}
    return [number for number in ids if number not in around]


def check_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> None:
    """Check that the vocabulary has these ids.

    Raises:
        UsageError: it has not.
    """
    size = tokenizer.vocabulary.size
    if wrong := next((number for number in ids if not 0 <= number < size), None):
        raise UsageError(f"there is no token {wrong}; the vocabulary has those from 0 to {size - 1:,}")


class HiddenStates(Head):
    """No parameters: the last hidden states at its targets."""

    target = STATES

    def counts(self, batch: Batch) -> Sums:
        """Return nothing: there is no loss."""
        return {}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return the hidden states (M, H)."""
        return {STATES: states["tokens"][batch.targets[self.target].index.clamp(min=0)]}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return nothing: there is no loss."""
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class EveryToken(RowWork):
    """What is asked of a head at every token of a text, special ones of the template included: its first output."""

    def examples(self) -> list[Example]:
        """Return the text, of which every token is a target."""
        found = []
        for example in RowWork.examples(self):
            places = np.arange(len(example.tokens.ids))
            found.append(replace(example, targets={self.target: (places, np.zeros_like(places))}))
        return found

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> NDArray[np.float32]:
        """Return the head's output (M, ...)."""
        (values,) = outputs.values()
        kept: NDArray[np.float32] = self.kept(values.float()).cpu().numpy()
        return kept

    def kept(self, values: Tensor) -> Tensor:
        """Return what is kept of the values (M, ...); here all."""
        return values


class TermWeights(EveryToken):
    """The weights (V,) that a masked language model gives terms for a text: max_m log(1 + relu(logit_mv)).

    Source: Formal et al. 2021 (arXiv:2109.10086), equation 6, SPLADE-max; tokens of the template count, as in the
    released code.
    """

    __slots__ = ()

    def kept(self, values: Tensor) -> Tensor:
        """Return the weights (V,) of logits (M, V)."""
        return values.amax(0).relu().log1p()


def with_states(learner: Learner) -> Learner:
    """Return a learner of the same network that gives hidden states."""
    return Learner(learner.network, {STATES: HiddenStates()}).eval()


def with_terms(predictor: Predictor) -> Learner:
    """Return a learner of the same network and head, so that no pass has few masks of some texts, and all of others."""
    return Learner(predictor.learner.network, {predictor.name: predictor.head}).eval()


def works(kind: type[EveryToken], learner: Learner, texts: EncodedTexts) -> list[EveryToken]:
    """Return what is asked of a learner, which has one head, for each text."""
    (head,) = learner.heads
    return [
        kind(
            learner=learner, head=head, target=texts.target, pad=texts.vocabulary.pad, lengths={"tokens": [length]},
            encoded=texts, number=number, sequences=np.array([number]),
        )
        for number, length in enumerate(texts.lengths.tolist())
    ]  # fmt: skip


def unit(vectors_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of the length 1; the vector 0 stays."""
    lengths = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return np.asarray(vectors_NE / np.where(lengths == 0, 1, lengths), np.float32)
