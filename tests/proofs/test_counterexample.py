"""Falsifications: the ball is closed and measured exactly, violations are strict."""

from fractions import Fraction

import numpy as np
import pytest

from certlip.check import theorems
from certlip.errors import CertificateRejected
from certlip.graph import Graph, Node
from certlip.ops import Dense, Relu
from certlip.proofs.counterexample import is_within


def linear(weight, bias=None) -> Graph:
    weight = np.asarray(weight, dtype=float)
    return Graph((weight.shape[1],), (Node(Dense.of(weight, bias), (0,)),))


def violates_label(graph: Graph, point, label: int) -> bool:
    outputs = theorems.outputs_at(graph, point)
    return theorems.loses(outputs, label, [Fraction(0)] * graph.output_size)


def violates_tolerance(graph: Graph, x, point, tolerance: Fraction) -> bool:
    ends = theorems.outputs_at(graph, x), theorems.outputs_at(graph, point)
    return theorems.moves(*ends, tolerance, [Fraction(0)] * graph.output_size)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_boundary_belongs_to_the_ball(norm):
    x = np.array([0.1, 0.2, -0.3])
    y = x.copy()
    y[1] = 0.7
    eps = Fraction(0.7) - Fraction(0.2)
    assert is_within(x, y, norm, eps)
    assert not is_within(x, y, norm, eps - Fraction(1, 10**60))
    assert is_within(x, x, norm, Fraction(0)) and not is_within(x, y, norm, Fraction(0))


def test_euclidean_distance_is_a_sum_of_exact_squares():
    x, y = np.zeros(2), np.array([3.0, 4.0])
    assert is_within(x, y, "l2", Fraction(5)) and not is_within(x, y, "l2", Fraction(5) - Fraction(1, 10**50))
    assert is_within(x, y, "linf", Fraction(4)) and not is_within(x, y, "linf", Fraction(4) - Fraction(1, 10**50))
    tiny = np.array([3e-200, 4e-200])  # squares underflow in floats
    assert not is_within(x, tiny, "l2", Fraction(1, 10**250))
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = rng.standard_normal((2, 4))
        squares = sum((Fraction(float(p)) - Fraction(float(q))) ** 2 for p, q in zip(a, b, strict=True))
        for eps in (Fraction(float(np.linalg.norm(a - b))), Fraction(float(np.nextafter(np.linalg.norm(a - b), 9)))):
            assert is_within(a, b, "l2", eps) == (squares <= eps * eps)


def test_points_that_cannot_be_compared_lie_outside():
    x = np.zeros(2)
    for y in (np.zeros(3), np.zeros((2, 1)), np.array([np.nan, 0]), np.array([np.inf, 0])):
        assert not is_within(x, y, "linf", Fraction(10**400))
        assert not is_within(y, x, "l2", Fraction(10**400))
    assert not is_within(np.array([np.nan]), np.array([np.nan]), "l2", Fraction(1))


def test_labels_are_violated_strictly():
    graph = linear(np.eye(3))
    assert violates_label(graph, np.array([1.0, 2.0, 0.0]), 0)
    assert not violates_label(graph, np.array([1.0, 2.0, 0.0]), 1)
    assert not violates_label(graph, np.array([2.0, 2.0, 0.0]), 0)  # a tie is no violation
    assert not violates_label(graph, np.array([2.0, 2.0, 0.0]), 1)
    close = np.array([1.0, 1.0 + 2.0**-52, 0.0])  # larger, but not provably within rounding
    assert not violates_label(graph, close, 1)
    assert violates_label(graph, np.array([1.0, 1.0 + 2.0**-40, 0.0]), 0)


def test_sign_decisions_are_violated_strictly():
    graph = linear([[1.0]])
    for value, violated in ((0.5, {0}), (-0.5, {1}), (0.0, set())):
        assert {label for label in (0, 1) if violates_label(graph, np.array([value]), label)} == violated


def test_tolerances_are_violated_strictly():
    graph = linear([[2.0, 0.0], [0.0, 1.0]])
    x, y = np.zeros(2), np.array([0.5, 0.0])
    assert not violates_tolerance(graph, x, y, Fraction(1))
    assert violates_tolerance(graph, x, y, Fraction(1) - Fraction(1, 10**12))
    assert violates_tolerance(graph, y, x, Fraction(1) - Fraction(1, 10**12))
    assert not violates_tolerance(graph, x, x, Fraction(0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_overflow_violates_nothing():
    operators = (Dense.of([[1e160], [0.0]], [0.0, 1.0]), Relu(), Dense.of([[1e-160, 0.0], [0.0, -5.0]], [-1e200, 0.0]))
    graph = Graph((1,), tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))
    point = np.array([1e150])  # the exact logits are -1e200 and -5
    with pytest.raises(CertificateRejected, match="overflow"):
        violates_label(graph, point, 1)
    with pytest.raises(CertificateRejected, match="overflow"):
        violates_tolerance(graph, np.array([0.0]), point, Fraction(10**300))
