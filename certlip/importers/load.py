"""One door for all models: ONNX files, torch.export archives, torch modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from certlip.errors import ModelError, UsageError
from certlip.importers.agreement import NOTHING, UNCHECKED, check_agreement
from certlip.importers.model import Model
from certlip.importers.runtimes import Runtime, onnx_runtime
from certlip.importers.torch_archive import is_archive, read_archive
from certlip.onnx_reader import ModelFile, parse, read_file
from certlip.onnx_reader.reader import FOLDED, Ends, choose_ends, needed, opset_of, read
from certlip.rigor.rounding import BFLOAT16, BINARY16, BINARY32, BINARY64, Precision

if TYPE_CHECKING:
    import torch

_PRECISIONS = {
    onnx.TensorProto.DOUBLE: BINARY64,
    onnx.TensorProto.FLOAT: BINARY32,
    onnx.TensorProto.FLOAT16: BINARY16,
    onnx.TensorProto.BFLOAT16: BFLOAT16,
}
_PICKLED = (".pt", ".pth", ".ckpt", ".pkl", ".bin")


def load(
    source: str | Path | torch.nn.Module | torch.export.ExportedProgram,
    *,
    input_name: str | None = None,
    output_name: str | None = None,
    example: Any = None,
    input_shape: tuple[int, ...] | None = None,
    check: bool = True,
) -> Model:
    """Read a model and compare the reading with a runtime.

    source: path of an .onnx, .onnx.gz or .pt2 file, a torch module or an exported program. A module needs `example`
    (an array or tensor, batch axis included) or `input_shape`. check=False skips the comparison and records that.
    Raises UsageError for a missing file or a choice left open, UnsupportedModel with every node that certlip does
    not read, ImportMismatch where the runtime disagrees, ModelError for anything else that is no model.
    """
    torch = sys.modules.get("torch")  # a module can only be passed by somebody who imported torch
    if torch is not None and isinstance(source, (torch.nn.Module, torch.export.ExportedProgram)):
        return _load_torch(source, "torch", None, input_name, output_name, example, input_shape, check)
    if not isinstance(source, (str, Path)):
        raise UsageError(
            f"cannot load a {type(source).__name__}; pass a path, a torch module or an exported program"
        )
    path = Path(source)
    if not path.is_file():
        raise UsageError(f"there is no model file {path}; check the path")
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
    except OSError as error:
        raise UsageError(f"cannot open the model {path}: {error.strerror}; check its permissions") from error
    if path.suffix == ".pt2" or (head[:2] == b"PK" and is_archive(path)):
        return _load_torch(read_archive(path), "pt2", path, input_name, output_name, None, None, check)
    if path.suffix in _PICKLED or head[:2] == b"PK" or head[:1] == b"\x80":
        raise pickled(path)
    file = read_file(path)
    return _finish(file, path.name, "onnx", input_name, output_name, check)


def load_bytes(
    raw: bytes, name: str, *, input_name: str | None = None, output_name: str | None = None, check: bool = True
) -> Model:
    """The same from the bytes of an ONNX file without external data; `name` is what messages call it."""
    return _finish(parse(raw), name, "onnx", input_name, output_name, check, raw=raw)


def pickled(path: Path) -> ModelError:
    """The refusal of a pickled file, with the line to type instead."""
    return ModelError(
        f"{path} is a pickled torch file, which can run any code when it is opened; write the model in Python with "
        'torch.onnx.export(model, (example,), "model.onnx", dynamo=True) or '
        'torch.export.save(torch.export.export(model, (example,)), "model.pt2") and pass that file'
    )


def _load_torch(
    source: torch.nn.Module | torch.export.ExportedProgram,
    kind: str,
    path: Path | None,
    input_name: str | None,
    output_name: str | None,
    example: Any,
    input_shape: tuple[int, ...] | None,
    check: bool,
) -> Model:
    from certlip.importers.torch_export import export, torch_runtime

    raw, program = export(source, example, input_shape)
    name = path.name if path is not None else type(source).__name__
    return _finish(
        parse(raw),
        name,
        kind,
        input_name,
        output_name,
        check,
        path,
        raw,
        lambda output: torch_runtime(program, output),
    )


def _finish(
    file: ModelFile,
    name: str,
    kind: str,
    input_name: str | None,
    output_name: str | None,
    check: bool,
    path: Path | None = None,
    raw: bytes | None = None,
    origin: Callable[[str], Runtime] | None = None,
) -> Model:
    """Read, check against onnxruntime and, for the module's own output, against where the file came from."""
    ends = choose_ends(file.proto, input_name, output_name)
    reading = read(file, input_name, output_name)
    precision = precision_of(file.proto, ends)
    agreement = UNCHECKED
    if check and ends.certified == ends.source.name:
        agreement = NOTHING
    elif check:
        folds = FOLDED in reading.graph.notes
        native = read(file, input_name, output_name, native_constants=True) if folds else None
        dtype = onnx.helper.tensor_dtype_to_np_dtype(ends.source.type.tensor_type.elem_type)
        shown = [name for names in reading.names.values() for name in names]
        runtimes = [onnx_runtime(file.proto, ends, shown)]
        if origin is not None and ends.certified == ends.output:
            runtimes.append(origin(ends.output))
        agreement = check_agreement(reading, precision, dtype, runtimes, native)
    return Model(
        graph=reading.graph,
        name=name,
        path=path if path is not None else file.path,
        sha256=file.sha256,
        external=dict(file.external),
        source=kind,
        opset=opset_of(file.proto),
        precision=precision,
        input_name=ends.source.name,
        output_name=ends.output,
        parameters=parameter_count(file.proto, ends),
        agreement=agreement,
        onnx_bytes=raw,
    )


def precision_of(model: onnx.ModelProto, ends: Ends) -> Precision:
    """The coarsest of the input's type and the types that casts lead to."""
    types = {ends.source.type.tensor_type.elem_type}
    for node in needed(list(model.graph.node), ends.certified):
        if node.op_type == "Cast":
            types.update(attribute.i for attribute in node.attribute if attribute.name == "to")
    return max(
        (_PRECISIONS[kind] for kind in types if kind in _PRECISIONS), key=lambda precision: precision.unit
    )


def parameter_count(model: onnx.ModelProto, ends: Ends) -> int:
    """Floating-point entries of the initializers that lead to the certified value."""
    used = {name for node in needed(list(model.graph.node), ends.certified) for name in node.input}
    tensors = (tensor for tensor in model.graph.initializer if tensor.name in used)
    return sum(prod(tensor.dims) for tensor in tensors if tensor.data_type in _PRECISIONS)
