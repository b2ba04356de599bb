"""Properties of graphs as read: adjoints, gradients, and random networks against onnxruntime."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_models import build, single
from test_operators import CASES

from certlip.errors import ImportMismatch
from certlip.graph import Affine
from certlip.importers.agreement import check_agreement
from certlip.importers.load import precision_of
from certlip.importers.runtimes import onnx_runtime
from certlip.onnx_reader import parse, read_graph
from certlip.onnx_reader.reader import choose_ends, read
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import BINARY32, BINARY64, REAL


def graph_of(name):
    op, shape, constants, attributes, first, last, options = (
        *CASES[name],
        *((), {}, 8, 99, {})[len(CASES[name]) - 2 :],
    )
    opset = max(17, first) if last > 17 else last
    return read_graph(parse(single(op, shape, constants, opset, **options, **attributes).SerializeToString()))


@pytest.mark.parametrize("name", CASES)
def test_adjoint_and_matrix_of_every_affine_operator(name):
    draw = np.random.default_rng(1)
    for node in graph_of(name).nodes:
        operator = node.operator
        if not isinstance(operator, Affine):
            continue
        x, y = draw.standard_normal((2, *operator.domain)), draw.standard_normal((2, *operator.codomain))
        weight = np.broadcast_to(operator.weight.mid, operator.weight.shape)
        forward, backward = operator.forward(weight, x), operator.backward(weight, y)
        assert forward.shape == y.shape and backward.shape == x.shape
        np.testing.assert_allclose((forward * y).sum(), (x * backward).sum(), rtol=1e-11, atol=1e-11)
        image = operator.matrix().mid @ x.reshape(2, -1).T
        np.testing.assert_allclose(image.T, forward.reshape(2, -1), rtol=1e-11, atol=1e-11)
        assert operator.l2_norm >= np.linalg.norm(operator.matrix().mid, 2) * (1 - 1e-12)
        assert operator.linf_norm >= np.abs(operator.matrix().mid).sum(1).max() * (1 - 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_differences(name):
    graph = graph_of(name)
    draw = np.random.default_rng(2)
    x = draw.standard_normal((2, *graph.input_shape))
    direction = draw.standard_normal((2, *graph.output_shape))
    step = 1e-6 * draw.standard_normal(x.shape)
    moved = ((graph(x + step) - graph(x - step)) * direction).sum()
    expected = 2 * (graph.gradient(x, direction) * step).sum()
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_enclosures_hold_the_value_and_nearby_ones(name):
    graph = graph_of(name)
    draw = np.random.default_rng(4)
    x = draw.standard_normal((2, *graph.input_shape))
    rad = np.full(x.shape, 1e-3)
    for precision in (REAL, BINARY32, BINARY64):
        ball = graph.enclose(Ball(x, rad), precision)
        for _ in range(3):
            near = graph(x + draw.uniform(-1, 1, x.shape) * rad)
            assert (np.abs(near - ball.mid) <= ball.rad + 1e-14 * np.abs(near)).all()


def test_the_digest_sees_every_weight():
    first, again = (graph_of("conv padded").digest for _ in range(2))
    assert first == again
    assert first != graph_of("conv dilated").digest


def agree(model):
    file = parse(model.SerializeToString())
    reading, ends = read(file), choose_ends(file.proto, None, None)
    shown = [name for names in reading.names.values() for name in names]
    runtime = onnx_runtime(file.proto, ends, shown)
    return check_agreement(reading, precision_of(file.proto, ends), np.dtype(np.float32), [runtime])


@pytest.mark.parametrize(
    ("operator", "shape", "constants", "wrong", "right"),
    [
        ("LeakyRelu", (1, 9), [], {"alpha": 0.1}, {"alpha": 0.10001}),
        ("Elu", (1, 9), [], {"alpha": 1.0}, {"alpha": 1.0001}),
        ("Conv", (1, 1, 5, 5), [np.ones((1, 1, 2, 2))], {"pads": [1, 0, 0, 1]}, {"pads": [0, 1, 1, 0]}),
        ("BatchNormalization", (1, 2, 3), [np.ones(2)] * 4, {"epsilon": 1e-5}, {"epsilon": 2e-5}),
        ("Gelu", (1, 9), [], {"approximate": "tanh"}, {"approximate": "none"}),
    ],
)
def test_a_misreading_is_found(operator, shape, constants, wrong, right):
    """The check has teeth: attributes that differ a little are told apart, inside a network too."""
    for deep in (False, True):
        files = []
        for attributes in (wrong, right):
            model = single(operator, shape, constants, 20, **attributes)
            if deep:  # large weights before and after blow up any bound over the whole network
                size = shape[-1]
                model.graph.node[0].input[0], model.graph.node[0].output[0] = "before", "after"
                nodes = [helper.make_node("MatMul", ["x", "A"], ["before"]), *model.graph.node]
                nodes.append(helper.make_node("MatMul", ["after", "B"], ["y"]))
                stored = {f"c{i}": array for i, array in enumerate(constants)}
                draw = np.random.default_rng(0)
                stored |= {
                    "A": draw.standard_normal((size, size)),
                    "B": 100 * draw.standard_normal((size, size)),
                }
                model = build(nodes, shape, stored, 20)
            files.append(parse(model.SerializeToString()))
        ends = choose_ends(files[1].proto, None, None)
        misread = read(files[0])
        shown = [name for names in misread.names.values() for name in names]
        with pytest.raises(ImportMismatch, match="rounding explains"):
            check_agreement(
                misread, BINARY32, np.dtype(np.float32), [onnx_runtime(files[1].proto, ends, shown)]
            )


@st.composite
def networks(draw):
    """Small networks of dense layers, convolutions, pooling, branches and activations."""
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(1, 5), (1, 2, 6, 5), (1, 3, 7)]))
    first, nodes, constants, name, count = shape, [], {}, "x", 0

    def constant(array):
        nonlocal count
        count += 1
        constants[f"k{count}"] = array
        return f"k{count}"

    def add(operator, inputs, **attributes):
        nonlocal count
        count += 1
        nodes.append(helper.make_node(operator, inputs, [f"v{count}"], name=f"n{count}", **attributes))
        return f"v{count}"

    for _ in range(draw(st.integers(1, 6))):
        step = draw(
            st.sampled_from(["dense", "conv", "pool", "act", "residual", "norm", "flatten", "reduce"])
        )
        rank = len(shape)
        if step == "dense" or (step in ("conv", "pool", "norm") and rank == 2):
            width = draw(st.integers(1, 6))
            name = add("MatMul", [name, constant(seed.standard_normal((shape[-1], width)))])
            shape = (*shape[:-1], width)
            name = add("Add", [name, constant(seed.standard_normal(width))])
        elif step == "conv":
            groups = draw(st.sampled_from([g for g in (1, 2, 3) if shape[1] % g == 0]))
            out = groups * draw(st.integers(1, 3))
            window = [draw(st.integers(1, min(3, n))) for n in shape[2:]]
            pads = [draw(st.integers(0, 1)) for _ in range(2 * len(window))]
            strides = [draw(st.integers(1, 2)) for _ in window]
            kernel = constant(seed.standard_normal((out, shape[1] // groups, *window)))
            name = add("Conv", [name, kernel], group=groups, pads=pads, strides=strides)
            grown = [n + pads[i] + pads[i + len(window)] for i, n in enumerate(shape[2:])]
            shape = (1, out, *((n - k) // s + 1 for n, k, s in zip(grown, window, strides, strict=True)))
        elif step == "pool":
            window = [draw(st.integers(1, min(3, n))) for n in shape[2:]]
            name = add(draw(st.sampled_from(["MaxPool", "AveragePool"])), [name], kernel_shape=window)
            shape = (*shape[:2], *(n - k + 1 for n, k in zip(shape[2:], window, strict=True)))
        elif step == "norm":
            extras = [seed.standard_normal(shape[1]) for _ in range(3)] + [seed.uniform(0.1, 2, shape[1])]
            name = add("BatchNormalization", [name, *(constant(extra) for extra in extras)])
        elif step == "act":
            kind = draw(
                st.sampled_from(
                    ["Relu", "Tanh", "Sigmoid", "Softplus", "Elu", "LeakyRelu", "Abs", "Selu", "Gelu"]
                )
            )
            name = add(kind, [name])
        elif step == "residual":
            branch = add("MatMul", [name, constant(seed.standard_normal((shape[-1], shape[-1])))])
            name = add(draw(st.sampled_from(["Add", "Sub", "Max", "Min"])), [name, branch])
        elif step == "flatten":
            name = add("Flatten", [name])
            shape = (1, int(np.prod(shape[1:])))
        elif rank > 2:
            name = add("ReduceMean", [name, constant(np.array([-1]))], keepdims=0)
            shape = shape[:-1]
    add("Identity", [name])
    nodes[-1].output[0] = "y"
    return build(nodes, first, constants, 20)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks())
def test_random_networks_agree_with_onnxruntime(model):
    record = agree(model)
    assert record.runtime.startswith("onnxruntime")
    assert record.largest_difference <= record.allowed


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks())
def test_gradients_of_random_networks(model):
    graph = read_graph(parse(model.SerializeToString()))
    draw = np.random.default_rng(0)
    x, direction = (
        draw.standard_normal((1, *graph.input_shape)),
        draw.standard_normal((1, *graph.output_shape)),
    )
    step = 1e-7 * draw.standard_normal(x.shape)
    slopes = [(graph(x + t * step) - graph(x)).ravel() @ direction.ravel() / t for t in (1.0, -1.0)]
    expected = (graph.gradient(x, direction) * step).sum()
    size = np.abs(graph(x)).max() + np.abs(slopes).max() / 1e-7
    assert min(abs(slope - expected) for slope in slopes) <= 1e-12 * size + 1e-5 * np.abs(expected)
