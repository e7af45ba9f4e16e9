"""Hugging Face's CLIP class, `CLIPModel`: both towers, their projections and the temperature.

Its configuration has a table for each tower; here the keys within them are written with a dot. Beside it lies
`preprocessor_config.json`, by which `CLIPProcessor` resizes, crops and normalizes images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from genus.examples.formats.image_captions import ImageCaptions
from genus.export.layouts import Derived, HeadLayout, Layout, ReferenceOptions, Setting
from genus.export.layouts.bert import TEMPLATE as BERT
from genus.export.layouts.conventions import activation
from genus.export.layouts.maps import EachTensor, Flatten, Map, Op
from genus.model.activation import QuickGelu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.embedding.patches import BRIGHTEST, CHANNELS, PatchEmbedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import ByWidth
from genus.model.norm import Identity, LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.model.transformer import Transformer
from genus.model.two_towers import TwoTowers
from genus.objectives.pretraining.image_text_contrast import ImageTextContrast
from genus.optim.adamw import AdamW
from genus.recipe import Published
from genus.stages import ImageStage
from genus.tokens.algorithms.end_of_word_byte_bpe import EndOfWordByteBPE

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Batch
    from genus.export.layouts.maps import Table
    from genus.part import Json

HEAD = "image_text_contrast"
TABLES = {"text": "text_config", "image": "vision_config"}
"""Towers, and the tables of their configuration."""
POSITIONS = "vision_config.positions"
"""Stands for `image_size` in settings: positions of an image, the square of patches a side and the class token."""
PREPROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class Squares(EachTensor):
    """From the map of a patch's numbers (E, 3 p p) to a convolution's weight (E, 3, p, p)."""

    def one(self, tensor: Tensor) -> Tensor:
        """Return the weight by channels, rows and columns."""
        side = math.isqrt(tensor.shape[1] // CHANNELS)
        return tensor.view(len(tensor), CHANNELS, side, side)

    @property
    def inverse(self) -> Op:
        """The merge of channels, rows and columns."""
        return Rows()


@dataclass(frozen=True)
class Rows(EachTensor):
    """From a convolution's weight to the map of a patch's numbers."""

    def one(self, tensor: Tensor) -> Tensor:
        """Return the weight with one axis of inputs."""
        return tensor.flatten(1)

    @property
    def inverse(self) -> Op:
        """The split into channels, rows and columns."""
        return Squares()


@dataclass(frozen=True)
class Single(EachTensor):
    """From a vector of one number to the number, or back."""

    back: bool = False

    def one(self, tensor: Tensor) -> Tensor:
        """Return the number without its axis, or with one."""
        return tensor.reshape(1) if self.back else tensor.reshape(())

    @property
    def inverse(self) -> Op:
        """The same in the other direction."""
        return Single(not self.back)


def positions(length: int) -> int:
    """Return the positions of an image; raise a `LookupError` where they are no square of patches."""
    if math.isqrt(length - 1) ** 2 != length - 1:
        raise LookupError(length)
    return length


def nested(config: Json) -> Json:
    """Return a written configuration with a table for each tower."""
    found: Json = {name: value for name, value in config.items() if "." not in name}
    for name, value in config.items():
        table, _, key = name.partition(".")
        if key:
            found.setdefault(table, {})[key] = value
    images = found["vision_config"]
    images["image_size"] = images["patch_size"] * math.isqrt(images.pop("positions") - 1)
    for table, kind in (("text_config", "clip_text_model"), ("vision_config", "clip_vision_model")):
        found[table] |= {"model_type": kind, "projection_dim": found.get("projection_dim")}
    return found


def flat(config: Json) -> Json:
    """Return a read configuration with dotted keys for those of the towers."""
    found = {name: value for name, value in config.items() if name not in TABLES.values()}
    for table in TABLES.values():
        within = config.get(table)
        found |= {f"{table}.{key}": value for key, value in (within if isinstance(within, dict) else {}).items()}
    size, patch = found.get("vision_config.image_size", 224), found.get("vision_config.patch_size", 32)
    if isinstance(size, int) and isinstance(patch, int) and patch > 0:
        found[POSITIONS] = (size // patch) ** 2 + 1
    return found


def preprocessor(config: Json) -> Json:
    """Return the content of the preprocessor's file for a configuration."""
    side, embedding = config["vision_config"]["image_size"], cast("PatchEmbedding", IMAGE.embedding)
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / BRIGHTEST,
        "do_normalize": True,
        "image_mean": [*embedding.image_mean],
        "image_std": [*embedding.image_std],
    }


def answers(model: Any, texts: Any, live: Tensor, batch: Batch) -> list[Tensor]:
    """Return what `CLIPModel` answers, in the order of genus's outputs: states of texts, and vectors of both sides.

    Args:
        model: the class of transformers.
        texts: padded ids and their mask.
        live: which of them are no padding.
        batch: whose images are given as pixels.
    """
    given = {name: texts[name] for name in ("input_ids", "attention_mask")}
    hidden = model.text_model(**given).last_hidden_state[live]
    found = model(**given, pixel_values=pixel_values(batch))
    scaled = model.logit_scale.exp() * found.text_embeds
    return [hidden, found.text_embeds, found.image_embeds, torch.stack([scaled, found.image_embeds], 1)]


def pixel_values(batch: Batch) -> Tensor:
    """Return the images of a batch (N, 3, S, S), normalized."""
    packed, embedding = batch.streams["image"], cast("PatchEmbedding", IMAGE.embedding)
    assert packed.pixels is not None
    images = []
    for start, end in packed.spans():
        grid, side = math.isqrt(end - start - 1), math.isqrt(packed.pixels.shape[1] // CHANNELS)
        cut = packed.pixels[start + 1 : end].float().view(grid, grid, CHANNELS, side, side)
        images.append(cut.permute(2, 0, 3, 1, 4).reshape(CHANNELS, grid * side, grid * side))
    mean, std = (torch.tensor(one)[:, None, None] for one in (embedding.image_mean, embedding.image_std))
    return (torch.stack(images) / BRIGHTEST - mean) / std


def tower(ours: str, theirs: str) -> Table:
    """Return the rows of a tower's layers."""
    layer, own = f"{theirs}.encoder.layers.{{}}", f"network.{ours}.layers.{{}}"
    attention = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
    return {
        **{f"{own}.attention.{name}": (f"{layer}.self_attn.{other}",) for name, other in attention.items()},
        f"{own}.attention_norm": (f"{layer}.layer_norm1",),
        f"{own}.feedforward.inner": (f"{layer}.mlp.fc1",),
        f"{own}.feedforward.out": (f"{layer}.mlp.fc2",),
        f"{own}.feedforward_norm": (f"{layer}.layer_norm2",),
        f"network.{ours}.embed.positions.table": (f"{theirs}.embeddings.position_embedding",),
    }


def sizes(ours: str, *norms: str) -> tuple[Setting, ...]:
    """Return the settings of a tower."""
    table, own = TABLES[ours], f"model.{ours}"
    return (
        Setting(f"{table}.hidden_size", (f"{own}.hidden",)),
        Setting(f"{table}.intermediate_size", (f"{own}.feedforward.size",)),
        Setting(f"{table}.num_hidden_layers", (f"{own}.layers",)),
        Setting(f"{table}.num_attention_heads", (f"{own}.attention.heads",)),
        Setting(f"{table}.layer_norm_eps", tuple(f"{own}.{norm}" for norm in norms)),
        Setting(f"{table}.attention_dropout", (f"{own}.attention.dropout",)),
        activation(f"{own}.feedforward.activation", key=f"{table}.hidden_act"),
    )


TEXT = Transformer(
    layers=12,
    hidden=512,
    attention=MultiHeadAttention(heads=8, dropout=0.0, mask=Causal()),
    feedforward=MLP(size=2048, activation=QuickGelu()),
    embedding=Embedding(segments=0, position=LearnedPosition(length=77), norm=Identity(), dropout=0.0),
    norm=LayerNorm(eps=1e-5),
    block=PreNorm(),
    dropout=0.0,
    initialization=ByWidth(embedding_std=0.02),
)
IMAGE = Transformer(
    layers=12,
    hidden=768,
    attention=MultiHeadAttention(heads=12, dropout=0.0),
    feedforward=MLP(size=3072, activation=QuickGelu()),
    embedding=PatchEmbedding(
        segments=0, patch=32, position=LearnedPosition(length=50), norm=LayerNorm(eps=1e-5), dropout=0.0
    ),
    norm=LayerNorm(eps=1e-5),
    block=PreNorm(),
    dropout=0.0,
    initialization=ByWidth(embedding_std=None),
)
CONTRAST = ImageTextContrast(size=512)
OF_CLASS, OF_SCALE = "network.image.embed.tokens.weight", f"heads.{HEAD}.log_scale"
PATCHES = "network.image.embed.patches"

LAYOUT = Layout(
    model_type="clip",
    prefix="",
    segmented=False,
    template=replace(
        BERT,
        name="clip/imported",
        published=Published(title="CLIP", paper="arXiv:2103.00020", year=2021),
        tokens=EndOfWordByteBPE(vocab_size=49_408),
        examples=ImageCaptions(),
        model=TwoTowers(text=TEXT, image=IMAGE),
        objectives=(CONTRAST,),
        # Genus's defaults for further pretraining: a hundredth of the published rate.
        optimizer=AdamW(lr=5e-6, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, clip_norm=1.0),
        stages=(ImageStage(max_length=77, image_length=50, batch=256, micro_batch=32),),
        finetuning=replace(BERT.finetuning, max_length=77, pooler=None),
    ),
    settings=(
        *sizes("text", "norm.eps"),
        *sizes("image", "norm.eps", "embedding.norm.eps"),
        Setting("text_config.max_position_embeddings", ("model.text.embedding.position.length",)),
        Setting("vision_config.patch_size", ("model.image.embedding.patch",)),
        Setting(POSITIONS, ("model.image.embedding.position.length",), write=positions),
        Setting("projection_dim", (f"{HEAD}.size",)),
    ),
    tensors={
        "network.text.embed.tokens": ("text_model.embeddings.token_embedding",),
        **tower("text", "text_model"),
        "network.text.norm": ("text_model.final_layer_norm",),
        OF_CLASS: Map((OF_CLASS,), ("vision_model.embeddings.class_embedding",), Flatten(1)),
        PATCHES: Map((PATCHES,), ("vision_model.embeddings.patch_embedding",), Squares()),
        **tower("image", "vision_model"),
        "network.image.embed.norm": ("vision_model.pre_layrnorm",),
        "network.image.norm": ("vision_model.post_layernorm",),
    },
    optional={},
    heads={
        HEAD: HeadLayout(
            objective=CONTRAST,
            tensors={
                f"heads.{HEAD}.text_projection": ("text_projection",),
                f"heads.{HEAD}.image_projection": ("visual_projection",),
                OF_SCALE: Map((OF_SCALE,), ("logit_scale",), Single()),
            },
            free=frozenset({"crop", "temperature", "largest"}),
        )
    },
    architectures={frozenset({HEAD}): "CLIPModel"},
    tied={},
    derived=Derived(write=nested, read=flat, text="text_config", files={PREPROCESSOR: preprocessor}),
    witness=ReferenceOptions(answers=answers),
)
