"""A model of Triton that takes texts, by genus itself: for heads over tokens, and for texts that are cut into words.

Tokens, windows and answers are the library's, as `genus serve` has them; the graph is another model of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genus.errors import heard
from genus.export.folder import LoadedModel, recipe_of
from genus.export.onnx.folder import RECORD
from genus.export.onnx.session import GraphLearner
from genus.export.usage import read_usage
from genus.files import read_json
from genus.serve.signature import Options, askings
from genus.serve.tensors import NUMBERS, TEXT
from genus.serve.ticket import Ticket, current
from genus.serve.triton.answering import answering
from genus.serve.triton.texts import TextModel, ask
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.serve.tensors import Tensor

FOLDER = "model"
"""The model folder, without its graph, beside the code."""


class Named(NamedTuple):
    """An input or an output of a graph."""

    name: str


class ServedGraph:
    """A graph that Triton computes, which is asked as a session of ONNX Runtime is."""

    def __init__(self, name: str, inputs: list[str], outputs: list[str], most: int) -> None:
        """Take the names of model, inputs and outputs, and how many texts it takes at once."""
        self.name, self.most = name, most
        self.inputs, self.outputs = ([*map(Named, names)] for names in (inputs, outputs))

    def get_inputs(self) -> list[Named]:
        """Return the inputs."""
        return self.inputs

    def get_outputs(self) -> list[Named]:
        """Return the outputs."""
        return self.outputs

    def run(self, names: list[str], given: dict[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Return outputs; the windows of a long text may be more than the server takes at once."""
        (size,) = {len(value) for value in given.values()}
        parts = [slice(first, first + self.most) for first in range(0, size, self.most)]
        found = [ask(self.name, names, {name: value[part] for name, value in given.items()}) for part in parts]
        return [np.concatenate(each) for each in zip(*found, strict=True)]


class LibraryModel(TextModel):
    """The answers of genus."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the model folder."""
        super().initialize(args)
        folder = self.folder / FOLDER
        record, recipe = read_json(folder / RECORD), recipe_of(folder)
        assert recipe is not None
        graph = ServedGraph(self.told["graph"], self.told["inputs"], [*record["outputs"]], self.most)
        learner = GraphLearner(graph, record["head"], record["per_token"], record["outputs"])
        model = LoadedModel(recipe, learner, Tokenizer.load(folder), *read_usage(folder))
        self.served = answering(args["model_name"], model)
        self.asking = askings(self.served)[0]

    def answers(self, rows: Sequence[tuple[str, ...]]) -> dict[str, NDArray[Any]]:
        """Return the outputs (N, ...) for texts, or for pairs."""
        columns = zip(*rows, strict=True)
        given = {name: np.array(column, object) for name, column in zip(self.inputs, columns, strict=False)}
        token = current.set(Ticket())
        try:
            with heard():
                found = self.asking.answer(self.served, given, Options())
        finally:
            current.reset(token)
        return {one.name: _array(one, found[one.name]) for one in self.asking.outputs(self.served)}

    def finalize(self) -> None:
        """End."""
        self.served.close()


def _array(tensor: Tensor, values: Any) -> NDArray[Any]:
    """Return the values of an output; what there is once for each text has the shape (N, 1)."""
    if tensor.datatype == TEXT:
        return np.array([[text.encode()] for text in values], dtype=object)
    array = np.asarray(values, NUMBERS[tensor.datatype])
    return array if array.ndim > 1 else array[:, None]
