"""A model of Triton that takes texts, by `tokenizers` and `numpy` alone: this file lies in the repository as it is.

What it does is said in `text.json` beside it: how texts become tokens, which other model of the server, a graph,
computes, and what its outputs mean.

Legend: N texts, L tokens of the longest, V labels, E size of a vector.
Source: triton-inference-server/python_backend, README.md ("Usage", "Business Logic Scripting"), which says what
`triton_python_backend_utils` has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def ask(graph: str, outputs: list[str], given: dict[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    """Return outputs of another model of the server.

    Raises:
        TritonModelException: the server gives an error in their place.
    """
    import triton_python_backend_utils as triton  # which the server alone has

    response = triton.InferenceRequest(
        model_name=graph,
        requested_output_names=outputs,
        inputs=[triton.Tensor(name, value) for name, value in given.items()],
        preferred_memory=triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU, 0),
    ).exec()
    if response.has_error():
        raise triton.TritonModelException(response.error().message())
    return [np.array(triton.get_output_tensor_by_name(response, name).as_numpy()) for name in outputs]


class TextModel:
    """Reads the requests of a batch, has their texts answered together, and gives each what is its own."""

    folder: Path
    """That of the model's version."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read what is told beside the code."""
        config = json.loads(args["model_config"])
        self.inputs = [one["name"] for one in config["input"]]
        self.most = int(config["max_batch_size"])
        self.told: dict[str, Any] = json.loads((self.folder / "text.json").read_text(encoding="utf-8"))

    def answers(self, rows: Sequence[tuple[str, ...]]) -> dict[str, NDArray[Any]]:
        """Return the outputs (N, ...) for texts, or for pairs."""
        raise NotImplementedError

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Return a response to each request; what is wrong with one is an error of its own."""
        read = [_rows(request, self.inputs) for request in requests]
        found = iter(self._answered([one for one in read if isinstance(one, list)]))
        return [_response(next(found) if isinstance(one, list) else one) for one in read]

    def _answered(self, several: list[list[tuple[str, ...]]]) -> list[dict[str, NDArray[Any]] | str]:
        """Return the outputs for each request, or the message of an error."""
        if not several:
            return []
        try:
            found = self.answers([row for rows in several for row in rows])
        except Exception as error:  # whatever it is, it is its request's
            if len(several) == 1:
                return [" ".join(str(error).split()) or type(error).__name__]
            return [self._answered([rows])[0] for rows in several]
        ends = np.cumsum([0, *map(len, several)]).tolist()
        return [{name: value[i:j] for name, value in found.items()} for i, j in zip(ends[:-1], ends[1:])]  # noqa: B905, RUF007  # Python 3.10


def _rows(request: Any, names: list[str]) -> list[tuple[str, ...]] | str:
    """Return the texts or pairs of a request, or why they cannot be read."""
    import triton_python_backend_utils as triton  # which the server alone has

    tensors = [triton.get_input_tensor_by_name(request, name) for name in names]
    try:
        columns = [[one.decode() for one in each.as_numpy().ravel()] for each in tensors if each is not None]
        return list(zip(*columns, strict=True))
    except UnicodeDecodeError:
        return "a text is no UTF-8"


def _response(found: dict[str, NDArray[Any]] | str) -> Any:
    import triton_python_backend_utils as triton  # which the server alone has

    if isinstance(found, str):
        return triton.InferenceResponse(output_tensors=[], error=triton.TritonError(found))
    return triton.InferenceResponse(output_tensors=[triton.Tensor(name, value) for name, value in found.items()])


class TritonPythonModel(TextModel):
    """Labels, numbers or vectors of whole texts."""

    folder = Path(__file__).parent

    def initialize(self, args: dict[str, str]) -> None:
        """Read the tokenizer too."""
        super().initialize(args)
        self.tokenizer = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    def answers(self, rows: Sequence[tuple[str, ...]]) -> dict[str, NDArray[Any]]:
        """Return the outputs (N, ...) for texts, or for pairs."""
        padded = self._padded([self._framed(ids) for ids in self._encoded(rows)])
        given = {name: padded[name] for name in self.told["inputs"]}
        (found,) = ask(self.told["graph"], [self.told["output"]], given)
        meaning = {"label": self._label, "labels": self._labels, "value": self._value, "embedding": _embedding}
        return meaning[self.told["meaning"]](found)

    def _encoded(self, rows: Sequence[tuple[str, ...]]) -> list[list[list[int]]]:
        """Return the ids of each text of each row, of which the last ones are left out where they are too many."""
        prompt = self.told["prompt"]
        texts = [prompt + text for row in rows for text in row]
        ids = iter([one.ids for one in self.tokenizer.encode_batch(texts, add_special_tokens=False)])
        return [self._cut([next(ids) for _ in row]) for row in rows]

    def _cut(self, several: list[list[int]]) -> list[list[int]]:
        """Leave out tokens one at a time, from the end of the longer text, at equal lengths of the second."""
        special = sum(number is not None for number, _, _ in self._template(several))
        over = sum(map(len, several)) + special - self.told["length"]
        kept = [len(ids) for ids in several]
        for _ in range(over):
            longest = max(range(len(kept)), key=lambda place: (kept[place], place))
            kept[longest] -= 1
        return [ids[:length] for ids, length in zip(several, kept, strict=True)]

    def _template(self, several: list[list[int]]) -> list[tuple[int | None, int | None, int]]:
        """Return the steps of the template: a special token or the number of a text, and the segment."""
        template: list[tuple[int | None, int | None, int]] = self.told["templates"][len(several) - 1]
        return template

    def _framed(self, several: list[list[int]]) -> tuple[list[int], list[int]]:
        """Return ids and segments with special tokens; where nothing is left, those of padding."""
        ids: list[int] = []
        segments: list[int] = []
        for special, place, segment in self._template(several):
            own = several[place] if place is not None else [special]
            ids += own  # type: ignore[arg-type]  # a step without a text has a special token
            segments += [segment] * len(own)
        return (ids, segments) if ids else ([self.told["pad"]], [0])

    def _padded(self, framed: list[tuple[list[int], list[int]]]) -> dict[str, NDArray[np.int64]]:
        """Return the inputs of the graph (N, L), padded on the right."""
        shape = len(framed), max(len(ids) for ids, _ in framed)
        ids_NL, mask_NL, segments_NL = np.full(shape, self.told["pad"]), np.zeros(shape, int), np.zeros(shape, int)
        for row, (ids, segments) in enumerate(framed):
            ids_NL[row, : len(ids)], mask_NL[row, : len(ids)], segments_NL[row, : len(ids)] = ids, 1, segments
        every = {"input_ids": ids_NL, "attention_mask": mask_NL, "token_type_ids": segments_NL}
        return {name: value.astype(np.int64) for name, value in every.items()}

    def _label(self, logits_NV: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the most probable label, and the softmax of the logits."""
        raised_NV = np.exp(logits_NV - logits_NV.max(1, keepdims=True))
        labels = [self.told["labels"][number] for number in logits_NV.argmax(1)]
        return {"label": _column(labels), "scores": raised_NV / raised_NV.sum(1, keepdims=True)}

    def _labels(self, logits_NV: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the labels over their thresholds, a list in JSON, and the sigmoid of the logits."""
        wide_NV = logits_NV.astype(np.float64)
        raised_NV = np.exp(-np.abs(wide_NV))
        scores_NV = np.where(wide_NV >= 0, 1.0, raised_NV) / (1.0 + raised_NV)
        told_NV = scores_NV > np.array(self.told["thresholds"])
        told = [[label for label, is_told in zip(self.told["labels"], row, strict=True) if is_told] for row in told_NV]
        labels = [json.dumps(one, ensure_ascii=False) for one in told]
        return {"label": _column(labels), "scores": scores_NV.astype(np.float32)}

    def _value(self, outputs_N1: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the numbers in the units of the labels."""
        values_N1 = outputs_N1.astype(np.float64) * self.told["std"] + self.told["mean"]
        return {"value": values_N1.astype(np.float32)}


def _embedding(vectors_NE: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    return {"embedding": vectors_NE}


def _column(texts: list[str]) -> NDArray[Any]:
    """Return texts (N, 1) as the server takes them."""
    return np.array([[text.encode()] for text in texts], dtype=object)
