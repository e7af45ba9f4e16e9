"""T5's and ByT5's folders: states, logits, loss and gradients of transformers' classes, both ways, and parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus import pipeline
from genus.batch import Batch, Targets
from genus.export.folder import load, save
from genus.export.verify import verify
from genus.recipes import byt5, t5
from genus.tokens.algorithms.byt5 import ByT5Bytes
from hand import equal_rows
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

ROWS = [t5.SMALL, t5.V11_SMALL, t5.TINY, byt5.SMALL]
SINGLE = 1e-6
"""Of losses, which are computed in float32."""
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def made(row: Recipe) -> tuple[Recipe, Learner, Tokenizer]:
    """Return the row with two narrow layers in the decoder and as many or twice as many in the encoder, drawn anew."""
    deeper = row.model.encoder.layers > row.model.decoder.layers  # type: ignore[attr-defined]
    sides = {"encoder": {"layers": 4 if deeper else 2, "hidden": 32}, "decoder": {"layers": 2, "hidden": 32}}
    recipe = row.overlay({"model": sides, "tokens": {"vocab_size": 384 if isinstance(row.tokens, ByT5Bytes) else 300}})
    tokenizer = recipe.tokens.train(documents())
    torch.manual_seed(0)
    return *pipeline.new_learner(recipe, tokenizer), tokenizer


@rows
def test_the_folder_is_that_of_transformers(row: Recipe, tmp_path: Path) -> None:
    recipe, learner, tokenizer = made(row)
    save(tmp_path / "model", recipe, learner, tokenizer)
    found = verify(tmp_path / "model", learner)
    assert found.keys() == {"hidden", "denoising", "transformers/hidden", "transformers/denoising"}
    assert max(found.values()) < 1e-5


@rows
def test_loss_and_gradients(row: Recipe, tmp_path: Path) -> None:
    """Of their classes with their own random weights, read by us; summed over the targets."""
    recipe, learner, tokenizer = made(row)
    save(tmp_path / "ours", recipe, learner, tokenizer)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    torch.manual_seed(1)
    theirs = transformers.T5ForConditionalGeneration(config).double().eval()
    if row is not t5.SMALL:  # which they tie where a model is made anew
        theirs.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn_like(theirs.lm_head.weight))
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    (tmp_path / "theirs" / "recipe.json").unlink(missing_ok=True)
    read = load(tmp_path / "theirs").learner.double().eval()
    source, labels = torch.randint(3, 90, (3, 11)), torch.randint(3, 90, (3, 7))
    given = torch.cat([torch.full((3, 1), config.decoder_start_token_id), labels[:, :-1]], 1)
    loss = theirs(input_ids=source, labels=labels).loss * labels.numel()
    loss.backward()
    targets = {"denoising": Targets(torch.arange(labels.numel()), labels.flatten())}
    ours = read(Batch({"tokens": equal_rows(given), "source": equal_rows(source)}, targets)).sums["denoising"]
    ours.backward()
    torch.testing.assert_close(ours.double(), loss, rtol=SINGLE, atol=0)
    for mine, other in (
        (read.network.encoder.embed.tokens.weight, theirs.shared.weight),
        (read.network.encoder.position_bias.table.weight,
         theirs.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight),
        (read.network.decoder.layers[1].cross.key.weight, theirs.decoder.block[1].layer[1].EncDecAttention.k.weight),
        (read.network.decoder.layers[0].feedforward.out.weight,
         theirs.decoder.block[0].layer[2].DenseReluDense.wo.weight),
    ):  # fmt: skip
        torch.testing.assert_close(mine.grad, other.grad, rtol=SINGLE, atol=SINGLE)


def test_parameters_are_those_of_the_released_sizes() -> None:
    """60,506,624 of T5's released small one are in 28 rows more than it has pieces; ByT5's have a row for each."""
    from genus.cost import cost

    assert cost(t5.SMALL).parameters + 28 * 512 == 60_506_624
    for row in (t5.BASE, t5.T3B, t5.T11B, t5.V11_XL, t5.V11_XXL, byt5.SMALL, byt5.BASE, byt5.LARGE, byt5.XL, byt5.XXL):
        assert row.published.parameters is not None
        assert abs(cost(row).parameters / row.published.parameters - 1) < 0.03, row.name


def test_a_folder_of_transformers_is_read_with_its_tokenizer(tmp_path: Path) -> None:
    """ByT5's, of their classes alone: the depths of both sides, bytes and sentinels; and it goes out as it came."""
    config = transformers.T5Config(
        vocab_size=384, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=1, num_heads=4,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, tokenizer_class="ByT5Tokenizer",
        decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "theirs")
    transformers.ByT5Tokenizer().save_pretrained(tmp_path / "theirs")
    read = load(tmp_path / "theirs")
    model = read.recipe.model
    assert (model.encoder.layers, model.decoder.layers) == (3, 1)  # type: ignore[attr-defined]
    assert read.recipe.tokens == byt5.SMALL.tokens
    save(tmp_path / "ours", read.recipe, read.learner, read.tokenizer)
    assert max(verify(tmp_path / "ours", read.learner).values()) < 1e-5
    again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours")
    before = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "theirs")
    assert again.state_dict().keys() == before.state_dict().keys()
    assert all(torch.equal(one, before.state_dict()[name]) for name, one in again.state_dict().items())
    assert type(transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")) is transformers.ByT5Tokenizer


def test_rows_of_the_papers_tables_are_overrides() -> None:
    """Table 3's objectives: BERT-style, MASS-style, spans of one token, dropped tokens."""
    for changes in (
        {"inputs": "mask or random", "outputs": "text", "noise": {"kind": "TokenNoise"}},
        {"inputs": "mask", "outputs": "text", "noise": {"kind": "TokenNoise"}},
        {"noise": {"kind": "TokenNoise"}},
        {"inputs": "nothing", "outputs": "hidden", "noise": {"kind": "TokenNoise"}},
    ):
        stages = tuple(replace(stage, max_length=550, source_length=550) for stage in t5.SMALL.stages)
        row = replace(t5.SMALL, stages=stages).overlay({"objectives": [t5.SPANS.to_json() | changes]})
        assert row.objectives[0].to_json().items() >= {**changes, "noise": row.objectives[0].to_json()["noise"]}.items()
