"""A server of Triton's model repositories within the tests, as strict as the configuration of each model is.

It has of `triton_python_backend_utils` what the documentation of Triton's Python backend has ("Usage", "Business Logic
Scripting"), and reads configurations by the protobuf schema that Triton's client brings.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KINDS = {"TYPE_STRING": np.dtype(object), "TYPE_INT64": np.dtype(np.int64), "TYPE_FP32": np.dtype(np.float32)}


class Tensor:
    def __init__(self, name: str, value: np.ndarray) -> None:
        assert isinstance(value, np.ndarray)
        self._name, self.value = name, value

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self.value


class Response:
    def __init__(self, output_tensors: list[Tensor], error: Any = None) -> None:
        self.tensors, self._error = output_tensors, error

    def output_tensors(self) -> list[Tensor]:
        return self.tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> Any:
        return self._error


class Message:
    def __init__(self, text: str) -> None:
        self.text = text

    def message(self) -> str:
        return self.text


class ServerError(Exception):
    pass


class Request:
    server: FakeTriton

    def __init__(
        self, *, model_name: str, requested_output_names: list[str], inputs: list[Tensor], preferred_memory: Any
    ) -> None:
        assert preferred_memory == ("memory", 0, 0)  # of a GPU `as_numpy` would fail
        self.model, self.wanted, self.tensors = model_name, requested_output_names, inputs

    def exec(self) -> Response:
        given = {one.name(): one.as_numpy() for one in self.tensors}
        try:
            found = self.server.graph(self.model, given)
        except ServerError as error:
            return Response([], Message(str(error)))
        return Response([Tensor(name, found[name]) for name in self.wanted])


def by_name(tensors: Sequence[Tensor], name: str) -> Tensor | None:
    return next((one for one in tensors if one.name() == name), None)


class FakeTriton:
    """All models of a repository, loaded."""

    def __init__(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        schema, text_format = pytest.importorskip("tritonclient.grpc.model_config_pb2"), _text_format()
        self.types = schema.DataType
        self.configurations, self.models, self.calls = {}, {}, list[int]()
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", self._backend())
        for folder in sorted(repository.iterdir()):
            config = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
            assert config.name == folder.name
            assert [one.name for one in folder.iterdir() if one.is_dir()] == ["1"]
            self.configurations[folder.name] = config
            self.models[folder.name] = self._loaded(folder, config)

    def close(self) -> None:
        for model in self.models.values():
            if hasattr(model, "finalize"):
                model.finalize()

    def _loaded(self, folder: Path, config: Any) -> Any:
        if config.platform == "onnxruntime_onnx":
            import onnxruntime

            path = folder / "1" / "model.onnx"
            return onnxruntime.InferenceSession(str(path / "model.onnx" if path.is_dir() else path))
        assert config.backend == "python"
        spec = importlib.util.spec_from_file_location(f"fake_{folder.name}", folder / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        inputs = [{"name": one.name, "optional": one.optional} for one in config.input]
        told = {"name": config.name, "max_batch_size": config.max_batch_size, "input": inputs}
        model.initialize({"model_config": json.dumps(told), "model_name": config.name, "model_version": "1"})
        return model

    def _backend(self) -> ModuleType:
        made: Any = ModuleType("triton_python_backend_utils")
        made.Tensor, made.InferenceResponse, made.TritonError = Tensor, Response, Message
        made.TritonModelException, made.TRITONSERVER_MEMORY_CPU = ServerError, 0
        made.PreferredMemory = lambda kind, device: ("memory", kind, device)
        made.InferenceRequest = type("InferenceRequest", (Request,), {"server": self})
        made.get_input_tensor_by_name = by_name
        made.get_output_tensor_by_name = lambda response, name: by_name(response.output_tensors(), name)
        return made  # type: ignore[no-any-return]

    def graph(self, name: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs of a graph, within what its configuration says."""
        config, session = self.configurations[name], self.models[name]
        sizes = self.checked(config, config.input, given)
        self.calls.append(sizes)
        names = [one.name for one in session.get_outputs()]
        found = dict(zip(names, session.run(names, given), strict=True))
        assert self.checked(config, config.output, found) == sizes
        return found

    def infer(self, name: str, *requests: dict[str, list[Any]]) -> list[dict[str, np.ndarray] | str]:
        """Return the outputs of a model that takes texts for requests that came as one batch, or the errors."""
        config, sent = self.configurations[name], []
        for request in requests:
            given = {key: np.array([[_bytes(one)] for one in texts], object) for key, texts in request.items()}
            self.checked(config, config.input, given)
            sent.append([Tensor(key, value) for key, value in given.items()])
        responses = self.models[name].execute(sent)
        assert len(responses) == len(requests)
        found: list[dict[str, np.ndarray] | str] = []
        for request, response in zip(requests, responses, strict=True):
            if response.has_error():
                found.append(response.error().message())
                continue
            outputs = {one.name(): one.as_numpy() for one in response.output_tensors()}
            assert self.checked(config, config.output, outputs) == len(next(iter(request.values())))
            found.append(outputs)
        return found

    def checked(self, config: Any, ports: Any, tensors: dict[str, np.ndarray]) -> int:
        """Check tensors against the configuration; return the size of the batch."""
        assert {one.name for one in ports} >= tensors.keys()
        assert {one.name for one in ports if not getattr(one, "optional", False)} <= tensors.keys()
        for port in ports:
            if port.name in tensors:
                value = tensors[port.name]
                assert value.dtype == KINDS[self.types.Name(port.data_type)], port.name
                assert value.ndim == 1 + len(port.dims), port.name
                assert all(size in (-1, own) for size, own in zip(port.dims, value.shape[1:], strict=True)), port.name
        (size,) = {len(value) for value in tensors.values()}
        if not 1 <= size <= config.max_batch_size:
            raise ServerError(f"a batch of {size}, of at most {config.max_batch_size}")
        return size


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _text_format() -> Any:
    return pytest.importorskip("google.protobuf.text_format")
