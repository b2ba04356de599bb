"""Networks with other weights compute what their weights say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from small_models import ZOO

from certlip.graph import Graph, Node
from certlip.importers import load
from certlip.ops import Dense, Relu, Tanh
from certlip.passes import normal_form
from certlip.repairs.surgery import changes, dense_chain, distance, times, weighted, with_weights

DRAW = np.random.default_rng(0)


def chain(*sizes: int) -> Graph:
    nodes = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        nodes.append(Node(Dense.of(DRAW.normal(size=(b, a)), DRAW.normal(size=b)), (len(nodes),), f"dense{i}"))
        if i < len(sizes) - 2:
            nodes.append(Node((Relu(), Tanh())[i % 2], (len(nodes),)))
    return Graph((sizes[0],), tuple(nodes))


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.onnx")), ids=lambda path: path.stem)
def test_times_multiplies_the_output(path):
    graph = normal_form(load(path).graph)
    x = DRAW.normal(size=(3, *graph.input_shape))
    assert np.allclose(times(graph, 0.3)(x), 0.3 * graph(x), rtol=1e-12)


def test_times_behind_an_activation():
    graph = Graph((2,), (Node(Dense.of(np.eye(2), np.ones(2)), (0,)), Node(Relu(), (1,))))
    x = DRAW.normal(size=(5, 2))
    assert np.allclose(times(graph, 0.5)(x), 0.5 * graph(x))


def test_a_chain_is_taken_apart_and_put_together():
    graph = chain(4, 5, 3, 2)
    found = dense_chain(graph)
    assert found is not None and found.positions == (0, 2, 4) and found.starts_at_input
    assert [type(f) for f in found.functions] == [Relu, Tanh]
    weights, biases = [2 * w for w in found.weights], [b + 1 for b in found.biases]
    x = DRAW.normal(size=(6, 4))
    h = np.tanh(np.maximum(x @ weights[0].T + biases[0], 0) @ weights[1].T + biases[1])
    assert np.allclose(found.with_layers(weights, biases)(x), h @ weights[2].T + biases[2])


def test_the_last_layers_and_their_features():
    graph = chain(4, 5, 3, 2)
    found = dense_chain(graph, 2)
    assert found is not None and found.positions == (2, 4) and not found.starts_at_input
    x = DRAW.normal(size=(300, 4))
    features = found.features(x)
    (w1, w2), (b1, b2) = found.weights, found.biases
    assert np.allclose(np.tanh(features @ w1.T + b1) @ w2.T + b2, graph(x))


def test_a_skip_ends_the_chain():
    graph = normal_form(load(ZOO / "digits_residual.onnx").graph)
    found = dense_chain(graph)
    assert found is not None and len(found.positions) == 1


def test_distance_is_that_of_the_weights():
    graph = chain(3, 3, 1)
    moved = with_weights(graph, 2, np.zeros((1, 3)), np.zeros(1))
    old = graph.nodes[2].operator
    size = np.linalg.norm([*old.weight.mid.ravel(), *old.bias.mid])
    first, last = changes(graph, moved)
    assert first.moved == 0.0 and last.moved == pytest.approx(size) and last.relative == pytest.approx(1.0)
    assert distance(graph, moved) == pytest.approx(size / np.hypot(first.size, size))
    assert distance(graph, chain(3, 4, 1)) is None


def test_weights_of_other_nodes_are_refused():
    graph = chain(3, 3, 1)
    assert weighted(graph) == [0, 2]
    with pytest.raises(ValueError, match="no weights"):
        with_weights(graph, 1, np.eye(3), np.zeros(3))
