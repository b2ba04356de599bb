"""What it costs to evaluate a node on constants, known before it runs: a small model may ask for any amount."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
import onnx

from certlip.onnx_reader.builder import NotLowered

MAX_ENTRIES = 2**27
"""Largest constant that folding may create."""

MAX_WORK = 2**34
"""Work of all folding in one model, in multiplications; reading an entry counts as 8, writing one as 16."""

_READ, _WRITE = 8, 16
_SLOW, _PLAIN = 100, 16  # times more where a reference operator loops in Python, where numpy has no fast product

_POINTWISE = {
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Dropout", "Elu",
    "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg",
    "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
    "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
}  # fmt: skip
_NO_LARGER = {
    "ArgMax", "ArgMin", "Concat", "CumSum", "DepthToSpace", "EyeLike", "Flatten", "Hardmax", "LogSoftmax",
    "LpNormalization", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Reshape", "Slice", "Softmax", "SpaceToDepth",
    "Squeeze", "Transpose", "Trilu", "Unsqueeze",
}  # fmt: skip
_LOOPS = {"Erf", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "TopK"}
_STRING = onnx.TensorProto.STRING
_HELD = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS, onnx.AttributeProto.TENSORS,
         onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS}  # fmt: skip


@dataclass
class Budget:
    """The work left for folding the constants of one model."""

    left: int = MAX_WORK

    def spend(self, amount: int) -> None:
        """Raises NotLowered where it is more than is left."""
        if amount > self.left:
            raise NotLowered(
                "computing the model's constants takes more work than certlip does; export the model with them computed"
            )
        self.left -= amount


def work(node: onnx.NodeProto, inputs: Sequence[np.ndarray | None]) -> int:
    """Upper bound of the work of one node. Raises NotLowered for what is never folded or makes too large an array.

    Only operators of a fixed list are folded: none that holds a graph, repeats itself or is random.
    """
    attributes = {attribute.name: attribute for attribute in node.attribute}
    for attribute in node.attribute:
        stored = attribute.t.data_location == onnx.TensorProto.DEFAULT and attribute.t.data_type != _STRING
        if attribute.type in _HELD or attribute.ref_attr_name or not stored:
            raise NotLowered(f"its attribute '{attribute.name}' is not read in a constant; fold it before exporting")
    given = [array for array in inputs if array is not None]
    if any(array.dtype.kind in "OSUT" for array in given) or ("to" in attributes and attributes["to"].i == _STRING):
        raise NotLowered("text is no constant of a network; fold it before exporting")
    if node.op_type in ("Shape", "Size"):
        return _WRITE
    written = _written(node, attributes, inputs, [array.shape for array in given])
    if written > MAX_ENTRIES:
        raise NotLowered(f"it would create a constant of more than {MAX_ENTRIES} entries")
    total = _READ * sum(array.size for array in given) + _WRITE * written
    if node.op_type in ("MatMul", "Gemm"):
        products = written * _inner(node.op_type, attributes, given)
        total += products if all(array.dtype.name in ("float32", "float64") for array in given) else _PLAIN * products
    return total * _SLOW if node.op_type in _LOOPS else total


def _inner(op: str, attributes: dict[str, onnx.AttributeProto], given: list[np.ndarray]) -> int:
    """Length of the dot products of a matrix product."""
    return given[0].shape[0 if op == "Gemm" and _flag(attributes, "transA") else -1]


def _flag(attributes: dict[str, onnx.AttributeProto], name: str) -> bool:
    return name in attributes and bool(attributes[name].i)


def _written(
    node: onnx.NodeProto,
    attributes: dict[str, onnx.AttributeProto],
    inputs: Sequence[np.ndarray | None],
    shapes: list[tuple[int, ...]],
) -> int:
    """Upper bound of the entries of all outputs together, in integers of any size."""
    op, read = node.op_type, sum(prod(shape) for shape in shapes)
    axis, batch = (attributes[key].i if key in attributes else 0 for key in ("axis", "batch_dims"))
    if op in _POINTWISE:
        if op == "Dropout" and len(inputs) > 2 and np.any(inputs[2]):
            raise NotLowered("it is in training mode; export the model for inference")
        return prod(np.broadcast_shapes(*shapes)) * len(node.output)
    if op in _NO_LARGER:
        return read
    if op == "Constant":
        return 4 * node.ByteSize()  # no entry takes less than two bits; what lies elsewhere is refused above
    if op == "ConstantOfShape":
        return _product(inputs[0])
    if op == "DequantizeLinear" and not _flag(attributes, "block_size"):
        return 4 * read
    if op == "Expand":
        return max(prod(np.broadcast_shapes(shapes[0], _sizes(inputs[1]))), _product(inputs[1]))
    if op == "Gather":
        return prod(shapes[1]) * (prod(shapes[0]) // max(1, shapes[0][axis]))
    if op == "GatherElements":
        return prod(shapes[1])
    if op == "GatherND":
        return prod(shapes[1][:-1]) * prod(shapes[0][batch + shapes[1][-1] :])
    if op == "Gemm":
        (a, b), rest = shapes[:2], shapes[2:]
        if len(a) != 2 or len(b) != 2:
            raise NotLowered("it multiplies what is no matrix")
        a, b = (a[::-1] if _flag(attributes, "transA") else a), (b[::-1] if _flag(attributes, "transB") else b)
        return prod(np.broadcast_shapes((a[0], b[1]), *rest))
    if op == "MatMul":
        a, b = ((1, *shapes[0])[-max(2, len(shapes[0])) :], (*shapes[1], 1)[: max(2, len(shapes[1]))])
        return prod(np.broadcast_shapes(a[:-2], b[:-2])) * a[-2] * b[-1]
    if op == "NonZero":
        return read * max(1, len(shapes[0]))
    if op == "OneHot":
        return max(1, prod(shapes[0])) * _product(inputs[1])
    if op == "Pad":
        stored = attributes.get("pads", attributes.get("paddings"))
        amounts = stored.ints if stored is not None else _sizes(inputs[1])
        return prod(n + 2 * max([0, *amounts]) for n in shapes[0])
    if op == "Range":
        start, limit, delta = (float(np.ravel(array)[0]) for array in inputs if array is not None)
        return max(0, ceil((limit - start) / delta)) + 1
    if op in ("ScatterElements", "ScatterND"):
        return read
    if op == "Split":
        if "num_outputs" in attributes and attributes["num_outputs"].i > len(node.output):
            raise NotLowered("it announces more parts than it has outputs")
        return read * len(node.output)
    if op == "Tile":
        return prod(shapes[0]) * _product(inputs[1])
    if op == "TopK":
        return 2 * read
    raise NotLowered("it is applied to constants only; fold it before exporting")


def _sizes(array: np.ndarray | None) -> tuple[int, ...]:
    return () if array is None else tuple(int(n) for n in np.ravel(array))


def _product(array: np.ndarray | None) -> int:
    return prod(max(1, abs(n)) for n in _sizes(array))
