"""Text-embeddings-inference's routes: what its clients send is answered, with the numbers of the library."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.export.folder import load
from genus.tasks.embed import as_embedder, embed
from genus.tasks.features import feature_blocks
from genus.tasks.predict import predict
from running_server import model_folders, served_models
from small import documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx
    from numpy.typing import NDArray

    from genus.tasks.answer import Answer

transformers: Any = pytest.importorskip("transformers")
huggingface_hub: Any = pytest.importorskip("huggingface_hub")
TEXTS = ["the old river", "a small train remembers the evening light", "our neighbor"]
PAIRS = [("the old river", text) for text in TEXTS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return model_folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def client(folders: dict[str, Path]) -> Iterator[httpx.Client]:
    with served_models(folders) as made:
        yield made


def asked(client: httpx.Client, path: str, model: str, **body: Any) -> Any:
    answer = client.post(path, json={"model": model} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-5)


def shares_of(answer: Answer) -> dict[str, float]:
    assert isinstance(answer.scores, dict)
    return answer.scores


def test_embed(client: httpx.Client, folders: dict[str, Path]) -> None:
    expected = embed(load(folders["embedder"]), TEXTS)
    assert np.abs(unit(expected) - expected).max() > 0.1
    close(asked(client, "/embed", "embedder", inputs=TEXTS), unit(expected))
    close(asked(client, "/embed", "embedder", inputs=TEXTS[0]), unit(expected[:1]))
    close(asked(client, "/embed", "embedder", inputs=TEXTS, normalize=False), expected)
    close(asked(client, "/embed", "embedder", inputs=TEXTS, dimensions=6), unit(expected[:, :6]))
    prompted = embed(load(folders["embedder"]), TEXTS, "our letter ")
    close(asked(client, "/embed", "embedder", inputs=TEXTS, prompt_name="query"), unit(prompted))


def test_long_texts_are_cut_if_that_is_asked(client: httpx.Client, folders: dict[str, Path]) -> None:
    long = "the old river " * 200
    expected = unit(embed(load(folders["embedder"]), [long]))
    close(asked(client, "/embed", "embedder", inputs=long, truncate=True), expected)
    refused = client.post("/embed", json={"model": "embedder", "inputs": long})
    assert refused.status_code == 413
    assert refused.json() == {"error": refused.json()["error"], "error_type": "Validation"}


def test_embed_all_gives_the_states_of_all_tokens(client: httpx.Client, folders: dict[str, Path]) -> None:
    model = load(folders["embedder"])
    blocks = [*feature_blocks(model, TEXTS, per="token")]
    expected = np.concatenate([block.vectors for block in blocks])
    rows = np.concatenate([block.rows for block in blocks])
    found = asked(client, "/embed_all", "embedder", inputs=TEXTS)
    assert [len(own) for own in found] == np.bincount(rows).tolist()
    for number, own in enumerate(found):
        close(own, expected[rows == number])


def test_embed_sparse_is_splade_of_another_implementation(client: httpx.Client, folders: dict[str, Path]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["lm"])
    model = transformers.AutoModelForMaskedLM.from_pretrained(folders["lm"]).eval()
    found = asked(client, "/embed_sparse", "lm", inputs=TEXTS)
    for text, own in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        weights = torch.log1p(torch.relu(logits)).amax(0).numpy()
        assert [term["index"] for term in own] == np.flatnonzero(weights).tolist()
        close([term["value"] for term in own], weights[weights > 0])
    refused = client.post("/embed_sparse", json={"model": "classifier", "inputs": "a"})
    assert refused.status_code == 404


def test_predict(client: httpx.Client, folders: dict[str, Path]) -> None:
    answers = predict(load(folders["classifier"]), [(text,) for text in TEXTS])
    found = asked(client, "/predict", "classifier", inputs=[[text] for text in TEXTS])
    for one, answer in zip(found, answers, strict=True):
        assert one[0]["label"] == answer.predicted
        assert [each["score"] for each in one] == sorted((each["score"] for each in one), reverse=True)
        close([each["score"] for each in one], [shares_of(answer)[each["label"]] for each in one])
    single = asked(client, "/predict", "classifier", inputs=TEXTS[0])
    assert single == asked(client, "/predict", "classifier", inputs=[TEXTS[0]])
    close([each["score"] for each in single], [each["score"] for each in found[0]])
    logits = asked(client, "/predict", "classifier", inputs="a", raw_scores=True)
    raw = {each["label"]: each["score"] for each in logits}
    shares = {each["label"]: each["score"] for each in asked(client, "/predict", "classifier", inputs="a")}
    raised = np.exp([raw[label] for label in shares])
    close([*shares.values()], raised / raised.sum())


def test_predict_of_a_pair(client: httpx.Client, folders: dict[str, Path]) -> None:
    (answer,) = predict(load(folders["reranker"]), PAIRS[:1])
    (found,) = asked(client, "/predict", "reranker", inputs=PAIRS[0])
    assert found == {"label": "relevant", "score": pytest.approx(shares_of(answer)["relevant"], abs=1e-5)}
    (answer,) = predict(load(folders["regressor"]), PAIRS[:1])
    (found,) = asked(client, "/predict", "regressor", inputs=PAIRS[0])
    assert found == {"label": "LABEL_0", "score": pytest.approx(answer.predicted, abs=1e-5)}


def test_rerank(client: httpx.Client, folders: dict[str, Path]) -> None:
    scores = [shares_of(answer)["relevant"] for answer in predict(load(folders["reranker"]), PAIRS)]
    body = {"query": PAIRS[0][0], "texts": TEXTS}
    found = asked(client, "/rerank", "reranker", **body)
    assert [one["index"] for one in found] == np.argsort(scores)[::-1].tolist()
    close([one["score"] for one in found], sorted(scores, reverse=True))
    assert all(one.keys() == {"index", "score"} for one in found)
    told = asked(client, "/rerank", "reranker", **body, return_text=True, raw_scores=True)
    assert [one["text"] for one in told] == [TEXTS[one["index"]] for one in told]
    close([1 / (1 + np.exp(-one["score"])) for one in told], sorted(scores, reverse=True))
    numbers = [answer.predicted for answer in predict(load(folders["regressor"]), PAIRS)]
    found = asked(client, "/rerank", "regressor", **body, raw_scores=True)
    close([one["score"] for one in found], sorted(numbers)[::-1])


def test_similarity(client: httpx.Client, folders: dict[str, Path]) -> None:
    vectors = unit(embed(load(folders["embedder"]), TEXTS))
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    close(asked(client, "/similarity", "embedder", inputs=inputs), vectors[1:] @ vectors[0])
    prompted = unit(embed(load(folders["embedder"]), TEXTS, "our letter "))
    found = asked(client, "/similarity", "embedder", inputs=inputs, parameters={"prompt_name": "query"})
    close(found, prompted[1:] @ prompted[0])


def test_tokenize_and_decode(client: httpx.Client, folders: dict[str, Path]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["lm"])
    text = "The old river, 7 [MASK] Straße"
    for special in (True, False):
        (tokens,) = asked(client, "/tokenize", "lm", inputs=text, add_special_tokens=special)
        fast = tokenizer("The old river, 7 Straße", add_special_tokens=special, return_offsets_mapping=True)
        (plain,) = asked(client, "/tokenize", "lm", inputs="The old river, 7 Straße", add_special_tokens=special)
        assert [one["id"] for one in plain] == fast["input_ids"]
        spans = [(one["start"], one["stop"]) for one in plain if not one["special"]]
        assert spans == [span for span in fast["offset_mapping"] if span != (0, 0)]
        assert [one["text"] for one in tokens if one["special"]] == (["[CLS]", "[SEP]"] if special else [])
        assert all(one["text"] == text[one["start"] : one["stop"]] for one in tokens if not one["special"])
    ids = tokenizer(TEXTS)["input_ids"]
    assert asked(client, "/decode", "lm", ids=ids) == tokenizer.batch_decode(ids, skip_special_tokens=True)
    whole = asked(client, "/decode", "lm", ids=ids[0], skip_special_tokens=False)
    assert whole == tokenizer.batch_decode(ids[:1])


def test_info(client: httpx.Client) -> None:
    told = {name: client.get("/info", params={"model": name}).json() for name in ("embedder", "classifier", "reranker")}
    assert told["embedder"]["model_type"] == {"embedding": {"pooling": "cls"}}
    assert told["classifier"]["model_type"]["classifier"]["id2label"] == {"0": "good", "1": "bad", "2": "dull"}
    assert told["reranker"]["model_type"]["reranker"]["label2id"] == {"relevant": 0}
    assert told["embedder"]["max_client_batch_size"] == 256


def test_the_client_of_hugging_face(client: httpx.Client, folders: dict[str, Path]) -> None:
    """It speaks to a route, and where there is one model to its server's address; it names no model."""
    expected = embed(as_embedder(load(folders["lm"])), TEXTS)
    hub = huggingface_hub.InferenceClient(token="none")
    close(hub.feature_extraction(TEXTS[0], model=f"{client.base_url}/embed"), unit(expected[:1]))
    close(hub.feature_extraction(TEXTS[0], model=str(client.base_url), normalize=False, truncate=True), expected[:1])
    vectors = unit(expected)
    for path in ("/similarity", ""):
        found = hub.sentence_similarity(TEXTS[0], TEXTS[1:], model=f"{client.base_url}{path}")
        close(found, vectors[1:] @ vectors[0])
    with served_models({"classifier": folders["classifier"]}) as one:
        (answer,) = predict(load(folders["classifier"]), [(TEXTS[0],)])
        for path in ("/predict", "/"):
            told = hub.text_classification(TEXTS[0], model=f"{one.base_url}{path}", top_k=2)
            assert len(told) == 2
            assert told[0].label == answer.predicted
            close([each.score for each in told], sorted(shares_of(answer).values(), reverse=True)[:2])
        (raw, *_) = hub.text_classification(TEXTS[0], model=f"{one.base_url}/predict", function_to_apply="none")
        (soft, *_) = hub.text_classification(TEXTS[0], model=f"{one.base_url}/predict", function_to_apply="softmax")
        (sure, *_) = hub.text_classification(TEXTS[0], model=f"{one.base_url}/predict", function_to_apply="sigmoid")
        close([soft.score, sure.score], [told[0].score, 1 / (1 + np.exp(-raw.score))])


def test_routes_at_once(client: httpx.Client, folders: dict[str, Path]) -> None:
    """Answers of all routes do not depend on what else is computed."""
    texts = [text[:80] for text in documents()[:10]]
    asks = [("/embed", "embedder", {"inputs": text}) for text in texts]
    asks += [("/embed_sparse", "lm", {"inputs": text}) for text in texts]
    asks += [("/embed_all", "lm", {"inputs": text}) for text in texts]
    asks += [("/predict", "classifier", {"inputs": text}) for text in texts]
    alone = [asked(client, path, model, **body) for path, model, body in asks]
    with ThreadPoolExecutor(16) as pool:
        together = [*pool.map(lambda one: asked(client, one[0], one[1], **one[2]), asks)]
    for own, other in zip(map(numbers, alone), map(numbers, together), strict=True):
        close(own, other)


def numbers(found: Any) -> list[float]:
    """Return all numbers of an answer, in their order."""
    if isinstance(found, dict):
        return numbers([*found.values()])
    if isinstance(found, list):
        return [number for one in found for number in numbers(one)]
    return [found] if isinstance(found, (int, float)) else []
