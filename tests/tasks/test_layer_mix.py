"""Heads over several layers of a frozen network: what they read is what transformers and the equations say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.adapt.last_layers import LastLayers
from genus.errors import UsageError
from genus.export import folder as models
from genus.export.adapted.folder import load
from genus.model.layer_mix import Concatenated, LayerMix, WeightedSum
from genus.objectives import answering
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.supervised.recurrent import RecurrentTokenClassification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.feed import batch_of
from genus.tasks.finetune import finetune
from genus.tasks.predict import predict
from genus.tasks.tagging import RecurrentTagging

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tasks.start import Start
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

ANIMALS, TOOLS = ("cat", "dog", "horse", "bird"), ("saw", "hammer", "drill")
WORDS = [("a", "cat", "and", "a", "saw"), ("a", "drill", "and", "a", "horse", "and", "a", "dog")]
ROUNDING = 1e-5
"""Float32 sums in another order, relative to the largest value."""


def tags(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("B-A" if word in ANIMALS else "B-T" if word in TOOLS else "O" for word in words)


def tagged(number: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    found = [tuple(rng.choice([*ANIMALS, *TOOLS, "a", "and"], 6).tolist()) for _ in range(number)]
    return [{"tokens": [*words], "ner_tags": [*tags(words)]} for words in found]


@pytest.mark.parametrize("mix", [
    Concatenated(layers=(-2, -1)), Concatenated(layers=(0, 1, 2)), WeightedSum(layers=(0, 1, 2)),
    WeightedSum(layers=(-1,)), None,
])  # fmt: skip
@pytest.mark.parametrize("crf", [False, True])
def test_a_linear_head_reads_what_transformers_gives(
    mix: LayerMix | None, crf: bool, start: Start, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Without an LSTM, scores are a linear map of the states of first pieces: embeddings, layer 1, layer 2."""
    transformers = pytest.importorskip("transformers")
    objective = RecurrentTokenClassification(labels=("B-A", "B-T", "O"), layers=0, mix=mix, crf=crf)
    recipe = start.fine_tuned(objective, start.recipe.finetuning)
    learner = replace(start, learner=None).build(recipe, 0)
    head: Any = learner.heads[objective.name]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    plain = replace(recipe, objectives=(MaskedLM(),))
    other = plain.learner()
    other.network.load_state_dict(learner.network.state_dict())
    models.save(tmp_path / "theirs", plain, other, tokenizer)
    theirs = transformers.BertModel.from_pretrained(tmp_path / "theirs", add_pooling_layer=False).eval()
    rows = [LabeledRow(1, WORDS[0], tags(WORDS[0]))]
    encoded = RecurrentTagging(layers=0, mix=mix).encode(tokenizer, rows, objective, 32)
    batch = batch_of(encoded, np.array([0]))
    at = batch.targets[objective.target].index
    with answering(learner):
        found = learner.outputs(batch)[objective.name]["logits"]
    with torch.no_grad():
        states = theirs(batch.tokens.ids[None, : len(batch.tokens.ids)], output_hidden_states=True).hidden_states
        chosen = [states[number][0][at] for number in (mix.layers if mix else (-1,))]
        if isinstance(mix, WeightedSum):
            shares = np.exp(head.mix.weights.numpy()) / np.exp(head.mix.weights.numpy()).sum()
            read = head.mix.scale * sum(float(share) * one for share, one in zip(shares, chosen, strict=True))
        else:
            read = torch.cat(chosen, -1)
        scores = read @ head.classes.weight.T + head.classes.bias
        if crf:
            scores = head.crf.log_marginals(scores[None], torch.tensor([len(scores)]))[0]
    assert found.shape == (5, 3)
    torch.testing.assert_close(found, scores, rtol=0, atol=ROUNDING * float(scores.abs().max()))


def test_weights_begin_as_the_mean() -> None:
    made = WeightedSum(layers=(0, 1, 2)).build()
    states = [torch.randn(4, 5) for _ in range(3)]
    torch.testing.assert_close(made(*states), torch.stack(states).mean(0))
    assert WeightedSum().width(5) == 5
    assert Concatenated().width(5) == 20


@pytest.mark.parametrize("mix", [Concatenated(layers=(-2, -1)), WeightedSum(layers=(0, 1, 2))])
def test_only_the_head_is_trained_and_the_folder_answers_the_same(
    mix: LayerMix, start: Start, run: Run, tmp_path: Path
) -> None:
    for name, number, seed in (("train", 60, 0), ("validation", 20, 1)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tagged(number, seed)))
    files = Files(tmp_path / "train.jsonl", tmp_path / "validation.jsonl")
    whole = replace(start.recipe, tokens=start.tokenizer.tokens)
    first = whole.learner()
    base = replace(start, recipe=whole, learner=first)
    settings = replace(start.recipe.finetuning, adaptation=LastLayers(layers=0), epochs=60)
    task = RecurrentTagging(layers=1, size=16, crf=True, mix=mix)
    report = finetune(base, task, files, tmp_path / "out", settings=settings, seeds=(0,), run=run)
    assert report.trials[0].metrics["validation"]["word_accuracy"] > 0.9  # type: ignore[operator]
    base_folder = tmp_path / "base"
    models.save(base_folder, whole, first, start.tokenizer)
    found = load(tmp_path / "out" / "model", base_folder)
    assert all(
        torch.equal(tensor, first.network.state_dict()[name])
        for name, tensor in found.learner.network.state_dict().items()
        if "pooler" not in name
    )
    answers = predict(found, [tuple(row["tokens"]) for row in tagged(20, 1)])
    lines = [json.loads(line) for line in (tmp_path / "out" / "seed-0" / "validation.jsonl").read_text().splitlines()]
    assert [answer.predicted for answer in answers] == [line["predicted"] for line in lines]


def test_a_layer_that_is_not_there_is_one_line(start: Start, run: Run, tmp_path: Path) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tagged(20, 0)))
    files = Files(tmp_path / "train.jsonl", tmp_path / "validation.jsonl")
    with pytest.raises(UsageError, match="layers: there is no -4: the model has the embeddings, 0, and layers up to 2"):
        finetune(start, RecurrentTagging(mix=Concatenated()), files, tmp_path / "out", seeds=(0,), run=run)
    with pytest.raises(UsageError, match="layers: name one at least"):
        RecurrentTagging.from_json({**RecurrentTagging().to_json(), "mix": {"kind": "Concatenated", "layers": []}})
