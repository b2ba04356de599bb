"""Graphs as trainable networks and back, against the graph's own evaluation and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_graphs import random_graph
from torch.nn.utils import parametrize

from certlip.graph import Graph, Node
from certlip.ops import Conv, Dense, Relu
from certlip.rigor.ball import Ball
from certlip.training import Network


@pytest.mark.parametrize("seed", range(40))
def test_a_network_computes_its_graph_and_gives_it_back(seed):
    graph = random_graph(seed, pools=True)
    network = Network(graph, dtype=torch.float64)
    x = np.random.default_rng(seed).standard_normal((4, *graph.input_shape))
    expected = graph(x)
    np.testing.assert_allclose(network(torch.tensor(x)).detach(), expected, rtol=1e-9, atol=1e-9)
    again = network.graph()
    np.testing.assert_allclose(again(x), expected, rtol=1e-12, atol=1e-12)
    assert [type(node.operator) for node in again.nodes] == [type(node.operator) for node in graph.nodes]


@pytest.mark.parametrize("seed", range(12))
def test_trained_numbers_come_back_exactly(seed):
    """Weights moved in float32 are those of the graph, and both compute the same."""
    graph = random_graph(seed, pools=True)
    network = Network(graph)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    again = network.graph()
    for position in network.positions:
        weight = network.layers[str(position)].weight.detach().numpy()
        np.testing.assert_array_equal(again.nodes[position].operator.weight.mid, weight.astype(np.float64))
    x = np.random.default_rng(seed).standard_normal((4, *graph.input_shape)).astype(np.float32)
    expected = again(x.astype(np.float64))
    actual = network(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max(initial=1.0))


def test_gradients_are_those_of_finite_differences():
    graph = random_graph(3)
    network = Network(graph, dtype=torch.float64)
    x = torch.tensor(np.random.default_rng(0).standard_normal((3, *graph.input_shape)))
    network(x).square().sum().backward()
    step = 1e-6
    for parameter in network.parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for entry in range(min(3, len(flat))):
            values = []
            for sign in (1.0, -2.0):
                flat[entry] += sign * step
                values.append(float(network(x).detach().square().sum()))
            flat[entry] += step
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(gradient[entry]), rel=1e-4, abs=1e-6)


def test_biases_keep_what_varies():
    rng = np.random.default_rng(0)
    border = rng.standard_normal((1, 2, 3, 3))
    kernel = Ball.exact(rng.standard_normal((2, 1, 3, 3)))
    conv = Conv(kernel, Ball.exact(border), np.abs(border), (1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    graph = Graph((1, 1, 3, 3), (Node(conv, (0,)),))
    network = Network(graph, dtype=torch.float64)
    assert network.layers["0"].bias.shape == (2, 3, 3)
    plain = Dense.of(rng.standard_normal((4, 3)), lead=(1,))
    network = Network(Graph((1, 3), (Node(plain, (0,)), Node(Relu(), (1,)))))
    assert network.layers["0"].bias.shape == (4,)


def test_a_parametrised_weight_is_written_as_what_it_is():
    class Halved(torch.nn.Module):
        def forward(self, raw):
            return 0.5 * raw

    graph = Graph((1, 2), (Node(Dense.of(np.array([[2.0, 4.0]]), lead=(1,)), (0,)),))
    network = Network(graph)
    parametrize.register_parametrization(network.layers["0"], "weight", Halved())
    np.testing.assert_array_equal(network.graph().nodes[0].operator.weight.mid, [[1.0, 2.0]])
