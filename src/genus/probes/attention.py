"""Attention weights of a text: how much each token reads of every other, by layer and head.

Legend: A heads, L tokens of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.attention import AttentionLayer
from genus.objectives import answering, device_of
from genus.tasks.features import number_of_layers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel

MOST = 64
"""Tokens of a text whose weights are shown."""


@dataclass(frozen=True)
class Weights:
    """The tokens of a text, and the attention weights of each layer."""

    tokens: list[str]
    """As the vocabulary spells them, special ones included."""
    layers: list[NDArray[np.float32]]
    """(A, L, L) of each layer, a row for each token that reads; rows sum to 1."""


def attention_weights(model: LoadedModel, text: str, most: int = MOST) -> Weights:
    """Return the attention weights of a text, as a forward pass in float32 has them.

    Args:
        model: an encoder or a decoder with multi-head attention.
        text: of at most `most` tokens, special ones of the template included.
        most: tokens.

    Raises:
        UsageError: the text is empty or too long; the model reads a source, or its attention has no weights of pairs.
    """
    layers = number_of_layers(model)
    (ids,) = model.tokenizer.encode([text], specials=False)
    sequence = Sequence(*model.tokenizer.vocabulary.frame(np.array(ids, np.int64)))
    longest = min(most, model.recipe.model.max_length or most)
    if not ids or len(sequence.ids) > longest:
        raise UsageError(f"--attention: the text has {len(sequence.ids)} tokens, and from 1 to {longest} can be shown; "
                         "give other text")  # fmt: skip
    batch = pack([[Example({"tokens": sequence}, {})]], len(sequence.ids), model.tokenizer.vocabulary.pad,
                 streams=False).to(device_of(model.learner))  # fmt: skip
    found: list[NDArray[np.float32]] = []

    def keep(layer: Any, given: tuple[Any, ...]) -> None:
        found.append(layer.weights(given[0], given[1])[0].float().cpu().numpy())

    modules = [one for one in model.learner.network.modules() if isinstance(one, AttentionLayer)]
    hooks = [one.register_forward_pre_hook(keep) for one in modules]
    try:
        with answering(model.learner), torch.no_grad():
            model.learner.network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if len(found) != layers:
        raise UsageError(f"attention was computed {len(found)} times in {layers} layers: this model has no weights of "
                         "all its layers to show")  # fmt: skip
    return Weights([model.tokenizer.pieces[number] for number in sequence.ids.tolist()], found)
