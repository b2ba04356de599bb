"""Linear neurons are substituted: for any admitted slopes the network's differences stay what they were."""

from fractions import Fraction

import numpy as np
import pytest
from random_graphs import random_graph

from certlip.proofs.form import Form
from certlip.proofs.linear_neurons import without_linear
from certlip.proofs.local import local_slopes, pointwise_graph
from certlip.proofs.neuron_form import neuron_form
from certlip.proofs.ranges import Region


def moved(form: Form, dx: np.ndarray, slopes: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Differences of every group and of the output, with these slopes for the neurons."""
    groups = [dx]
    for k, maps in enumerate(form.maps):
        row = np.zeros((form.sizes[k + 1],))
        for s, block in maps.items():
            row = row + block.mid[0, :, 0] @ groups[s]
        if k == form.hidden:
            return groups, row
        groups.append(slopes[k] * row)
    raise AssertionError


@pytest.mark.parametrize("seed", range(60))
def test_the_network_moves_as_before(seed):
    rng = np.random.default_rng(seed)
    graph = pointwise_graph(random_graph(seed, pools=seed % 3 == 0))
    region = Region(rng.standard_normal(graph.input_shape), Fraction(int(rng.integers(0, 30)), 40), "l2")
    form = neuron_form(graph, slopes=local_slopes(graph, region))
    short = without_linear(form)
    kept = [low < high for low, high in zip(form.low, form.high, strict=True)]
    assert short.neurons == sum(int(chosen.sum()) for chosen in kept)
    assert all((low < high).all() for low, high in zip(short.low, short.high, strict=True))
    assert short.sizes[0] == form.sizes[0] and short.sizes[-1] == form.sizes[-1] and min(short.sizes) > 0
    slopes = [rng.uniform(low, high) for low, high in zip(form.low, form.high, strict=True)]
    fewer = [slope[chosen] for slope, chosen in zip(slopes, kept, strict=True) if chosen.any()]
    dx = rng.standard_normal(form.sizes[0])
    groups, output = moved(form, dx, slopes)
    others, same = moved(short, dx, fewer)
    assert np.allclose(output, same, rtol=1e-11, atol=1e-11)
    stayed = [group[chosen] for group, chosen in zip(groups[1:], kept, strict=True) if chosen.any()]
    for left, right in zip(stayed, others[1:], strict=True):
        assert np.allclose(left, right, rtol=1e-11, atol=1e-11)


def test_balls_hold_the_exact_products():
    """Composed weights, against rational arithmetic."""
    rng = np.random.default_rng(0)
    from certlip.graph import Graph, Node
    from certlip.ops import Dense, LeakyRelu

    first, second = rng.standard_normal((4, 3)), rng.standard_normal((2, 4))
    nodes = (Node(Dense.of(first, np.full(4, -5.0)), (0,)), Node(LeakyRelu(0.3), (1,)), Node(Dense.of(second), (2,)))
    graph = Graph((3,), nodes)
    slopes = local_slopes(graph, Region(np.zeros(3), Fraction(1, 100), "l2"))
    short = without_linear(neuron_form(graph, slopes=slopes))
    assert short.hidden == 0 and short.sizes == (3, 2) and short.neurons == 0
    ball = short.maps[0][0]
    for i in range(2):
        for j in range(3):
            exact = sum(Fraction(second[i, k]) * Fraction(0.3) * Fraction(first[k, j]) for k in range(4))
            rad = np.broadcast_to(ball.rad, ball.shape)[0, i, 0, j]
            assert abs(Fraction(ball.mid[0, i, 0, j]) - exact) <= Fraction(rad) <= Fraction(1, 10**14)


def test_without_linear_neurons_nothing_changes():
    graph = pointwise_graph(random_graph(5))
    form = neuron_form(graph)
    same = without_linear(form)
    assert same.sizes == form.sizes and len(same.maps) == len(form.maps)
    for left, right in zip(same.maps, form.maps, strict=True):
        assert set(left) == set(right)
        assert all(np.array_equal(left[s].mid, right[s].mid) and left[s].is_exact == right[s].is_exact for s in left)
