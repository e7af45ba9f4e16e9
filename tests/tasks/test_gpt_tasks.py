"""Fine-tuning as GPT did it: added tokens, the state of the last one, both orders of a pair, a choice of several."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from genus.batch import Batch, Packed
from genus.errors import UsageError
from genus.export.folder import load, save
from genus.export.native import is_native
from genus.files import read_json
from genus.tasks.choice import Choice
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, LabeledRow
from genus.tasks.feed import Shuffled, by_length
from genus.tasks.finetune import finetune
from genus.tasks.predict import predict
from genus.tasks.regression import Regression
from genus.tasks.start import Start
from genus.tokens import SpecialTokens, TaskTokens
from genus.tokens.algorithms.byte_bpe import ByteBPE
from toys.gpt import ROW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from genus.objectives import Learner
    from genus.objectives.supervised import FineTuned
    from genus.recipe import Recipe
    from genus.tasks import Task
    from genus.tasks.encode import EncodedTexts
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

ROUNDING = 1e-5
"""Float32 sums in another order."""
TEXTS = ["a cat and a dog", "a saw", "a hammer and a drill and a saw", "a bird", "pliers", "a horse and a cat ."]
PAIRS = [(one, other) for one in TEXTS for other in TEXTS if one != other]
ADDED = ["_start_", "_delimiter_", "_classify_"]


@pytest.fixture(scope="module")
def byte_bpe() -> Tokenizer:
    return ROW.tokens.train([" ".join(TEXTS)] * 20)


@pytest.fixture(scope="module")
def start(byte_bpe: Tokenizer) -> Start:
    row = replace(ROW, tokens=byte_bpe.tokens)
    torch.manual_seed(0)
    learner = row.learner()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Start(row, byte_bpe, learner)


def tuned(start: Start, task: Task, labels: list[str], seed: int = 0) -> tuple[Learner, Tokenizer, FineTuned]:
    objective = task.objective(labels)
    recipe = start.fine_tuned(objective, start.recipe.finetuning)
    return start.build(recipe, seed).eval(), start.reader(objective, start.recipe.finetuning), objective


def encoded(task: Task, tokenizer: Tokenizer, objective: FineTuned, rows: list[LabeledRow]) -> EncodedTexts:
    return task.encode(tokenizer, rows, objective, 48)


def state(learner: Learner, tokenizer: Tokenizer, *texts: str) -> Tensor:
    """Return the state of the extract token of one sequence alone, written out as the paper frames it."""
    names = [ADDED[0], *[ADDED[1]] * (len(texts) - 1), ADDED[2]]
    specials = [tokenizer.backend.token_to_id(name) for name in names]
    parts = tokenizer.encode(list(texts), specials=False)
    ids = [id for special, part in zip(specials, [*parts, []], strict=True) for id in (special, *part)]
    packed = Packed.laid(
        torch.tensor(ids), [[len(ids)]], len(ids), {"segment": torch.zeros(len(ids), dtype=torch.long)}
    )
    return learner.network(Batch({"tokens": packed}, {}))["tokens"][-1]


class TestTokens:
    def test_three_tokens_come_last_and_frame_texts_and_pairs(self, byte_bpe: Tokenizer) -> None:
        found = byte_bpe.for_tasks(TaskTokens())
        size = byte_bpe.vocabulary.size
        assert [found.backend.token_to_id(name) for name in ADDED] == [size, size + 1, size + 2]
        assert found.encode(TEXTS) == byte_bpe.encode(TEXTS)
        one, two = (np.array(ids) for ids in found.encode(TEXTS[:2]))
        single, pair = (found.vocabulary.frame(*texts)[0].tolist() for texts in ((one,), (one, two)))
        assert single == [size, *one, size + 2]
        assert pair == [size, *one, size + 1, *two, size + 2]
        assert found.vocabulary.special[size:].all()
        assert found.vocabulary.padding_side == "right"

    def test_what_a_vocabulary_puts_before_a_text_stays(self) -> None:
        specials = SpecialTokens(bos="<s>", eos="</s>", single="<s> $A", pair="<s> $A $B")
        tokenizer = ByteBPE(vocab_size=320, special_tokens=specials).train(TEXTS).for_tasks(TaskTokens())
        assert tokenizer.tokens.special_tokens.single == "<s> _start_ $A _classify_"
        assert tokenizer.tokens.special_tokens.pair == "<s> _start_ $A _delimiter_ $B _classify_"

    def test_they_are_added_once_and_take_no_piece(self, byte_bpe: Tokenizer) -> None:
        again = byte_bpe.for_tasks(TaskTokens()).for_tasks(TaskTokens())
        assert again.vocabulary.size == byte_bpe.vocabulary.size + 3
        assert again.tokens.special_tokens.single == "_start_ $A _classify_"
        with pytest.raises(UsageError, match=r"finetuning\.task_tokens: 'a' is a piece of the vocabulary"):
            byte_bpe.for_tasks(TaskTokens(start="a"))

    def test_they_come_back_from_a_folder(self, byte_bpe: Tokenizer, tmp_path: Path) -> None:
        found = byte_bpe.for_tasks(TaskTokens())
        found.save(tmp_path)
        assert type(found).load(tmp_path).hash() == found.hash()


class TestWeights:
    def test_only_what_is_added_is_drawn(self, start: Start) -> None:
        one, other = (tuned(start, Classification(), ["a", "b"], seed)[0] for seed in (0, 1))
        assert start.learner is not None
        old = start.learner.state_dict()
        for name, tensor in one.state_dict().items():
            if name.startswith("heads.sequence_classification"):
                continue
            rows = len(old[name])
            assert torch.equal(tensor[:rows], old[name]), name
            assert (len(tensor) - rows) in (0, 3)
        added = [learner.network.token_embedding.weight[-3:] for learner in (one, other)]
        assert not torch.equal(*added)
        assert added[0].std() < 0.1  # as a new embedding is drawn, not as this one was

    def test_padded_rows_make_room_and_are_drawn_too(self, start: Start) -> None:
        row = replace(start.recipe, padded_vocab_size=start.recipe.vocab_rows + 8)
        torch.manual_seed(0)
        padded = replace(start, recipe=row, learner=row.learner())
        built = tuned(padded, Classification(), ["a", "b"], 1)[0]
        assert padded.learner is not None
        old, new = padded.learner.network.token_embedding.weight, built.network.token_embedding.weight
        assert old.shape == new.shape
        assert torch.equal(old[:-8], new[:-8])
        assert not torch.equal(old[-8:], new[-8:])

    def test_the_language_model_learns_beside_the_task(self, start: Start) -> None:
        """L = L_task + 0.5 L_LM, over all tokens of the texts (Radford et al. 2018, equation 5)."""
        learner, tokenizer, objective = tuned(start, Classification(texts=("a", "b")), ["x", "y"])
        rows = [LabeledRow(number, pair, "xy"[number % 2]) for number, pair in enumerate(PAIRS[:5])]
        data = encoded(Classification(texts=("a", "b")), tokenizer, objective, rows)
        recipe = start.fine_tuned(objective, start.recipe.finetuning)
        batch = Shuffled(data, 5, 0, recipe.objectives[1:])[0]
        classes, lm_head = learner.heads["sequence_classification"].classes, learner.heads["causal_lm"].lm_head
        task = language = tokens = 0.0
        with torch.no_grad():
            total = learner.objective(learner(batch).sums, learner.counts(batch))
            for number, pair in enumerate(PAIRS[:5]):
                task -= float(classes(state(learner, tokenizer, *pair)).log_softmax(-1)[number % 2])
                ids = torch.from_numpy(data.example(number).tokens.ids)
                packed = Packed.laid(ids, [[len(ids)]], len(ids), {"segment": 0 * ids})
                logs = lm_head(learner.network(Batch({"tokens": packed}, {}))["tokens"]).log_softmax(-1)
                language -= float(logs[:-1].gather(1, ids[1:, None]).sum())
                tokens += len(ids) - 1
        assert float(total) == pytest.approx(task / 5 + 0.5 * language / tokens, rel=ROUNDING)

    def test_without_a_language_model_it_is_refused(self, start: Start, recipe: Recipe, tokenizer: Tokenizer) -> None:
        settings = replace(recipe.finetuning, language_model=0.5)
        with pytest.raises(UsageError, match="was not pretrained to predict the next token"):
            Start(recipe, tokenizer).fine_tuned(Classification().objective(["a", "b"]), settings)


class TestHeads:
    def test_a_text_is_told_by_the_state_of_the_extract_token(self, start: Start) -> None:
        learner, tokenizer, objective = tuned(start, Classification(), ["x", "y"])
        assert learner.network.pooler is None
        rows = [LabeledRow(number, (text,), "x") for number, text in enumerate(TEXTS)]
        classes = learner.heads["sequence_classification"].classes
        with torch.no_grad():
            for chosen, batch in by_length(encoded(Classification(), tokenizer, objective, rows)):
                found = learner.outputs(replace(batch, heads=frozenset({objective.name})))[objective.name]["logits"]
                exact = torch.stack([classes(state(learner, tokenizer, TEXTS[one])) for one in chosen])
                torch.testing.assert_close(found, exact, rtol=ROUNDING, atol=ROUNDING)

    @pytest.mark.parametrize("task", [Classification, Regression])
    def test_both_orders_of_a_pair_are_added_before_the_linear_layer(self, start: Start, task: type[Task]) -> None:
        similar = task(texts=("a", "b"), symmetric=True)
        learner, tokenizer, objective = tuned(start, similar, ["0", "1"])
        rows = [LabeledRow(number, pair, str(number % 2)) for number, pair in enumerate(PAIRS[:7])]
        back = [replace(row, texts=row.texts[::-1]) for row in rows]
        with torch.no_grad():
            answer = learner.heads[objective.name]
            exact = [
                answer.classes(state(learner, tokenizer, a, b) + state(learner, tokenizer, b, a)) for a, b in PAIRS[:7]
            ]
            found = [outputs(learner, encoded(similar, tokenizer, objective, each)) for each in (rows, back)]
        torch.testing.assert_close(found[0], torch.stack(exact), rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(found[0], found[1], rtol=ROUNDING, atol=ROUNDING)

    def test_choices_are_told_apart_by_a_softmax_over_their_scores(self, start: Start) -> None:
        """Questions of two to five choices in one batch; h_k W over the choices of each (section 3.3)."""
        learner, tokenizer, objective = tuned(start, Choice(), [])
        rows = questions()
        data = encoded(Choice(), tokenizer, objective, rows)
        classes = learner.heads["multiple_choice"].classes
        recipe = start.fine_tuned(objective, start.recipe.finetuning)
        loss = 0.0
        with torch.no_grad():
            found = outputs(learner, data)
            for row, scores in zip(rows, found, strict=True):
                question, *choices = row.texts
                exact = torch.cat([classes(state(learner, tokenizer, question, one)) for one in choices])
                torch.testing.assert_close(scores[: len(choices)], exact, rtol=ROUNDING, atol=ROUNDING)
                assert torch.isneginf(scores[len(choices) :]).all()
                loss -= float(exact.log_softmax(-1)[int(cast("str", row.label))])
            for few in (False, True):
                batch = Shuffled(data, len(rows), 3, recipe.objectives[1:], few_shapes=few)[0]
                assert int(learner.counts(batch)["multiple_choice"]) == len(rows)
                assert float(learner(batch).sums["multiple_choice"]) == pytest.approx(loss, rel=ROUNDING)

    def test_the_last_token_stands_for_the_whole_under_causal_attention(self, start: Start, tmp_path: Path) -> None:
        """Whatever the tokenizer says, also when it is read from a folder."""
        specials = replace(start.recipe.tokens.special_tokens, summary="first")
        tokenizer = replace(start.tokenizer, tokens=replace(start.recipe.tokens, special_tokens=specials))
        assert tokenizer.vocabulary.whole(9) == 0
        assert start.learner is not None
        plain = replace(start.recipe.finetuning, task_tokens=None)
        first = Start(replace(start.recipe, tokens=tokenizer.tokens), tokenizer, start.learner)
        assert first.reader(Classification().objective(["a", "b"]), plain).vocabulary.whole(9) == 8
        save(tmp_path, first.recipe, start.learner, tokenizer)
        again = load(tmp_path)
        read = Start(again.recipe, again.tokenizer, again.learner)
        assert read.reader(Classification().objective(["a", "b"]), plain).vocabulary.whole(9) == 8


def questions() -> list[LabeledRow]:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(9):
        choices = rng.choice(TEXTS, 2 + number % 4, replace=False).tolist()
        rows.append(LabeledRow(number, (f"what is it, {number}?", *choices), str(int(rng.integers(len(choices))))))
    return rows


@torch.no_grad()
def outputs(learner: Learner, data: EncodedTexts) -> Tensor:
    """Return the head's outputs in the order of the rows."""
    found: dict[int, Tensor] = {}
    for chosen, batch in by_length(data):
        (values,) = learner.outputs(replace(batch, heads=frozenset({data.target})))[data.target].values()
        found |= dict(zip(chosen.tolist(), values, strict=True))
    return torch.stack([found[number] for number in range(len(found))])


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_decoder_learns_a_task_and_its_folder_answers_alike(
    start: Start, run: Run, tmp_path: Path, symmetric: bool
) -> None:
    """Do two texts have as many words? The answers of the folder are those of training."""
    pairs = [(one, other) for one in TEXTS for other in TEXTS]
    rows = [{"a": a, "b": b, "label": int(len(a.split()) == len(b.split()))} for a, b in pairs]
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task, settings = Classification(texts=("a", "b"), symmetric=symmetric), replace(start.recipe.finetuning, epochs=30)
    report = finetune(start, task, Files.find(tmp_path), tmp_path / "out", settings=settings, seeds=(0,), run=run)
    assert report.best.metrics["validation"]["accuracy"] > 0.9
    lines = [json.loads(line) for line in (tmp_path / "out" / "seed-0" / "validation.jsonl").read_text().splitlines()]
    model = load(tmp_path / "out" / "model")
    assert list(model.learner.heads) == ["sequence_classification"]
    assert model.recipe.objectives[0].to_json()["symmetric"] == symmetric
    assert is_native(read_json(tmp_path / "out" / "model" / "config.json"))
    for answer, line in zip(predict(model, pairs), lines, strict=True):
        assert answer.scores == pytest.approx(line["scores"], abs=ROUNDING)


def test_a_decoder_learns_to_choose(start: Start, run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(40):
        choices = rng.permutation(TEXTS)[: int(rng.integers(2, 5))].tolist()
        choices[int(rng.integers(len(choices)))] = "this one"
        rows.append({"question": "which?", "choices": choices, "label": choices.index("this one")})
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = finetune(start, Choice(), Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    assert report.best.metrics["validation"]["accuracy"] == 1.0
    found = predict(load(tmp_path / "out" / "model"), [("which?", *row["choices"]) for row in rows])
    assert [answer.predicted for answer in found] == [str(row["label"]) for row in rows]
    assert [len(answer.scores) for answer in found] == [len(row["choices"]) for row in rows]


def test_orders_of_a_single_text_are_refused() -> None:
    with pytest.raises(UsageError, match="symmetric: pairs are read in both orders; name the two columns"):
        Classification(symmetric=True)


def test_an_encoder_chooses_as_hugging_face_does(
    recipe: Recipe, tokenizer: Tokenizer, tmp_path: Path, write_rows: Callable[..., object]
) -> None:
    """`[CLS] question [SEP] choice [SEP]`, the pooler and one score: BertForMultipleChoice with the same weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(**sizes, vocab_size=tokenizer.vocabulary.size)
    theirs = transformers.BertForMultipleChoice(config).eval()
    theirs.bert.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    source = load(tmp_path)
    first = Start(source.recipe, source.tokenizer, source.learner)
    learner, reader, objective = tuned(first, Choice(), [])
    learner.heads["multiple_choice"].classes.load_state_dict(theirs.classifier.state_dict())
    rows = [row for row in questions() if len(row.texts) == 4]
    found = outputs(learner, encoded(Choice(), reader, objective, rows))
    split = transformers.AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        for row, scores in zip(rows, found, strict=True):
            question, *choices = row.texts
            inputs = split([question] * 3, choices, padding=True, return_tensors="pt")
            exact = theirs(**{name: value[None] for name, value in inputs.items()}).logits[0]
            torch.testing.assert_close(scores, exact, rtol=ROUNDING, atol=ROUNDING)
