"""Constants that executions combine or round themselves: what underflows in one of them, another may scale up."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from certlip.graph import Graph, Node
from certlip.onnx_reader import read_file, read_graph
from certlip.onnx_reader.decisions import NESTED
from certlip.ops import Clip, Elu, LeakyRelu, Silu
from certlip.proofs.deployment import class_slack, slack
from certlip.proofs.ranges import Region
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import BFLOAT16, BINARY16, BINARY32, BINARY64, REAL, Precision


def graph_of(tmp_path, nodes, constants=(), shape=(1, 1)) -> Graph:
    """The graph of a model with these nodes from x to y; constants are binary32."""
    stored = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in dict(constants).items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x", shape), ("y", None))]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], stored), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.save(model, tmp_path / "m.onnx")
    return read_graph(read_file(tmp_path / "m.onnx"))


def there(*entries: float, shape=(1, -1)) -> Region:
    return Region(np.float32(entries).astype(np.float64).reshape(shape), Fraction(0), "l2")


def off_by(graph: Graph, region: Region, computed: float) -> float:
    return float(np.abs(graph(region.center[None]).ravel() - float(computed)).max())


def bound(graph: Graph, region: Region, precision: Precision = BINARY32) -> float:
    return float(slack(graph, region, precision).min())


f, h = np.float32, np.float16


@pytest.mark.parametrize("x", [1e-7, 3e-8])
def test_a_product_that_underflows_before_alpha(tmp_path, x):
    graph = graph_of(tmp_path, [helper.make_node("Gemm", ["x", "W"], ["y"], alpha=1e37)], {"W": [[1e-37]]})
    computed = f(1e37) * (f(1e-37) * f(x))
    off = off_by(graph, there(x), computed)
    assert 0 < off <= bound(graph, there(x))
    flushed = off_by(graph, there(x), 0.0)
    assert off <= flushed <= bound(graph, there(x))


def test_a_product_that_overflows_before_alpha(tmp_path):
    graph = graph_of(tmp_path, [helper.make_node("Gemm", ["x", "W"], ["y"], alpha=1e-37)], {"W": [[1e37]]})
    assert np.isfinite(bound(graph, there(1.0)))
    assert bound(graph, there(100.0)) == np.inf  # x W is 1e39


def test_weights_that_multiply_padding_alone_must_not_overflow(tmp_path):
    """Once converted to a shorter format they are infinite, and infinity times the zero beside the image is NaN."""
    conv = helper.make_node("Conv", ["x", "W"], ["y"], pads=[1, 1, 1, 1])
    for corner, finite in ((6e4, True), (7e4, False)):
        kernel = np.zeros((1, 1, 3, 3))
        kernel[0, 0, 1, 1], kernel[0, 0, 0, 0] = 1.0, corner
        graph = graph_of(tmp_path, [conv], {"W": kernel}, (1, 1, 1, 1))
        with np.errstate(all="ignore"):
            assert np.isfinite(h(corner) * h(0.0)) == finite
        padding = there(1.0, shape=(1, 1, 1, 1))
        assert np.isfinite(bound(graph, padding, BINARY32))
        assert np.isinf(bound(graph, padding, BINARY16)) >= (not finite)


def test_the_constants_of_a_gemm_that_underflow(tmp_path):
    """alpha A B with A B below the normal range, and beta C with C rounded to zero in binary16."""
    node = helper.make_node("Gemm", ["A", "B", "x"], ["y"], alpha=1e37)
    graph = graph_of(tmp_path, [node], {"A": [[1e-24]], "B": [[1e-20]]})
    off = off_by(graph, there(0.0), f(1e37) * (f(1e-24) * f(1e-20)))
    assert 1e-9 < off <= bound(graph, there(0.0))
    large = graph_of(tmp_path, [node], {"A": [[1e30, -1e30]], "B": [[1e30], [1e30]]})
    assert bound(large, there(0.0)) == np.inf  # 1e60 - 1e60
    node = helper.make_node("Gemm", ["x", "W", "C"], ["y"], beta=1e4)
    graph = graph_of(tmp_path, [node], {"W": [[0.0]], "C": [[1.5 * 2.0**-24]]})
    assert 1e-4 < off_by(graph, there(0.0), h(1e4) * h(1.5 * 2.0**-24)) <= bound(graph, there(0.0), BINARY16)


def normalization(tmp_path, scale, mean, variance, bias=0.0) -> Graph:
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=0.0)
    constants = {"s": [scale], "b": [bias], "m": [mean], "v": [variance]}
    return graph_of(tmp_path, [node], constants, (1, 1, 1))


def test_what_underflows_inside_a_normalization(tmp_path):
    graph, region = normalization(tmp_path, 1e19, 0.0, 1e38), there(1e-25, shape=(1, 1, 1))
    deviation = np.sqrt(f(1e38))
    divided = off_by(graph, region, (f(1e-25) / deviation) * f(1e19))
    assert 1e-27 < divided <= bound(graph, region)
    assert off_by(graph, region, 0.0) <= bound(graph, region)  # flushed
    small, region = normalization(tmp_path, 1e-30, 0.0, 1e-20), there(1e-10, shape=(1, 1, 1))
    multiplied = off_by(small, region, (f(1e-10) * f(1e-30)) / np.sqrt(f(1e-20)))
    assert 0 < multiplied <= off_by(small, region, 0.0) <= bound(small, region)


def test_what_overflows_inside_a_normalization(tmp_path):
    """scale x, scale mean and 1 / std, each with the other factors far smaller; a variance that is subnormal."""
    region = there(1.0, shape=(1, 1, 1))
    far = there(1e20, shape=(1, 1, 1))
    for constants, where in (((1e19, 0.0, 1e38), far), ((1e19, 1e20, 1e38), region), ((1e-9, 0.0, 1e-39), region)):
        assert bound(normalization(tmp_path, *constants), where) == np.inf
    assert bound(normalization(tmp_path, 1.3, 0.4, 0.7, 0.1), region) < 1e-5
    assert bound(normalization(tmp_path, 1.3, 0.4, 0.7, 0.1), region, BINARY16) < 0.1


def test_divisors_that_are_not_normal_in_the_format(tmp_path):
    divide = [helper.make_node("Div", ["x", "c"], ["y"])]
    for divisor, precision in ((1.01 * 2.0**-127, BINARY32), (2.0**-14.5, BINARY16), (1e6, BINARY16)):
        graph = graph_of(tmp_path, divide, {"c": [divisor]})
        assert bound(graph, there(1e-5), precision) == np.inf
        assert np.isfinite(bound(graph, there(1e-5), BINARY64))
    assert bound(graph_of(tmp_path, divide, {"c": [3.0]}), there(1.0)) < 1e-6


@pytest.mark.parametrize("operator", ["Sigmoid", "Erf"])
@pytest.mark.parametrize("gain", [1e10, 1.7])
def test_the_gain_of_a_fused_activation_may_come_first(tmp_path, operator, gain):
    nodes = [helper.make_node("Mul", ["x", "g"], ["a"]), helper.make_node(operator, ["x"], ["s"])]
    if operator == "Erf":
        nodes += [helper.make_node("Add", ["s", "one"], ["t"]), helper.make_node("Mul", ["a", "t"], ["y"])]
    else:
        nodes += [helper.make_node("Mul", ["a", "s"], ["y"])]
    graph = graph_of(tmp_path, nodes, {"g": gain, "one": 1.0})
    assert np.isfinite(bound(graph, there(-3.0)))
    assert np.isfinite(bound(graph, there(-1e30))) == (gain == 1.7)  # 1e10 x = -inf, times a gate of zero


def activation(operator) -> Graph:
    return Graph((1,), (Node(operator, (0,)),))


def test_parameters_that_become_subnormal():
    """One rounding of the parameter, in binary16 to a multiple of 2^-24, in binary32 flushed to zero."""
    low, x = 1.5 * 2.0**-24, -1000.0
    at = Region(np.array([x]), Fraction(0), "l2")
    graph = activation(LeakyRelu(Ball.exact(low)))
    assert 2e-5 < off_by(graph, at, h(low) * h(x)) <= bound(graph, at, BINARY16)
    flat = activation(LeakyRelu(Ball.exact(1e-39)))
    far = Region(np.array([-1e30]), Fraction(0), "l2")
    assert off_by(flat, far, 0.0) <= bound(flat, far)
    above = Region(np.array([1000.0]), Fraction(0), "l2")
    selu = activation(Elu(1.0, low))
    assert 2e-5 < off_by(selu, above, h(low) * h(1000.0)) <= bound(selu, above, BINARY16)
    below = Region(np.array([-5.0]), Fraction(0), "l2")
    for alpha, gamma in ((1e38, 1e-38), (1e-40, 1e10)):
        flushed = activation(Elu(alpha, gamma))
        assert off_by(flushed, below, 0.0) <= bound(flushed, below)
    gate = activation(Silu(1e-39))
    assert off_by(gate, far, -5e29) <= bound(gate, far)  # x sigmoid(0)


def test_parameters_that_overflow():
    at = Region(np.array([-1e-3]), Fraction(0), "l2")
    for operator in (LeakyRelu(Ball.exact(1e5)), Elu(1e5), Elu(1e3, 1e3), Silu(1e5)):
        assert bound(activation(operator), at, BINARY16) == np.inf
        assert np.isfinite(bound(activation(operator), at, BFLOAT16))
    for x in (-1e-20, -1e-7):
        near = Region(np.array([x]), Fraction(0), "l2")
        assert bound(activation(Elu(1e33, 1e10)), near) == np.inf
        assert np.isfinite(bound(activation(Elu(1e33, 1e10)), near, BINARY64))
        assert np.isfinite(bound(activation(Elu(1e33, 1e10)), near, REAL))


def test_bounds_of_a_clip_are_rounded():
    at = Region(np.array([0.0]), Fraction(0), "l2")
    for low in (0.1, 1.5 * 2.0**-24, 3000.7):
        graph = activation(Clip(np.array(low), np.array(np.inf)))
        off = off_by(graph, at, h(low))
        assert 0 < off <= bound(graph, at, BINARY16) <= 20 * off + 0.005 * low
    assert bound(activation(Clip(np.array(1e5), np.array(1e6))), at, BINARY16) == np.inf
    beyond = activation(Clip(np.array(-1e6), np.array(1e6)))  # infinite in the format, as good as none
    assert bound(beyond, at, BINARY16) < 1e-5
    plain = Clip(np.array(0.0), np.array(6.0))
    assert plain.execution_error(np.ones(1), np.ones(1), BFLOAT16) == 0.0


def test_no_more_than_one_softmax_is_left_out_of_an_execution(tmp_path):
    def scores(*last: str) -> Graph:
        nodes = [helper.make_node("MatMul", ["x", "W"], ["0"])]
        nodes += [helper.make_node(kind, [str(i)], [str(i + 1)]) for i, kind in enumerate(last)]
        nodes[-1].output[0] = "y"
        return graph_of(tmp_path, nodes, {"W": np.eye(2)}, (1, 2))

    for last in (["Softmax"] * 14, ["Softmax", "Softmax"], ["LogSoftmax", "Softmax"], ["Softmax", "LogSoftmax"]):
        graph = scores(*last)
        assert NESTED in graph.notes and len(graph.nodes) == 1  # claims about the exact network stay
        assert (class_slack(graph, there(0.0, 1e-4), BINARY32) == np.inf).all()
    for last in (["Softmax"], ["LogSoftmax"], ["Softmax", "Hardmax"]):
        assert np.isfinite(class_slack(scores(*last), there(0.0, 1e-4), BINARY32)).all()
