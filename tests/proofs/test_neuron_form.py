"""The dense form against the network itself, and the memory that it asks for before it takes it."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, steepest_secant
from witnesses import closed_form

from certlip.graph import Graph, Node, Pointwise
from certlip.ops import Abs, Add, Concat, Conv, Dense, MaxPool, Reindex, Relu, Tanh
from certlip.proofs import neuron_form as module
from certlip.proofs.form_memory import bytes_needed
from certlip.proofs.lipsdp import prove_form, prove_lipsdp
from certlip.proofs.neuron_form import NoNeuronForm, dense_matrices, neuron_form, obstacle
from certlip.rigor.ball import Ball


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))


def test_the_network_is_written_out():
    """v = V (x, z) + const and f = C (x, z) + const: differences of two evaluations obey both exactly."""
    rng = np.random.default_rng(5)
    n = rng.standard_normal
    graph = Graph(
        (3,),
        (
            Node(Dense.of(n((4, 3)), n(4)), (0,)), Node(Tanh(), (1,)), Node(Dense.of(n((3, 4)), n(3)), (2,)),
            Node(Add(), (0, 3)), Node(Relu(), (4,)), Node(Add(), (5, 5, 3)), Node(Dense.of(n((2, 3))), (6,)),
        ),
    )  # fmt: skip
    form = neuron_form(graph)
    assert form.sizes == (3, 4, 3, 2) and form.is_dense and form.neurons == 7
    assert [sorted(blocks) for blocks in form.maps] == [[0], [0, 1], [1, 2]]
    V, C = dense_matrices(form)
    x = n((2, 3))
    values = graph.values(x)
    step = np.diff(np.hstack([x, values[2], values[5]]), axis=0)[0]
    v = np.hstack([values[1], values[4]])
    assert np.allclose(V @ step, v[1] - v[0], atol=1e-12)
    assert np.allclose(C @ step, values[-1][1] - values[-1][0], atol=1e-12)
    assert not V[:, 3:][np.triu_indices(7)].any()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_graphs_are_written_out(seed):
    graph = random_graph(seed)
    form = neuron_form(graph)
    V, C = dense_matrices(form)
    x = np.random.default_rng(seed).standard_normal((2, *graph.input_shape))
    values = graph.values(x)
    nodes = [(i, node) for i, node in enumerate(graph.nodes) if isinstance(node.operator, Pointwise)]
    outputs = [values[i + 1].reshape(2, -1) for i, _ in nodes]
    inputs = [values[node.inputs[0]].reshape(2, -1) for _, node in nodes]
    step = np.diff(np.hstack([x.reshape(2, -1), *outputs]), axis=0)[0]
    moved = np.diff(np.hstack([np.zeros((2, 0)), *inputs]), axis=0)[0]
    assert np.allclose(V @ step, moved, atol=1e-9 * (1 + np.abs(moved).max(initial=0)))
    assert np.allclose(C @ step, np.diff(values[-1].reshape(2, -1), axis=0)[0], atol=1e-9)
    for (_, node), low, high in zip(nodes, form.low, form.high, strict=True):
        a, b = node.operator.slopes()
        assert (low == np.broadcast_to(a, low.shape)).all() and (high == np.broadcast_to(b, high.shape)).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_networks_without_neurons(norm):
    none = np.zeros(0)
    for graph, least in (
        (chain((2,)), np.ones(2)),
        (chain((2,), Dense.of([[3.0, 4.0]])), np.array([21.0, 28.0]) if norm == "linf" else np.full(2, 25.0)),
    ):
        form = neuron_form(graph)
        assert form.hidden == form.neurons == 0
        bound = np.sqrt(least.max() if norm == "l2" else least.sum())
        assert np.isclose(prove_form(form, norm, least * (1 + 1e-12), none), bound)
        assert prove_form(form, norm, least * (1 - 1e-9), none) == np.inf
    for constant in (chain((2,), Dense.of(np.zeros((3, 2)))), chain((2,), Reindex.of((2,), np.array([-1, -1]), 0.5))):
        form = neuron_form(constant)
        assert not form.maps[-1] and prove_form(form, norm, np.zeros(2), none) == 0.0


def test_local_slopes_replace_the_global_ones():
    """On a region where both neurons are active the network is x -> 2 x: its constant is 2 and not more."""
    graph = chain((1,), Dense.of([[1.0], [1.0]]), Relu(), Dense.of([[1.0, 1.0]]))
    form = neuron_form(graph, slopes={1: (np.ones(2), np.ones(2))})
    assert (form.low[0] == 1).all() and (neuron_form(graph).low[0] == 0).all()
    assert np.isclose(prove_form(form, "l2", np.array([4.0 * (1 + 1e-6)]), np.full(2, 1e8)), 2.0, rtol=1e-5)
    dead = neuron_form(graph, slopes={1: (np.zeros(2), np.zeros(2))})
    assert prove_form(dead, "l2", np.array([1e-6]), np.full(2, 2.0)) < 1.1e-3
    for wrong in (
        {0: (np.zeros(2), np.ones(2))}, {5: (np.zeros(2), np.ones(2))}, {1: (np.ones(2), np.zeros(2))},
        {1: (np.full(2, np.nan), np.ones(2))}, {1: (np.zeros(3), np.ones(3))},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            neuron_form(graph, slopes=wrong)


def test_a_metric_may_be_shared():
    """The second of two stages: f = (3 x_0, 3 x_1, x_2) with one weight for the first two inputs."""
    graph = chain((3,), Dense.of(np.diag([3.0, 3.0, 1.0])))
    form = neuron_form(graph, metric_index=np.array([0, 0, 1]))
    assert (form.metric_count == [2, 1]).all()
    least, none = np.array([9.0, 1.0]), np.zeros(0)
    assert np.isclose(prove_form(form, "l2", least * (1 + 1e-12), none), 3.0)
    assert np.isclose(prove_form(form, "linf", least * (1 + 1e-12), none), np.sqrt(19.0))
    assert prove_form(form, "l2", least * (1 - 1e-12) - 1e-9, none) == np.inf
    assert prove_form(form, "l2", np.array([9.1, 0.9]), none) == np.inf
    counted = neuron_form(graph, metric_index=np.array([0, 0, 1]), metric_count=np.array([20.0, 10.0]))
    assert np.isclose(prove_form(counted, "linf", least * (1 + 1e-12), none), np.sqrt(190.0))


@pytest.mark.parametrize("seed", range(6))
def test_maxima_become_absolute_values(seed):
    rng = np.random.default_rng(seed)
    pool = MaxPool(np.array([[0, 1, 2], [2, 3, -1]]), (4,))
    graph = chain((3,), Dense.of(rng.standard_normal((4, 3))), pool, Dense.of(rng.standard_normal((2, 2))))
    assert obstacle(graph) is None
    form = neuron_form(graph)
    metric, multipliers = closed_form(form)
    value = prove_lipsdp(graph, "l2", {"metric": metric, "multipliers": multipliers})
    assert steepest_secant(graph, "l2", rng) <= value < np.inf


def test_what_cannot_be_written_out_says_so():
    wide = chain((2000,), MaxPool(np.arange(2000)[None], (2000,)))
    assert "2000 entries" in obstacle(wide)
    with pytest.raises(NoNeuronForm, match="2000 entries"):
        neuron_form(wide)


def test_memory_is_refused_before_it_is_taken():
    side = 40000
    layer = Dense(Ball.exact(np.broadcast_to(0.0, (side, side))), Ball.exact(0.0), np.zeros(()))
    large = chain((side,), layer, Relu(), layer)
    tracemalloc.start()
    reason = obstacle(large)
    with pytest.raises(NoNeuronForm, match="GB"):
        neuron_form(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{side} inputs and {side} neurons" in reason and "limit of 8 GB" in reason and peak < 1e6


def convolution(rng, channels, out, side) -> Conv:
    kernel = Ball.exact(rng.standard_normal((out, channels, 3, 3)) / np.sqrt(9 * channels))
    return Conv(kernel, Ball.exact(0.0), np.zeros(()), (channels, side, side), (1, 1), ((1, 1),) * 2, (1, 1), 1)


def measured() -> dict[str, Graph]:
    rng = np.random.default_rng(0)

    def dense(out, inputs):
        return Dense.of(rng.standard_normal((out, inputs)) / np.sqrt(inputs))

    images = [convolution(rng, 1, 4, 12), Relu(), convolution(rng, 4, 4, 12), Relu()]
    flat = [Reindex.through((1, 4, 12, 12), np.ravel), dense(5, 576)]
    residual = (
        Node(dense(300, 300), (0,)), Node(Abs(), (1,)), Node(dense(300, 300), (2,)), Node(Add(), (0, 3)),
        Node(Relu(), (4,)), Node(Concat(0), (4, 5)), Node(dense(10, 600), (6,)),
    )  # fmt: skip
    return {
        "wide": chain((3000,), dense(100, 3000), Relu(), dense(10, 100)),
        "square": chain((10,), dense(600, 10), Relu(), dense(600, 600), Relu(), dense(5, 600)),
        "image": chain((1, 1, 12, 12), *images, *flat),
        "residual": Graph((300,), residual),
    }


@pytest.mark.parametrize("name", ["wide", "square", "image", "residual"])
def test_the_estimate_of_memory_is_above_what_is_used(name):
    """And not by orders of magnitude. The proof runs to its end: its witness is generous, not tight."""
    graph = measured()[name]
    tracemalloc.start()
    form = neuron_form(graph)
    for scale in (1e2, 1e4, 1e6):
        value = prove_form(form, "l2", np.full(form.sizes[0], scale), np.full(form.neurons, np.sqrt(scale)))
        if np.isfinite(value):
            break
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    module._written.cache_clear()
    assert np.isfinite(value)
    assert peak <= bytes_needed(graph, {}) + 5e6 <= 12 * peak + 1e7
