"""GGUF files of llama.cpp, read as configuration, tensors and tokenizer of Hugging Face's Llama.

Quantized weights are read to float32. What is read is named in gguf-py's constants (`GGUFReader`, `quants`), and by
llama.cpp's conversion/llama.py and src/llama-vocab.cpp, which are cited where they matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError, near
from genus.export.layouts.llama import LLAMA3 as LLAMA3_ROTARY
from genus.export.layouts.maps import RotaryPermute
from genus.files import expecting
from genus.model.position.rotary import RescaledRotary, Rotary
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.pretrained import BYTE_SPACE, PretrainedTokenizer
from genus.tokens.files.layout import frame
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.part import Json

SUFFIX, ARCHITECTURE = ".gguf", "llama"
MAGIC, CPU = b"GGUF", torch.device("cpu")
REMEDY = "take another copy of it"

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Modules of GGUF files (gguf-py, tensor_mapping.py), and Hugging Face's; those of layers stand under `blk.0`, ..."""

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Llama 3's pattern (llama-vocab.cpp, "original regex from tokenizer.json")."""
SPLITS: dict[str, tuple[str, ...] | None] = {
    "gpt-2": (),
    "smollm": (r"\p{N}",),
    "llama-bpe": None,
    "llama3": None,
    "llama-v3": None,
}
"""Pre-tokenizers by name: patterns that are split off before GPT-2's own applies (llama-vocab.cpp, `regex_exprs`);
None: Llama 3's pattern alone, where a piece that is in the vocabulary is not cut further (`ignore_merges`)."""
CONTROL, USER_DEFINED = 3, 4
"""Types of tokens (llama.h, `llama_token_type`)."""


class GGUFWeights(Mapping[str, "torch.Tensor"]):
    """The tensors of a file under Hugging Face's names, each read to float when it is asked for.

    llama.cpp's converter puts dimensions of queries and keys that rotate together side by side (conversion/llama.py,
    `permute`); here they are halves of a head again, as in Hugging Face's classes.
    """

    def __init__(self, path: Path, tensors: list[Any], heads: Mapping[str, int]) -> None:
        """Prepare reading.

        Args:
            path: of the file, for messages.
            tensors: as the reader lists them.
            heads: the number of heads of `q_proj` and `k_proj`.
        """
        self.path, self.heads = path, heads
        self.tensors = {name: one for one in tensors if (name := self._named(one.name)) is not None}

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor."""
        from gguf import quants

        tensor = self.tensors[name]
        with expecting(self.path, REMEDY):
            found = torch.from_numpy(quants.dequantize(tensor.data, tensor.tensor_type).copy())
            heads = self.heads.get(name.split(".")[-2])
            if heads is None:
                return found
            if len(found) % heads:
                raise ValueError(f"{name}: {len(found)} rows of {heads} heads")
            return RotaryPermute(heads, back=True).one(found)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self.tensors)

    def __contains__(self, name: object) -> bool:
        """Return whether there is a tensor of that name, without reading it."""
        return name in self.tensors

    def _named(self, name: str) -> str | None:
        """Return Hugging Face's name of a tensor; None for rates of rotation, which the configuration tells."""
        if name == "rope_freqs.weight":
            return None
        *layer, module, kind = name.split(".")
        if module not in NAMES or (layer and (layer[0] != "blk" or len(layer) != 2)):
            raise GenusError(
                f"{self.path}: tensor {name!r} is none of a Llama, the only model that can be read of this format"
            )
        return f"model.layers.{layer[1]}.{NAMES[module]}.{kind}" if layer else f"{NAMES[module]}.{kind}"


def read(path: Path) -> tuple[Json, GGUFWeights, Tokenizer]:
    """Return the configuration, the tensors and the tokenizer of a GGUF file.

    Raises:
        GenusError: the file is missing, damaged or of another architecture, or its tokenizer is unknown.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise GenusError(f"{path}: {error.strerror}") from None
    if magic != MAGIC:
        raise GenusError(f"{path}: is no GGUF file")
    with expecting(path, REMEDY):
        reader = _opened(path)
        facts = {name: field.contents() for name, field in reader.fields.items()}
        kind = facts["general.architecture"]
        if kind != ARCHITECTURE:
            raise GenusError(f"{path}: general.architecture {kind!r} cannot be read, only {ARCHITECTURE!r}")
        config = configuration(facts, reader.tensors)
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        return config, GGUFWeights(path, reader.tensors, heads), tokenizer(path, facts)


def _opened(path: Path) -> Any:
    """Return the reader of gguf-py for a file, which raises an error where the file ends too early."""
    try:
        from gguf import GGUFReader, GGUFValueType
    except ImportError:
        raise GenusError(f"{path}: reading GGUF files needs `pip install 'genus[gguf]'`") from None

    class WholeReader(GGUFReader):
        """gguf-py's, by which values past the end of a file are empty, however many there are said to be."""

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type == GGUFValueType.ARRAY:
                kind, count = self._get(orig_offs, np.uint32)[0], self._get(orig_offs + 4, np.uint64)[0]
                self._get(orig_offs + 12, self.gguf_scalar_to_np.get(kind, np.uint64), count)
            return super()._get_field_parts(orig_offs, raw_type)

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            if isinstance(self.data, np.memmap):
                self.data: Any = np.asarray(self.data)  # still mapped; views of a plain array are made twice as fast
            end = int(offset) + np.dtype(dtype).itemsize * int(count)
            if end > len(self.data):
                raise ValueError(f"it has {len(self.data)} bytes, and byte {end} is told of")
            return super()._get(offset, dtype, count, override_order)

    return WholeReader(path)


def configuration(facts: Mapping[str, Any], tensors: list[Any]) -> Json:
    """Return the Hugging Face configuration of a file's facts (gguf-py, constants.py, `Keys.LLM`)."""

    def told(name: str, default: Any = None) -> Any:
        return facts.get(f"{ARCHITECTURE}.{name}", default) if default is not None else facts[f"{ARCHITECTURE}.{name}"]

    heads, hidden = told("attention.head_count"), told("embedding_length")
    size = told("attention.key_length", hidden // heads)
    names = {tensor.name: tensor for tensor in tensors}
    config: Json = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": told("block_count"),
        "hidden_size": hidden,
        "intermediate_size": told("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": told("attention.head_count_kv", heads),
        "head_dim": size,
        "rms_norm_eps": float(f"{told('attention.layer_norm_rms_epsilon'):.6g}"),  # written as float32
        "max_position_embeddings": told("context_length"),
        "rope_theta": told("rope.freq_base", 10_000.0),
        "attention_bias": "blk.0.attn_q.bias" in names,
        "tie_word_embeddings": "output.weight" not in names,
        "vocab_size": int(names["token_embd.weight"].shape[-1]),
    }
    if (scaling := told("rope.scaling.type", "none")) != "none":
        config["rope_scaling"] = {"rope_type": scaling}
    if "rope_freqs.weight" in names:
        config["rope_scaling"] = rescaled(config["rope_theta"], names["rope_freqs.weight"].data)
    if told("rope.dimension_count", size) != size:
        raise ValueError("rope.dimension_count: a part of each head rotates")
    return config


def rescaled(base: float, slower: NDArray[np.float32]) -> Json:
    """Return the `rope_scaling` of the numbers by which the rates of rotation are divided.

    A file has these instead of the choices that they come from, of which all of Llama 3 but the factor are alike.
    """
    choice = RescaledRotary(base=base, factor=float(slower.max()))
    turning = 2 * len(slower)
    rates = (Rotary.rates(choice, turning, CPU) / choice.rates(turning, CPU)).numpy()
    if not np.allclose(rates, slower, rtol=1e-5):
        raise ValueError("rope_freqs: rates of rotation that are not Llama 3's")
    return {"rope_type": "llama3"} | {key: getattr(choice, name) for key, name in LLAMA3_ROTARY.items()}


def tokenizer(path: Path, facts: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of a file's facts, byte-level BPE.

    Raises:
        GenusError: the algorithm or the pre-tokenizer is unknown.
    """
    told = {name.removeprefix("tokenizer.ggml."): value for name, value in facts.items()}
    kind, split = told["model"], told.get("pre", "default")
    if kind != "gpt2":
        raise GenusError(f"{path}: tokenizer.ggml.model {kind!r} cannot be read, only 'gpt2' (byte-level BPE)")
    if split not in SPLITS:
        raise GenusError(f"{path}: tokenizer.ggml.pre {split!r} is unknown.{near(str(split), list(SPLITS))}")
    pieces: list[str] = told["tokens"]
    merges = [(left, right) for left, right in (line.split(" ") for line in told["merges"])]
    ids = {piece: number for number, piece in enumerate(pieces)}
    whole = SPLITS[split] is None
    backend = Backend(models.BPE(ids, merges, ignore_merges=whole))
    backend.pre_tokenizer, backend.decoder = splitter(split), decoders.ByteLevel()
    types = told.get("token_type") or [1] * len(pieces)
    control = [piece for piece, one in zip(pieces, types, strict=True) if one == CONTROL]
    backend.add_special_tokens([AddedToken(piece, normalized=False) for piece in control])
    added = [piece for piece, one in zip(pieces, types, strict=True) if one == USER_DEFINED]
    backend.add_tokens([AddedToken(piece, normalized=False) for piece in added])
    specials = _specials(told, pieces, control, begins=told.get("add_bos_token", whole))
    frame(backend, specials)
    if split == "gpt-2":
        return Tokenizer.of(ByteBPE(vocab_size=len(pieces), special_tokens=specials), backend)
    part = PretrainedTokenizer(vocab_size=len(pieces), word_prefix=BYTE_SPACE, special_tokens=specials)
    return Tokenizer.of(part, backend)


def splitter(name: str) -> pre_tokenizers.PreTokenizer:
    """Return the pre-tokenizer of a name in `SPLITS`."""
    patterns = SPLITS[name]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=patterns is not None)
    before = [pre_tokenizers.Split(Regex(one), "isolated") for one in ((LLAMA3,) if patterns is None else patterns)]
    return pre_tokenizers.Sequence([*before, last]) if before else last


def _specials(told: Mapping[str, Any], pieces: list[str], control: list[str], *, begins: bool) -> SpecialTokens:
    """Return the special tokens by role."""
    keys = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    named = {role: told.get(f"{key}_token_id") for role, key in keys.items()}
    roles = {role: pieces[number] for role, number in named.items() if number is not None}
    bos = f"{roles['bos']} " if begins and "bos" in roles else ""
    extra = tuple(piece for piece in control if piece not in roles.values())
    return SpecialTokens(**roles, extra=extra, single=f"{bos}$A", pair=f"{bos}$A {bos}$B", summary="last")
