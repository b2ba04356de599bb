"""Slopes on intervals: they hold for every difference quotient there, and are as narrow as the derivative's range."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_activations import CASES, HUGE

from certlip.ops import Clip, Gelu, LeakyRelu, Relu, Silu, TanhGelu
from certlip.rigor.ball import Ball

everything = pytest.mark.parametrize(("operator", "exact"), CASES.values(), ids=CASES.keys())
floats = st.one_of(st.floats(-4, 4), st.floats(-60, 60), st.floats(-HUGE, HUGE), st.just(0.0))


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60), np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


def on(operator, low: float, high: float) -> tuple[float, float]:
    a, b = operator.slopes_on(np.array([low]), np.array([high]))
    assert a.shape == b.shape == (1,)
    return float(a[0]), float(b[0])


@everything
@settings(deadline=None, max_examples=80)
@given(points=st.lists(floats, min_size=4, max_size=4))
def test_difference_quotients_within_an_interval(operator, exact, points):
    low, s, t, high = sorted(points)
    a, b = on(operator, low, high)
    least, greatest = (float(end) for end in operator.slopes())
    assert least <= a <= b <= greatest or low == high
    with mpmath.workdps(700):
        for p, q in ((s, t), (low, high), (low, s), (t, high)):
            if p != q:
                p, q = mpmath.mpf(p), mpmath.mpf(q)
                assert mpmath.mpf(a) <= (exact(p) - exact(q)) / (p - q) <= mpmath.mpf(b)


@everything
@pytest.mark.parametrize("seed", range(30))
def test_they_are_the_range_of_the_derivative(operator, exact, seed):
    """A dense sample of the derivative reaches both ends, up to the grid."""
    rng = np.random.default_rng(seed)
    scale = getattr(operator, "scale", 1.0)
    low, high = np.sort(rng.normal(0, 3.0, 2)) / scale
    derivative = operator.derivative(np.linspace(low, high, 200_001))
    a, b = on(operator, low, high)
    assert a <= derivative.min() + 1e-13 and derivative.max() <= b + 1e-13
    grid = 200 * (high - low) * scale / 200_001
    turns = 1e-4 if isinstance(operator, (Gelu, Silu, TanhGelu)) else 0.0
    assert derivative.min() - a <= grid + turns and b - derivative.max() <= grid + turns


@everything
def test_unbounded_intervals_and_unknown_ends(operator, exact):
    whole = tuple(float(end) for end in operator.slopes())
    assert on(operator, -np.inf, np.inf) == whole
    for low, high in ((np.nan, 1.0), (1.0, np.nan), (np.nan, np.nan), (1.0, -1.0)):
        assert on(operator, low, high) == whole
    for low, high, ends in ((-np.inf, -1.0, (-1e4, -1e3)), (1.0, np.inf, (1e3, 1e4))):
        a, b = on(operator, low, high)
        scale = getattr(operator, "scale", 1.0)
        inner = on(operator, *(end / scale for end in ends))
        assert a <= inner[0] + 1e-300 and inner[1] <= b


def test_fixed_neurons():
    assert on(Relu(), 0.0, 3.0) == (1.0, 1.0) and on(Relu(), -3.0, 0.0) == (0.0, 0.0)
    assert on(Relu(), -1e-300, 1e-300) == (0.0, 1.0)
    assert on(LeakyRelu(0.3), -3.0, -1.0) == (0.3, 0.3) and on(LeakyRelu(-2.0), 1.0, 2.0) == (1.0, 1.0)
    uncertain = LeakyRelu(Ball(np.array(0.3), np.array(1e-3)))
    a, b = on(uncertain, -3.0, -1.0)
    assert 0.2989 < a <= 0.299 and 0.301 <= b < 0.3011
    clip = Clip(-1.0, 2.0)
    assert on(clip, -1.0, 2.0) == (1.0, 1.0) and on(clip, 2.0, 5.0) == (0.0, 0.0) == on(clip, -3.0, -1.0)
    assert on(clip, -1.5, 0.0) == (0.0, 1.0) == on(clip, 0.0, 2.5)
    assert on(Clip(0.5, 0.5), 0.5, 0.5) == (0.0, 0.0)


def test_parameters_are_per_entry():
    slope = np.array([[0.1], [2.0]])
    low, high = (np.tile(np.array(ends), (1, 2, 1)) for ends in ((-2.0, 1.0, -1.0), (-1.0, 2.0, 1.0)))
    a, b = LeakyRelu(slope).slopes_on(low, high)
    assert np.array_equal(a[0], [[0.1, 1.0, 0.1], [2.0, 1.0, 1.0]])
    assert np.array_equal(b[0], [[0.1, 1.0, 1.0], [2.0, 1.0, 2.0]])


@pytest.mark.parametrize("operator", [Gelu(), Silu(), TanhGelu()], ids=["gelu", "silu", "tanh gelu"])
def test_turning_points_lie_in_their_brackets(operator):
    """The second derivative, by mpmath's differentiation of the exact function, changes sign within the bracket."""
    exact = {"Gelu": CASES["gelu"], "Silu": CASES["silu"], "TanhGelu": CASES["tanh gelu"]}[type(operator).__name__][1]
    before, after = operator.turn
    assert mpmath.diff(exact, before, 2) > 0 > mpmath.diff(exact, after, 2)
    for x in np.linspace(0.01, before, 50):
        assert mpmath.diff(exact, x, 2) > 0
    for x in np.linspace(after, 12.0, 100):
        assert mpmath.diff(exact, x, 2) < 0
