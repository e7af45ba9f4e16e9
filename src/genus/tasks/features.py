"""Feature extraction: hidden states of chosen layers, a vector for each text, word or token of a text.

Legend: T token positions, N vectors, E size of a vector: that of a state for each chosen layer, side by side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from genus.batch import Packed
from genus.errors import UsageError, say
from genus.model.layer_mix import chosen_states
from genus.objectives import answering, device_of, on
from genus.objectives.pooling import Mean, Pooling
from genus.tasks.embed import BLOCK, blocks
from genus.tasks.encode import encode
from genus.tasks.feed import by_length
from genus.train.precision import autocast
from genus.train.world import device_of_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch
    from genus.export.folder import LoadedModel
    from genus.model import Network
    from genus.tasks.encode import EncodedTexts
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

Unit = Literal["text", "word", "token"]
"""What has a vector: a text, what stands between white space, or a token, special ones of the template included."""
VALUES = 1 << 26
"""Numbers of a block of texts that are in memory at once: 256 MiB in float32."""
TARGET = "features"
NOTHING = np.zeros(0, np.int64)
Placed = tuple[list["Place"], "NDArray[np.int64]"]
"""What of a text has a vector, and which word each token is of, -1 for none."""


@dataclass(frozen=True)
class Place:
    """A word or a token of a text."""

    text: str
    """The word as it stands in the text, or the token as the vocabulary spells it."""
    start: int | None
    """Its first character; None for special tokens of the template."""
    end: int | None
    """The character after its last; None for special tokens of the template."""


@dataclass(frozen=True)
class Features:
    """The vectors of a block of texts, in their order."""

    texts: int
    """How many texts the block has; one of which the tokenizer leaves nothing may have no word and no token."""
    rows: NDArray[np.int64]
    """(N,) number of each vector's text in the block, from 0 on."""
    vectors: NDArray[np.float32]
    """(N, E)."""
    places: list[Place]
    """Of words and tokens, N of them; empty where each text has one vector."""


def feature_blocks(
    model: LoadedModel,
    texts: Iterable[str],
    layers: Sequence[int] = (-1,),
    per: Unit = "text",
    pooling: Pooling | None = None,
    run: Run | None = None,
) -> Iterator[Features]:
    """Yield vectors of texts in blocks, in their order; say how many texts were empty or cut, and words lost.

    The chosen layers' states stand side by side: 0 are the embeddings, -1 the last layer, which is what the network
    gives: after a final normalization, as in `hidden_states` of transformers. BERT's best features for names are the
    last four (Devlin et al. 2018, table 7).

    Args:
        model: its device and its train or eval mode are restored.
        texts: read as they are needed; they are cut to `finetuning.max_length` of the model's recipe.
        layers: numbers of layers, from the embeddings or, if negative, from the last layer.
        per: what has a vector.
        pooling: of the tokens of a text, special ones included, or of a word's pieces; None: their mean.
        run: device and precision; None: the model's device, in float32.

    Raises:
        UsageError: there is no such layer, the network does not keep layers, or it reads a source.
    """
    if extra := model.recipe.model.streams - {"tokens"}:
        raise UsageError(f"features: this model reads a {min(extra)}; take an encoder or a decoder")
    longest, reader = model.recipe.finetuning.max_length, _Reader(model, tuple(layers), per, pooling or Mean(), run)
    held = len(layers) * model.recipe.model.width * (1 if per == "text" else longest)
    empty = cut = 0
    with on(model.learner, reader.device):
        for block in blocks(texts, max(1, min(BLOCK, VALUES // held))):
            encoded = encode(
                model.tokenizer, [(text,) for text in block], np.zeros(len(block), np.float32), TARGET, longest
            )
            empty, cut = empty + sum(not text.strip() for text in block), cut + len(encoded.cut)
            yield reader.read(block, encoded)
    if empty:
        say(f"{empty:,} texts are empty; there is nothing but special tokens, if the model has any")
    if cut:
        say(f"{cut:,} texts are longer than finetuning.max_length={longest} tokens and lose their end")
    if reader.lost:
        say(f"{reader.lost:,} words have no vector: they were cut off, or the tokenizer leaves nothing of them")


@dataclass
class _Reader:
    """Reads blocks of texts by one model."""

    model: LoadedModel
    layers: tuple[int, ...]
    per: Unit
    pooling: Pooling
    run: Run | None
    lost: int = 0
    """Words without a vector so far."""

    @property
    def device(self) -> torch.device:
        return device_of(self.model.learner) if self.run is None else device_of_run(self.run)

    def read(self, texts: Sequence[str], encoded: EncodedTexts) -> Features:
        """Return the vectors of a block; a text without a token has the vector 0, where texts have vectors."""
        framing = encoded.vocabulary.framing(1)
        there = np.flatnonzero([len(ids) + framing for (ids,) in encoded.texts])
        width = len(self.layers) * self.model.recipe.model.width
        found: list[NDArray[np.float32]] = [np.zeros((int(self.per == "text"), width), np.float32)] * len(texts)
        known = zip(texts, encoded.texts, strict=True)
        places = [_places(self.model.tokenizer, text, ids, self.per) for text, (ids,) in known]
        if self.per == "word":
            self.lost += sum(len(text.split()) - len(few) for text, (few, _) in zip(texts, places, strict=True))
        some = replace(encoded, texts=[encoded.texts[i] for i in there], labels=encoded.labels[there])
        precision = "float32" if self.run is None else self.run.precision
        with answering(self.model.learner), autocast(precision, self.device):
            for chosen, batch in by_length(some) if len(there) else ():
                numbers = there[chosen].tolist()
                batch = batch.to(self.device)
                states_TE = layer_states(self.model.learner.network, batch, self.layers)
                for number, vectors in zip(numbers, self._vectors(states_TE, batch, numbers, places), strict=True):
                    found[number] = vectors.cpu().numpy()
        rows = np.repeat(np.arange(len(texts)), [len(vectors) for vectors in found])
        return Features(len(texts), rows, np.concatenate(found), [place for few, _ in places for place in few])

    def _vectors(
        self, states_TE: Tensor, batch: Batch, numbers: Sequence[int], places: Sequence[Placed]
    ) -> Sequence[Tensor]:
        """Return the vectors (n, E) of each text of a batch."""
        packed, index = batch.tokens, batch.targets[TARGET].index
        entry_N = packed.sequence[index].long()
        if self.per == "text":
            return [*self.pooling(states_TE, packed, entry_N)[:, None]]
        starts, ends = packed.offsets[entry_N].tolist(), packed.offsets[entry_N + 1].tolist()
        each = [states_TE[start:end] for start, end in zip(starts, ends, strict=True)]
        if self.per == "token":
            return each
        return [self._words(states, places[number][1]) for states, number in zip(each, numbers, strict=True)]

    def _words(self, states_TE: Tensor, owner: NDArray[np.int64]) -> Tensor:
        """Return the vectors (n, E) of words, given the states of a text's tokens and the word of each, or -1."""
        fixed = self.model.tokenizer.vocabulary.frame(np.zeros(len(owner), np.int64))[2]
        of_words = np.flatnonzero(~fixed)[owner >= 0]
        lengths = np.unique(owner[owner >= 0], return_counts=True)[1].tolist()
        if not lengths:
            return states_TE[:0]
        words = Packed.laid(torch.zeros(len(of_words), dtype=torch.int64), [lengths], len(of_words))
        states_TE = states_TE[torch.from_numpy(of_words).to(states_TE.device)]
        return self.pooling(states_TE, words.to(states_TE.device), torch.arange(len(lengths), device=states_TE.device))


def number_of_layers(model: LoadedModel) -> int:
    """Return the number of layers whose states can be asked for, the embeddings not counted.

    Raises:
        UsageError: the network does not keep the states of layers, or it reads a source.
    """
    if extra := model.recipe.model.streams - {"tokens"}:
        raise UsageError(f"features: this model reads a {min(extra)}; take an encoder or a decoder")
    encoded = encode(model.tokenizer, [("a",)], np.zeros(1, np.float32), TARGET, model.recipe.finetuning.max_length)
    device = device_of(model.learner)
    with answering(model.learner), autocast("float32", device):
        _, batch = next(iter(by_length(encoded)))
        states = model.learner.network(batch.to(device), layers=True)
    assert states.layers is not None
    return len(states.layers) - 1


def layer_states(network: Network, batch: Batch, layers: Sequence[int]) -> Tensor:
    """Return the states (T, E) of chosen layers side by side, in float32.

    Raises:
        UsageError: there is no such layer, or the network does not keep their states.
    """
    if {*layers} == {-1}:
        last = network(batch)["tokens"].float()
        return torch.cat([last] * len(layers), -1)
    found = chosen_states(network(batch, layers=True), layers)
    return torch.cat([one.float() for one in found], -1)


def _places(tokenizer: Tokenizer, text: str, ids: NDArray[np.int32], per: Unit) -> Placed:
    """Return what of a text has a vector, and which word each token is of, -1 for none; nothing where a text has one.

    A token is of the word in which its text begins, as is the space right before a word that is a token by itself.
    """
    if per == "text":
        return [], NOTHING
    spans = tokenizer.encode_with_offsets(text)[1][: len(ids)]
    if per == "token":
        framed, _, fixed = tokenizer.vocabulary.frame(ids.astype(np.int64))
        own = iter(spans.tolist())
        return [
            Place(tokenizer.pieces[number], *((None, None) if special else next(own)))
            for number, special in zip(framed.tolist(), fixed.tolist(), strict=True)
        ], NOTHING
    words = [match.span() for match in re.finditer(r"\S+", text)]
    starts, ends = np.array([*words, (len(text) + 1,) * 2], np.int64).T
    owner = np.searchsorted(ends[:-1], spans[:, 0], side="right")
    owner[spans[:, 1] < starts[owner]] = -1
    there, owner = np.unique(np.append(owner, -1), return_inverse=True)
    return [Place(text[slice(*words[number])], *words[number]) for number in there[1:].tolist()], owner[:-1] - 1
