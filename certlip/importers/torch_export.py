"""A torch module becomes ONNX bytes in memory, so that there is one table of lowerings and one file to certify."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from certlip.errors import ModelError, UsageError
from certlip.importers.runtimes import Runtime

if TYPE_CHECKING:
    import torch

OPSET = 20
"""Operator set of exported files: the first with a GELU of its own, and below the limit of 21."""

_NEWEST_IR = 10


def export(
    source: torch.nn.Module | torch.export.ExportedProgram, example: Any, input_shape: tuple[int, ...] | None
) -> tuple[bytes, torch.export.ExportedProgram]:
    """ONNX bytes of a module in evaluation mode, and the program they came from. The module is not changed.

    Raises UsageError without an example input for a module, ModelError where torch cannot export it.
    """
    import torch

    program = _program(source, example, input_shape) if isinstance(source, torch.nn.Module) else source
    try:
        with quiet():
            written = torch.onnx.export(program, dynamo=True, opset_version=OPSET, external_data=False, verbose=False)
        proto = written.model_proto
    except Exception as error:  # the exporter lets anything through
        raise ModelError(
            f"torch cannot write this model as ONNX ({_reason(error)}); replace the layers it names"
        ) from error
    return _plain(proto), program


def torch_runtime(program: torch.export.ExportedProgram, output: str) -> Runtime:
    """The program as torch executes it; it shows its output only."""
    import torch

    with quiet():
        module = program.module(check_guards=False)

    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad(), quiet():
            result = module(torch.from_numpy(x))
        return {output: result.detach().cpu().numpy()} if isinstance(result, torch.Tensor) else {}

    return Runtime(f"torch {torch.__version__}", run)


def _program(
    module: torch.nn.Module, example: Any, input_shape: tuple[int, ...] | None
) -> torch.export.ExportedProgram:
    import torch

    if example is None and input_shape is None:
        raise UsageError(
            "a torch module does not say what it reads; pass example= (an input with its batch axis) or input_shape="
        )
    try:
        copied = copy.deepcopy(module).cpu().eval()
    except Exception as error:
        raise ModelError(
            f"the module cannot be copied ({_reason(error)}); pass torch.export.export(module, (x,)) instead"
        ) from error
    kind = next((p.dtype for p in copied.parameters() if p.dtype.is_floating_point), torch.float32)
    if example is None:
        tensor = torch.zeros(tuple(input_shape or ()), dtype=kind)
    else:
        tensor = torch.as_tensor(np.asarray(example) if not isinstance(example, torch.Tensor) else example)
        tensor = tensor.detach().cpu().to(kind)
    try:
        for parameter in copied.parameters():
            parameter.requires_grad_(False)
        with quiet():
            return torch.export.export(copied, (tensor,), strict=False)
    except Exception as error:
        raise ModelError(
            f"torch.export cannot trace the module for an input of shape {tuple(tensor.shape)} ({_reason(error)}); "
            "check the example's shape"
        ) from error


def _plain(proto: onnx.ModelProto) -> bytes:
    """Deterministic bytes without stack traces and folder names, of an IR version that all runtimes read."""
    proto.ir_version = min(proto.ir_version, _NEWEST_IR)
    proto.producer_version = ""
    del proto.metadata_props[:]
    for part in (proto.graph, *proto.functions):
        del part.metadata_props[:]
        part.doc_string = ""
        entries = [*part.node, *part.value_info]
        if isinstance(part, onnx.GraphProto):
            entries += [*part.input, *part.output, *part.initializer]
        for entry in entries:
            del entry.metadata_props[:]
            entry.doc_string = ""
    return proto.SerializeToString(deterministic=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's progress reports and warnings off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: torch's outer errors are instructions for debugging itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
