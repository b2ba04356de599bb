"""The sampled slope: below every proved bound, equal to the constant where that is known, and steep elsewhere."""

import time
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
from random_graphs import jacobian, random_graph

from certlip.graph import Graph, Node
from certlip.lipschitz import bound_output
from certlip.lipschitz.sampled import sampled_lower
from certlip.ops import Dense, Relu, Tanh
from certlip.proofs.counterexample import is_within
from certlip.proofs.ranges import Region
from certlip.proofs.slope import prove_slope
from certlip.properties import select
from certlip.properties.outputs import ALL

NORMS = ("l2", "linf")


def network(seed: int, widths, activation=Relu) -> Graph:
    rng = np.random.default_rng(seed)
    operators = []
    for n, m in pairwise(widths):
        operators += [Dense.of(rng.standard_normal((m, n)) / np.sqrt(n), rng.standard_normal(m)), activation()]
    return Graph((widths[0],), tuple(Node(operator, (i,)) for i, operator in enumerate(operators[:-1])))


def operator_norm(matrix: np.ndarray, norm: str) -> float:
    return float(np.linalg.norm(matrix, 2 if norm == "l2" else np.inf))


def steepest_jacobian(graph: Graph, points: np.ndarray, norm: str) -> float:
    return max(operator_norm(jacobian(graph, x), norm) for x in points)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (5, 7), (30, 40)])
def test_linear_networks_are_met_exactly(norm, shape):
    weight = np.random.default_rng(3).standard_normal(shape)
    graph = Graph(shape[1:], (Node(Dense.of(weight, np.ones(shape[0])), (0,)),))
    exact = operator_norm(weight, norm)
    found = sampled_lower(graph, norm)
    assert exact * (1 - 1e-6) <= found.value <= exact * (1 + 1e-12)
    assert found.points > 0 and f"{found.value:.6g}"[:5] in repr(found)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(8))
def test_the_true_constant_of_one_hidden_layer(seed, norm):
    """Two inputs: the kinks are lines, and every linear piece touches a point where two of them cross."""
    graph = network(seed, (2, 6, 3))
    weight, bias = graph.nodes[0].operator.weight.mid, graph.nodes[0].operator.bias.mid
    crossings = [np.linalg.solve(weight[[i, j]], -bias[[i, j]]) for i, j in combinations(range(6), 2)]
    angles = np.linspace(0.0, 2 * np.pi, 1000)
    around = 1e-6 * np.stack([np.cos(angles), np.sin(angles)], -1)
    true = steepest_jacobian(graph, (np.array(crossings)[:, None] + around).reshape(-1, 2), norm)
    assert 0.999 * true <= sampled_lower(graph, norm).value <= true * (1 + 1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(6))
def test_the_search_beats_a_few_hundred_random_points(seed, norm):
    graph = network(seed, (4, 8, 6, 3))
    found = sampled_lower(graph, norm)
    rng = np.random.default_rng(7)
    points = rng.standard_normal((400, 4)) * 10.0 ** rng.uniform(-2.0, 3.0, 400)[:, None]
    assert found.value >= (1 - 1e-9) * steepest_jacobian(graph, points, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_smooth_networks(norm):
    graph = network(1, (3, 8, 2), Tanh)
    points = np.random.default_rng(0).standard_normal((3000, 3)) * np.linspace(0.1, 3.0, 3000)[:, None]
    assert sampled_lower(graph, norm).value >= 0.98 * steepest_jacobian(graph, points, norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(12))
def test_no_proved_bound_is_below(seed, norm):
    graph = random_graph(seed, pools=seed % 3 == 0)
    found = sampled_lower(select(graph, ALL), norm)
    bounds = [bound for bound in bound_output(graph, ALL, norm, "all") if bound.proved]
    assert bounds and all(found.value <= bound.value for bound in bounds)
    assert found.value == prove_slope(select(graph, ALL), norm, found.x, found.y)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [Fraction(1, 10), Fraction(1, 10**6), Fraction(3), Fraction(0), Fraction(10**400)])
def test_points_of_a_region(norm, eps):
    graph = network(2, (4, 12, 12, 3))
    center = np.array([0.3, -1.0, 0.5, 2.0])
    for of_region in NORMS:
        found = sampled_lower(graph, norm, region=Region(center, eps, of_region))
        if eps:
            assert found.value > 0
            assert all(is_within(center, point, of_region, eps) for point in (found.x, found.y))
        else:
            assert found.value == 0.0
    if eps == Fraction(1, 10**6):  # one linear piece; values are enclosed to about 1e-13
        assert found.value == pytest.approx(operator_norm(jacobian(graph, center), norm), rel=1e-5)


def test_data_are_looked_at():
    """A spike far from everything else, which only the data know."""
    first = Dense.of([[1.0], [1.0], [1.0]], [-1000.0, -1000.5, -1001.0])
    spike = Graph((1,), (Node(first, (0,)), Node(Relu(), (1,)), Node(Dense.of([[100.0, -200.0, 100.0]]), (2,))))
    data = np.linspace(-1000.0, 1000.2, 12).reshape(-1, 1)
    assert sampled_lower(spike, "l2", data).value == pytest.approx(100.0, rel=1e-6)


def test_time_and_repetition():
    graph = network(5, (10, 40, 40, 5))
    one, two = sampled_lower(graph, "l2", seed=1), sampled_lower(graph, "l2", seed=1)
    assert one.value == two.value and np.array_equal(one.x, two.x) and np.array_equal(one.y, two.y)
    spent = sampled_lower(graph, "l2", deadline=time.monotonic() - 1.0)
    assert spent.value == 0.0 and spent.points == 0
    large = network(5, (400, 2000, 2000, 10))
    began = time.process_time()
    short = sampled_lower(large, "l2", deadline=time.monotonic() + 0.3)
    assert short.value > 0 and time.process_time() - began < 3.0


def test_networks_that_do_not_move_or_overflow():
    flat = Graph((2,), (Node(Dense.of(np.zeros((2, 2)), np.ones(2)), (0,)),))
    wild = network(0, (2, 5, 5, 2)).append(Dense.of(1e300 * np.eye(2))).append(Dense.of(1e300 * np.eye(2)))
    for norm in NORMS:
        assert sampled_lower(flat, norm).value == 0.0
        assert 0.0 <= sampled_lower(wild, norm).value < np.inf
