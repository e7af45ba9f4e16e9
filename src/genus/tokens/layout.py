"""What the tokenizations share of the Hugging Face layout: frames, and the small JSON files beside a vocabulary."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tokenizers.processors import TemplateProcessing

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import tokenizers

    from genus.tokens import Specials

OTHER_NAMES = {"cls_token": "bos_token", "sep_token": "eos_token"}
"""Under which name a special token stands where it does not stand under its own."""


def frame(backend: tokenizers.Tokenizer, specials: Specials) -> None:
    """Make the backend frame texts as the templates say, for those who read `tokenizer.json` elsewhere."""
    ids = backend.get_vocab()
    backend.post_processor = TemplateProcessing(
        single=specials.single, pair=specials.pair, special_tokens=[(name, ids[name]) for name in specials.names()]
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return `tokenizer_config.json` laid over `special_tokens_map.json`, each where it is there."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = folder / name
        if file.exists():
            try:
                config |= json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise GenusError(f"{file}: is not JSON ({error})") from None
    return config


def read_specials(config: dict[str, Any], default: Specials, pieces: dict[str, int], folder: Path) -> Specials:
    """Return the special tokens that a configuration names, the usual ones where it names none.

    Raises:
        GenusError: a special token is not in the vocabulary.
    """
    renamed = {}
    for role in ("pad", "unk", "cls", "sep", "mask"):
        key = f"{role}_token"
        entry = config.get(key) or config.get(OTHER_NAMES.get(key, ""))
        name = entry["content"] if isinstance(entry, dict) else entry or getattr(default, role)
        if name not in pieces:
            raise GenusError(
                f"{folder}: the vocabulary has no {role} token {name!r}; name it as {key} in special_tokens_map.json"
            )
        renamed[getattr(default, role)] = name
    single, pair = (_renamed(template, renamed) for template in (default.single, default.pair))
    pad, unk, cls, sep, mask = (renamed[name] for name in default.names())
    return replace(default, pad=pad, unk=unk, cls=cls, sep=sep, mask=mask, single=single, pair=pair)


def some(texts: Iterable[str]) -> Iterator[str]:
    """Return texts of which there is at least one.

    Raises:
        GenusError: there is none.
    """
    texts = iter(texts)
    first = next((text for text in texts if text.strip()), None)
    if first is None:
        raise GenusError("there is no text to train a tokenizer on: the corpus is empty")
    return itertools.chain([first], texts)


def _renamed(template: str, names: dict[str, str]) -> str:
    return " ".join(names.get(step, names.get(step[:-2], step[:-2]) + step[-2:]) for step in template.split())
