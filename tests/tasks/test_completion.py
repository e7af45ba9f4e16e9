"""Completions of prompts: which tokens are targets, what their loss is, and that the result is a language model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genus import catalog
from genus.errors import GenusError, UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.export.folder import load
from genus.model.head.lm_head import LMHead
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.tasks.completion import Completion, EncodedCompletions
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.feed import Shuffled
from genus.tasks.finetune import finetune
from genus.tasks.predict import score
from genus.tasks.start import Start
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from toys.gpt import ROW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

PAIRS = [
    (f"How many {name} are {number}?", f" There are {number} {name}.")
    for number, name in enumerate(["cats", "dogs", "saws", "birds", "drills", "hammers", "horses", "pliers"] * 8)
]
TEXTS = [prompt + completion for prompt, completion in PAIRS]
DOUBLE = 1e-5
"""Float32 sums in another order."""


@pytest.fixture(scope="module")
def byte_bpe() -> Tokenizer:
    return ROW.tokens.train(TEXTS)


@pytest.fixture(scope="module")
def row(byte_bpe: Tokenizer) -> Recipe:
    """The toy decoder, whose output matrix is its own and not the embedding."""
    objectives = (CausalLM(output=LMHead(tied=False)),)
    return replace(ROW, tokens=byte_bpe.tokens, objectives=objectives)


@pytest.fixture(scope="module")
def learner(row: Recipe) -> Learner:
    torch.manual_seed(0)
    return row.learner()


def encoded(tokenizer: Tokenizer, pairs: list[tuple[str, str | None]], max_length: int = 64) -> EncodedCompletions:
    rows = [LabeledRow(number, (prompt,), completion) for number, (prompt, completion) in enumerate(pairs, 1)]
    return Completion().encode(tokenizer, rows, Completion().objective([]), max_length)


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.booleans())
def test_given_tokens_are_no_targets(learned: list[bool], goes_on: bool) -> None:
    ids = np.arange(10, 10 + len(learned))
    sequence = Sequence(ids, 0 * ids, ids < 0, following=99 if goes_on else None, learned=np.array(learned))
    found = CausalLM().prepare_example(Example({"tokens": sequence}, {}), None, np.random.default_rng(0))  # type: ignore[arg-type]
    index, label = found.targets["causal_lm"]
    wanted = [(place - 1, 10 + place) for place, one in enumerate(learned) if one and place]
    assert list(zip(index.tolist(), label.tolist(), strict=True)) == wanted + [(len(ids) - 1, 99)] * goes_on


def test_a_completion_and_its_end_are_targets_and_the_prompt_is_not(byte_bpe: Tokenizer) -> None:
    found, end = encoded(byte_bpe, [*PAIRS[:3], ("", "No prompt."), ("Unanswered", None)]), byte_bpe.vocabulary.end
    assert end is not None
    for number, (prompt, completion) in enumerate([*PAIRS[:3], ("", "No prompt.")]):
        one, two = byte_bpe.encode([prompt, completion])
        example = found.example(number)
        index, label = example.targets["causal_lm"]
        lead = [end] * (not one)  # the first token of all has one to be predicted from
        assert example.tokens.ids.tolist() == [*lead, *one, *two, end]
        assert label.tolist() == [*two, end]
        assert index.tolist() == list(range(len(lead + one) - 1, len(lead + one) + len(two)))
        assert found.lengths[number] == len(example.tokens.ids)
    assert not len(found.example(4).targets["causal_lm"][0])
    assert not found.warnings


def test_templates_stay_around_the_text(byte_bpe: Tokenizer) -> None:
    """`<s>` stands before the prompt; the end token is not repeated where the template has it."""
    for template, end in (("<s> $A", ["</s>"]), ("<s> $A </s>", [])):
        specials = replace(GPT2, bos="<s>", eos="</s>", unk="</s>", single=template)
        tokenizer = ByteBPE(vocab_size=320, special_tokens=specials).train(TEXTS)
        example = encoded(tokenizer, PAIRS[:1]).example(0)
        prompt, completion = tokenizer.encode(PAIRS[0])
        begin, close = tokenizer.backend.token_to_id("<s>"), tokenizer.backend.token_to_id("</s>")
        assert example.tokens.ids.tolist() == [begin, *prompt, *completion, close], end
        assert example.targets["causal_lm"][1].tolist() == [*completion, close]


def test_long_rows_lose_the_beginning_of_the_prompt(byte_bpe: Tokenizer) -> None:
    prompt, completion = byte_bpe.encode(["cats " * 30, " dogs"])
    found = encoded(byte_bpe, [("cats " * 30, " dogs"), ("", "cats " * 30)], 12)
    assert found.lengths.tolist() == [12, 12]
    kept = found.example(0).tokens.ids.tolist()
    assert kept[-1 - len(completion) : -1] == completion
    assert kept[: -1 - len(completion)] == prompt[len(completion) - 11 :]
    assert len(found.cut) == 2
    assert "2 of 2 rows are longer than finetuning.max_length=12" in found.warnings[0]
    assert found.size[1] == pytest.approx(150 * 10 / len(byte_bpe.encode(["cats " * 30])[0]))
    with pytest.raises(GenusError, match="max_length: 2 leaves no room for text"):
        encoded(byte_bpe, PAIRS[:1], 2)


@torch.no_grad()
def nats(learner: Learner, tokenizer: Tokenizer, prompt: str, completion: str) -> list[float]:
    """Return -log p of each token of a completion and of the end token, each from a pass of its own over a prefix."""
    one, two = tokenizer.encode([prompt, completion])
    end = tokenizer.vocabulary.end
    ids, found = [*one, *two, end], []
    head = learner.heads["causal_lm"].lm_head
    for place in range(len(one), len(ids)):
        example = Example({"tokens": Sequence(np.array(ids[:place]), np.zeros(place, int), np.zeros(place, bool))}, {})
        states = learner.network(pack([[example]], place, 0, streams=False))["tokens"]
        found.append(-float(head(states[-1:])[0].log_softmax(-1)[ids[place]]))
    return found


def test_the_packed_loss_is_that_of_each_prefix(learner: Learner, byte_bpe: Tokenizer) -> None:
    learner.eval()
    with torch.no_grad():
        batch = Shuffled(encoded(byte_bpe, PAIRS[:6]), 6, seed=0)[0]
        exact = [value for pair in PAIRS[:6] for value in nats(learner, byte_bpe, *pair)]
        assert learner.counts(batch)["causal_lm"] == len(exact)
        assert float(learner(batch).sums["causal_lm"]) == pytest.approx(sum(exact), rel=DOUBLE)


def write(path: Path, pairs: list[tuple[str, str | None]]) -> None:
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_it_learns_from_the_weights_it_was_given_and_stays_a_language_model(
    row: Recipe, learner: Learner, byte_bpe: Tokenizer, run: Run, tmp_path: Path
) -> None:
    write(tmp_path / "train.jsonl", PAIRS[8:])
    write(tmp_path / "validation.jsonl", PAIRS[:8])
    write(tmp_path / "test.jsonl", [*PAIRS[:4], ("Unanswered", None)])
    start = Start(row, byte_bpe, learner)
    recipe = start.fine_tuned(Completion().objective([]).continued(row.objectives, row.model), row.finetuning)
    built = start.build(recipe, 1)
    assert all(torch.equal(tensor, learner.state_dict()[name]) for name, tensor in built.state_dict().items())

    report = finetune(start, Completion(), Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    history = [step["token_loss"] for step in report.best.history]
    assert report.best.metrics["validation"]["token_loss"] == min(history) < history[0]
    metrics = report.best.metrics["test"]
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["token_loss"]))

    model = load(tmp_path / "out" / "model")
    assert model.recipe.objectives == row.objectives
    exact = [nats(model.learner.eval(), byte_bpe, *pair) for pair in PAIRS[:4]]
    total, tokens = sum(map(sum, exact)), sum(map(len, exact))
    size = sum(len(completion.encode()) for _, completion in PAIRS[:4])
    assert metrics["token_loss"] == pytest.approx(total / tokens, rel=DOUBLE)
    assert metrics["bits_per_byte"] == pytest.approx(total / math.log(2) / size, rel=DOUBLE)
    lines = [json.loads(line) for line in (tmp_path / "out" / "seed-0" / "test.jsonl").read_text().splitlines()]
    assert [line["scores"].get("tokens") for line in lines] == [*map(len, exact), None]
    assert lines[0]["predicted"] == pytest.approx(sum(exact[0]) / len(exact[0]), rel=DOUBLE)

    rows = read(tmp_path / "test.jsonl", Completion())  # as it is measured without fine-tuning
    assert score(model, Completion(), rows)[1] == pytest.approx(metrics, rel=DOUBLE)


def test_white_space_of_completions_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [("Q: 1 + 1\n", " 2\n"), ("Q", None)])
    assert [row.label for row in read(tmp_path / "rows.jsonl", Completion())] == [" 2\n", None]


def test_what_cannot_be_completed_is_refused_in_one_line(
    start: Start, write_rows: Callable[..., object], tmp_path: Path, run: Run
) -> None:
    write(tmp_path / "train.jsonl", PAIRS[:8])
    with pytest.raises(UsageError, match="completions need a causal language model") as error:
        finetune(start, Completion(), Files.find(tmp_path), tmp_path / "out", run=run)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="expected the one column of the prompts, got 2"):
        Completion(texts=("prompt", "more"))
    write(tmp_path / "train.jsonl", [("asked", None), *PAIRS[:4]])
    with pytest.raises(GenusError, match="line 1: there is no label in column 'completion'"):
        finetune(start, Completion(), Files.find(tmp_path), tmp_path / "out", run=run)


@pytest.mark.parametrize("name", ["transformer-xl/tiny"])
def test_a_member_completes(name: str, tmp_path: Path, run: Run) -> None:
    recipe = catalog.load(name, ["model.hidden=32", "model.memory=8", "tokens.min_frequency=1"])
    recipe = replace(recipe, model=replace(recipe.model, embedding=replace(recipe.model.embedding, cutoffs=(20,))))
    tokenizer = recipe.tokens.train(TEXTS)
    recipe = replace(recipe, tokens=tokenizer.tokens, finetuning=replace(recipe.finetuning, epochs=2, max_length=32))
    write(tmp_path / "train.jsonl", PAIRS)
    start = Start(recipe, tokenizer, recipe.learner())
    report = finetune(start, Completion(), Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    assert report.best.metrics["validation"]["token_loss"] < report.best.history[0]["token_loss"] + DOUBLE
