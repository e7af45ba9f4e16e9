"""T5's table 2: every architecture with either objective, as the documentation writes it, resolves and learns."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genus import catalog, pipeline
from genus.cost import cost
from genus.optim.adamw import AdamW
from genus.tokens.store import prepare
from small import shrunk

PAGE = Path(__file__).resolve().parents[2] / "docs" / "objectives.md"
COUNT = 10
"""Five architectures, two objectives."""
STEPS, LEARNED = 12, 0.9
"""Share of its first value under which the loss of one batch falls in so many steps."""


def written() -> dict[str, list[str]]:
    """Return the row and the overrides of each cell of the table, by architecture and objective."""
    text = PAGE.read_text(encoding="utf-8").split("| architecture | denoising | language model |")[1]
    found = {}
    for line in text.split("\n\n")[0].splitlines()[2:]:
        _, name, *cells, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", line))
        found |= {f"{name}, {kind}": re.findall(r"`([^`]+)`", cell) for kind, cell in zip("DL", cells, strict=True)}
    return found


TABLE = written()


def test_the_table_is_whole() -> None:
    assert len(TABLE) == COUNT
    assert len({tuple(cells) for cells in TABLE.values()}) == COUNT


@pytest.mark.parametrize("name", TABLE)
def test_it_learns(name: str, corpus: Path, tmp_path: Path) -> None:
    row, *overrides = TABLE[name]
    recipe = shrunk(catalog.load(row, overrides))
    tokenizer = recipe.tokens.train(corpus.read_text(encoding="utf-8").splitlines())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    store = prepare([corpus], tokenizer, tmp_path / "store", workers=1)
    batch = pipeline.training_feed(recipe, store, tokenizer, stage=0)[0]
    torch.manual_seed(0)
    learner = recipe.learner()
    optimizer, losses = AdamW(lr=6e-3).build(learner), list[float]()
    for _ in range(STEPS):
        loss = learner.objective(learner(batch).sums, learner.counts(batch))
        optimizer.zero_grad()
        loss.backward()
        assert all(weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in learner.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < LEARNED * losses[0]


def test_costs_and_parameters_are_in_the_papers_proportions() -> None:
    """2 P, P, P, P, P and M, M, M / 2, M, M, without the embedding; attention and lengths differ by a tenth or so."""
    counted = {name: catalog.load(cells[0]) for name, cells in TABLE.items() if name.endswith(", D")}
    embedding = 32_100 * 768
    sizes = [cost(row).network - embedding for row in counted.values()]
    flops = [cost(row).stages[0].flops_step for row in counted.values()]
    assert [size / sizes[0] for size in sizes] == pytest.approx([1, 0.5, 0.5, 0.5, 0.5], abs=0.08)
    assert [one / flops[0] for one in flops] == pytest.approx([1, 1, 0.5, 1, 1], rel=0.15)
