"""What is applied from outside changes no result, and does without what a machine lacks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog
from genus.batch import IGNORE, Targets
from genus.model import cpu
from genus.model.compile import compile_learner, compiler_problem
from genus.model.cpu import (
    FEW_ROWS,
    SingleRowLinear,
    cast_linear_weights,
    few_rows_linear,
    lay_by_columns,
    single_rows,
    use_onednn_matmul,
)
from genus.model.feedforward.experts import Switch
from genus.model.feedforward.mlp import MLP
from genus.model.head import lm_head
from genus.model.roles import linear_maps
from genus.train.precision import number_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from genus.batch import Batch
    from genus.model.feedforward import FeedForward
    from genus.model.transformer import Transformer
    from genus.objectives import Learner

LOSS = 1e-6
"""Relative; losses, and so the gradients of logits, are taken in float32, of 24 bits, 6e-8; all else in float64."""
ROWS = [[12, 20, 5], [30], [1, 2, 3, 26], [9, 23]]


def sums_and_gradients(learner: Learner, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    sums = learner(batch).sums
    learner.objective(sums, learner.counts(batch)).backward()  # type: ignore[no-untyped-call]
    return sums, {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what it deprecates
def test_compiled_equals_eager(
    make_batch: Callable[..., Batch], make_encoder: Callable[..., Transformer], make_learner: Callable[..., Learner]
) -> None:
    batch = make_batch(ROWS, 40)
    eager, compiled = make_learner(make_encoder()).double(), make_learner(make_encoder()).double()
    names = list(compiled.state_dict())
    assert compile_learner(compiled.network, compiled.heads.values())
    assert list(compiled.state_dict()) == names
    (sums, gradients), (ours, our_gradients) = sums_and_gradients(eager, batch), sums_and_gradients(compiled, batch)
    torch.testing.assert_close(ours, sums, rtol=LOSS, atol=0)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, gradient in gradients.items():
        scale = largest if name.endswith("key.bias") else gradient.abs().max().item()  # which are 0 but for rounding
        torch.testing.assert_close(our_gradients[name], gradient, rtol=LOSS, atol=LOSS * scale, msg=name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what it deprecates
def test_layers_that_are_alike_are_compiled_once(
    make_batch: Callable[..., Batch], make_encoder: Callable[..., Transformer], make_learner: Callable[..., Learner]
) -> None:
    from torch._dynamo.utils import counters

    batch, found = make_batch(ROWS, 40), []
    for layers in (1, 5):
        torch._dynamo.reset()
        counters.clear()
        learner = make_learner(make_encoder(layers=layers))
        compile_learner(learner.network, [])
        with torch.no_grad():
            learner.network(batch)
        found.append(counters["stats"]["unique_graphs"])
    assert found[0] == found[1]


def test_without_a_compiler_a_line_is_written(
    make_encoder: Callable[..., Transformer],
    make_learner: Callable[..., Learner],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(function: object) -> object:
        raise RuntimeError("no C++ compiler was found\nand a long trace")

    monkeypatch.setattr(torch, "compile", refuse)
    learner = make_learner(make_encoder())
    assert not compile_learner(learner.network, learner.heads.values())
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "no C++ compiler was found" in written


def test_the_compiler_is_tried_for_real() -> None:
    """With a C++ compiler that is none, the very first use fails, and the reason is one line."""
    code = (
        "import torch; from genus.model.compile import compiler_problem; print(compiler_problem(torch.device('cpu')))"
    )
    environment = {"CXX": "/bin/false", "PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": "/tmp/genus-no-cache"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != "None"
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("avx512", "amx", "intel", "wanted"),
    [(True, False, False, True), (True, True, False, False), (False, False, False, False), (True, False, True, False)],
)
def test_onednn_is_chosen_by_the_processor(
    avx512: bool, amx: bool, intel: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": avx512, "amx_bf16": amx})
    monkeypatch.setattr(cpu, "_of_intel", lambda: intel)
    try:
        assert use_onednn_matmul() == wanted
        assert torch.get_float32_matmul_precision() == ("medium" if wanted else before)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("avx512", "amx", "intel", "wanted"),
    [(True, False, False, True), (True, True, True, True), (False, False, False, False), (True, False, True, False)],
)
def test_bfloat16_is_chosen_by_the_processor(
    avx512: bool, amx: bool, intel: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": avx512, "amx_bf16": amx})
    monkeypatch.setattr(cpu, "_of_intel", lambda: intel)
    chosen = number_format("auto", torch.device("cpu"))
    assert chosen is (torch.bfloat16 if wanted else torch.float32)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("outputs", "inputs"), [(130, 24), (64, 7), (63, 24), (200, 1)])
def test_products_with_few_rows_are_the_same(outputs: int, inputs: int, bias: bool) -> None:
    """Block by block, in whatever library products are made, which stays as it was."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(inputs, outputs, bias=bias)
    before = torch.get_float32_matmul_precision()
    try:
        rounded = torch.cpu.get_capabilities().get("amx_bf16")  # there "medium" is bfloat16, and is never chosen
        for precision in ("highest",) if rounded else ("highest", "medium"):
            torch.set_float32_matmul_precision(precision)
            for rows in (1, 2, FEW_ROWS, FEW_ROWS + 1):
                x = torch.randn(rows, inputs)
                with torch.no_grad():
                    found, expected = few_rows_linear(x, linear.weight, linear.bias), linear(x)
                torch.testing.assert_close(found, expected)
                assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_linear_maps_are_for_single_rows_within_the_context(
    make_encoder: Callable[..., Transformer], make_learner: Callable[..., Learner]
) -> None:
    network = make_learner(make_encoder()).network
    maps = [part for part in network.modules() if isinstance(part, torch.nn.Linear)]
    wrapped = maps[0]
    wrapped.__class__ = type("Wrapped", (torch.nn.Linear,), {})
    x = torch.randn(1, maps[1].in_features)
    expected = maps[1](x)
    with pytest.raises(RuntimeError, match="within"), single_rows(network), torch.no_grad():  # noqa: PT012
        assert {type(part) for part in maps[1:]} == {SingleRowLinear}
        assert type(wrapped).__name__ == "Wrapped"
        torch.testing.assert_close(maps[1](x), expected)
        torch.testing.assert_close(maps[1](x.expand(2, 3, -1)), expected.expand(2, 3, -1))
        raise RuntimeError("within")
    assert {type(part) for part in maps[1:]} == {torch.nn.Linear}


@pytest.mark.skipif(sys.platform != "linux", reason="the switch is glibc's")
def test_memory_is_kept() -> None:
    code = "from genus.model.cpu import disable_malloc_trim; print(disable_malloc_trim())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_a_filled_vocabulary_changes_no_loss(
    make_encoder: Callable[..., Transformer], make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CUDA does, on the CPU: 67 tokens are filled up to 128."""
    learner = make_learner(make_encoder())
    head, table = learner.heads["masked_lm"].lm_head, learner.network.token_embedding.weight  # type: ignore[union-attr]
    hidden = torch.randn(9, 32)
    targets = Targets(torch.arange(9), torch.tensor([1, 5, 66, IGNORE, 0, 2, 2, 3, 4]))
    loss, correct = head.loss(hidden, targets).values()  # type: ignore[operator, union-attr]
    loss.backward()
    gradient, table.grad = table.grad, None
    pad = torch.nn.functional.pad
    monkeypatch.setattr(lm_head, "extra_tokens", lambda hidden, size: -size % lm_head.VOCABULARY_MULTIPLE)
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(torch.nn.functional, "pad", lambda *a, **k: seen.append(pad(*a, **k).shape) or pad(*a, **k))
    filled, filled_correct = head.loss(hidden, targets).values()  # type: ignore[operator, union-attr]
    filled.backward()
    assert seen == [(128, 32), (128,)]
    torch.testing.assert_close(filled, loss)
    assert filled_correct == correct
    torch.testing.assert_close(table.grad, gradient)


@pytest.mark.parametrize("feedforward", [MLP(size=64), Switch(expert=MLP(size=64), experts=2)], ids=["dense", "routed"])
def test_rounded_products_are_those_of_autocast(
    make_batch: Callable[..., Batch],
    make_encoder: Callable[..., Transformer],
    make_learner: Callable[..., Learner],
    feedforward: FeedForward,
) -> None:
    """Routers are computed in float32, whatever autocast says."""
    batch, network = make_batch(ROWS, 40), make_learner(replace(make_encoder(), feedforward=feedforward)).network.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = network(batch)["tokens"]
        cast_linear_weights(network, torch.bfloat16)
        assert network.layers[0].attention.query.weight.dtype == torch.bfloat16  # type: ignore[index, union-attr]
        assert torch.equal(network(batch)["tokens"], wanted)


def test_a_compiler_that_works_has_no_problem() -> None:
    assert compiler_problem(torch.device("cpu")) is None


def test_weights_by_columns_have_the_same_values_and_products(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    learner = catalog.load("bert/tiny").learner().eval()
    maps = [module for _, _, module in linear_maps(learner.network)]
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    x = torch.randn(5, maps[0].in_features)
    expected = maps[0](x)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    lay_by_columns(learner.network)
    assert all(one.get_parameter("weight").is_contiguous() for one in maps), "oneDNN has layouts of its own"
    monkeypatch.undo()
    lay_by_columns(learner.network)
    assert all(one.get_parameter("weight").t().is_contiguous() for one in maps)
    for name, tensor in learner.state_dict().items():
        assert torch.equal(tensor, before[name])
    torch.testing.assert_close(maps[0](x), expected)
    places = [one.get_parameter("weight").data_ptr() for one in maps]
    lay_by_columns(learner.network)
    assert [one.get_parameter("weight").data_ptr() for one in maps] == places, "who shares them goes on to"
