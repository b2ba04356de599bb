"""Exact outputs: against rationals, against the float level's balls, and against many digits of mpmath."""

from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from small_models import ZOO

from certlip.graph import Graph, Node
from certlip.onnx_reader import read_file, read_graph
from certlip.ops import Abs, Clip, Dense, LeakyRelu, MaxPool, Relu, Scale, Tanh
from certlip.proofs.exact_values import exact_output_ball
from certlip.proofs.margin import output_balls
from certlip.rigor.ball import Ball
from certlip.rigor.exact_numbers import NotExact


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,), f"node {i}") for i, operator in enumerate(operators)))


def fractions(array) -> np.ndarray:
    return np.array([Fraction(float(x)) for x in np.ravel(array)], dtype=object).reshape(np.shape(array))


BENDS = {
    "relu": (Relu(), lambda v: np.maximum(v, 0)),
    "abs": (Abs(), abs),
    "leaky": (LeakyRelu(-0.3), lambda v: np.where(v > 0, v, Fraction(-0.3) * v)),
    "clip": (Clip(-0.5, np.inf), lambda v: np.maximum(v, Fraction(-1, 2))),
    "clip above": (Clip(-np.inf, 0.75), lambda v: np.minimum(v, Fraction(3, 4))),
}


@pytest.mark.parametrize("name", BENDS)
@pytest.mark.parametrize("seed", range(5))
def test_piecewise_linear_networks_to_230_bits(name, seed):
    rng = np.random.default_rng(seed)
    operator, bend = BENDS[name]
    sizes, layers, value = (3, 5, 4, 2), [], rng.standard_normal(3)
    point, truth = value, fractions(value)
    for n, m in pairwise(sizes):
        weight, bias = np.float32(rng.standard_normal((m, n)) * 10.0 ** rng.integers(-9, 9)), rng.standard_normal(m)
        layers += [Dense.of(weight, bias), operator]
        truth = bend(fractions(weight) @ truth + fractions(bias))
    low, high = exact_output_ball(chain((3,), *layers), point)
    assert all(a <= x <= b for a, x, b in zip(low, truth, high, strict=True))
    assert all(b - a <= max(map(abs, truth)) / 2**230 for a, b in zip(low, high, strict=True))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_networks_lie_within_the_float_level(seed):
    graph = random_graph(seed, pools=True)
    x = 3 * np.random.default_rng(seed).standard_normal(graph.input_shape)
    low, high = exact_output_ball(graph, x)
    coarse = output_balls(graph, x[None])[0]
    for a, b, least, most in zip(low, high, coarse.lower().tolist(), coarse.upper().tolist(), strict=True):
        assert Fraction(least) <= a <= b <= Fraction(most)
        assert b - a < Fraction(1, 2**150)


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.onnx")), ids=lambda path: path.stem)
def test_zoo(path):
    graph = read_graph(read_file(path))
    x = np.random.default_rng(1).random(graph.input_shape)
    low, high = exact_output_ball(graph, x)
    coarse = output_balls(graph, x[None])[0]
    for a, b, least, most in zip(low, high, coarse.lower().tolist(), coarse.upper().tolist(), strict=True):
        assert Fraction(least) <= a <= b <= Fraction(most)


def test_a_tanh_network_to_many_digits():
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal(shape) for shape in ((6, 4), (6, 6), (1, 6))]
    x = rng.standard_normal(4)
    low, high = exact_output_ball(chain((4,), Dense.of(weights[0]), Tanh(), Dense.of(weights[1]), Tanh(),
                                        Dense.of(weights[2])), x)  # fmt: skip
    with mpmath.workprec(400):
        value = mpmath.matrix(x.tolist())
        for i, weight in enumerate(weights):
            value = mpmath.matrix(weight.tolist()) * value
            value = value.apply(mpmath.tanh) if i < 2 else value
        ends = [mpmath.mpf(end.numerator) / end.denominator for end in (low[0], high[0])]
        assert ends[0] <= value[0] <= ends[1]
    assert high[0] - low[0] < Fraction(1, 2**150)


def test_weights_that_are_balls_move_the_output():
    """Both ends of the weight are reached, across the kink."""
    graph = chain((1,), Scale.of((1,), Ball(np.array([1.0]), np.array([0.25]))), Scale.of((1,), 1.0, -1.0), Relu())
    low, high = exact_output_ball(graph, np.array([1.0]))
    assert low[0] <= 0 and high[0] >= Fraction(1, 4) and high[0] - low[0] < Fraction(51, 100)
    leaky = chain((1,), LeakyRelu(Ball(np.array([0.5]), np.array([0.125]))))
    low, high = exact_output_ball(leaky, np.array([-2.0]))
    assert low[0] <= Fraction(-5, 4) and high[0] >= Fraction(-3, 4)


def test_maxima_over_windows_with_padding():
    pool = MaxPool(np.array([[0, -1, 1], [-1, 2, -1], [3, 2, 0]]), (4,))
    x = np.array([-3.0, -2.0, -7.5, 1.0])
    assert exact_output_ball(chain((4,), pool), x)[0] == [Fraction(n) for n in (-2, Fraction(-15, 2), 1)]


def test_what_cannot_be_evaluated_is_refused():
    graph = chain((1,), Dense.of(np.array([[2.0**22]])), Tanh())
    with pytest.raises(NotExact, match="2\\^20"):
        exact_output_ball(graph, np.array([1.0]))
    for bad in (np.nan, np.inf):
        with pytest.raises(NotExact):
            exact_output_ball(graph, np.array([bad]))
    with pytest.raises(ValueError, match="shape"):
        exact_output_ball(graph, np.zeros(2))
