"""OpenCLIP's configuration and names of tensors, of vision Transformers and of residual networks.

Here keys within the tables of a configuration are written with a dot. Names are those of OpenAI's state dicts too.

Source: mlfoundations/open_clip, model.py (`CLIPVisionCfg`, `CLIPTextCfg`, `CLIP`), modified_resnet.py, transform.py
(`PreprocessCfg`); its model_configs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genus.export.layouts import Derived, HeadLayout, Layout, Setting
from genus.export.layouts.clip import CONTRAST, HEAD, LAYOUT, TEXT, Single, Squares
from genus.export.layouts.maps import Flatten, Map, Stack, Transpose
from genus.model.activation import Gelu, QuickGelu
from genus.model.resnet import ResNet
from genus.model.two_towers import TwoTowers

if TYPE_CHECKING:
    from genus.export.layouts.maps import Table
    from genus.part import Json

MODEL_TYPE = "open_clip"
HEAD_WIDTH, MLP_RATIO, NORM_EPS = 64, 4.0, 1e-5
"""OpenCLIP's defaults."""
PIXELS, FEATURES = 32, 32
"""Of a residual network: pixels of a feature vector's side, and the last block's feature maps over the stem's."""
GROUPS = 4
"""Of a residual network: groups of blocks."""
READ = {
    "vision_cfg": ("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs"),
    "text_cfg": ("layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size", "norm_kwargs"),
}
"""Keys of the tables that are translated."""
USUAL: dict[str, dict[str, tuple[str, ...]]] = {
    "vision_cfg": {"pool_type": ("tok",), "pos_embed_type": ("learnable",)},
    "text_cfg": {"pool_type": ("argmax", "eos"), "proj_type": ("linear",)},
}
"""Other keys, which may have these values, or what says no: null, false or 0."""
OF_TOKENIZERS = ("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "eos_id", "pad_id")
"""Keys of the text table that are about the files of the tokenizer, which say it themselves."""
FREE_IN_TRAINING = ("patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "timm_pool", "timm_proj")
"""Keys that change nothing where what they are about is not there, or in training alone."""
UNREAD = ("output_dict", "init_logit_scale", "nonscalar_logit_scale", "cast_dtype")
"""Keys beside the tables that change no output of a trained model."""
PREPROCESSING = {"mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}
"""How images are read; other ways are refused."""
POSITIONS = "network.{}.embed.positions.table.weight"
OF_CLASS, OF_PATCHES = "network.image.embed.tokens.weight", "network.image.embed.patches.weight"


def nested(config: Json) -> Json:
    """Return a written configuration as `open_clip_config.json` holds it."""
    model: Json = {"embed_dim": config["embed_dim"], "quick_gelu": config["quick_gelu"]}
    preprocessing: Json = {**PREPROCESSING, "fill_color": 0}
    for name, value in config.items():
        table, _, key = name.partition(".")
        if key:
            place = preprocessing if table == "preprocess_cfg" else model.setdefault(table, {})
            place[key] = [*value] if isinstance(value, tuple) else value
    images, texts = model["vision_cfg"], model["text_cfg"]
    several = isinstance(images["layers"], list)
    images["image_size"] = images.pop("grid") * (PIXELS if several else images["patch_size"])
    if several:
        images["patch_size"] = None
    wide = images["width"] * (FEATURES if several else 1)
    if wide != HEAD_WIDTH * (heads := images.pop("heads")):
        images["head_width"] = wide // heads
    for table in (images, texts):
        if (inner := table.pop("inner", None)) not in (None, MLP_RATIO * table["width"]):
            table["mlp_ratio"] = inner / table["width"]
        if (eps := table.pop("eps", None)) not in (None, NORM_EPS):
            table["norm_kwargs"] = {"eps": eps}
    return {"model_cfg": model, "preprocess_cfg": {"size": images["image_size"], **preprocessing}}


def flat(config: Json) -> Json:
    """Return a read configuration with a key for every choice.

    Raises:
        LookupError: a key is not known, or a value not supported; it is told.
    """
    model, preprocessing = dict(config.get("model_cfg", {})), dict(config.get("preprocess_cfg") or {})
    found: Json = {"quick_gelu": bool(model.pop("quick_gelu", False)), "embed_dim": model.pop("embed_dim")}
    for table in READ:
        given = dict(model.pop(table))
        found |= {f"{table}.{key}": given.pop(key) for key in READ[table] if key in given}
        for key, value in given.items():
            if value and key not in (*OF_TOKENIZERS, *FREE_IN_TRAINING) and value not in USUAL[table].get(key, ()):
                raise LookupError(f"{table}.{key} = {value!r}")
        _derived(found, table)
    for key, value in model.items():
        if value and key not in UNREAD:
            raise LookupError(f"{key} = {value!r}")
    for key, value in PREPROCESSING.items():
        if (other := preprocessing.get(key, value)) != value:
            raise LookupError(f"preprocess_cfg.{key} = {other!r}")
    return found | {f"preprocess_cfg.{key}": preprocessing[key] for key in ("mean", "std") if key in preprocessing}


def _derived(found: Json, table: str) -> None:
    """Put what follows from several keys of a table in their place."""
    width, ratio = found.get(f"{table}.width"), found.pop(f"{table}.mlp_ratio", MLP_RATIO)
    norm = dict(found.pop(f"{table}.norm_kwargs", None) or {})
    found[f"{table}.eps"] = norm.pop("eps", NORM_EPS)
    if norm:
        raise LookupError(f"{table}.norm_kwargs = {norm!r}")
    if width is None:
        raise LookupError(f"{table}.width = None")
    found[f"{table}.inner"] = int(width * ratio)
    if table == "vision_cfg":
        several, size = isinstance(found.get(f"{table}.layers"), list), found.pop(f"{table}.image_size", 224)
        patch = PIXELS if several else found.get(f"{table}.patch_size", 16)
        sides = size if isinstance(size, list) else [size]
        if len({*sides}) > 1 or sides[0] % patch:
            raise LookupError(f"{table}.image_size = {size!r}")
        found[f"{table}.grid"] = sides[0] // patch
        head = found.pop(f"{table}.head_width", HEAD_WIDTH)
        found[f"{table}.heads"] = width * (FEATURES if several else 1) // head


def _grid(length: int) -> int:
    """Return the patches of a side of an image; raise a `LookupError` where positions are no square of them."""
    if math.isqrt(length - 1) ** 2 != length - 1:
        raise LookupError(length)
    return math.isqrt(length - 1)


def _groups(blocks: list[int]) -> list[int]:
    """Return the blocks of each group; raise a `LookupError` where there are not four."""
    if len(blocks) != GROUPS:
        raise LookupError(blocks)
    return [*blocks]


def _is_quick(activation: Any) -> bool:
    """Return whether an activation is QuickGELU and not GELU; raise a `LookupError` for others."""
    return {"QuickGelu": True, "Gelu": False}[activation["kind"]]


def _of_text() -> tuple[Setting, ...]:
    return (
        Setting("text_cfg.width", ("model.text.hidden",)),
        Setting("text_cfg.layers", ("model.text.layers",)),
        Setting("text_cfg.heads", ("model.text.attention.heads",)),
        Setting("text_cfg.inner", ("model.text.feedforward.size",)),
        Setting("text_cfg.eps", ("model.text.norm.eps",)),
        Setting("text_cfg.context_length", ("model.text.embedding.position.length",)),
    )


def _activation(*towers: str) -> Setting:
    paths = tuple(f"model.{tower}.feedforward.activation" for tower in towers)
    return Setting("quick_gelu", paths, _is_quick, lambda quick: (QuickGelu() if quick else Gelu()).to_json())


def _colors(owner: str) -> tuple[Setting, ...]:
    return (
        Setting("preprocess_cfg.mean", (f"{owner}.image_mean",), tuple, list),
        Setting("preprocess_cfg.std", (f"{owner}.image_std",), tuple, list),
    )


def _layers(ours: str, theirs: str) -> Table:
    """Return the rows of a Transformer's layers."""
    layer, own = f"{theirs}.resblocks.{{}}", f"network.{ours}.layers.{{}}"
    found: dict[str, Map | tuple[str, ...]] = {
        f"{own}.attention.out": (f"{layer}.attn.out_proj",),
        f"{own}.attention_norm": (f"{layer}.ln_1",),
        f"{own}.feedforward.inner": (f"{layer}.mlp.c_fc",),
        f"{own}.feedforward.out": (f"{layer}.mlp.c_proj",),
        f"{own}.feedforward_norm": (f"{layer}.ln_2",),
    }
    for kind in ("weight", "bias"):
        names = tuple(f"{own}.attention.{one}.{kind}" for one in ("query", "key", "value"))
        row = Map(names, (f"{layer}.attn.in_proj_{kind}",), Stack())
        found |= {names[0]: row}
    return found


def _single(ours: str, theirs: str, *op: Any) -> Table:
    """Return the row of one tensor."""
    return {ours: Map((ours,), (theirs,), *op)}


TEXT_ROWS: Table = {
    "network.text.embed.tokens": ("token_embedding",),
    **_single(POSITIONS.format("text"), "positional_embedding"),
    **_layers("text", "transformer"),
    "network.text.norm": ("ln_final",),
}
HEAD_ROWS: Table = {
    **_single(f"heads.{HEAD}.text_projection.weight", "text_projection", Transpose()),
    **_single(f"heads.{HEAD}.log_scale", "logit_scale", Single()),
}
FREE = frozenset({"crop", "temperature", "largest"})

VISION_TRANSFORMER = Layout(
    model_type=MODEL_TYPE,
    prefix="",
    segmented=False,
    template=LAYOUT.template,
    settings=(
        *_of_text(),
        Setting("vision_cfg.width", ("model.image.hidden",)),
        Setting("vision_cfg.layers", ("model.image.layers",)),
        Setting("vision_cfg.heads", ("model.image.attention.heads",)),
        Setting("vision_cfg.inner", ("model.image.feedforward.size",)),
        Setting("vision_cfg.eps", ("model.image.norm.eps", "model.image.embedding.norm.eps")),
        Setting("vision_cfg.patch_size", ("model.image.embedding.patch",)),
        Setting("vision_cfg.grid", ("model.image.embedding.position.length",), _grid, lambda grid: grid**2 + 1),
        Setting("embed_dim", (f"{HEAD}.size",)),
        _activation("text", "image"),
        *_colors("model.image.embedding"),
    ),
    tensors={
        **TEXT_ROWS,
        **_single(OF_CLASS, "visual.class_embedding", Flatten(1)),
        **_single(OF_PATCHES, "visual.conv1.weight", Squares()),
        **_single(POSITIONS.format("image"), "visual.positional_embedding"),
        "network.image.embed.norm": ("visual.ln_pre",),
        **_layers("image", "visual.transformer"),
        "network.image.norm": ("visual.ln_post",),
    },
    optional={},
    heads={
        HEAD: HeadLayout(
            objective=CONTRAST,
            tensors={**HEAD_ROWS, **_single(f"heads.{HEAD}.image_projection.weight", "visual.proj", Transpose())},
            free=FREE,
        )
    },
    architectures={frozenset({HEAD}): "CLIP"},
    tied={},
    derived=Derived(write=nested, read=flat),
)
RESIDUAL_NETWORK = replace(
    VISION_TRANSFORMER,
    template=replace(LAYOUT.template, model=TwoTowers(text=TEXT, image=ResNet(size=CONTRAST.size))),
    settings=(
        *_of_text(),
        Setting("vision_cfg.width", ("model.image.channels",)),
        Setting("vision_cfg.layers", ("model.image.blocks",), _groups, _groups),
        Setting("vision_cfg.heads", ("model.image.heads",)),
        Setting("vision_cfg.grid", ("model.image.grid",)),
        Setting("embed_dim", ("model.image.size", f"{HEAD}.size")),
        _activation("text"),
        *_colors("model.image"),
    ),
    tensors=TEXT_ROWS,
    heads={HEAD: HeadLayout(objective=CONTRAST, tensors=HEAD_ROWS, free=FREE)},
)


def residual_network(blocks: tuple[int, ...]) -> Layout:
    """Return the layout of a residual network with so many blocks in each group."""
    table: dict[str, Map | tuple[str, ...]] = {}
    for number in range(3):
        table |= _norm(f"network.image.stem.{2 * number}", f"visual.conv{number + 1}", f"visual.bn{number + 1}")
    each = [(group, place) for group, blocks_in in enumerate(blocks) for place in range(blocks_in)]
    for number, (group, place) in enumerate(each):
        own, theirs = f"network.image.blocks.{number}", f"visual.layer{group + 1}.{place}"
        for step, name in enumerate(("narrow", "spatial", "wide")):
            table |= _norm(f"{own}.{name}", f"{theirs}.conv{step + 1}", f"{theirs}.bn{step + 1}")
        table |= _norm(f"{own}.skip", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    pool, theirs = "network.image.pooling", "visual.attnpool"
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "c_proj"}
    table |= {f"{pool}.{name}": (f"{theirs}.{other}",) for name, other in names.items()}
    table |= _single(f"{pool}.positions", f"{theirs}.positional_embedding")
    return replace(RESIDUAL_NETWORK, tensors={**TEXT_ROWS, **table})


def _norm(ours: str, convolution: str, norm: str) -> Table:
    """Return the rows of a convolution and the batch normalization after it."""
    return {f"{ours}.convolution": (convolution,), f"{ours}.norm": (norm,)}
