"""Sorting and the spellings of MaxMin and GroupSort: read as the runtime computes them, with shared comparators."""

from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from onnx import helper
from onnx_models import build, save, single
from torch import nn

from certlip.errors import CertlipError, UnsupportedModel
from certlip.importers import load
from certlip.lipschitz import bound_output
from certlip.onnx_reader import parse, read_graph
from certlip.onnx_reader.lowering.sorting import MAX_SORTED, sorting_network
from certlip.ops import Abs, MaxPool
from certlip.passes.maxima import without_maxima
from certlip.properties import Output


def ints(*values):
    return np.array(values, dtype=np.int64)


def neurons(graph) -> int:
    shapes = zip(graph.nodes, graph.shapes[1:], strict=True)
    return sum(prod(shape) for node, shape in shapes if isinstance(node.operator, Abs))


def comparators(graph, shared: int, isometric: bool = False) -> None:
    """The rewritten graph computes the same with `shared` absolute values; where the network only reorders, its
    constant is 1."""
    rewritten = without_maxima(graph)
    assert not any(isinstance(node.operator, MaxPool) for node in rewritten.nodes)
    assert neurons(rewritten) == shared
    x = np.random.default_rng(0).standard_normal((3, *graph.input_shape))
    np.testing.assert_allclose(rewritten(x), graph(x), atol=1e-12)
    if isometric:
        (bound,) = bound_output(rewritten, Output("all"), "l2", "lipsdp")
        assert bound.value == pytest.approx(1.0, abs=1e-6)


# ---------------------------------------------------------------- TopK


@pytest.mark.parametrize("size", range(1, 13))
def test_sorting_networks_sort_all_zeros_and_ones(size):
    """The zero-one principle: then they sort everything."""
    rows = np.array(list(product((0, 1), repeat=size)))
    for layer in sorting_network(size):
        assert len({i for pair in layer for i in pair}) == 2 * len(layer)
        for i, j in layer:
            rows[:, [i, j]] = np.sort(rows[:, [i, j]], axis=1)
    assert (np.diff(rows, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("shape", "attributes", "taken"),
    [
        ((1, 6), {}, 6),
        ((1, 5), {"largest": 0}, 5),
        ((3, 4), {"axis": 0, "largest": 0}, 3),
        ((1, 7, 2), {"axis": 1}, 3),
        ((2, 3, 4), {"axis": -2, "largest": 0}, 2),
        ((1, 1), {}, 1),
    ],
)
@pytest.mark.parametrize("opset", [8, 10, 11, 17, 21])
def test_top_k(shape, attributes, taken, opset, tmp_path):
    if opset < 11:  # older operator sets know the largest entries only
        attributes = {key: value for key, value in attributes.items() if key != "largest"}
    if opset < 10:
        model = single("TopK", shape, opset=opset, outputs=2, k=taken, **attributes)
    else:
        model = single("TopK", shape, [ints(taken)], opset, outputs=2, **attributes)
    read = load(save(model, tmp_path))  # compared with onnxruntime value by value
    assert read.agreement.runtime.startswith("onnxruntime") and read.agreement.samples >= 12
    axis = attributes.get("axis", -1)
    for x in np.random.default_rng(3).standard_normal((4, *shape)):
        ordered = np.sort(x, axis) if attributes.get("largest") == 0 else -np.sort(-x, axis)
        np.testing.assert_array_equal(read.graph(x[None])[0], np.take(ordered, range(taken), axis))


def test_constants_are_sorted_when_read(tmp_path):
    nodes = [
        helper.make_node("TopK", ["c", "k"], ["sorted", "unread"]),
        helper.make_node("Add", ["x", "sorted"], ["y"]),
    ]
    model = build(nodes, (1, 3), {"c": np.array([1.0, 3.0, 2.0]), "k": ints(3)})
    np.testing.assert_array_equal(load(save(model, tmp_path)).graph(np.zeros((1, 1, 3))), [[[3.0, 2.0, 1.0]]])


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        (single("TopK", (1, 4), [ints(4)], sorted=0), "order"),
        (single("TopK", (1, 4), [ints(5)]), "5 of 4"),
        (single("TopK", (1, 4), [ints(0)]), "0 of 4"),
        (single("TopK", (1, MAX_SORTED + 1), [ints(2)]), str(MAX_SORTED)),
        (single("TopK", (), [ints(1)]), "axis"),
    ],
)
def test_what_cannot_be_sorted_is_refused(model, hint):
    with pytest.raises(UnsupportedModel, match=hint):
        read_graph(parse(model.SerializeToString()))


@pytest.mark.parametrize("op", ["TopK", "MaxPool"])
def test_indices_that_are_read_are_refused(op):
    extra, kernel = (["k"], {}) if op == "TopK" else ([], {"kernel_shape": [2]})
    nodes = [
        helper.make_node(op, ["x", *extra], ["values", "places"], **kernel),
        helper.make_node("Cast", ["places"], ["floats"], to=1),
        helper.make_node("Add", ["values", "floats"], ["y"]),
    ]
    with pytest.raises(UnsupportedModel, match="indices are used"):
        read_graph(parse(build(nodes, (1, 2, 4), {"k": ints(4)}).SerializeToString()))
    only = [helper.make_node(op, ["x", *extra], ["values", "y"], **kernel)]
    with pytest.raises(CertlipError):
        read_graph(parse(build(only, (1, 2, 4), {"k": ints(4)}).SerializeToString()))


def test_indices_that_are_only_named_do_not_matter(tmp_path):
    model = single("MaxPool", (1, 2, 4), kernel_shape=[2], outputs=2)
    assert load(save(model, tmp_path)).graph.output_shape == (1, 2, 3)


# ---------------------------------------------------------------- spellings of MaxMin in ONNX files


def halves():
    return [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1),
        helper.make_node("Max", ["a", "b"], ["high"]),
        helper.make_node("Min", ["b", "a"], ["low"]),
        helper.make_node("Concat", ["high", "low"], ["y"], axis=1),
    ]


def reduced():
    return [
        helper.make_node("Reshape", ["x", "paired"], ["p"]),
        helper.make_node("ReduceMax", ["p"], ["high"], axes=[2], keepdims=1),
        helper.make_node("ReduceMin", ["p"], ["low"], axes=[2], keepdims=1),
        helper.make_node("Concat", ["high", "low"], ["both"], axis=2),
        helper.make_node("Reshape", ["both", "flat"], ["y"]),
    ]


def strided():
    return [
        helper.make_node("Slice", ["x", "zero", "end", "one", "two"], ["a"]),
        helper.make_node("Slice", ["x", "one", "end", "one", "two"], ["b"]),
        helper.make_node("Neg", ["a"], ["c"]),
        helper.make_node("Neg", ["b"], ["d"]),
        helper.make_node("Max", ["a", "b"], ["high"]),
        helper.make_node("Max", ["c", "d"], ["turned"]),
        helper.make_node("Neg", ["turned"], ["low"]),
        helper.make_node("Concat", ["low", "high"], ["y"], axis=1),
    ]


@pytest.mark.parametrize("spelling", [halves, reduced, strided])
@pytest.mark.parametrize("space", [(), (2, 3)])
def test_spellings_of_maxmin(spelling, space, tmp_path):
    shape = (1, 6, *space)
    constants = {
        "paired": ints(1, 3, 2, *space),
        "flat": ints(*shape),
        "zero": ints(0),
        "one": ints(1),
        "two": ints(2),
        "end": ints(6),
    }
    read = load(save(build(spelling(), shape, constants), tmp_path))
    assert read.agreement.runtime.startswith("onnxruntime")
    comparators(read.graph, 3 * prod(space), isometric=True)


# ---------------------------------------------------------------- and through torch


class GroupSort(nn.Module):
    def __init__(self, group: int):
        super().__init__()
        self.group = group

    def forward(self, x):
        return x.view(len(x), -1, self.group).sort(-1).values.reshape(x.shape)


class MaxMin(nn.Module):
    def __init__(self, spelling: str):
        super().__init__()
        self.spelling = spelling

    def forward(self, x):
        if self.spelling == "chunks":
            a, b = x.chunk(2, 1)
            return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)
        if self.spelling == "slices":
            a, b = x[:, ::2], x[:, 1::2]
            return torch.stack([torch.max(a, b), torch.min(a, b)], 2).flatten(1, 2)
        pairs = x.view(x.shape[0], -1, 2, *x.shape[2:])
        if self.spelling == "extrema":
            return torch.stack([pairs.amax(2), pairs.amin(2)], 2).reshape(x.shape)
        return torch.cat([pairs.max(2).values, pairs.min(2).values], 1)


@pytest.mark.parametrize(("group", "count"), [(2, 4), (4, 2 * 5), (8, 19)])
def test_group_sort_from_torch(group, count):
    comparators(load(GroupSort(group), input_shape=(1, 8)).graph, count, isometric=True)


@pytest.mark.parametrize("spelling", ["chunks", "slices", "extrema", "values"])
@pytest.mark.parametrize("shape", [(1, 6), (1, 4, 2, 3)])
def test_maxmin_from_torch(spelling, shape):
    comparators(load(MaxMin(spelling), input_shape=shape).graph, prod(shape) // 2, isometric=True)


def test_a_network_between_maxmin_layers():
    torch.manual_seed(0)
    layers = [nn.Linear(3, 8), MaxMin("slices"), nn.Linear(8, 8), GroupSort(4), nn.Linear(8, 2)]
    graph = load(nn.Sequential(*layers), input_shape=(1, 3)).graph
    comparators(graph, 4 + 10)
    (bound,) = bound_output(without_maxima(graph), Output("all"), "l2", "lipsdp")
    norms = [np.linalg.norm(layer.weight.detach().numpy(), 2) for layer in layers[::2]]
    x, y = np.random.default_rng(0).standard_normal((2, 200, 1, 3))
    steepest = (np.linalg.norm((graph(x) - graph(y))[:, 0], axis=1) / np.linalg.norm((x - y)[:, 0], axis=1)).max()
    assert steepest <= bound.value <= prod(norms) * (1 + 1e-6)
