"""Choices of block-sparse attention that cannot be are refused in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genus.model.attention.block_sparse.layer import BlockSparseAttention


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "5 attention heads do not divide a hidden size of 12"),
        ({"window_blocks": 2}, "attention.window_blocks: expected an odd number of blocks, got 2"),
        ({"block_size": 0}, "BlockSparseAttention.block_size: expected at least 1, got 0"),
        ({"random_blocks": -1}, "BlockSparseAttention.random_blocks: expected at least 0, got -1"),
        ({"random_block_limit": 0}, "BlockSparseAttention.random_block_limit: expected at least 1, got 0"),
    ],
)
def test_choices_that_cannot_be_are_one_line(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BlockSparseAttention(heads=3), **changes).check(12)  # type: ignore[arg-type]
