"""Robustness decisions and radii against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from certlip.graph import Graph, Node
from certlip.ops import Clip, Dense, LeakyRelu, Relu, Sigmoid
from certlip.proofs.margin import output_balls
from certlip.rigor.ball import Ball
from certlip.verification.margins import certified_radius, is_certified, label_margins

positive = st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False)


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))


@settings(max_examples=500, deadline=None)
@given(positive, positive)
def test_radii_are_rounded_down(margin, bound):
    exact = Fraction(margin) / Fraction(bound)
    radius = certified_radius(margin, bound)
    assert 0 <= Fraction(radius) <= exact
    if 1e-300 < exact < 1e300:
        assert Fraction(np.nextafter(radius, np.inf).item()) >= exact * (1 - Fraction(1, 2**52))
    assert not is_certified(margin, bound, exact)
    assert is_certified(margin, bound, exact * Fraction(10**40 - 1, 10**40))
    assert not is_certified(margin, Fraction(bound), exact * Fraction(10**40 + 1, 10**40))


@pytest.mark.parametrize("margin", [0.0, -0.0, -1.0, np.nan, -np.inf, -5e-324])
def test_ties_and_lost_margins_certify_nothing(margin):
    for bound in (0.0, 1.0, 5e-324, Fraction(0)):
        assert not is_certified(margin, bound, Fraction(0))
        assert certified_radius(margin, float(bound)) == 0.0


@pytest.mark.parametrize("bound", [np.inf, np.nan, -1.0, -np.inf])
def test_bounds_that_are_none_certify_nothing(bound):
    for margin in (1.0, np.inf, 1e-300):
        assert not is_certified(margin, bound, Fraction(0))
        assert certified_radius(margin, bound) == 0.0


def test_constant_differences():
    assert is_certified(1e-300, 0.0, Fraction(10**400)) and certified_radius(1e-300, 0.0) == np.inf
    assert certified_radius(1e300, 1e-300) == np.finfo(float).max  # the quotient is no float
    assert certified_radius(5e-324, 1e300) == 0.0


def rational_outputs(weight, bias, x):
    return [
        sum((Fraction(float(w)) * Fraction(float(v)) for w, v in zip(row, x, strict=True)), Fraction(float(b)))
        for row, b in zip(weight, bias, strict=True)
    ]


def test_margins_are_below_the_exact_ones():
    rng = np.random.default_rng(0)
    for trial in range(100):
        n = int(rng.integers(1, 6))
        first, second = rng.standard_normal((n, 3)) * 10.0 ** rng.integers(-5, 6), rng.standard_normal((3, n))
        b, c = rng.standard_normal(n), rng.standard_normal(3)
        if trial % 3 == 0:
            second[1] = second[0] * (1 + 1e-15)  # near ties
            c[1] = c[0]
        x = rng.standard_normal((1, 3))
        outputs = output_balls(chain((3,), Dense.of(first, b), Relu(), Dense.of(second, c)), x)[0]
        hidden = [max(v, Fraction(0)) for v in rational_outputs(first, b, x[0])]
        exact = [
            sum((Fraction(float(w)) * h for w, h in zip(row, hidden, strict=True)), Fraction(float(d)))
            for row, d in zip(second, c, strict=True)
        ]
        for label in range(3):
            margins = label_margins(outputs, label)
            assert margins[label] == np.inf
            for k in {0, 1, 2} - {label}:
                gap = exact[label] - exact[k]
                assert Fraction(float(margins[k])) <= gap
                assert (
                    float(margins[k])
                    >= float(gap) - 1e-9 * (1 + sum(abs(float(v)) for v in exact)) * np.abs(first).max()
                )


def test_equal_logits_are_a_tie_whoever_comes_first():
    graph = chain((2,), Dense.of([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]))
    outputs = output_balls(graph, np.array([[1.0, 1.0]]))[0]
    for label, rival in ((0, 1), (1, 0)):
        margin = float(label_margins(outputs, label)[rival])
        assert margin <= 0 and not is_certified(margin, 1.0, Fraction(0))


def test_one_output_is_decided_by_its_sign():
    for value, winner in ((0.5, 1), (-0.5, 0), (0.0, None)):
        ball = Ball.exact([value])
        for label in (0, 1):
            assert (label_margins(ball, label)[0] > 0) == (label == winner)


OVERFLOWING = [
    # true logits -1e200 (+ 1e150) and -5: label 1 by far, but the first overflows on the way
    chain((1,), Dense.of([[1e160], [0.0]], [0.0, 1.0]), Relu(), Dense.of([[1e-160, 0.0], [0.0, -5.0]], [-1e200, 0.0])),
    # 1e310 - 1e310: the centre is not a number
    chain(
        (1,), Dense.of([[1e160], [-1e160]], [0.0, 0.0]), LeakyRelu(1.0), Dense.of([[1.0, 1.0], [0.0, 0.0]], [-1.0, 0.0])
    ),
    # saturation after overflow looks harmless
    chain(
        (1,), Dense.of([[1e160], [-1e160]]), Dense.of([[1.0, 1.0]]), Sigmoid(), Dense.of([[1.0], [0.0]], [-0.6, 0.0])
    ),
    chain(
        (1,),
        Dense.of([[1e160], [-1e160]]),
        Dense.of([[1.0, 1.0]]),
        Clip(-1.0, 1.0),
        Dense.of([[1.0], [0.0]], [-0.5, 0.0]),
    ),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("graph", OVERFLOWING)
def test_an_evaluation_that_overflows_certifies_nothing(graph):
    """The computed value is infinite or no number, the true one is finite, and label 1 wins (label 0 for none)."""
    outputs = output_balls(graph, np.array([[1e150]]))[0]
    assert not np.isnan(outputs.lower()).any() and not np.isnan(outputs.upper()).any()
    assert outputs.lower()[0] == -np.inf and outputs.upper()[0] == np.inf
    assert label_margins(outputs, 0)[1] == -np.inf


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_runner_up_at_minus_infinity_certifies_nothing():
    """Known defect elsewhere: a masked or overflowed rival of -inf makes every margin infinite."""
    graph = chain((1,), Dense.of([[0.0], [-1e300]], [1.0, 0.0]))
    outputs = output_balls(graph, np.array([[1e300]]))[0]
    assert label_margins(outputs, 0)[1] == -np.inf
    assert not is_certified(float(label_margins(outputs, 0)[1]), 1.0, Fraction(0))


def test_enclosures_hold_float_evaluations_in_any_order():
    """Evaluations in binary64 of permuted and plain graphs lie near the enclosure of the exact value."""
    rng = np.random.default_rng(1)
    for seed in range(60):
        graph = random_graph(seed, pools=True)
        x = rng.standard_normal((3, *graph.input_shape))
        balls = output_balls(graph, x)
        values = graph(x).reshape(3, -1)
        assert (np.abs(values - balls.mid) <= 1e-12 * (1 + np.abs(balls.mid))).all()
        assert (balls.rad <= 1e-9 * (1 + np.abs(balls.mid))).all()
