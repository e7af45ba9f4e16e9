"""Whether a folder of others can be read: what its configuration may say, and how many rows its embedding may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from genus.export.layouts import Layout
    from genus.part import Json
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
"""Configuration keys of architectures that are not supported, each with its only supported value."""
OTHER_HEADS = ("ForQuestionAnswering", "ForQuestionAnsweringSimple", "ForMultipleChoice", "ForCausalLM", "LMHeadModel")
"""Suffixes of transformers class names whose heads are not supported, unless the layout has such a class."""


def check_config(config: Json, layout: Layout) -> None:
    """Raise a GenusError for a configuration whose architecture computes something else than the layout.

    An unknown class, such as a laboratory's own, is read by its `model_type` and its tensors; a class that is known to
    have an unsupported head is not.
    """
    named, known = config.get("architectures") or [], sorted(set(layout.architectures.values()))
    if not isinstance(named, list) or not all(isinstance(architecture, str) for architecture in named):
        raise GenusError(f"config.json: architectures: expected a list of names, got {named!r}")
    for architecture in named:
        if architecture.endswith(OTHER_HEADS) and not layout.named([architecture]):
            raise GenusError(f"config.json: {architecture} cannot be read; known are {', '.join(known)}")
    for key, value in FIXED.items():
        if key in {setting.key for setting in layout.settings}:
            continue
        if config.get(key) not in (None, value):
            raise GenusError(f"config.json: {key} = {config[key]!r} cannot be read, only {value!r}")
    if layout.pad is not None and config.get("pad_token_id", layout.pad) != layout.pad:
        raise GenusError(f"config.json: pad_token_id = {config['pad_token_id']}, from which positions are counted; "
                         f"only {layout.pad} can be read")  # fmt: skip


def check_rows(tokenizer: Tokenizer, rows: int, padded: int | None = None) -> None:
    """Raise a GenusError if vocabulary size and embedding rows differ, unless `padded` states the larger number."""
    size = tokenizer.vocabulary.size
    if size != rows and not (size < rows == padded):
        raise GenusError(f"the tokenizer has {size:,} pieces, the model {rows:,}: they do not belong together")


def padded_rows(config: Json, tokenizer: Tokenizer, rows: int, own: Recipe | None) -> int | None:
    """Return the padded vocabulary size if the embedding has more rows than the tokenizer has pieces, else None.

    The configuration must state it. It occurs after `resize_token_embeddings(..., pad_to_multiple_of=64)`, and in
    Megatron's models.
    """
    check_rows(tokenizer, rows, config.get("vocab_size"))
    if own is not None:
        check_rows(tokenizer, own.tokens.vocab_size)
    return rows if rows > tokenizer.vocabulary.size else None
