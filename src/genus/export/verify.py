"""Verification of exported folders: hidden states and logits of genus and transformers against the learner's."""

from __future__ import annotations

import copy
import warnings
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from genus.batch import IGNORE, Batch, Packed, Targets
from genus.errors import GenusError
from genus.export.folder import load
from genus.export.layouts import ReferenceOptions, layout_of
from genus.export.native import is_native
from genus.export.sentence_transformers import embedder_of
from genus.files import read_json
from genus.objectives import answering

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from genus.model import Model
    from genus.objectives import Head, Learner
    from genus.part import Json
    from genus.tokens.vocabulary import Vocabulary

TOLERANCE = 1e-4
"""Largest allowed difference, relative to the largest output: float32 sums in another order differ by 1e-6 in 24
layers."""
LENGTH, SEED = 64, 0
WHOLE = "whole"
"""Name of the targets at the summary tokens, whose states stand for whole sequences."""


def verify(folder: Path, learner: Learner) -> dict[str, float]:
    """Compare a folder's hidden states and logits with a learner's, in float32 on the CPU, on random tokens.

    The sequences have several lengths; they are packed for genus, and padded by the folder's tokenizer for
    transformers.

    Returns:
        The largest relative difference per output: `hidden` and one per head, and the same under `transformers/`.

    Raises:
        GenusError: a difference is above `TOLERANCE`, or the folder cannot be read.
    """
    again = load(folder)
    config = read_json(folder / "config.json")
    witness = ReferenceOptions() if is_native(config) else layout_of(config, []).witness
    model = again.recipe.model
    ends = [model.max_length_of(stream) or LENGTH for stream in model.streams if model.pixels(stream) is None]
    longest = min(LENGTH, *ends, witness.max_equal_length(config) or LENGTH)
    batch = _probe(again.tokenizer.vocabulary, longest, witness.padded, config, model)
    found = outputs(again.learner, batch)
    whole = outputs(copy.deepcopy(learner).float().cpu(), batch)
    reference = {name: value for name, value in whole.items() if name in found}
    differences = _compare(found, reference, "")
    if find_spec("transformers") is not None and not is_native(config):
        beside = embedder_of(again.recipe)  # its head is no part of a class of transformers
        theirs = {name: value for name, value in reference.items() if beside is None or name != beside.name}
        with _quietly():
            differences |= _compare(_witness(folder, config, batch, theirs), theirs, "transformers/")
    for name, companion in learner.auxiliary_models().items():
        differences |= {f"{name}/{output}": value for output, value in verify(folder / name, companion.learner).items()}
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise GenusError(f"{folder}: {name} differs by {difference:.1e} of its size, more than {TOLERANCE:.0e}")
    return differences


def outputs(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """Return hidden states (T, H) and the outputs of the heads, per token (T, ...) or per sequence (N, ...), by name.

    The targets `whole` hold the index of each sequence's summary token.
    """
    heads, network = cast("dict[str, Head]", dict(learner.heads.items())), learner.network
    with answering(learner):
        states = network(batch, layers=True) if any(one.reads_layers for one in heads.values()) else network(batch)
        found = {"hidden": states["tokens"]}
        for name, head in heads.items():
            at = batch.targets[WHOLE] if head.per == "sequence" else _asked(torch.arange(len(found["hidden"])))
            answers = head.outputs(network, states, replace(batch, targets={head.target: at}))
            found |= {name if len(answers) == 1 else f"{name}/{one}": value for one, value in answers.items()}
    return found


def _probe(vocabulary: Vocabulary, longest: int, ragged: bool, config: Json, model: Model) -> Batch:
    """Return two rows of random tokens, the second one sequence or two shorter ones, in two segments if there are two.

    Sequences are framed by `cls` as texts are. Other streams than `tokens` have other tokens in sequences as long; they
    end with `eos`, by which transformers finds the states that stand for whole sequences. So do texts of images, which
    have random pixels.
    """
    if (pixels := model.pixels("tokens")) is not None:
        length, generator = model.max_length or LENGTH, torch.Generator().manual_seed(SEED)
        images = _images(length, pixels, 3, generator)
        return Batch({"tokens": images}, {WHOLE: _asked(images.offsets[:1].long())})
    lengths = [longest, longest - longest // 3, longest // 3] if ragged and longest > 2 else [longest, longest]
    ends = torch.tensor(lengths).cumsum(0)
    starts = ends - torch.tensor(lengths)
    whole = starts + torch.tensor([vocabulary.whole(length) for length in lengths])
    generator = torch.Generator().manual_seed(SEED)
    plain = torch.from_numpy(~vocabulary.special).nonzero()[:, 0]
    ids = plain[torch.randint(len(plain), (2 * longest,), generator=generator)]
    if "cls" in vocabulary.roles:
        ids[whole] = vocabulary.cls
    second = [torch.arange(length) >= length // 2 for length in lengths[1:]]
    segments = torch.cat([torch.zeros(longest), *second]).long()
    told = not is_native(config) and config.get("type_vocab_size", 2) > 1
    tokens = Packed.laid(ids, [lengths[:1], lengths[1:]], longest, {"segment": segments * int(told)})
    others = {}
    for name in sorted(model.streams - {"tokens"}):
        if (pixels := model.pixels(name)) is not None:
            ids[ends - 1] = vocabulary.roles["eos"]
            others[name] = _images(model.max_length_of(name) or LENGTH, pixels, len(lengths), generator)
            continue
        given = plain[torch.randint(len(plain), (2 * longest,), generator=generator)]
        if "eos" in vocabulary.roles:
            given[ends - 1] = vocabulary.roles["eos"]
        others[name] = replace(tokens, ids=given)
    return Batch({"tokens": tokens, **others}, {WHOLE: _asked(whole)})


def _images(length: int, pixels: int, number: int, generator: torch.Generator) -> Packed:
    """Return random images of a model's size, the first in a row of its own, the others in another."""
    ids = torch.arange(length).clamp(max=1)
    rows = [[length], [length] * (number - 1)]
    size = max(map(sum, rows))
    packed = Packed.laid(torch.cat([F.pad(ids.repeat(len(row)), (0, size - sum(row))) for row in rows]), rows, size)
    return replace(packed, pixels=torch.randint(256, (2 * size, pixels), generator=generator, dtype=torch.uint8))


def _asked(index: Tensor) -> Targets:
    """Return targets at these token positions, with ignored labels."""
    return Targets(index, torch.full_like(index, IGNORE))


@torch.no_grad()
def _witness(folder: Path, config: Json, batch: Batch, reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs of transformers for the folder, under the names of `reference`, which has the same order.

    transformers serves only as a reference: it is used where it is installed, and is not a dependency.
    """
    import transformers

    (architecture,) = config["architectures"]
    layout = layout_of(config, [])
    model = getattr(transformers, architecture).from_pretrained(folder, **layout.witness.kwargs).float().eval()
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    if layout.witness.answers is not None:
        texts = reader.pad(_texts(batch.tokens, {"input_ids": batch.tokens.ids}), return_tensors="pt")
        values = layout.witness.answers(model, texts, texts["attention_mask"].bool(), batch)
        return dict(zip(reference, values, strict=True))
    hidden: list[Tensor] = []
    tokens, source = batch.tokens, batch.streams.get("source")
    last = model.base_model if source is None else model.get_decoder()
    last.register_forward_hook(lambda module, given, output: hidden.append(output[0]))
    reader.pad_token = reader.pad_token or reader.eos_token or reader.unk_token
    model.config.pad_token_id = reader.pad_token_id  # by which decoders find the last token
    rows = {"input_ids": tokens.ids}
    if layout.segmented:  # GPT-2's classes take segments for tokens
        rows["token_type_ids"] = tokens.facts["segment"]
    padded = reader.pad(_texts(tokens, rows), return_tensors="pt")
    given = padded
    if source is not None:
        given = reader.pad(_texts(source, {"input_ids": source.ids}), return_tensors="pt")
        given |= {f"decoder_{name}": value for name, value in padded.items()}
    found = model(**given, return_dict=True)
    values = [*hidden, *(value for name, value in found.items() if name.endswith("logits"))]
    named = dict(zip(reference, values, strict=True))
    live, count = padded["attention_mask"].bool(), len(tokens.ids)
    return {name: value[live] if len(reference[name]) == count else value for name, value in named.items()}


def _texts(packed: Packed, rows: Mapping[str, Tensor]) -> dict[str, list[list[int]]]:
    """Return what a stream has of each sequence, by name."""
    return {name: [ids[start:end].tolist() for start, end in packed.spans()] for name, ids in rows.items()}


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence transformers' logging, progress bars and warnings, and restore its settings afterwards."""
    import transformers

    logging: Any = transformers.utils.logging  # partly without annotations
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _compare(found: dict[str, Tensor], reference: dict[str, Tensor], prefix: str) -> dict[str, float]:
    """Return the largest absolute difference of each output, divided by the largest absolute value of the reference."""
    return {
        prefix + name: float((found[name].reshape(value.shape) - value).abs().max() / value.abs().max())
        for name, value in reference.items()
    }
