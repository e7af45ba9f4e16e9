"""Modifications of BERT as ONNX graphs: ONNX Runtime makes the same states, of texts of any lengths, or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from genus.errors import GenusError
from genus.export.onnx.trace import INPUTS, STATES, Asked, write_graph
from model.modified import ALL, VOCABULARY, Modification

if TYPE_CHECKING:
    from pathlib import Path

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

FLOAT32 = 1e-4
"""Float32 in two libraries, relative to the largest state."""
WITHOUT = ("mixture of experts", "Switch Transformer", "Funnel-Transformer")
"""What they compute depends on the tokens in more than tensors: how many an expert takes, how long rows become."""
OF_BERT = {one.name: one for one in ALL if one.row == "bert/mini"}
FEW = ["SELU", "GLU", "ReZero", "Fixup", "relative position vectors", "lightweight convolution", "dynamic convolution"]
FEW += ["synthesizer (dense plus alpha)", "synthesizer (factorized)", "synthesizer (random)", "weighted Transformer"]
FEW += ["product-key memory", "Universal Transformer with adaptive halting", "Evolved Transformer"]


def write(one: Modification, path: Path) -> Asked:
    asked = Asked(one.learner().eval(), None, last=False)
    write_graph(asked, path, one.name, segmented=False)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_a_graph_makes_the_same_states(name: str, tmp_path: Path) -> None:
    asked = write(OF_BERT[name], tmp_path / "model.onnx")
    run = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    torch.manual_seed(0)
    for count, length in ((3, 17), (1, 5)):
        ids = torch.randint(1, VOCABULARY, (count, length))
        mask = (torch.arange(length) < torch.tensor([length, length - 4, 3])[:count, None]).long()
        given = {name: tensor.numpy() for name, tensor in zip(INPUTS, (ids, mask), strict=False)}
        (found,) = run.run([STATES], given)
        expected = asked.found(ids, mask, torch.zeros_like(ids))[STATES]
        live = mask.bool()
        close = FLOAT32 * expected[live].abs().max().item()
        torch.testing.assert_close(torch.from_numpy(found)[live], expected[live], rtol=0, atol=close)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT)
def test_what_depends_on_the_tokens_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="cannot be written as a graph") as caught:
        write(OF_BERT[name], tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.onnx").exists()
