"""Attention weights as a page: a map of each layer and head, whose darker cells read more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.cli.analysis_page import sectioned
from genus.cli.plot import escaped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.probes.attention import Weights

CELL, NAMES = 9, 70
"""Size of a cell in a map's own units, and room for the tokens beside it."""
LEAST = 0.02
"""Weights below it are not drawn."""
STYLE = """
body { max-width: 70rem }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .6rem }
.maps figure { margin: 0 } .maps svg { max-width: none } .maps svg text { font-size: 7px }
svg rect.cell { fill: var(--first) } svg rect.frame { fill: none; stroke: var(--line) }
"""


def page(model: str, text: str, found: Weights) -> str:
    """Return the page of a text; its tokens are escaped."""
    lead = [
        f"{model} reads: {text}",
        "Rows are the tokens that read, columns those that are read; weights of a row sum to 1. They say what a head "
        "mixes, and are no proof of what an answer depends on.",
    ]
    sections = []
    for number, heads in enumerate(found.layers, 1):
        maps = "".join(_figure(found.tokens, number, head, one) for head, one in enumerate(heads, 1))
        sections.append((f"Layer {number}", f'<div class="maps">{maps}</div>'))
    return sectioned(f"Attention of {model}", lead, sections, STYLE)


def _figure(tokens: list[str], layer: int, head: int, weights: NDArray[np.float32]) -> str:
    size = CELL * len(tokens)
    parts = [f'<rect class="frame" x="{NAMES}" y="0" width="{size}" height="{size}"/>']
    for place, token in enumerate(tokens):
        y = CELL * place + CELL - 2
        parts.append(f'<text x="{NAMES - 4}" y="{y}" text-anchor="end">{escaped(token)}</text>')
        down = f'transform="translate({NAMES + CELL * place + 2} {size + 4}) rotate(90)"'
        parts.append(f"<text {down}>{escaped(token)}</text>")
    for row, column in np.argwhere(weights >= LEAST).tolist():
        told = f"{tokens[row]} reads {tokens[column]}: {weights[row, column]:.2f}"
        where = f'x="{NAMES + CELL * column}" y="{CELL * row}" width="{CELL}" height="{CELL}"'
        cell = f'<rect class="cell" {where} fill-opacity="{weights[row, column]:.2f}">'
        parts.append(f"{cell}<title>{escaped(told)}</title></rect>")
    most = [tokens[place] for place in weights.argmax(1).tolist()]
    told = f"Layer {layer}, head {head}: " + "; ".join(f"{a} reads {b} most" for a, b in zip(tokens, most, strict=True))
    box = f'viewBox="0 0 {NAMES + size} {size + NAMES}" role="img" aria-label="{escaped(told)}"'
    return f"<figure><svg {box}>{''.join(parts)}</svg><figcaption>head {head}</figcaption></figure>"
