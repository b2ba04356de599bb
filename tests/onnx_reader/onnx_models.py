"""Small ONNX models for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOATS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}
FLOATS[np.dtype(np.float16)] = TensorProto.FLOAT16


def build(
    nodes, shape, constants=None, opset=17, outputs=("y",), dtype=np.float32, inputs=("x",)
) -> onnx.ModelProto:
    """A model around nodes: input(s) of one shape, float constants stored in `dtype`, integer ones as int64."""
    kind = FLOATS[np.dtype(dtype)]
    stored = []
    for name, array in (constants or {}).items():
        array = np.asarray(array)
        array = array.astype(dtype) if array.dtype.kind == "f" else array
        stored.append(numpy_helper.from_array(array, name))
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        stored,
    )
    for output in graph.output:
        output.type.tensor_type.elem_type = kind
    ir_version = 4 if opset < 11 else 10
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def single(op: str, shape, extra: Sequence = (), opset=17, at=0, outputs=1, dtype=np.float32, **attributes):
    """A model of one node whose data input is number `at` among the constants `extra` (None for an absent one)."""
    names = ["" if array is None else f"c{i}" for i, array in enumerate(extra)]
    constants = {name: array for name, array in zip(names, extra, strict=True) if array is not None}
    names.insert(at, "x")
    made = ["y", *(f"y{i}" for i in range(1, outputs))]
    node = helper.make_node(op, names, made, name=f"the_{op}", **attributes)
    return build([node], shape, constants, opset, dtype=dtype)


def save(model: onnx.ModelProto, folder, name="model.onnx"):
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path
