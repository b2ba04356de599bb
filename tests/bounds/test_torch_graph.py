"""The torch function of a graph against the graph's own evaluation and reverse accumulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from random_graphs import ACTIVATIONS, Sketch, random_graph

from certlip.bounds import torch_graph as module
from certlip.bounds.torch_graph import torch_graph
from certlip.graph import Graph, Node
from certlip.ops import Conv, ConvTranspose, Dense, Reindex, Tanh
from certlip.rigor.ball import Ball


def both(graph: Graph, x: np.ndarray, direction: np.ndarray, dtype: str = "float64"):
    """Value and gradient of <direction, f> by torch."""
    point = torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True)
    y = torch_graph(graph, dtype)(point)
    (y * torch.tensor(direction, dtype=y.dtype)).sum().backward()
    return y.detach().numpy(), point.grad.numpy()


def agree(graph: Graph, seed: int, dtype: str = "float64", tolerance: float = 1e-9) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((5, *graph.input_shape))
    direction = rng.standard_normal((5, *graph.output_shape))
    y, slope = both(graph, x, direction, dtype)
    np.testing.assert_allclose(y, graph(x), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slope, graph.gradient(x, direction), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed):
    agree(random_graph(seed, pools=True), seed)


@pytest.mark.parametrize("make", ACTIVATIONS)
def test_each_activation_far_from_zero_and_near_it(make):
    x = np.concatenate([-np.logspace(-8, 2, 40), np.logspace(-8, 2, 40)])[:, None]
    graph = Graph((1,), (Node(make(), (0,)),))
    y, slope = both(graph, x, np.ones_like(x))
    np.testing.assert_allclose(y, graph(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(slope, graph.gradient(x, np.ones_like(x)), rtol=1e-9, atol=1e-12)


def test_float32_is_near():
    for seed in range(10):
        agree(random_graph(seed, pools=True), seed, "float32", 1e-3)


def convolution(dimensions: int, rng: np.random.Generator) -> Conv:
    """Two groups, uneven padding, strides that leave entries unread, dilation."""
    size = (4, *(6 + axis for axis in range(dimensions)))
    kernel = Ball.exact(rng.standard_normal((6, 2, *(2,) * dimensions)))
    bias = Ball.exact(rng.standard_normal((1, 6, *(1,) * dimensions)))
    each = dimensions * (2,)
    return Conv(kernel, bias, np.abs(bias.mid), size, each, ((0, 1),) * dimensions, each, 2)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_convolutions_of_each_dimension_and_their_transposes(dimensions):
    conv = convolution(dimensions, np.random.default_rng(dimensions))
    agree(Graph(conv.domain, (Node(conv, (0,)),)), 0)
    transposed = ConvTranspose.of(conv, Ball.exact(0.5))
    agree(Graph(transposed.domain, (Node(transposed, (0,)),)), 1)


def test_a_border_dependent_bias():
    conv = convolution(2, np.random.default_rng(0))
    bias = np.random.default_rng(1).standard_normal(conv.codomain)
    agree(Graph(conv.domain, (Node(conv.with_bias(Ball.exact(bias), np.abs(bias)), (0,)),)), 2)


def test_a_value_that_is_read_twice_and_the_input_itself():
    sketch = Sketch(np.random.default_rng(0), (3,))
    sketch.residual(sketch.concat(0))
    sketch.dense(len(sketch.nodes), 2)
    agree(sketch.graph(), 0)
    agree(Graph((3,), ()), 0)


def test_constants_only():
    agree(Graph((3,), (Node(Reindex.of((3,), np.full((2, 2), -1), 0.5), (0,)),)), 0)


@dataclass(frozen=True, eq=False)
class Unheard(Tanh):
    """An operator that the table does not know."""


def test_an_unknown_operator_runs_through_its_own_methods():
    graph = Graph((3,), (Node(Dense.of(np.eye(3) * 0.5), (0,)), Node(Unheard(), (1,)), Node(Unheard(), (2,))))
    assert Unheard not in module._TABLE
    agree(graph, 0)
