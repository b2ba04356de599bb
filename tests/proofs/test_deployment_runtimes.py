"""onnxruntime and torch stay within the slack on the model zoo, whatever their threads, optimisations and batches."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from float_executions import ORDERS, Execution, deviations, points_of
from onnx import TensorProto, helper, numpy_helper
from small_models import ZOO

from certlip.graph import Graph
from certlip.onnx_reader import read_file, read_graph
from certlip.ops import Add, Conv, Dense, Reindex, Relu, Scale, Tanh
from certlip.proofs.deployment import slack
from certlip.proofs.margin import output_balls
from certlip.proofs.ranges import Region
from certlip.rigor.rounding import BINARY32
from certlip.verification.margins import label_margins

MODELS = sorted(ZOO.glob("*.onnx"))
zoo = pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def session(model, level: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def samples(path, graph: Graph, count: int) -> np.ndarray:
    return np.load(path.with_suffix(".npz"))["x"][:count].astype(np.float64).reshape(-1, *graph.input_shape)


@pytest.fixture(scope="module")
def asked():
    """For each model: its graph, inputs in balls around samples as binary32, and the slack of each input's ball."""
    known = {}

    def ask(path):
        if path not in known:
            graph, rng = read_graph(read_file(path)), np.random.default_rng(11)
            inputs, bounds = [], []
            for i, center in enumerate(samples(path, graph, 6)):
                norm, radius = (("l2", Fraction(1, 10)), ("linf", Fraction(1, 50)))[i % 2]
                x = points_of(center, float(radius) * 0.999, norm, rng, 10).astype(np.float32)
                bound = slack(graph, Region(center, radius, norm), BINARY32)
                inputs.append(x)
                bounds.append(np.broadcast_to(bound, (len(x), bound.size)))
            known[path] = graph, np.concatenate(inputs), np.concatenate(bounds)
        return known[path]

    return ask


@zoo
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
def test_onnxruntime(path, level, threads, asked):
    graph, x, bound = asked(path)
    runtime = session(str(path), level, threads)
    name = runtime.get_inputs()[0].name
    for size in (1, 7, len(x)):
        batch = x.reshape(len(x), *graph.input_shape[1:])
        parts = [runtime.run(None, {name: batch[i : i + size]})[0] for i in range(0, len(x), size)]
        off = deviations(graph, x.astype(np.float64), np.concatenate(parts).astype(np.float64))
        assert (off <= bound).all()
        assert off.max() > 0.0


def in_torch(graph: Graph, x: np.ndarray) -> torch.Tensor:
    """The graph by torch's own kernels, in binary32; shapes without the graph's batch of one."""
    values = [torch.from_numpy(np.asarray(x, np.float32))]

    def constant(ball):
        return torch.from_numpy(ball.mid.astype(np.float32))

    for node in graph.nodes:
        given = [values[i] for i in node.inputs]
        match node.operator:
            case Dense() as dense:
                values.append(torch.nn.functional.linear(given[0], constant(dense.weight), constant(dense.bias)))
            case Conv() as conv:
                (top, bottom), (left, right) = conv.pads
                padded = torch.nn.functional.pad(given[0].reshape(-1, *conv.size), (left, right, top, bottom))
                bias = constant(conv.bias).expand(*conv.codomain[1:2], 1, 1).reshape(-1).contiguous()
                result = torch.nn.functional.conv2d(
                    padded, constant(conv.weight), bias, conv.strides, 0, conv.dilations, conv.groups
                )
                values.append(result.reshape(len(x), *conv.codomain))
            case Scale() as scale:
                values.append(given[0] * constant(scale.weight) + constant(scale.bias))
            case Reindex() as moved:
                assert moved.is_identity
                values.append(given[0].reshape(len(x), *moved.codomain))
            case Relu():
                values.append(torch.relu(given[0]))
            case Tanh():
                values.append(torch.tanh(given[0]))
            case Add():
                values.append(given[0] + given[1])
            case other:
                raise AssertionError(other)
    return values[-1]


@zoo
def test_torch(path, asked):
    graph, x, bound = asked(path)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for size in (1, len(x)):
                parts = [in_torch(graph, x[i : i + size]) for i in range(0, len(x), size)]
                off = deviations(graph, x.astype(np.float64), torch.cat(parts).double().numpy())
                assert (off <= bound).all()
                assert off.max() > 0.0
    finally:
        torch.set_num_threads(threads)


@zoo
def test_sums_in_other_orders(path, asked):
    """Sequential, reversed and permuted sums of 784 terms lose more than the blocked ones of runtimes."""
    graph, x, bound = asked(path)
    rng = np.random.default_rng(4)
    some = np.arange(0, len(x), 7)
    for order in ORDERS:
        computed = Execution(BINARY32, order, rng, fma=order == "forward").run(graph, x[some].astype(np.float64))
        off = deviations(graph, x[some].astype(np.float64), computed)
        assert (off <= bound[some]).all()
        assert off.max() > 0.0


@zoo
def test_the_slack_is_a_small_share_of_the_margin(path):
    graph = read_graph(read_file(path))
    if graph.output_size == 1:
        pytest.skip("a regression has no margins")
    for norm, radius in (("l2", Fraction(1, 10)), ("linf", Fraction(1, 50))):
        shares = []
        for center in samples(path, graph, 9):
            outputs = output_balls(graph, center[None])[0]
            label = int(outputs.mid.argmax())
            bound = slack(graph, Region(center, radius, norm), BINARY32)
            shares.append(float(((bound[label] + bound) / label_margins(outputs, label)).max()))
        assert np.median(shares) < 0.01


def optimised(nodes, constants, shape, output):
    graph = helper.make_graph(
        nodes,
        "fused",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *output])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def residual_convolutions():
    """Conv, BatchNormalization, Conv plus skip, Relu: onnxruntime folds and fuses all of it."""
    rng = np.random.default_rng(8)
    constants = {
        "K": rng.standard_normal((4, 4, 3, 3)), "b": 3 * rng.standard_normal(4), "s": rng.standard_normal(4),
        "B": rng.standard_normal(4), "m": 5 * rng.standard_normal(4), "v": rng.random(4) * 1e-3,
        "L": rng.standard_normal((4, 4, 3, 3)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "K", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "B", "m", "v"], ["n"]),
        helper.make_node("Conv", ["n", "L"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["d", "n"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    return optimised(nodes, constants, (4, 6, 6), (4, 6, 6))


def biased_products():
    """MatMul, Add, Mul and BatchNormalization on vectors, with biases far larger than the products."""
    rng = np.random.default_rng(9)
    constants = {
        "W": rng.standard_normal((300, 20)), "b": 1e4 * rng.standard_normal(20), "c": rng.standard_normal(20),
        "s": rng.standard_normal(20), "B": rng.standard_normal(20), "m": 1e4 * rng.standard_normal(20),
        "v": rng.random(20),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("Mul", ["q", "c"], ["r"]),
        helper.make_node("BatchNormalization", ["r", "s", "B", "m", "v"], ["n"]),
        helper.make_node("Softplus", ["n"], ["y"]),
    ]
    return optimised(nodes, constants, (300,), (20,))


@pytest.mark.parametrize("make", [residual_convolutions, biased_products])
def test_what_onnxruntime_fuses(make, tmp_path):
    model = make()
    onnx.save(model, tmp_path / "model.onnx")
    graph = read_graph(read_file(tmp_path / "model.onnx"))
    rng = np.random.default_rng(2)
    center = rng.standard_normal(graph.input_shape)
    bound = slack(graph, Region(center, Fraction(1, 10), "linf"), BINARY32)
    x = points_of(center, 0.0999, "linf", rng, 20).astype(np.float32)
    results = []
    for level in LEVELS:
        runtime = session(model.SerializeToString(), level, 1)
        computed = runtime.run(None, {"x": x.reshape(len(x), *graph.input_shape[1:])})[0].astype(np.float64)
        results.append(computed)
        assert (deviations(graph, x.astype(np.float64), computed) <= bound).all()
    assert any((results[0] != other).any() for other in results[1:])  # something was fused
