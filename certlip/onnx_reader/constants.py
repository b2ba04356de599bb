"""Evaluation of nodes that do not depend on the input, by ONNX's own reference operators.

Floating-point constants are folded in binary64 whatever their stored type, so that folding in a file of binary32
weights (a spectral normalisation, say) adds no visible rounding of its own; integers stay integers.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from certlip.onnx_reader.builder import NotLowered
from certlip.onnx_reader.folding_work import MAX_ENTRIES, Budget, work

_WIDE = {TensorProto.FLOAT, TensorProto.DOUBLE}
_UNRELIABLE = {
    "BatchNormalization",
    "ConvTranspose",
    "LpNormalization",
}  # ONNX's reference operators misread some of their attributes ...
_COERCING = {"Softmax", "LogSoftmax", "Hardmax"}  # ... or that these work on a matrix before operator set 13
_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}


def evaluate(
    node: onnx.NodeProto, opset: int, inputs: list[np.ndarray | None], budget: Budget, native: bool = False
) -> list[np.ndarray]:
    """Outputs of one node on constant inputs; `native` keeps the stored precision instead of binary64.

    Raises NotLowered for an operator that is not folded, and where the work would exceed what is left of the budget.
    """
    if node.op_type in _RANDOM:
        raise NotLowered("a random constant differs at each run; export the model with it frozen")
    if node.op_type in _UNRELIABLE or (node.op_type in _COERCING and opset < 13):
        raise NotLowered("it is applied to constants only; fold it before exporting")
    if not native and node.op_type not in ("Shape", "Size"):
        inputs = [widen(array) for array in inputs]
        target = next((a.i for a in node.attribute if a.name == "to"), None)
        if node.op_type == "Cast" and target in _WIDE and inputs[0] is not None:
            budget.spend(work(node, inputs))
            return [widen(inputs[0].astype(np.float64))]
    try:
        outputs = run(node, opset, inputs, budget)
    except NotLowered:
        raise
    except Exception as error:  # the reference operators raise anything; the node is reported, never skipped
        raise NotLowered(
            f"its constant inputs cannot be evaluated ({type(error).__name__}: {error})"
        ) from error
    return [output if native else widen(output) for output in outputs]


def run(
    node: onnx.NodeProto, opset: int, inputs: list[np.ndarray | None], budget: Budget | None = None
) -> list[np.ndarray]:
    """Run one node with ONNX's reference evaluator. Raises NotLowered where that may take too long or too much."""
    (budget or Budget()).spend(work(node, inputs))
    if node.op_type == "Slice":
        _require_plain_slice(*inputs)
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


def _require_plain_slice(data, starts=None, ends=None, axes=None, steps=None) -> None:
    """Backwards from before the first entry the reference operator takes nothing, where ONNX says the first entry."""
    if starts is None or steps is None:
        return
    axes = range(len(starts)) if axes is None else axes.ravel()
    for start, axis, step in zip(starts.ravel(), axes, steps.ravel(), strict=True):
        if step < 0 and start < -data.shape[int(axis)]:
            raise NotLowered("it steps backwards from before the first entry, which readers understand differently")


def widen(array):
    """Floating-point arrays as binary64 (exact), anything else unchanged."""
    if array is not None and (array.dtype.kind == "f" or array.dtype.name == "bfloat16"):
        return array.astype(np.float64, copy=False)
    return array


__all__ = ["MAX_ENTRIES", "Budget", "evaluate", "run", "widen"]
