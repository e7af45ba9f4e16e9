"""Whether a written folder gives what the learner gives, read by us, and by transformers where it can read it."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.batch import Batch, Packed, Targets
from genus.errors import GenusError
from genus.export.hf import load
from genus.export.layouts import layout_of
from genus.export.native import is_native
from genus.export.weights import read_json
from genus.model.heads import BinaryHead, TokenHead
from genus.model.output import OutputLayer
from genus.objectives.tag import TagHead

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.part import Json
    from genus.tokens.vocabulary import Vocabulary

TOLERANCE = 1e-4
"""Largest allowed difference over the largest output: float32 sums in another order differ by 1e-6 in 24 layers."""
ROWS, LENGTH, SEED = 2, 64, 0


def verify(folder: Path, learner: Learner) -> dict[str, float]:
    """Compare a folder's hidden states and logits with a learner's, in float32 on the CPU, on random tokens.

    Returns:
        The largest relative difference of each output, `hidden` and one a head, and again under `transformers/`.

    Raises:
        GenusError: a difference is above `TOLERANCE`, or the folder cannot be read.
    """
    again = load(folder)
    config = read_json(folder / "config.json")
    ends = [again.recipe.model.max_length, None if is_native(config) else layout_of(config, []).witness.alike(config)]
    batch = _probe(again.tokenizer.vocabulary, min((end for end in ends if end is not None), default=None), config)
    found = outputs(again.learner, batch)
    whole = outputs(copy.deepcopy(learner).float().cpu(), batch)
    reference = {name: value for name, value in whole.items() if name in found}
    differences = _compare(found, reference, "")
    if find_spec("transformers") is not None and not is_native(config):
        differences |= _compare(_witness(folder, config, batch.tokens, list(reference)), reference, "transformers/")
    for name, companion in learner.companions().items():
        differences |= {f"{name}/{output}": value for output, value in verify(folder / name, companion.learner).items()}
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise GenusError(f"{folder}: {name} differs by {difference:.1e} of its size, more than {TOLERANCE:.0e}")
    return differences


@torch.no_grad()
def outputs(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """Return hidden states (T, H), logits of token heads (T, V or C, or T), of sequence heads (N, C), by their names.

    Every sequence fills a row of its own; the target `whole` says where the token stands that stands for it.
    """
    learner.eval()
    hidden = learner.network(batch)["tokens"]
    found = {"hidden": hidden}
    for name, head in learner.heads.items():
        if isinstance(tokens := getattr(head, "tokens", None), TokenHead):
            found[name] = tokens(hidden, learner.network.token_embedding.weight)
        if isinstance(tokens, OutputLayer):
            found[name] = tokens(hidden, learner.network.token_embedding)
        if isinstance(scores := getattr(head, "scores", None), BinaryHead):
            found[name] = scores(hidden)
        if isinstance(classes := getattr(head, "classes", None), nn.Linear):
            whole = batch.targets["whole"].index
            found[name] = classes(hidden if isinstance(head, TagHead) else learner.network.pool(hidden[whole]))
    return found


def _probe(vocabulary: Vocabulary, longest: int | None, config: Json) -> Batch:
    """Return full rows of random tokens, framed by `cls` as sequences are, one in two segments where there are two."""
    length = min(LENGTH, longest or LENGTH)
    generator = torch.Generator().manual_seed(SEED)
    plain = torch.from_numpy(~vocabulary.special).nonzero()[:, 0]
    ids = plain[torch.randint(len(plain), (ROWS, length), generator=generator)]
    ids[:, vocabulary.whole(length)] = vocabulary.cls
    segments = torch.zeros(ROWS, length, dtype=torch.int64)
    segments[1:, length // 2 :] = int(not is_native(config) and config.get("type_vocab_size", 2) > 1)
    return Batch(
        {
            "tokens": Packed(
                ids=ids.flatten(),
                positions=torch.arange(length).repeat(ROWS),
                segments=segments.flatten(),
                offsets=torch.arange(0, ROWS * length + 1, length, dtype=torch.int32),
                max_length=length,
                live=ROWS * length,
            )
        },
        {"whole": Targets(torch.arange(ROWS) * length + vocabulary.whole(length), torch.zeros(ROWS).long())},
    )


@torch.no_grad()
def _witness(folder: Path, config: Json, tokens: Packed, names: list[str]) -> dict[str, Tensor]:
    """Return what transformers makes of the folder, under our names, which stand in the order of its outputs.

    It is a witness only: nothing here needs it, so it is asked where it is, and is no dependency.
    """
    import transformers

    (architecture,) = config["architectures"]
    told = layout_of(config, []).witness.told
    model = getattr(transformers, architecture).from_pretrained(folder, **told).float().eval()
    hidden: list[Tensor] = []
    model.base_model.register_forward_hook(lambda module, given, output: hidden.append(output[0]))
    rows = {"input_ids": tokens.ids, "token_type_ids": tokens.segments}
    inputs = {name: ids.view(-1, tokens.max_length) for name, ids in rows.items()}
    found = model(**inputs, return_dict=True)
    values = [*hidden, *(value for name, value in found.items() if name.endswith("logits"))]
    return dict(zip(names, values, strict=True))


def _compare(found: dict[str, Tensor], reference: dict[str, Tensor], prefix: str) -> dict[str, float]:
    """Return the largest difference over the largest number of each output."""
    return {
        prefix + name: float((found[name].reshape(value.shape) - value).abs().max() / value.abs().max())
        for name, value in reference.items()
    }
