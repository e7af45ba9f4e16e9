"""What Hugging Face's Transformer-XL gives, which left the library in its version 5: weights, inputs and outputs.

Run in a throw-away environment, from any folder:

    pip install torch transformers==4.35.2
    python tests/golden/transformer_xl/make.py

It writes `values.safetensors` (two tiny models over three segments in a row, with memory) and `counts.json` (the number
of parameters of the published sizes) beside itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import TransfoXLConfig, TransfoXLLMHeadModel

from genus.model.skeleton import skeleton

HERE = Path(__file__).parent
SEGMENTS, ROWS, LENGTH, MEMORY = 3, 2, 4, 6
TINY = {
    "vocab_size": 40,
    "cutoffs": [10, 20, 30],
    "d_model": 8,
    "d_embed": 8,
    "n_head": 2,
    "d_head": 4,
    "d_inner": 12,
    "n_layer": 3,
    "mem_len": MEMORY,
    "same_length": False,
    "untie_r": True,
    "dropout": 0.0,
}
MODELS = {
    "plain": {"div_val": 1, "clamp_len": -1},
    "narrow": {"div_val": 2, "clamp_len": 5},
}
WIKITEXT = {"vocab_size": 267_735, "cutoffs": [20_000, 40_000, 200_000], "untie_r": True, "same_length": False}
PUBLISHED = {
    "base": dict(d_model=410, d_embed=410, n_head=10, d_head=41, d_inner=2100, n_layer=16, div_val=1),
    "large": dict(d_model=1024, d_embed=1024, n_head=16, d_head=64, d_inner=4096, n_layer=18, div_val=4),
}


def values(name: str, choices: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return a model's weights, all random, and what it gives for segments in a row."""
    torch.manual_seed(0)
    model = TransfoXLLMHeadModel(TransfoXLConfig(**TINY, **choices)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    found = {f"weights.{key}": tensor for key, tensor in model.state_dict().items() if not key.endswith("inv_freq")}
    memory = [torch.zeros(0, ROWS, TINY["d_model"]) for _ in range(TINY["n_layer"])]
    for segment in range(SEGMENTS):
        ids = torch.randint(TINY["vocab_size"], (ROWS, LENGTH))
        with torch.no_grad():
            hidden = model.transformer(ids, mems=memory).last_hidden_state
            given = model(ids, mems=memory)
        memory = given.mems
        found |= {f"{segment}.ids": ids, f"{segment}.hidden": hidden, f"{segment}.scores": given.prediction_scores}
    found["memory"] = torch.stack(memory)
    return {f"{name}.{key}": tensor.clone().contiguous() for key, tensor in found.items()}


def count(choices: dict[str, Any]) -> int:
    """Return the number of parameters of a model, tied ones once."""
    with skeleton():
        model = TransfoXLLMHeadModel(TransfoXLConfig(**WIKITEXT, **choices))
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    tensors = {key: tensor for name, choices in MODELS.items() for key, tensor in values(name, choices).items()}
    save_file(tensors, HERE / "values.safetensors")
    (HERE / "counts.json").write_text(json.dumps({name: count(c) for name, c in PUBLISHED.items()}, indent=1) + "\n")
