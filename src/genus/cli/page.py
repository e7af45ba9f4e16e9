"""Text views of a recipe: its tree of choices, its cost, and its documentation page."""

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from genus import catalog
from genus.cli.output import columns, markdown, scaled
from genus.cost import cost
from genus.part import diff
from genus.recipe import Recipe


def tree(value: dict[str, Any]) -> str:
    """Return a part's JSON as indented lines, with the kind of each part."""
    return "\n".join(_branches(value, ""))


def costs(row: Recipe) -> str:
    """Return the cost of a recipe as aligned lines: parameters, memory and FLOPs."""
    found = cost(row)
    lines = [
        ["parameters", f"{found.parameters:,}", f"network alone {found.network:,}"],
        ["training memory", scaled(found.bytes_training, "B"), "float32: weights, gradients, moments, activations"],
    ]
    for stage in found.stages:
        lines += [
            [
                f"at length {stage.max_length}",
                f"{scaled(stage.flops_training, 'FLOP')} a token",
                "forward and backward",
            ],
            ["", f"{scaled(stage.flops_step, 'FLOP')} a step", ""],
        ]
    lines.append(["hash", row.hash(), "of the recipe"])
    return columns(["cost", "", ""], lines)


def member_page(member: str) -> str:
    """Return a member's documentation page: description, sizes, first recipe, and differences of the other recipes."""
    rows = list(catalog.members()[member].values())
    module = importlib.import_module(f"genus.recipes.{member.replace('-', '_')}")
    headline, *rest = inspect.getdoc(module).split("\n\n")  # type: ignore[union-attr]
    sizes = [_size(row) for row in rows]
    lines = [
        f"# {headline}",
        "",
        f"*Made by `genus show {member} --markdown` from `src/genus/recipes/{module.__name__.rsplit('.', 1)[1]}.py`.*",
        *[part for text in rest for part in ("", text)],
        "",
        "## Sizes",
        "",
        "Parameters are counted with the pretraining heads; the network alone is what papers count.",
        "",
        markdown(["name", "parameters", "network alone", "published", "FLOPs a token", "training memory"], sizes),
        "",
        f"## {rows[0].name}",
        "",
        "```",
        tree(rows[0].to_json()),
        "```",
    ]
    for row in rows[1:]:
        changes = [[f"`{path}`", _cell(a), _cell(b)] for path, a, b in diff(rows[0], row) if path != "name"]
        lines += ["", f"## {row.name}", "", markdown(["choice", rows[0].name, row.name], changes)]
    return "\n".join(lines) + "\n"


def _size(row: Recipe) -> list[str]:
    found = cost(row)
    published = f"{row.published.parameters:,}" if row.published.parameters else ""
    flops = " then ".join(scaled(stage.flops_training) for stage in found.stages)
    return [
        row.name,
        f"{found.parameters:,}",
        f"{found.network:,}",
        published,
        flops,
        scaled(found.bytes_training, "B"),
    ]


def _cell(value: object) -> str:
    return "" if value is None else f"`{value}`"


def _branches(value: dict[str, Any], indent: str) -> Iterator[str]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield f"{indent}{name}: {inner['kind']}"
            yield from _branches(inner, indent + "  ")
        elif isinstance(inner, list) and any(isinstance(item, dict) for item in inner):
            yield f"{indent}{name}:"
            for number, item in enumerate(inner):
                yield f"{indent}  {number}: {item['kind']}"
                yield from _branches(item, indent + "    ")
        elif name != "kind":
            yield f"{indent}{name}: {inner}"
