"""Tokenizer files of the Hugging Face layout: templates, `tokenizer_config.json` and `special_tokens_map.json`."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Literal

from tokenizers.processors import TemplateProcessing

from genus.errors import GenusError
from genus.files import reason
from genus.tokens import ROLES, SpecialTokens, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import tokenizers

OTHER_NAMES = {"cls": "bos", "sep": "eos"}
"""Roles whose token in a default template is replaced by another role's, if a configuration names only the other."""
OLD_EXTRA = "additional_special_tokens"
"""The key of further special tokens in configurations written before transformers 5."""


def frame(backend: tokenizers.Tokenizer, specials: SpecialTokens) -> None:
    """Set the backend's post-processor to the templates, for other readers of `tokenizer.json`."""
    ids = backend.get_vocab()
    used = [(name, ids[name]) for name in specials.names() if name in ids]
    backend.post_processor = TemplateProcessing(single=specials.single, pair=specials.pair, special_tokens=used)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the entries of `special_tokens_map.json`, updated with those of `tokenizer_config.json`, both optional.

    Raises:
        GenusError: a file is not a JSON table.
    """
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = folder / name
        if file.exists():
            try:
                config |= json.loads(file.read_text(encoding="utf-8"))
            except (ValueError, TypeError, OSError, RecursionError) as error:
                raise GenusError(f"{file}: cannot be read as JSON ({reason(error)})") from None
    return config


def read_specials(
    config: dict[str, Any],
    frames: Sequence[SpecialTokens],
    pieces: Mapping[str, int],
    folder: Path,
    backend: tokenizers.Tokenizer | None = None,
    further: Iterable[str] = (),
) -> SpecialTokens:
    """Return the special tokens of a folder, by role, and its templates.

    Roles are those that the configuration names, then the defaults that are in the vocabulary. Templates are those of
    `tokenizer.json`, if it has any, otherwise the defaults.

    Args:
        config: see `read_config`.
        frames: candidate sets of default special tokens, of which `choose` takes one.
        pieces: the vocabulary.
        folder: for error messages.
        backend: the content of `tokenizer.json`.
        further: additional special tokens of the vocabulary, such as control symbols of a sentencepiece model.

    Raises:
        GenusError: the configuration names a special token that is not in the vocabulary.
    """
    named = named_in(config)
    for role, name in named.items():
        if name not in pieces:
            key = f"{role}_token"
            raise GenusError(
                f"{folder}: the vocabulary has no {role} token {name!r}; name it as {key} in special_tokens_map.json"
            )
    if backend is not None:
        further = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
    usual = choose(frames, named, pieces)
    roles = _roles(usual, named, pieces, len(frames) > 1)
    for role, other in OTHER_NAMES.items():
        if role not in roles and getattr(usual, role) is not None and other in named:
            roles[role] = named[other]
    own = usual.roles()
    order = sorted(own.keys() & roles.keys(), key=lambda role: role in OTHER_NAMES)  # `cls` goes before `bos`
    renamed = {own[role]: roles[role] for role in order}
    extra = [*further, *further_in(config)]
    known = {*roles.values(), None}
    kept = tuple(sorted({name for name in extra if name not in known and name in pieces}, key=pieces.__getitem__))
    templates = templates_of(backend) if backend is not None else None
    single, pair = templates or (_renamed(usual.single, renamed), _renamed(usual.pair, renamed))
    target = usual.target and _renamed(usual.target, renamed)
    first = steps(single)[0][0]
    summary: Literal["first", "last"] = "first" if first == roles.get("cls") else "last"
    pad, unk, cls, sep, mask, bos, eos = (roles.get(role) for role in ROLES)
    return SpecialTokens(
        pad=pad, unk=unk, cls=cls, sep=sep, mask=mask, bos=bos, eos=eos, extra=kept,
        single=single, pair=pair, target=target, summary=summary,
    )  # fmt: skip


def templates_of(backend: tokenizers.Tokenizer) -> tuple[str, str] | None:
    """Return a backend's templates of one text and of two; None: its post-processor has none."""
    processor = json.loads(backend.post_processor.__getstate__()) if backend.post_processor is not None else {}
    for step in processor.get("processors", [processor]):
        kind = step.get("type")
        if kind == "TemplateProcessing":
            return _written(step["single"]), _written(step["pair"])
        if kind in {"BertProcessing", "RobertaProcessing"}:
            cls, sep = step["cls"][0], step["sep"][0]
            between = f"{sep} $B:1 {sep}:1" if kind == "BertProcessing" else f"{sep} {sep} $B {sep}"
            return f"{cls} $A {sep}", f"{cls} $A {between}"
    return None


def _written(template: list[dict[str, dict[str, Any]]]) -> str:
    """Return a template of `TemplateProcessing` as a string."""
    found = []
    for step in template:
        [(kind, what)] = step.items()
        name = f"${what['id']}" if kind == "Sequence" else what["id"]
        found.append(f"{name}:{what['type_id']}" if what["type_id"] else name)
    return " ".join(found)


def _content(entry: Any) -> str | None:
    """Return the name of a special token, which configurations give as a string or as an object."""
    name = entry.get("content") if isinstance(entry, dict) else entry
    return name if isinstance(name, str) else None


def further_in(config: Mapping[str, Any]) -> list[str]:
    """Return the special tokens without a role that a configuration names."""
    entries = config.get("extra_special_tokens") or config.get(OLD_EXTRA) or ()
    entries = entries.values() if isinstance(entries, dict) else entries
    return [name for entry in entries if (name := _content(entry)) is not None]


def named_in(config: Mapping[str, Any]) -> dict[str, str]:
    """Return {role: special token} for the roles that a configuration names."""
    return {role: name for role in ROLES if (name := _content(config.get(f"{role}_token"))) is not None}


def choose(frames: Sequence[SpecialTokens], named: Mapping[str, str], pieces: Mapping[str, int]) -> SpecialTokens:
    """Return the candidate with the most special tokens present, among those whose templates can be filled."""
    several = len(frames) > 1

    def fitting(usual: SpecialTokens) -> tuple[int, int]:
        roles = _roles(usual, named, pieces, several)
        return len(roles), len(roles.items() & usual.roles().items())

    fillable = [one for one in frames if _fillable(one, _roles(one, named, pieces, several))]
    return max(fillable, key=fitting, default=frames[-1])


def _fillable(usual: SpecialTokens, roles: Mapping[str, str]) -> bool:
    """Return whether the roles fill every special token of the default templates; `cls` and `sep` need their own."""
    for step in {step for one in (usual.single, usual.pair) for step, _ in steps(one)} - {"$A", "$B"}:
        own = {role for role, name in usual.roles().items() if name == step}
        if not (own & set(OTHER_NAMES) or own) <= roles.keys():
            return False
    return True


def _roles(usual: SpecialTokens, named: Mapping[str, str], pieces: Mapping[str, int], once: bool) -> dict[str, str]:
    """Return the special tokens by role: those of the configuration, then the defaults that are in the vocabulary.

    Args:
        usual: the defaults.
        named: those of the configuration.
        pieces: the vocabulary.
        once: a named token has only the roles for which it is named: `<s>`, which begins a text of Llama, is no `cls`.
    """
    taken = set(named.values()) if once else set()
    found = {role: name for role, name in usual.roles().items() if name in pieces and name not in taken}
    return {**found, **named}


def some(texts: Iterable[str]) -> Iterator[str]:
    """Return the texts from the first that is not blank.

    Raises:
        GenusError: there is none.
    """
    texts = iter(texts)
    first = next((text for text in texts if text.strip()), None)
    if first is None:
        raise GenusError("there is no text to train a tokenizer on: the corpus is empty")
    return itertools.chain([first], texts)


def _renamed(template: str, names: Mapping[str, str]) -> str:
    """Return a template with its special tokens renamed; those that are not in `names` are left out."""
    kept = [(names.get(step, step), segment) for step, segment in steps(template) if step in {"$A", "$B", *names}]
    return " ".join(f"{step}:{segment}" if segment else step for step, segment in kept)
