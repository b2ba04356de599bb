"""Corners of operators that onnxruntime and a reading of the specification decide differently: refused, not guessed."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnx_models import build

from certlip.errors import UnsupportedModel
from certlip.onnx_reader import parse, read_graph

node = helper.make_node
LINE = (1, 1, 6)


def model(operator, constants=(), shape=LINE, opset=19, **attributes):
    stored = {f"c{i}": np.asarray(value) for i, value in enumerate(constants)}
    return build([node(operator, ["x", *stored], ["y"], **attributes)], shape, stored, opset)


def run(proto, x) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.astype(np.float32)})[0]


POOLS = [
    {"kernel_shape": [2], "dilations": [2]}, {"kernel_shape": [1], "strides": [3], "ceil_mode": 1},
    {"kernel_shape": [2], "strides": [3]}, {"kernel_shape": [3], "strides": [2], "ceil_mode": 1},
]  # fmt: skip


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_pooling_with_auto_pad(operator, mode, attributes):
    with pytest.raises(UnsupportedModel, match="do not agree"):
        read_graph(parse(model(operator, auto_pad=mode, **attributes).SerializeToString()))
    read_graph(parse(model(operator, auto_pad=mode, kernel_shape=[3], strides=[2]).SerializeToString()))
    read_graph(parse(model(operator, **attributes).SerializeToString()))


def test_the_windows_of_a_padded_pool_lie_elsewhere():
    """Why: with room for two windows at 0 and 3, onnxruntime reads the entries 1 and 4."""
    pool = model("AveragePool", auto_pad="SAME_UPPER", kernel_shape=[1], strides=[3], ceil_mode=1)
    assert run(pool, np.arange(6.0).reshape(LINE)).ravel().tolist() != [0.0, 3.0]


def test_transposed_convolutions_with_auto_pad():
    """By the specification the output has 18 entries, in onnxruntime 16."""
    conv = model("ConvTranspose", [np.ones((1, 1, 1))], strides=[3], auto_pad="SAME_UPPER")
    assert run(conv, np.ones(LINE)).size == 16
    with pytest.raises(UnsupportedModel, match="do not agree"):
        read_graph(parse(conv.SerializeToString()))
    nothing = model("ConvTranspose", [np.ones((1, 1, 1))], shape=(1, 1, 2), pads=[1, 1])
    with pytest.raises(UnsupportedModel, match="nothing is left"):
        read_graph(parse(nothing.SerializeToString()))


@pytest.mark.parametrize(("start", "end", "step", "expected"), [(-9, -10, -1, 1), (-6, -9, -1, 1), (9, -9, -2, 3)])
def test_slices_backwards(start, end, step, expected):
    """ONNX moves a start before the first entry onto it, numpy takes nothing."""
    proto = model("Slice", [np.array([n]) for n in (start, end, 2, step)])
    x = np.arange(6.0).reshape(LINE)
    computed = run(proto, x)
    assert computed.size == expected
    if start < -6:
        with pytest.raises(UnsupportedModel, match="backwards"):
            read_graph(parse(proto.SerializeToString()))
        constants = {f"c{i}": np.array([n]) for i, n in enumerate((start, end, 2, step))}
        nodes = [node("Slice", ["w", *constants], ["s"]), node("ReduceSum", ["s"], ["t"])]
        nodes.append(node("Add", ["x", "t"], ["y"]))
        with pytest.raises(UnsupportedModel, match="backwards"):
            read_graph(parse(build(nodes, LINE, {"w": x, **constants}, 19).SerializeToString()))
    else:
        assert np.array_equal(read_graph(parse(proto.SerializeToString()))(x[None])[0], computed)


FOLDED = [("Softmax", 11, {}), ("LogSoftmax", 9, {"axis": 0}), ("Hardmax", 12, {}), ("LpNormalization", 17, {"p": 1})]


@pytest.mark.parametrize(("operator", "opset", "attributes"), FOLDED)
def test_constants_that_the_reference_operators_get_wrong(operator, opset, attributes):
    """Before operator set 13 all axes from `axis` on count as one; norms of order 1 are those of sizes."""
    weights = np.arange(6.0).reshape(1, 2, 3) - 2.0
    nodes = [node(operator, ["w"], ["s"], **attributes), node("Add", ["x", "s"], ["y"])]
    with pytest.raises(UnsupportedModel, match="constants only"):
        read_graph(parse(build(nodes, (1, 2, 3), {"w": weights}, opset).SerializeToString()))
    if operator != "LpNormalization":
        now = build(nodes, (1, 2, 3), {"w": weights}, 13)
        x = np.zeros((1, 2, 3))
        assert np.allclose(read_graph(parse(now.SerializeToString()))(x[None])[0], run(now, x), atol=1e-6)
