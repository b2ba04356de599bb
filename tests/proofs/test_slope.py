"""Slopes between two points: never above the exact quotient, and hardly below it."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, secants

from certlip.graph import Graph, Node
from certlip.ops import Dense, Reindex, Relu
from certlip.proofs.ranges import Region
from certlip.proofs.slope import prove_slope


def chain(*layers) -> Graph:
    """Dense layers (weight, bias) with ReLU between them."""
    operators = []
    for weight, bias in layers:
        operators += [Dense.of(weight, bias), Relu()]
    nodes = tuple(Node(operator, (i,)) for i, operator in enumerate(operators[:-1]))
    return Graph((np.shape(layers[0][0])[1],), nodes)


def random_layers(seed: int, widths) -> list:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((m, n)), rng.standard_normal(m)) for n, m in pairwise(widths)]


def exact_values(layers, x) -> list[Fraction]:
    """The network in rational arithmetic."""
    value = [Fraction(float(entry)) for entry in x]
    for index, (weight, bias) in enumerate(layers):
        rows = zip(weight.tolist(), bias.tolist(), strict=True)
        value = [sum((Fraction(w) * v for w, v in zip(row, value, strict=True)), Fraction(b)) for row, b in rows]
        if index < len(layers) - 1:
            value = [max(entry, Fraction(0)) for entry in value]
    return value


def exact_quotients(layers, x, y) -> tuple[Fraction, Fraction]:
    """The exact square of the l2 slope, and the exact l-infinity slope."""
    moved = [a - b for a, b in zip(exact_values(layers, x), exact_values(layers, y), strict=True)]
    step = [Fraction(float(a)) - Fraction(float(b)) for a, b in zip(x, y, strict=True)]
    square = sum(m * m for m in moved) / sum(s * s for s in step)
    return square, max(map(abs, moved)) / max(map(abs, step))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("length", [1.0, 1e-3, 1e-6, 1e150, 1e-12])
def test_against_exact_rational_arithmetic(seed, length):
    layers = random_layers(seed, (3, 7, 5, 2))
    rng = np.random.default_rng(100 + seed)
    x = rng.standard_normal(3)
    y = x + length * rng.standard_normal(3)
    square, largest = exact_quotients(layers, x, y)
    for norm, power, exact in (("l2", 2, square), ("linf", 1, largest)):
        value = prove_slope(chain(*layers), norm, x, y)
        assert Fraction(value) ** power <= exact
        lost = 1e-11 + 1e-11 / length  # sums of terms of size 100 are enclosed to about 1e-12
        assert value >= float(exact) ** (1 / power) - lost
    assert prove_slope(chain(*layers), "l2", x, y) == prove_slope(chain(*layers), "l2", y, x)


def test_an_exact_case_is_rounded_down_only():
    """3-4-5: |Df| = 5 |Dx| exactly, and every value is an integer."""
    graph = chain((np.array([[3.0], [4.0]]), np.zeros(2)))
    for norm, exact in (("l2", 5.0), ("linf", 4.0)):
        value = prove_slope(graph, norm, np.array([0.0]), np.array([1.0]))
        assert exact * (1 - 1e-14) < value <= exact


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e-8, 1e8, 1e160, 1e300])
def test_extreme_scales(scale):
    """Squares would under- and overflow: the quotient stays below the true constant, 1."""
    graph = chain((np.array([[0.6, 0.8], [-0.8, 0.6]]), np.zeros(2)))
    x, y = np.array([scale, -scale]), np.array([0.5 * scale, scale])
    for norm in ("l2", "linf"):
        value = prove_slope(graph, norm, x, y)
        square, largest = exact_quotients([(np.array([[0.6, 0.8], [-0.8, 0.6]]), np.zeros(2))], x, y)
        assert Fraction(value) ** (2 if norm == "l2" else 1) <= (square if norm == "l2" else largest)
        assert scale < 1e-200 or value > 0.5


def test_steep_and_flat_layers():
    for gain in (1e-300, 1e-200, 1e200, 1e300):
        graph = chain((np.array([[gain]]), np.zeros(1)))
        value = prove_slope(graph, "l2", np.array([0.0]), np.array([1.0]))
        assert value <= gain and (value >= gain * (1 - 1e-12) or gain < 1e-290)


def test_nothing_is_proved_from_nothing():
    graph = chain((np.array([[1e300]]), np.zeros(1)), (np.array([[1e300]]), np.zeros(1)))
    one, two = np.array([1.0]), np.array([2.0])
    for norm in ("l2", "linf"):
        assert prove_slope(graph, norm, one, two) == 0.0  # overflows
        assert prove_slope(graph, norm, one, one) == 0.0
        assert prove_slope(graph, norm, one, np.array([np.inf])) == 0.0
        assert prove_slope(graph, norm, np.array([np.nan]), two) == 0.0
        assert prove_slope(chain((np.zeros((2, 1)), np.ones(2))), norm, one, two) == 0.0
    hidden = np.array([1e20]), np.array([1e20 + 16384])
    tiny = chain((np.array([[1.0]]), np.zeros(1)), (np.array([[1.0]]), np.array([1e30])))
    assert prove_slope(tiny, "l2", *hidden) == 0.0  # the move drowns in the rounding of 1e30


@pytest.mark.parametrize(("norm", "x"), [("l1", np.zeros(2)), ("", np.zeros(2)), ("l2", np.zeros((1, 2)))])
def test_wrong_questions_are_refused(norm, x):
    with pytest.raises(ValueError, match="slope"):
        prove_slope(chain((np.eye(2), np.zeros(2))), norm, x, x)


def test_points_outside_a_region_prove_nothing_about_it():
    graph = chain((np.eye(2), np.zeros(2)))
    center, inside, edge = np.zeros(2), np.array([0.3, -0.375]), np.array([0.5, 0.5])
    assert prove_slope(graph, "l2", center, inside, Region(center, Fraction(1, 2), "l2")) > 0.99
    assert prove_slope(graph, "l2", center, edge, Region(center, Fraction(1, 2), "linf")) > 0.99
    assert prove_slope(graph, "l2", center, edge, Region(center, Fraction(1, 2), "l2")) == 0.0
    beyond = np.array([np.nextafter(0.5, 1.0), 0.0])
    assert prove_slope(graph, "l2", center, beyond, Region(center, Fraction(1, 2), "linf")) == 0.0
    assert prove_slope(graph, "l2", beyond, center, Region(center, Fraction(1, 2), "linf")) == 0.0


def test_outputs_of_any_shape():
    weight = np.random.default_rng(0).standard_normal((6, 4))
    flat = chain((weight, np.zeros(6)))
    folded = flat.append(Reindex.through((6,), lambda index: index.reshape(1, 2, 3)))
    x, y = np.ones(4), np.arange(4.0)
    for norm in ("l2", "linf"):
        assert prove_slope(folded, norm, x, y) == prove_slope(flat, norm, x, y) > 0


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6), length=st.sampled_from([1e-5, 1e-2, 1.0, 30.0]), norm=st.sampled_from(["l2", "linf"])
)
def test_every_kind_of_node(seed, length, norm):
    graph = random_graph(seed, pools=True)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(graph.input_shape)
    y = x + length * rng.standard_normal(graph.input_shape)
    value, seen = prove_slope(graph, norm, x, y), float(secants(graph, norm, x[None], y[None])[0])
    assert seen * (1 - 1e-9) - 1e-9 / length <= value <= seen * (1 + 1e-9) + 1e-9 / length
