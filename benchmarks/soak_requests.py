"""What `soak.py` asks: small models of random weights, right requests with the library's answers, and odd ones."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from genus import catalog
from genus.errors import heard
from genus.evaluate.fill import fill_mask
from genus.evaluate.likelihood import log_likelihoods
from genus.export.folder import fitting_tokenizer, load, save
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.objectives.supervised.embedding import SentenceEmbedder
from genus.objectives.supervised.sequence import SequenceClassification
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.objectives.supervised.token import SpanTagging
from genus.serve.routes.open_inference import HEAD
from genus.tasks.embed import embed
from genus.tasks.predict import predict

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from genus.export.folder import LoadedModel
    from genus.objectives.supervised import FineTuned

HEADS: dict[str, FineTuned | None] = {
    "embedder": SentenceEmbedder(),
    "classifier": SequenceClassification(labels=("good", "bad", "dull"), texts=1),
    "tagger": SpanTagging(labels=("O", "B-PER", "I-PER"), usual="O"),
    "reader": SpanExtraction(),
    "masked": None,
    "writer": None,
}
"""What the models are for, by their names; the last two fill masks and write."""
PAGES = Path(__file__).parents[1] / "docs"
VOCABULARY = 2000
TOLERANCE = 1e-5
"""Between a served number and the library's, absolute below 1: float32 in other passes."""
PLAIN: tuple[str, ...] = (
    "/health",
    "/info",
    "/metrics",
    "/",
    "/page/page.js",
    "/v1/models",
    "/v1/models/masked",
    "/api/models",
)
PLAIN += ("/api/load", "/v2", "/v2/health/ready", "/v2/models/reader", "/v2/models/reader/ready", "/openapi.json")
"""What is read."""
LARGE = 2_000_000
"""Characters of a text that is within the limit of a body."""


@dataclass(frozen=True)
class Asked:
    """A request, and what is right for an answer."""

    path: str
    body: Any = None
    """As JSON; bytes as they are; None: it is a GET."""
    expected: Any = None
    """What `read` must give of an answer; None: anything."""
    read: Callable[[Any], Any] = lambda answer: answer
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body's bytes."""
        return (
            b"" if self.body is None else self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        )

    @property
    def method(self) -> str:
        """The method of HTTP."""
        return "GET" if self.body is None else "POST"

    def head(self, length: int | None = None) -> bytes:
        """Return the head, which announces a length."""
        fields = {"Host": "soak", "Content-Type": "application/json"} | self.headers
        if self.body is not None:
            fields["Content-Length"] = str(len(self.content) if length is None else length)
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def wrong(self, answer: bytes) -> str:
        """Return what is wrong with an answer; empty: nothing."""
        if self.expected is None:
            return ""
        found = self.read(json.loads(answer))
        return "" if alike(found, self.expected) else f"{self.path}: {str(found)[:200]}, not {str(self.expected)[:200]}"


def alike(found: Any, expected: Any) -> bool:
    """Return whether two values of JSON are equal, numbers but for rounding."""
    if isinstance(expected, float):
        return isinstance(found, float | int) and abs(found - expected) <= TOLERANCE * max(1.0, abs(expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(alike(found[name], expected[name]) for name in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(alike(*pair) for pair in zip(found, expected, strict=True))
    return bool(found == expected)


def model_folders(where: Path) -> dict[str, Path]:
    """Write a small model of each kind, whose vocabulary is that of the pages; return the folders by name."""
    found = {}
    for seed, (name, head) in enumerate(HEADS.items()):
        recipe = catalog.load("gpt/tiny" if name == "writer" else "bert/tiny")
        tokenizer = replace(recipe.tokens, vocab_size=VOCABULARY).train(paragraphs())
        recipe = replace(recipe, tokens=tokenizer.tokens)
        if head is not None:
            recipe = replace(recipe, objectives=(head,))
            tokenizer = fitting_tokenizer(tokenizer, recipe.model, (head,))
        torch.manual_seed(seed)
        save(where / name, recipe, recipe.learner(), tokenizer)
        found[name] = where / name
    return found


def paragraphs() -> list[str]:
    """Return the paragraphs of the documentation's pages."""
    pages = (path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md")))
    return [paragraph for page in pages for paragraph in page.split("\n\n") if len(paragraph) > 20]


def right_requests(folders: dict[str, Path], number: int, draw: random.Random) -> list[Asked]:
    """Return requests over all routes, so many of each, with the answers that the library gives."""
    models = {name: load(folder) for name, folder in folders.items()}
    text = Texts(draw)
    found: list[Asked] = []
    for _ in range(number):
        with heard():
            found += [*_vectors(models["embedder"], text), *_tasks(models, text), *_tokens(models["masked"], text)]
            found += _written(models["writer"], text)
    return found + [Asked(path) for path in PLAIN] + [Asked("/v2/repository/index", {"ready": True})]


class Texts:
    """Texts of words of the pages, of lengths from one word to more than a model reads."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.words = draw, " ".join(paragraphs()).split()

    def __call__(self, most: int = 0) -> str:
        """Return a text."""
        number = self.draw.randint(1, most or self.draw.choice([8, 40, 40, 150, 700]))
        return " ".join(self.draw.choices(self.words, k=number))


def _vectors(model: LoadedModel, text: Texts) -> Iterator[Asked]:
    texts = [text() for _ in range(text.draw.choice([1, 1, 2, 8]))]
    raw = embed(model, texts)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    yield Asked("/embed", {"inputs": texts, "normalize": False, "truncate": True}, raw.tolist())
    yield Asked("/embed", {"inputs": texts[0], "truncate": True, "model": "embedder"}, unit[:1].tolist())
    yield Asked("/", {"inputs": texts, "truncate": True}, unit.tolist())
    short = text(30)
    (vector,) = embed(model, [short])
    vector /= np.linalg.norm(vector)
    own = [[float(value) for value in vector]]
    read: Callable[[Any], Any] = lambda told: [one["embedding"] for one in told["data"]]  # noqa: E731
    yield Asked("/v1/embeddings", {"input": short, "model": "embedder"}, own, read)
    yield Asked("/embeddings", {"input": [short]}, own, read)
    source = {"source_sentence": texts[0], "sentences": texts}
    told = {"inputs": source, "parameters": {"truncate": True}}
    yield Asked("/similarity", told, [float(unit[0] @ other) for other in unit])
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES"}
    values = [float(value) for value in raw.ravel()]
    flat: Callable[[Any], Any] = lambda told: told["outputs"][0]["data"]  # noqa: E731
    path = "/v2/models/embedder/infer"
    yield Asked(path, {"inputs": [tensor | {"data": texts}]}, values, flat)
    binary = b"".join(len(one.encode()).to_bytes(4, "little") + one.encode() for one in texts)
    header = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(binary)}}]}).encode()
    yield Asked(path, header + binary, values, flat, {HEAD: str(len(header))})


def _tasks(models: dict[str, LoadedModel], text: Texts) -> Iterator[Asked]:
    texts = [text() for _ in range(text.draw.choice([1, 2, 8]))]
    answers: Callable[[Any], Any] = lambda told: told["answers"]  # noqa: E731
    found = predict(models["classifier"], [(one,) for one in texts])
    told = [{"label": one.predicted, "scores": one.scores} for one in found]
    yield Asked("/api/classify", {"texts": texts, "model": "classifier"}, told, answers)
    scores = cast("dict[str, float]", found[0].scores)
    named = sorted(({"score": score, "label": label} for label, score in scores.items()), key=_less)
    yield Asked("/predict", {"inputs": texts[0], "model": "classifier", "truncate": True}, named)
    (tagged,) = predict(models["tagger"], [(texts[0],)])
    marks = zip(cast("list[dict[str, Any]]", tagged.predicted), cast("list[float]", tagged.scores), strict=True)
    spans = [one | {"text": texts[0][one["start"] : one["end"]], "score": score} for one, score in marks]
    yield Asked("/api/tag", {"text": texts[0], "model": "tagger"}, spans, answers)
    question, context = text(10), text()
    (answered,) = predict(models["reader"], [(question, context)])
    whole = {"answer": answered.predicted, **cast("dict[str, float]", answered.scores)}
    yield Asked("/api/answer", {"question": question, "context": context, "model": "reader"}, [whole], answers)
    names = {"question": [question], "context": [context]}
    inputs = [{"name": name, "shape": [1], "datatype": "BYTES", "data": data} for name, data in names.items()]
    first: Callable[[Any], Any] = lambda told: told["outputs"][0]["data"]  # noqa: E731
    yield Asked("/v2/models/reader/infer", {"inputs": inputs}, [answered.predicted], first)


def _less(one: dict[str, Any]) -> float:
    return -float(one["score"])


def _tokens(model: LoadedModel, text: Texts) -> Iterator[Asked]:
    answers: Callable[[Any], Any] = lambda told: told["answers"]  # noqa: E731
    longest = model.recipe.model.max_length
    masked = f"{text(20)} [MASK] {text(20)}"
    filled = [[asdict(one) for one in mask] for mask in fill_mask(model.learner, model.tokenizer, masked, 5, longest)]
    yield Asked("/api/fill", {"text": masked, "model": "masked"}, filled, answers)
    texts = [text(20) for _ in range(text.draw.randint(1, 3))]
    weighed = [asdict(one) for one in log_likelihoods(model.learner, model.tokenizer, texts, longest)]
    yield Asked("/api/likelihood", {"texts": texts, "model": "masked"}, weighed, answers)
    ids = model.tokenizer.encode(texts, specials=False)
    read: Callable[[Any], Any] = lambda told: [[one["id"] for one in each] for each in told]  # noqa: E731
    yield Asked("/tokenize", {"inputs": texts, "model": "masked", "add_special_tokens": False}, ids, read)
    yield Asked("/decode", {"ids": ids, "model": "masked"}, model.tokenizer.backend.decode_batch(ids))
    yield Asked("/embed_all", {"inputs": texts, "model": "masked"})
    yield Asked("/embed_sparse", {"inputs": texts, "model": "masked"})


def _written(model: LoadedModel, text: Texts) -> Iterator[Asked]:
    prompt, most = text(12), text.draw.randint(1, 24)
    engine = Engine(model.learner, model.recipe.model, model.tokenizer)
    [[result]] = engine.generate([Request(prompt, most)], Greedy())
    told = {"model": "writer", "prompt": prompt, "max_tokens": most, "temperature": 0}
    yield Asked("/v1/completions", told, [result.text], lambda told: [one["text"] for one in told["choices"]])
    yield Asked("/v1/completions", told | {"temperature": 1.0, "n": 2, "stream": True})
    yield Asked("/api/generate", {"model": "writer", "prompt": prompt, "max_tokens": most, "beams": 2})


VALUES: list[Any] = [
    None, True, False, 0, -1, 3, 0.5, 1e308, float("nan"), float("inf"), 10**30, -(2**63), "", " ", "a", "\ud800",
    "\x00", "\U0001f600", "[MASK]", "[MASK] [CLS] [SEP] [PAD]", "a " * 3000, "\u0e01" * 500, [], [[]], [""], ["a", "b"],
    [["a"], ["b", "c"]], [[["a"]]], [3, 4], [[3], []], [99_999_999_999], [-1], ["a", 3], [None], {}, {"inputs": "a"},
    {"a": {"a": {"a": {}}}}, {"source_sentence": "a", "sentences": []}, ["a"] * 300, "masked", "embedder", "reader",
    "../../etc/passwd", "1", [True], [0.5], "BYTES", "FP32", [-1, 2], [2**62, 2**62], [0],
]  # fmt: skip
"""What fields are changed to."""
CONTENTS = [b"", b"[", b"{", b"null", b"[" * 100_000, b'{"a":' * 5_000, b"\xff\xfe\xfa", b'"\\ud800"', b"\x00" * 100]
CONTENTS += [b'{"inputs": "\\ud800", "x": ' + b"[" * 3_000 + b"]" * 3_000 + b"}", b"1" * 10_000, b'{"inputs": "a"} x']
FIELDS = [{"Content-Type": "text/plain"}, {"Content-Type": "application/json; charset=utf-16"}, {HEAD: "3"},
          {HEAD: "-1"}, {HEAD: "9" * 30}, {"Content-Encoding": "gzip"}, {"Content-Encoding": "deflate"},
          {"Content-Encoding": "br"}, {"Authorization": "Bearer x"}, {"Accept": "image/png"}]  # fmt: skip


def odd(known: list[Asked], draw: random.Random) -> Asked:
    """Return a right request that is made odd: its fields, its bytes, its path or its header."""
    asked = draw.choice([one for one in known if one.body is not None])
    path = draw.choice(known).path if draw.random() < 0.15 else asked.path
    path = path.replace("/infer", draw.choice(["/infer", "/versions/1/infer", "/versions/2/infer"]))
    headers = asked.headers | (draw.choice(FIELDS) if draw.random() < 0.1 else {})
    body = asked.body
    if not isinstance(body, bytes):
        for _ in range(draw.choice([0, 1, 1, 2, 3])):
            body = changed(body, draw)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if draw.random() < 0.15:
        content = damaged(content, draw)
    if draw.random() < 0.03:
        content = draw.choice(CONTENTS)
    return Asked(path, content, headers=headers)


def changed(value: Any, draw: random.Random) -> Any:
    """Return a value of JSON with one thing in it that is replaced, dropped or added, at any depth."""
    if draw.random() < 0.3 or not isinstance(value, dict | list) or not value:
        return draw.choice(VALUES)
    if isinstance(value, list):
        place = draw.randrange(len(value))
        more = [changed(value[place], draw)] if draw.random() < 0.8 else []
        return [*value[:place], *more, *value[place + 1 :]]
    if (chance := draw.random()) < 0.15:
        return value | {draw.choice(["model", "parameters", "truncate", "inputs", "a", "\ud800"]): draw.choice(VALUES)}
    name = draw.choice([*value])
    if chance < 0.3:
        return {other: own for other, own in value.items() if other != name}
    return value | {name: changed(value[name], draw)}


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return bytes with some of them cut, changed or doubled."""
    place = draw.randrange(len(content) + 1)
    noise = bytes(draw.choices(range(256), k=3))
    return draw.choice([content[:place], content[:place] + noise + content[place + 3 :], content * 2, noise + content])


def huge(draw: random.Random) -> tuple[Asked, int | None]:
    """Return a request that is too large, or nearly, and the length that it announces, if not its own."""
    texts = {"inputs": ["a"] * draw.choice([256, 257, 5000]), "truncate": True}
    many = {"name": "text", "shape": [10**9], "datatype": "BYTES", "data": []}
    whole = Asked("/embed", {"inputs": "word " * (LARGE // 5), "truncate": True})
    return draw.choice([
        (Asked("/embed", texts), None),
        (whole, None),
        (Asked("/embed", b'{"inputs": "' + b"a" * 5_000_000 + b'"}'), None),
        (Asked("/api/classify", b'{"inputs": '), 10**draw.randint(7, 13)),
        (Asked("/v2/models/embedder/infer", {"inputs": [many]}), None),
        (Asked("/decode", {"ids": [[1] * 50_000] * 8, "model": "masked"}), None),
        (Asked("/api/fill", {"text": "[MASK] " * 400, "top": 1000, "model": "masked"}), None),
    ])  # fmt: skip
