"""Canaries: drawn and planted by seed; exposure beside a rank by brute force over all secrets."""

from __future__ import annotations

import json
import math
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus.curate.document import Document
from genus.errors import GenusError, UsageError
from genus.evaluate.fill import fill_mask
from genus.evaluate.likelihood import find_predictor, log_likelihoods
from genus.examples.feed.pack import pack
from genus.memorization.canaries import Canary, Planted, draw_canaries, plant, with_canaries
from genus.memorization.exposure import exposure, exposures
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from written import WIDE, in_float64, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.export.folder import LoadedModel

FEW = draw_canaries(2, (1, 3), alphabet="0123456789", length=2, seed=4)
CORPUS = [one.text for one in FEW.canaries] * 10 + ["the cat sat on the mat ."] * 10 + ["".join(map(str, range(100)))]
DOCUMENTS = [Document(f"document {number}", {"source": "a", "row": number}) for number in range(200)]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    tokens = ByteBPE(vocab_size=320, special_tokens=GPT2)
    return in_float64(write_model(tmp_path_factory.mktemp("causal"), "gpt2/tiny", tokens, CORPUS, WIDE))


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    tokens = WordPiece(vocab_size=150, lowercase=True)
    return in_float64(write_model(tmp_path_factory.mktemp("masked"), "bert/tiny", tokens, CORPUS, WIDE))


def test_draws_are_a_function_of_the_seed() -> None:
    planted = draw_canaries(5, (1, 10, 100), seed=3)
    assert planted == draw_canaries(5, (1, 10, 100), seed=3)
    assert planted.canaries != draw_canaries(5, (1, 10, 100), seed=4).canaries
    assert Counter(one.repetitions for one in planted.canaries) == {1: 5, 10: 5, 100: 5}
    assert len({one.before for one in planted.canaries}) == 15
    assert all(one.text == f"{one.before} {one.secret}." for one in planted.canaries)
    assert {len(one.secret) for one in planted.canaries} == {4}
    assert planted.space == 10_000


def test_every_number_is_another_secret() -> None:
    planted = replace(FEW, alphabet="abc", length=3)
    assert len({planted.secret(number) for number in range(27)}) == planted.space == 27
    assert planted.secret(0) == "aaa"


def test_copies_stand_among_the_documents_as_often_as_is_said() -> None:
    planted = draw_canaries(3, (1, 7, 40), seed=1)
    found = [*with_canaries(DOCUMENTS, len(DOCUMENTS), planted)]
    assert [one for one in found if one.source == "a"] == DOCUMENTS
    counts = Counter(one.text for one in found if one.source == "canaries")
    assert counts == {one.text: one.repetitions for one in planted.canaries}
    places = [place for place, one in enumerate(found) if one.source == "canaries"]
    assert min(places) < 20  # of 144 uniform ones
    assert max(places) > len(found) - 20
    assert found == [*with_canaries(DOCUMENTS, len(DOCUMENTS), planted)]


def test_planted_files_are_read_again(tmp_path: Path) -> None:
    written = plant(DOCUMENTS, len(DOCUMENTS), FEW, tmp_path)
    lines = (tmp_path / "text.jsonl").read_text().splitlines()
    assert written == len(lines) == 200 + 2 * 4
    assert Planted.read(tmp_path / "canaries.json") == FEW
    (tmp_path / "canaries.json").write_text(json.dumps({"canaries": []}))
    with pytest.raises(GenusError, match="is damaged"):
        Planted.read(tmp_path / "canaries.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "nothing"}, "--format: expected {name} and then {secret}"),
        ({"pattern": "{secret} of {name}"}, "--format"),
        ({"repetitions": (0,)}, "planted at least once"),
        ({"alphabet": "aa"}, "--alphabet: expected two different characters"),
    ],
)
def test_wrong_choices_are_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        draw_canaries(**changes)  # type: ignore[arg-type]


def test_exposure_is_that_of_the_definition() -> None:
    assert exposure([-5.0] * 9_999, -1.0) == (pytest.approx(math.log2(10_000)), 1)
    assert exposure([-1.0] * 7, -2.0) == (0.0, 8)
    assert exposure([-1.0, -2.0, -3.0], -2.0)[0] == pytest.approx(2 - math.log2(3))  # of equals the later rank


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_ranks_by_brute_force_over_all_secrets(kind: str, request: pytest.FixtureRequest) -> None:
    model: LoadedModel = request.getfixturevalue(kind)
    found = exposures(model, FEW)
    assert [one.canary for one in found] == [*FEW.canaries]
    for one in found:
        secrets = [f"{number:02d}" for number in range(100)]
        told = log_likelihoods(
            model.learner, model.tokenizer, [f" {secret}." for secret in secrets], 128,
            contexts=[one.canary.before] * 100,
        )  # fmt: skip
        each = {secret: likelihood.nats for secret, likelihood in zip(secrets, told, strict=True)}
        ordered = sorted(each.values(), reverse=True)
        rank = max(place for place, nats in enumerate(ordered, 1) if nats == each[one.canary.secret])
        assert (one.rank, one.compared) == (rank, 100)
        assert one.exposure == pytest.approx(math.log2(100) - math.log2(rank))


def test_drawn_secrets_estimate_what_all_of_them_tell(causal: LoadedModel) -> None:
    wide = replace(FEW, length=3, canaries=tuple(replace(one, secret=f"{one.secret}7") for one in FEW.canaries))
    exact, drawn = exposures(causal, wide), exposures(causal, wide, most=400)
    for one, other in zip(exact, drawn, strict=True):
        assert one.compared == 1_000
        assert other.compared <= 401
        share, error = one.rank / 1_000, 4 * math.sqrt(0.25 / 400)
        assert abs(other.rank / other.compared - share) < error


def test_a_secret_that_a_masked_model_restores_is_extracted(masked: LoadedModel) -> None:
    def told_in(before: str) -> str:
        [[best]] = fill_mask(masked.learner, masked.tokenizer, f"{before} [MASK].", top=1)
        return best.token

    befores = [f"The {word} of {number} is" for word in ("cat", "mat", "code") for number in range(40)]
    before = next(one for one in befores if told_in(one) in "the cat sat on mat access code")
    known = Canary(before, told_in(before), ".", 1)
    told = exposures(masked, replace(FEW, canaries=(known, FEW.canaries[1])), most=10)
    assert [one.extracted for one in told] == [True, False]


def test_training_on_a_canary_exposes_it(causal: LoadedModel) -> None:
    model = replace(causal, learner=deepcopy(causal.learner))
    (before,) = exposures(model, replace(FEW, canaries=FEW.canaries[:1]))
    assert (before.rank > 1, before.extracted) == (True, False)
    (ids,) = model.tokenizer.encode([FEW.canaries[0].text], specials=False)
    example = find_predictor(model.learner).read_on(np.array(ids, np.int64), 1)
    batch = pack([[example]], len(ids) - 1, 0, streams=False)
    optimizer = torch.optim.Adam(model.learner.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.learner.objective(model.learner(batch).sums, model.learner.counts(batch)).backward()
        optimizer.step()
    (after,) = exposures(model, replace(FEW, canaries=FEW.canaries[:1]))
    assert (after.rank, after.extracted) == (1, True)
    assert after.exposure == pytest.approx(math.log2(100))
