"""Evaluation of nodes that do not depend on the input, by ONNX's own reference operators.

Floating-point constants are folded in binary64 whatever their stored type, so that folding in a file of binary32
weights (a spectral normalisation, say) adds no visible rounding of its own; integers stay integers.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from certlip.onnx_reader.builder import NotLowered

MAX_ENTRIES = 2**27
"""Largest constant that folding may create."""

_WIDE = {TensorProto.FLOAT, TensorProto.DOUBLE}
_GROWING = {"ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "Pad", "OneHot", "EyeLike"}
_UNRELIABLE = {
    "BatchNormalization",
    "ConvTranspose",
}  # ONNX's reference operators misread some of their attributes
_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}


def evaluate(
    node: onnx.NodeProto, opset: int, inputs: list[np.ndarray | None], native: bool = False
) -> list[np.ndarray]:
    """Outputs of one node on constant inputs; `native` keeps the stored precision instead of binary64."""
    if node.op_type in _RANDOM:
        raise NotLowered("a random constant differs at each run; export the model with it frozen")
    if node.op_type in _UNRELIABLE:
        raise NotLowered("it is applied to constants only; fold it before exporting")
    if not native:
        inputs = [widen(array) for array in inputs]
        target = next((a.i for a in node.attribute if a.name == "to"), None)
        if node.op_type == "Cast" and target in _WIDE and inputs[0] is not None:
            return [widen(inputs[0].astype(np.float64))]
    if node.op_type in _GROWING:
        _refuse_explosion(node, inputs)
    try:
        outputs = run(node, opset, inputs)
    except Exception as error:  # the reference operators raise anything; the node is reported, never skipped
        raise NotLowered(
            f"its constant inputs cannot be evaluated ({type(error).__name__}: {error})"
        ) from error
    return [output if native else widen(output) for output in outputs]


def run(node: onnx.NodeProto, opset: int, inputs: list[np.ndarray | None]) -> list[np.ndarray]:
    """Run one node with ONNX's reference evaluator."""
    names = [name for name in node.input if name]
    graph = helper.make_graph(
        [node],
        "node",
        [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names)],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    feeds = {name: array for name, array in zip(node.input, inputs, strict=True) if name}
    with np.errstate(all="ignore"):
        return [np.asarray(output) for output in ReferenceEvaluator(model).run(None, feeds)]


def widen(array):
    """Floating-point arrays as binary64 (exact), anything else unchanged."""
    if array is not None and (array.dtype.kind == "f" or array.dtype.name == "bfloat16"):
        return array.astype(np.float64)
    return array


def _refuse_explosion(node: onnx.NodeProto, inputs: list[np.ndarray | None]) -> None:
    """Operators whose output size is data: refuse before memory is taken."""
    sizes = [array for array in inputs if array is not None and array.dtype.kind in "iu" and array.ndim <= 1]
    base = max((array.size for array in inputs if array is not None), default=1)
    for array in sizes:
        entries = [abs(int(entry)) for entry in array.ravel()[:32]]
        grown = prod(max(1, entry) for entry in entries) * (base if node.op_type in ("Tile", "Pad") else 1)
        if max(entries, default=0) > MAX_ENTRIES or grown > MAX_ENTRIES:
            raise NotLowered(f"it would create a constant of more than {MAX_ENTRIES} entries")
