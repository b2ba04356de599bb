"""Enclosures of elementary functions against 50-digit arithmetic."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.rigor import functions
from certlip.rigor.ball import Ball

HUGE = np.finfo(np.float64).max
EXTREMES = [
    *(0.0, -0.0, 5e-324, -5e-324, 1e-300, 2.0**-30, 1.0, -1.0, 2.0, -2.0, np.nextafter(2.0, 3.0), 8.5, -8.5),
    *(37.9, -37.9, 40.0, -40.0, 40.5, -40.5, 399.0, 401.0, -708.0, -708.0001, -745.2, -800.0, 700.0, 709.7),
    *(1e5, -1e5, 1e200, -1e200, 1e308, -1e308, HUGE, -HUGE),
]


def far(x, f, low, high):
    """f in high precision, or its limits where the argument is beyond the range of mpmath's exponents."""
    return f(x) if abs(x) < 1e6 else mpmath.mpf(high if x > 0 else low)


REFERENCE = {
    "sigmoid": lambda x: far(x, lambda t: 1 / (1 + mpmath.exp(-t)), 0, 1),
    "tanh": lambda x: far(x, mpmath.tanh, -1, 1),
    "softplus": lambda x: far(x, lambda t: mpmath.log1p(mpmath.exp(t)), 0, x),
    "normal_cdf": lambda x: far(x, lambda t: mpmath.erfc(-t / mpmath.sqrt(2)) / 2, 0, 1),
    "normal_density": lambda x: far(x, mpmath.npdf, 0, 0),
}


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(50), np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


def check(ball: Ball, expected: list, tolerance: float, relative: float) -> None:
    rad = np.broadcast_to(ball.rad, ball.shape)
    for mid, radius, value in zip(ball.mid.tolist(), rad.tolist(), expected, strict=True):
        assert abs(value - mpmath.mpf(mid)) <= mpmath.mpf(radius)
        assert radius <= tolerance + relative * abs(value)


def points(low: float, high: float):
    return st.lists(st.floats(low, high), min_size=1, max_size=20).map(np.array)


@pytest.mark.parametrize("name", REFERENCE)
def test_extremes(name):
    x = np.array(EXTREMES)
    check(getattr(functions, name)(x), [REFERENCE[name](mpmath.mpf(t)) for t in EXTREMES], 2e-15, 1e-15)


@pytest.mark.parametrize("name", REFERENCE)
@settings(deadline=None, max_examples=60)
@given(x=st.one_of(points(-4, 4), points(-50, 50), points(-HUGE, HUGE)))
def test_contains_and_is_tight(name, x):
    with mpmath.workdps(50):
        check(getattr(functions, name)(x), [REFERENCE[name](mpmath.mpf(t)) for t in x.tolist()], 2e-15, 1e-15)


@settings(deadline=None, max_examples=100)
@given(x=st.one_of(points(-1, 1), points(-708, 709)))
def test_exp(x):
    with mpmath.workdps(50):
        check(functions.exp(x), [mpmath.exp(mpmath.mpf(t)) for t in x.tolist()], 1e-300, 1e-15)


def test_exp_beyond_the_floats():
    ball = functions.exp(np.array([-708.5, -1e308, -HUGE, 709.71, HUGE]))
    assert (ball.lower()[:3] <= 0).all() and (ball.upper()[:3] <= 2.0**-1020).all()
    assert mpmath.exp(-708.5) <= ball.upper()[0]
    assert (ball.rad[3:] == np.inf).all() and np.isfinite(ball.mid).all()


@pytest.mark.parametrize("name", ["exp", "sigmoid"])
@settings(deadline=None, max_examples=60)
@given(mid=st.floats(-30, 30), rad=st.floats(0, 1), where=st.floats(-1, 1))
def test_balls_as_arguments(name, mid, rad, where):
    point = mid + where * rad
    if abs(Fraction(point) - Fraction(mid)) > Fraction(rad):
        return
    ball = getattr(functions, name)(Ball(np.array([mid]), np.array([rad])))
    with mpmath.workdps(50):
        value = (REFERENCE | {"exp": mpmath.exp})[name](mpmath.mpf(point))
        assert abs(value - mpmath.mpf(float(ball.mid[0]))) <= mpmath.mpf(float(ball.rad[0]))
        assert rad > 0.1 or ball.rad[0] <= 1e-14 + (3 * rad + 1e-14) * max(1.0, float(ball.mid[0]))


def test_a_wide_ball_proves_nothing():
    assert functions.exp(Ball(np.zeros(1), np.array([1.5]))).rad[0] == np.inf


def test_constants():
    ln2 = mpmath.mpf(float(functions._LN2_HEAD)) + mpmath.mpf(float(functions._LN2_TAIL.mid))
    assert abs(ln2 - mpmath.ln(2)) <= mpmath.mpf(float(functions._LN2_TAIL.rad))
    assert abs(mpmath.pi - mpmath.mpf(float(functions.PI.mid))) <= mpmath.mpf(float(functions.PI.rad))


@settings(deadline=None)
@given(st.fractions())
def test_rational(value):
    ball = functions.rational(value)
    assert abs(value - Fraction(float(ball.mid))) <= Fraction(float(ball.rad))
    assert ball.rad <= 1e-307 + 3e-16 * abs(ball.mid)


def test_rational_below_the_normal_range():
    value = Fraction(5e-324) / 3
    ball = functions.rational(value)
    assert abs(value - Fraction(float(ball.mid))) <= Fraction(float(ball.rad))


def test_shapes_are_kept_and_nothing_overflows():
    x = np.array(EXTREMES[:32]).reshape(2, 4, 4)
    for name in (*REFERENCE, "exp"):
        ball = getattr(functions, name)(x)
        assert ball.shape == x.shape and not np.isnan(ball.rad).any()
        assert not getattr(functions, name)(np.zeros((0, 3))).mid.size
