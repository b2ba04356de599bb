"""Reading the bytes of a model: plain, gzip-compressed, with weights inline or in files beside it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from certlip.errors import ModelError
from certlip.onnx_reader.ambiguity import require_one_meaning
from certlip.onnx_reader.inlining import inline
from certlip.regular_files import TooLarge, read_regular

MAX_BYTES = 2**31
"""Largest model read, uncompressed and with its external files: the limit of a protobuf message."""

_TOO_MUCH = f"the model's weights exceed {MAX_BYTES} bytes; certlip cannot load them"


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A parsed model and the digests that identify it.

    sha256: of the uncompressed .onnx bytes. external: sha256 of every external data file, by its relative name.
    """

    proto: onnx.ModelProto
    sha256: str
    external: Mapping[str, str]
    path: Path | None = None


def read_file(path: Path) -> ModelFile:
    """Parse an ONNX file; weights stored beside it are read from its own folder only.

    Raises ModelError for anything that is not a complete model.
    """
    try:
        raw = read_regular(path, MAX_BYTES)
    except TooLarge as error:
        raise ModelError(f"{path} is larger than {MAX_BYTES} bytes; store its weights as external data") from error
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}; check the path") from error
    if raw[:2] == b"\x1f\x8b":
        raw = _gunzip(raw, path)
    return parse(raw, path)


def parse(raw: bytes, path: Path | None = None) -> ModelFile:
    """Parse the uncompressed bytes of an ONNX model; `path` names the folder of its external data."""
    proto = onnx.ModelProto()
    where = "the model" if path is None else str(path)
    try:
        proto.ParseFromString(raw)
    except DecodeError as error:
        raise ModelError(f"{where} is not an ONNX file or is truncated; export or copy it again") from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{where} holds no ONNX graph; pass the .onnx file that the exporter wrote")
    if proto.functions:
        proto = inline(proto, where)
    require_one_meaning(proto)
    external = _load_external(proto, path)
    return ModelFile(proto, sha256(raw).hexdigest(), external, path)


def _gunzip(raw: bytes, path: Path) -> bytes:
    try:
        with gzip.open(io.BytesIO(raw)) as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"{path} is not a complete gzip file; copy it again") from error
    if len(data) > MAX_BYTES:
        raise ModelError(f"{path} unpacks to more than {MAX_BYTES} bytes; store its weights as external data")
    return data


def _load_external(proto: onnx.ModelProto, path: Path | None) -> dict[str, str]:
    """Read external tensors into the model. Their files must lie in the model's own folder or below."""
    digests: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    budget = room = MAX_BYTES
    for tensor in _tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if name not in contents:
            contents[name] = _read_beside(path, name, budget)
            budget -= len(contents[name])
            digests[name] = sha256(contents[name]).hexdigest()
        tensor.raw_data = _cut(contents[name], entries, tensor.name, name, room)
        room -= len(tensor.raw_data)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return digests


def _read_beside(path: Path | None, name: str, budget: int) -> bytes:
    if path is None:
        raise ModelError("the model keeps weights in other files; load it from its path instead")
    folder = path.parent.resolve()
    file = (folder / name).resolve()
    if not name or not file.is_relative_to(folder):
        raise ModelError(f"the model names weights outside its own folder ({name!r}); move them beside it")
    try:
        return read_regular(file, budget)
    except TooLarge as error:
        raise ModelError(_TOO_MUCH) from error
    except OSError as error:
        raise ModelError(
            f"the model's weight file {name!r} cannot be read; put it beside the model"
        ) from error


def _cut(data: bytes, entries: Mapping[str, str], tensor: str, name: str, room: int) -> bytes:
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(len(data) - offset)))
    except ValueError as error:
        raise ModelError(f"tensor '{tensor}' has a malformed external reference; export it again") from error
    if offset < 0 or length < 0 or offset + length > len(data):
        raise ModelError(f"tensor '{tensor}' reaches beyond the end of {name!r}; the file is truncated")
    if length > room:  # tensors may share a range of the file, each takes memory of its own
        raise ModelError(_TOO_MUCH)
    return data[offset : offset + length]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def tensor_array(tensor: onnx.TensorProto) -> np.ndarray:
    """The numpy array of a tensor; ModelError where its bytes do not fit its shape."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:  # onnx itself would read any path that it names
        raise ModelError(f"tensor '{tensor.name}' lies in another file; export the model with its weights inline")
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"tensor '{tensor.name}' is malformed ({error}); export the model again") from error
