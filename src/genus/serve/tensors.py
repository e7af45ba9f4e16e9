"""Tensors of the Open Inference Protocol, in JSON and as binary data.

Texts are of the type BYTES, whose elements are UTF-8: strings in JSON; in binary data each has its length before it, 4
bytes, little-endian as all numbers. Numbers in JSON are flat or nested lists, row-major.

Source: see `genus.serve.routes.open_inference`.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from genus.errors import UsageError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TEXT = "BYTES"
"""The type of texts."""
NUMBERS = {"INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}
"""The types of numbers that are answered, as NumPy knows them."""
INTEGER = np.dtype(NUMBERS["INT64"])
BINARY_SIZE = "binary_data_size"
"""The parameter of a tensor that is binary data: its bytes."""
LENGTH = struct.Struct("<I")
ELSEWHERE = ("shared_memory_region", "classification")
"""Parameters of tensors of Triton's extensions that are not here."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output of a model, as its metadata tells it."""

    name: str
    datatype: str
    shape: tuple[int, ...] = (-1,)
    """-1: any size."""
    parameters: dict[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """Return it for metadata."""
        return {name: value for name, value in asdict(self).items() if value != {}}


class Given(BaseModel):
    """An input of a request."""

    name: str
    shape: list[Annotated[int, Field(ge=0)]]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


def divided(inputs: Sequence[Given], binary: bytes) -> list[bytes | None]:
    """Return the binary data of each input, which lie one after another; None: its data are in the JSON.

    Raises:
        UsageError: an input has no data, or two; its size is no number; the sizes are not those of all data together.
    """
    found: list[bytes | None] = []
    at = 0
    for given in inputs:
        check_parameters(given.parameters, f"input {shown(given.name)}")
        size = given.parameters.get(BINARY_SIZE)
        if (size is None) == (given.data is None):
            raise UsageError(f"input {shown(given.name)}: expected either data or the parameter {BINARY_SIZE}")
        if size is None:
            found.append(None)
            continue
        if type(size) is not int or not 0 <= size <= len(binary) - at:
            left = f"a size of at most {len(binary) - at:,} bytes, which are left"
            raise UsageError(f"input {shown(given.name)}: {BINARY_SIZE}: expected {left}, got {shown(size)}")
        found.append(binary[at : at + size])
        at += size
    if at != len(binary):
        raise UsageError(f"{len(binary) - at:,} bytes of binary data belong to no input; give {BINARY_SIZE} of each")
    return found


def check_parameters(parameters: dict[str, Any], where: str) -> None:
    """Check that no parameter of a tensor is one of an extension that is not here.

    Raises:
        UsageError: one is.
    """
    for name in ELSEWHERE:
        if name in parameters:
            raise UsageError(f"{where}: this server has no {name}; leave it out")


def read(given: Given, expected: Tensor, binary: bytes | None) -> NDArray[Any]:
    """Return the texts, or the whole numbers, of an input in its shape; a column (N, 1) of what has one axis is (N,).

    Args:
        given: the input.
        expected: as the model's metadata tells it.
        binary: its binary data; None: its data are in the JSON.

    Raises:
        UsageError: another type, rank or number of elements; an element that is no text, or no number.
    """
    where = f"input {shown(given.name)}"
    if given.datatype != expected.datatype:
        raise UsageError(f"{where}: expected the datatype {expected.datatype}, got {shown(given.datatype)}")
    rank = len(expected.shape)
    shape = given.shape[:1] if rank == 1 and given.shape[1:] == [1] else given.shape
    if len(shape) != rank:
        raise UsageError(f"{where}: expected the shape {list(expected.shape)}, got {shown(given.shape)}")
    elements = (_texts if given.datatype == TEXT else _numbers)(given, binary, where)
    if len(elements) != math.prod(given.shape):
        raise UsageError(f"{where}: the shape {shown(given.shape)} does not have {len(elements):,} elements")
    return elements.reshape(shape)


def _texts(given: Given, binary: bytes | None, where: str) -> NDArray[np.object_]:
    return np.array(_of_json(given, str, "texts", where) if binary is None else _of_binary(binary, where), object)


def _numbers(given: Given, binary: bytes | None, where: str) -> NDArray[np.int64]:
    if binary is None:
        try:
            return np.array(_of_json(given, int, "whole numbers", where), np.int64)
        except OverflowError:
            raise UsageError(f"{where}: a number has more than 64 bits") from None
    if len(binary) % INTEGER.itemsize:
        raise UsageError(f"{where}: {len(binary):,} bytes of binary data are no numbers of {INTEGER.itemsize} each")
    return np.frombuffer(binary, INTEGER)


def _of_json(given: Given, kind: type, name: str, where: str) -> list[Any]:
    """Return the elements of a flat list, or of one that is nested as the shape is."""
    data = given.data or []
    for size in given.shape[1:]:
        if not any(isinstance(one, list) for one in data):
            break
        if not all(isinstance(one, list) and len(one) == size for one in data):
            raise UsageError(f"{where}: data are not nested as the shape {shown(given.shape)}; a flat list is read too")
        data = [*chain.from_iterable(data)]
    for one in data:
        if type(one) is not kind:
            raise UsageError(f"{where}: expected {name}, got {shown(one)}")
    return data


def _of_binary(binary: bytes, where: str) -> list[str]:
    """Return the elements of binary data, each behind its length."""
    found: list[str] = []
    at = 0
    while at < len(binary):
        start = at + LENGTH.size
        end = start + LENGTH.unpack_from(binary, at)[0] if start <= len(binary) else start
        if end > len(binary):
            raise UsageError(f"{where}: element {len(found)} ends after the binary data; each has 4 bytes of length "
                             "before it")  # fmt: skip
        try:
            found.append(binary[start:end].decode())
        except UnicodeDecodeError:
            raise UsageError(f"{where}: element {len(found)} is no UTF-8") from None
        at = end
    return found


@dataclass(frozen=True, slots=True)
class Written:
    """An output of a response."""

    head: bytes
    """Its JSON."""
    binary: bytes | None
    """Its binary data; None: they are in the JSON."""


def written(tensor: Tensor, values: Sequence[Any] | NDArray[Any], *, binary: bool) -> Written:
    """Return an output as it is sent.

    Args:
        tensor: as the model's metadata tells it.
        values: texts (N,), or numbers.
        binary: whether as binary data.

    Raises:
        UsageError: a number is infinite or none, which JSON does not have.
    """
    array = np.array(values, object) if tensor.datatype == TEXT else np.asarray(values, NUMBERS[tensor.datatype])
    told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": [*array.shape]}
    if binary:
        raw = _behind_lengths(array) if tensor.datatype == TEXT else array.tobytes()
        return Written(json.dumps(told | {"parameters": {BINARY_SIZE: len(raw)}}).encode(), raw)
    if tensor.datatype != TEXT and not np.isfinite(array).all():
        raise UsageError(f"output {tensor.name!r}: JSON has no NaN and no infinity; ask for binary data")
    return Written(json.dumps(told | {"data": array.ravel().tolist()}).encode(), None)


def _behind_lengths(texts: NDArray[np.object_]) -> bytes:
    elements = [one.encode() for one in texts.tolist()]
    return b"".join(LENGTH.pack(len(one)) + one for one in elements)
