"""What a model's file says about itself, read without torch, without the engine and without loading a weight.

A checkpoint is a safetensors file with a JSON header. An exported model is an ONNX file, which is a protocol buffer:
fields, each a number and a value, one after the other. Few are needed here: the metadata, the version of the
operators, and type and shape of what is stored; the others are stepped over.

Source: https://protobuf.dev/programming-guides/encoding/ and onnx.proto of ONNX, whose field numbers stand below.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dermask.config import ModelSettings
from dermask.errors import WeightsError
from dermask.inference.detector import checkpoint_settings, model_fingerprint, read_checkpoint_header

# Fields of onnx.proto by message.
_GRAPH, _OPERATOR_SETS, _METADATA = 7, 8, 14  # ModelProto
_INITIALIZER = 5  # GraphProto
_DIMENSIONS, _DATA_TYPE = 1, 2  # TensorProto
_DOMAIN, _VERSION = 1, 2  # OperatorSetIdProto
_KEY, _VALUE = 1, 2  # StringStringEntryProto
_ONNX_FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_SAFETENSORS_FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
# Every way from a model to a tensor: message, its fields that lead on, and to what.
_WAYS: Mapping[str, Mapping[int, str]] = {
    "model": {_GRAPH: "graph", 25: "function"},
    "graph": {1: "node", _INITIALIZER: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _ELSEWHERE = 13, (14, 1)  # TensorProto: where, and the field that says so with its value
_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_LONGEST_NUMBER = 10  # bytes

Buffer = mmap.mmap | bytes


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file, described.

    Attributes:
        path: Where it lies.
        format: What kind of file it is.
        sha256: Hex SHA-256 of the whole file.
        num_bytes: Its size.
        metadata: What training and export wrote into it: `config`, `class_names`, and whatever else is there.
        floats: How many real numbers it stores, by type, such as ``{"float16": 5_384_672}``: weights, statistics of
            batch norm, and constants of an exported graph. Of a checkpoint to resume from, the network's alone.
        operator_set: Version of ONNX's operators; None for a checkpoint.
    """

    path: Path
    format: Literal["ONNX", "safetensors"]
    sha256: str
    num_bytes: int
    metadata: Mapping[str, Any]
    floats: Mapping[str, int]
    operator_set: int | None = None

    @property
    def settings(self) -> ModelSettings:
        """The network's settings.

        Raises:
            SettingError: The file holds one that this version does not know.
        """
        return checkpoint_settings(dict(self.metadata), item=str(self.path))


def read_model_file(path: Path) -> ModelFile:
    """Describe a checkpoint or an exported model.

    Args:
        path: As `detector.find_model` gives it: a `.safetensors` or `.onnx` file that is there.

    Raises:
        WeightsError: It cannot be read, is damaged, or is not a model of dermask.
    """
    is_onnx = path.suffix.lower() == ".onnx"
    try:
        metadata, floats, operator_set = _read_onnx(path) if is_onnx else _read_safetensors(path)
        return ModelFile(
            path=path,
            format="ONNX" if is_onnx else "safetensors",
            sha256=model_fingerprint(path),
            num_bytes=path.stat().st_size,
            metadata=metadata,
            floats=dict(floats.most_common()),
            operator_set=operator_set,
        )
    except OSError as error:
        raise WeightsError(str(path), f"cannot be read: {error.strerror}", "check the path") from None


def keeps_tensors_elsewhere(content: bytes) -> bool:
    """Whether any tensor of an ONNX file, wherever in it, has its numbers in another file.

    Raises:
        ValueError: It is no ONNX file, or is cut short.
    """
    waiting = [("model", 0, len(content))]
    while waiting:
        message, start, end = waiting.pop()
        ways = _WAYS.get(message, {})
        try:
            for field in _fields(content, start, end):
                if message == "tensor" and (
                    field.number == _EXTERNAL_DATA or (field.number, field.value) == _ELSEWHERE
                ):
                    return True
                if field.number in ways and field.value is None:
                    waiting.append((ways[field.number], field.start, field.end))
        except IndexError:
            raise ValueError("it is cut short") from None
    return False


def _read_safetensors(path: Path) -> tuple[dict[str, Any], Counter[str], None]:
    metadata = read_checkpoint_header(path)  # says what is wrong with a file that is none of ours
    with path.open("rb") as file:
        tensors = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    del tensors["__metadata__"]
    own = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")} or tensors
    floats: Counter[str] = Counter()
    try:
        for tensor in own.values():
            if kind := _SAFETENSORS_FLOATS.get(tensor["dtype"]):
                floats[kind] += math.prod(tensor["shape"])
    except (KeyError, TypeError):
        raise WeightsError(
            str(path), "has a damaged list of tensors", "copy it again, or train the model again"
        ) from None
    return metadata, floats, None


def _read_onnx(path: Path) -> tuple[dict[str, Any], Counter[str], int | None]:
    found: dict[str, str] = {}
    floats: Counter[str] = Counter()
    operator_set = None
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            for field in _fields(buffer, 0, len(buffer)):
                if field.number == _GRAPH:
                    floats = _count_floats(buffer, field)
                elif field.number == _OPERATOR_SETS:
                    domain, version = _pair(buffer, field, _DOMAIN, _VERSION)
                    operator_set = version if isinstance(version, int) and not domain else operator_set
                elif field.number == _METADATA:
                    key, value = _pair(buffer, field, _KEY, _VALUE)
                    found[str(key)] = str(value)
        metadata: dict[str, Any] = json.loads(found["dermask"])
        if not isinstance(metadata["config"], dict) or not isinstance(metadata["class_names"], list):
            raise TypeError
    except (ValueError, KeyError, TypeError, IndexError):  # not JSON, not text and an empty file are ValueErrors
        raise WeightsError(
            str(path), "is not a model of dermask, or is damaged", "write it with: dermask export RUN -o model.onnx"
        ) from None
    return metadata, floats, operator_set


class _Field(NamedTuple):
    """One field of a message: its number and its value, a number, or where its bytes begin and end."""

    number: int
    value: int | None
    start: int
    end: int


def _fields(buffer: Buffer, start: int, end: int) -> Iterator[_Field]:
    """The fields of a message whose bytes run from `start` to `end`.

    Raises:
        ValueError: It is none.
        IndexError: It ends too early.
    """
    if end > len(buffer):
        raise IndexError
    while start < end:
        key, start = _number(buffer, start)
        kind = key & 7
        value = None
        if kind == _NUMBER:
            value, stop = _number(buffer, start)
        elif kind == _BYTES:
            length, start = _number(buffer, start)
            stop = start + length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            stop = start + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"wire type {kind}")
        if stop > end:
            raise IndexError
        yield _Field(key >> 3, value, start, stop)
        start = stop


def _number(buffer: Buffer, start: int) -> tuple[int, int]:
    """A number of seven bits a byte, the low ones first, and where it ends."""
    result = 0
    for place in range(_LONGEST_NUMBER):
        byte = buffer[start + place]
        result |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return result, start + place + 1
    raise ValueError("a number without an end")


def _pair(buffer: Buffer, field: _Field, first: int, second: int) -> tuple[int | str | None, int | str | None]:
    """Two values of a small message, text or numbers; None for what is not there."""
    values: dict[int, int | str] = {}
    for part in _fields(buffer, field.start, field.end):
        values[part.number] = part.value if part.value is not None else buffer[part.start : part.end].decode("utf-8")
    return values.get(first), values.get(second)


def _count_floats(buffer: Buffer, graph: _Field) -> Counter[str]:
    floats: Counter[str] = Counter()
    for field in _fields(buffer, graph.start, graph.end):
        if field.number != _INITIALIZER:
            continue
        shape: list[int] = []
        kind = None
        for part in _fields(buffer, field.start, field.end):
            if part.number == _DATA_TYPE and part.value is not None:
                kind = _ONNX_FLOATS.get(part.value)
            elif part.number == _DIMENSIONS:
                shape += [part.value] if part.value is not None else _numbers(buffer, part)
        if kind:
            floats[kind] += math.prod(shape)
    return floats


def _numbers(buffer: Buffer, field: _Field) -> Iterator[int]:
    start = field.start
    while start < field.end:
        value, start = _number(buffer, start)
        yield value
