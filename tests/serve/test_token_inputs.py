"""The Open Inference Protocol with ids of tokens in the place of texts, as graphs take them; many texts at once."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus.evaluate.fill import fill_mask
from genus.export.folder import load
from genus.serve.limits import Limits
from genus.serve.passes import Passes
from genus.serve.served import Served
from genus.serve.signature import ASKINGS, Options
from genus.tasks.embed import as_embedder, embed
from genus.tasks.predict import predict
from genus.train.run import Run
from open_inference import HEAD, tensor

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

TEXTS = ["the old river", "seven stones carry the long letter in winter", "a"]
RUN = Run(device="cpu", precision="float32")


def padded(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return what a tokenizer of transformers makes of the texts: ids (N, L) with special tokens, and the mask."""
    transformers = pytest.importorskip("transformers")
    found = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="np")
    return found["input_ids"].astype(np.int64), found["attention_mask"].astype(np.int64)


def as_json(name: str, array: np.ndarray[Any, Any], *, flat: bool = False) -> dict[str, Any]:
    data = (array.ravel() if flat else array).tolist()
    return {"name": name, "shape": [*array.shape], "datatype": "INT64", "data": data}


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_sends_ids(server: str, folders: dict[str, Path], binary: bool) -> None:
    library = pytest.importorskip("tritonclient.http")
    client = library.InferenceServerClient(server)

    def asked(model: str, **arrays: np.ndarray[Any, Any]) -> Any:
        tensors = []
        for name, array in arrays.items():
            tensors.append(library.InferInput(name, [*array.shape], "INT64"))
            tensors[-1].set_data_from_numpy(array, binary_data=binary)
        return client.infer(model, tensors)

    ids, mask = padded(folders["embedder"])
    found = asked("embedder", input_ids=ids, attention_mask=mask)
    np.testing.assert_allclose(found.as_numpy("embedding"), embed(load(folders["embedder"]), TEXTS), atol=1e-5)
    ids, mask = padded(folders["labels"])
    found = asked("labels", input_ids=ids, attention_mask=mask)
    expected = predict(load(folders["labels"]), [(text,) for text in TEXTS])
    assert [one.decode() for one in found.as_numpy("label")] == [one.predicted for one in expected]
    scores = [[*one.scores.values()] for one in expected if isinstance(one.scores, dict)]
    np.testing.assert_allclose(found.as_numpy("scores"), scores, atol=1e-5)
    client.close()


def test_ids_without_a_mask_are_all_read(http: httpx.Client, folders: dict[str, Path]) -> None:
    model = load(folders["embedder"])
    (ids,) = model.tokenizer.encode(TEXTS[:1], specials=False)
    for flat in (True, False):
        body = {"inputs": [as_json("input_ids", np.array([ids]), flat=flat)]}
        found = http.post("/v2/models/embedder/infer", json=body).json()["outputs"][0]["data"]
        np.testing.assert_allclose(found, embed(model, TEXTS[:1])[0], atol=1e-5)


def test_every_model_of_single_texts_tells_and_takes_them(http: httpx.Client, folders: dict[str, Path]) -> None:
    for name in ("embedder", "labels", "several", "tags", "masked", "causal"):
        known = {one["name"]: one for one in http.get(f"/v2/models/{name}").json()["inputs"]}
        assert known["input_ids"] == {
            "name": "input_ids", "datatype": "INT64", "shape": [-1, -1], "parameters": {"optional": True},
        }  # fmt: skip
        ids, mask = padded(folders[name]) if name != "causal" else (np.array([[5, 6, 7]]), np.array([[1, 1, 1]]))
        inputs = [as_json("input_ids", ids), as_json("attention_mask", mask)]
        body = {"inputs": inputs, "outputs": [{"name": "embedding"}]}
        response = http.post(f"/v2/models/{name}/infer", json=body)
        assert response.status_code == 200, response.text
        if name != "causal":
            vectors = np.array(response.json()["outputs"][0]["data"]).reshape(len(TEXTS), -1)
            np.testing.assert_allclose(vectors, embed(as_embedder(load(folders[name])), TEXTS), atol=1e-5)
    for name in ("choices", "answers"):
        assert "input_ids" not in {one["name"] for one in http.get(f"/v2/models/{name}").json()["inputs"]}


IDS, MASK = as_json("input_ids", np.array([[5, 6]])), as_json("attention_mask", np.array([[1, 1]]))
WRONG: dict[str, tuple[str, list[dict[str, Any]], list[dict[str, str]]]] = {
    "stands in the place of 'text'; give one": ("labels", [IDS, tensor("text", ["a"])], []),
    "'input_ids' is missing, of which 'attention_mask'": ("labels", [MASK, tensor("text", ["a"])], []),
    "expected the shape of 'input_ids', [1, 2], got [1, 1]": (
        "labels", [IDS, as_json("attention_mask", np.array([[1]]))], [],
    ),
    "there is no token 99999": ("labels", [as_json("input_ids", np.array([[99999]]))], []),
    "there is no token -1": ("embedder", [as_json("input_ids", np.array([[-1]]))], []),
    "'tags': input 'text' is missing": ("tags", [IDS], [{"name": "entities"}]),
    "'pairs': input 'text' is missing": ("pairs", [IDS], [{"name": "value"}]),
    "expected whole numbers, got 1.5": ("labels", [IDS | {"data": [1.5, 2]}], []),
    "expected whole numbers, got True": ("labels", [IDS | {"data": [True, 2]}], []),
    "a number has more than 64 bits": ("labels", [IDS | {"data": [2**70, 2]}], []),
    "expected the datatype INT64, got 'INT32'": ("labels", [IDS | {"datatype": "INT32"}], []),
    "expected the shape [-1, -1], got [2]": ("labels", [IDS | {"shape": [2]}], []),
    "does not have 3 elements": ("labels", [IDS | {"shape": [1, 2], "data": [1, 2, 3]}], []),
}  # fmt: skip


@pytest.mark.parametrize("expected", WRONG)
def test_what_is_wrong_is_told(http: httpx.Client, expected: str) -> None:
    model, inputs, outputs = WRONG[expected]
    body: dict[str, Any] = {"inputs": inputs} | ({"outputs": outputs} if outputs else {})
    response = http.post(f"/v2/models/{model}/infer", content=json.dumps(body))
    assert response.status_code == 400
    assert expected in response.json()["error"]


def test_half_a_number_is_told(http: httpx.Client) -> None:
    one = IDS | {"data": None, "parameters": {"binary_data_size": 12}}
    head = json.dumps({"inputs": [one]}).encode()
    response = http.post("/v2/models/labels/infer", content=head + b"a" * 12, headers={HEAD: str(len(head))})
    assert response.status_code == 400
    assert "12 bytes of binary data are no numbers of 8 each" in response.json()["error"]


def test_long_ids_lose_their_end_or_are_refused(http: httpx.Client) -> None:
    body = {"inputs": [as_json("input_ids", np.full((1, 1500), 7))]}
    for model in ("labels", "embedder"):
        response = http.post(f"/v2/models/{model}/infer", json=body)
        assert "lose their end" in response.json()["parameters"]["notices"]
        body_of_all = body | {"parameters": {"truncate": False}}
        assert http.post(f"/v2/models/{model}/infer", json=body_of_all).status_code == 413


@pytest.mark.parametrize("name", ["tags", "masked"])
def test_many_texts_are_tagged_and_filled_in_one_pass(folders: dict[str, Path], name: str) -> None:
    texts = ["the ___ river", "", "a ___ and ___"] if name == "tags" else ["the ___ river", "___", "a ___ and ___"]
    served, passes = Served(name, load(folders[name]), Limits(), RUN, Passes()), list[int]()
    served.inference.watch = lambda works, tokens, seconds: passes.append(works)
    ability = "tag" if name == "tags" else "fill"
    (asking,) = [one for one in ASKINGS if one.ability == ability]
    ((_, found),) = asking.answer(served, {"text": np.array(texts, object)}, Options(top=3)).items()
    assert passes == [2 if name == "tags" else 3]
    model = load(folders[name])
    for text, own in zip(texts, found, strict=True):
        if name == "tags":
            alone = [asdict(one) for one in served.tags([text])[0]] if text else []
        else:
            masks = fill_mask(model.learner, model.tokenizer, text, 3)
            alone = [asdict(one) for mask in masks for one in mask]
        told = json.loads(own) if name == "tags" else [one for mask in json.loads(own) for one in mask]
        assert len(told) == len(alone)
        for one, other in zip(told, alone, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
    served.close()
