"""Models of GPT's form with the sizes of papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus import catalog

if TYPE_CHECKING:
    from genus.recipe import Recipe


def gpt(layers: int, hidden: int, heads: int, *, batch: int, length: int = 2048, rows: int = 51_200) -> Recipe:
    """Return a decoder of these sizes, with Megatron-LM's vocabulary."""
    stage = {"kind": "Stage", "max_length": length, "batch": batch, "micro_batch": 1}
    return catalog.load("gpt2/small").overlay(
        {
            "model": {
                "layers": layers,
                "hidden": hidden,
                "attention": {"heads": heads},
                "feedforward": {"size": 4 * hidden},
                "embedding": {"position": {"length": length}},
            },
            "padded_vocab_size": rows,
            "stages": [stage],
            "budget": {"amount": 300e9, "unit": "tokens"},
        }
    )
