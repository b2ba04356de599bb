"""Executions of a model to compare with: onnxruntime, and ONNX's reference evaluator where it has no kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from certlip.errors import ModelError
from certlip.onnx_reader.reader import Ends, input_shape_of, needed, opset_of

_NEWEST_IR = 10
_NEWEST_FOR_IR_10 = 21


@dataclass(frozen=True)
class Runtime:
    """A named execution; `run` maps one input in the file's own type to values of the file by their names."""

    name: str
    run: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    note: str = ""


def onnx_runtime(model: onnx.ModelProto, ends: Ends, names: Sequence[str]) -> Runtime:
    """onnxruntime without graph optimisations on one thread, or the reference evaluator where it cannot load.

    names: the values to show, inner ones included.
    """
    part = with_outputs(model, ends, names)
    if ends.source.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16:
        return _reference(part, ends.source.name, "onnxruntime takes no bfloat16 arrays")
    import onnxruntime

    shown = [entry.name for entry in part.graph.output]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            part.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions share no base class; the reason is kept in the record
        return _reference(part, ends.source.name, f"onnxruntime does not load it ({_first_line(error)})")

    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return _named(shown, session.run(shown, {ends.source.name: x}))
        except Exception as error:
            raise ModelError(
                f"onnxruntime cannot run the model ({_first_line(error)}); export it again with a batch of one"
            ) from error

    return Runtime(f"onnxruntime {onnxruntime.__version__}", run)


def _reference(part: onnx.ModelProto, source: str, reason: str) -> Runtime:
    from onnx.reference import ReferenceEvaluator

    shown = [entry.name for entry in part.graph.output]
    try:
        evaluator = ReferenceEvaluator(part)
    except Exception as error:
        raise ModelError(
            f"no runtime can load the model ({reason}; {_first_line(error)}); export it again"
        ) from error

    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        try:
            with np.errstate(all="ignore"):
                return _named(shown, evaluator.run(shown, {source: x}))
        except Exception as error:
            raise ModelError(
                f"no runtime can run the model ({reason}; {_first_line(error)}); export it again"
            ) from error

    return Runtime(f"onnx {onnx.__version__} reference evaluator", run, reason)


def with_outputs(model: onnx.ModelProto, ends: Ends, names: Sequence[str]) -> onnx.ModelProto:
    """The nodes between the chosen input and the certified value, with the named values as outputs."""
    nodes = needed(list(model.graph.node), ends.certified)
    used = {name for node in nodes for name in node.input} | {ends.certified}
    part = onnx.ModelProto()
    part.ir_version = (
        min(model.ir_version, _NEWEST_IR) if opset_of(model) <= _NEWEST_FOR_IR_10 else model.ir_version
    )
    part.ir_version = max(part.ir_version, 4)  # before that, initializers had to be inputs as well
    part.opset_import.extend(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    part.graph.name = "certified"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    kind = ends.source.type.tensor_type.elem_type
    part.graph.input.append(
        onnx.helper.make_tensor_value_info(ends.source.name, kind, input_shape_of(ends.source))
    )
    made = {name for node in nodes for name in node.output}
    shown = [name for name in dict.fromkeys((ends.certified, *names)) if name in made]
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in shown)
    return part


def _named(names: Sequence[str], arrays: Sequence) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
