"""Balls hold the exact rational result of every operation on every member, on random and on hostile numbers."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.rigor.ball import Ball, between, concatenate
from certlip.rigor.rounding import TINY, UNIT, down, gamma, inflate, product_up, up

HUGE = np.finfo(np.float64).max
SMALLEST = 5e-324
HOSTILE = [
    0.0, -0.0, 1.0, -1.0, 1.0 + 2.0**-52, 1.0 - 2.0**-53, 0.1, -1 / 3, 2.0**53 + 2, 1e16, -1e16,
    SMALLEST, -SMALLEST, TINY, -TINY, 3 * SMALLEST, 1e-160, -1e-160, 1e160, -1e160, HUGE, -HUGE,
]  # fmt: skip
numbers = st.one_of(st.sampled_from(HOSTILE), st.floats(allow_nan=False, allow_infinity=False))
radii = st.one_of(
    st.just(0.0), st.sampled_from([SMALLEST, TINY, 1e-17, 0.5, 1e300]), st.floats(0.0, 1e300, allow_nan=False)
)
balls = st.builds(lambda mid, rad: Ball(np.array([mid]), np.array([rad])), numbers, radii)
CORNERS = (Fraction(-1), Fraction(1), Fraction(0), Fraction(-3, 7))


def holds(ball: Ball, index, exact: Fraction) -> bool:
    """exact lies in this entry of the ball. After an overflow the radius is infinite or NaN: nothing is said."""
    mid = ball.mid[index]
    rad = np.broadcast_to(ball.rad, ball.mid.shape)[index]
    if not np.isfinite(rad):
        return True
    return bool(np.isfinite(mid)) and abs(Fraction(float(mid)) - exact) <= Fraction(float(rad))


def members(ball: Ball, index=0) -> list[Fraction]:
    mid, rad = ball.mid[index], np.broadcast_to(ball.rad, ball.mid.shape)[index]
    return [Fraction(float(mid)) + corner * Fraction(float(rad)) for corner in CORNERS]


@settings(max_examples=400, deadline=None)
@given(balls, balls)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_arithmetic_on_members(a, b):
    total, difference, product_, opposite = a + b, a - b, a * b, -a
    for x, y in product(members(a), members(b)):
        assert holds(total, 0, x + y)
        assert holds(difference, 0, x - y)
        assert holds(product_, 0, x * y)
        assert holds(opposite, 0, -x)


@settings(max_examples=400, deadline=None)
@given(balls, balls)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_quotient_of_members(a, b):
    quotient = a / b
    zero = Fraction(float(abs(b.mid[0]))) <= Fraction(float(b.rad[0]))
    if zero:
        assert not np.isfinite(quotient.rad[0])
    else:
        for x, y in product(members(a), members(b)):
            assert holds(quotient, 0, x / y)


@settings(max_examples=300, deadline=None)
@given(balls)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bounds_and_size(a):
    low, high, size = a.lower()[0], a.upper()[0], a.magnitude()[0]
    for x in members(a):
        assert low == -np.inf or Fraction(float(low)) <= x
        assert high == np.inf or Fraction(float(high)) >= x
        assert size == np.inf or Fraction(float(size)) >= abs(x)


@settings(max_examples=300, deadline=None)
@given(st.floats(0.0, HUGE), st.floats(0.0, 1.0))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_square_root_of_members(mid, share):
    ball = Ball(np.array([mid]), np.array([mid * share]))
    root = ball.sqrt()
    if np.isfinite(root.rad[0]):
        low = Fraction(float(root.mid[0])) - Fraction(float(root.rad[0]))
        high = Fraction(float(root.mid[0])) + Fraction(float(root.rad[0]))
        for x in members(ball):
            if x >= 0:
                assert low <= 0 or low * low <= x
                assert high >= 0 and high * high >= x


@settings(max_examples=200, deadline=None)
@given(st.lists(numbers, min_size=2, max_size=2).map(sorted))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_between_holds_both_ends(ends):
    low, high = ends
    ball = between(np.array([low]), np.array([high]))
    assert holds(ball, 0, Fraction(low)) and holds(ball, 0, Fraction(high))


def matrix_product(a, b):
    columns = list(zip(*b, strict=True))
    return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in a]


def rational_matrix(mid, rad, corner):
    rows = zip(mid, rad, corner, strict=True)
    return [[Fraction(float(m)) + c * Fraction(float(r)) for m, r, c in zip(*row, strict=True)] for row in rows]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_matrix_product_of_members(seed):
    rng = np.random.default_rng(seed)
    m, k, n = rng.integers(1, 6), rng.integers(1, 12), rng.integers(1, 6)
    kind = seed % 4
    shapes = ((m, k), (k, n))
    if kind == 0:  # harmless
        mids = [rng.standard_normal(shape) for shape in shapes]
    elif kind == 1:  # every scale at once
        mids = [rng.standard_normal(shape) * 10.0 ** rng.integers(-150, 150, shape) for shape in shapes]
    elif kind == 2:  # cancellation: entries come in pairs +-c of size 1e16 with small change between
        left = np.repeat(rng.standard_normal((m, k)) * 1e16, 2, axis=1)
        left[:, 1::2] *= -1
        right = np.repeat(rng.standard_normal((k, n)), 2, axis=0)
        mids = [left + rng.standard_normal(left.shape), right + 1e-16 * rng.standard_normal(right.shape)]
    else:  # underflow
        mids = [rng.standard_normal(shape) * 10.0 ** rng.integers(-200, -150, shape) for shape in shapes]
    rads = [np.abs(mid) * rng.choice([0.0, 1e-16, 0.3]) for mid in mids]
    result = Ball(mids[0], rads[0]) @ Ball(mids[1], rads[1])
    for _ in range(4):
        corners = [rng.choice([-1, 0, 1], mid.shape).tolist() for mid in mids]
        exact = matrix_product(*(rational_matrix(*entry) for entry in zip(mids, rads, corners, strict=True)))
        for i, row in enumerate(exact):
            for j, value in enumerate(row):
                assert holds(result, (i, j), value)


def test_batched_matrix_product_is_the_product_of_each():
    rng = np.random.default_rng(0)
    a, b = Ball(rng.standard_normal((3, 2, 4)), np.asarray(1e-3)), Ball(rng.standard_normal((3, 4, 5)), np.asarray(0.0))
    whole = a @ b
    for i in range(3):
        part = a[i] @ b[i]
        assert np.array_equal(whole.mid[i], part.mid) and np.array_equal(whole.rad[i], part.rad)


def test_radii_are_not_wasteful():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 100))
    for ball in (Ball.exact(x) + Ball.exact(y), Ball.exact(x) * Ball.exact(y), Ball.exact(x) / Ball.exact(y)):
        assert (ball.rad <= 4 * UNIT * np.abs(ball.mid) + 10 * TINY).all()
    ball = Ball.exact(x[None]) @ Ball.exact(y[:, None])
    assert ball.rad[0, 0] <= 1.01 * 100 * UNIT * float(np.abs(x) @ np.abs(y))


def test_rearrangements_move_centre_and_radius_alike():
    rng = np.random.default_rng(2)
    ball = Ball(rng.standard_normal((2, 3)), rng.random((2, 3)))
    assert np.array_equal(ball.T.rad, ball.rad.T) and np.array_equal(ball.T.mid, ball.mid.T)
    assert np.array_equal(ball[1].rad, ball.rad[1]) and np.array_equal(ball.reshape(6).rad, ball.rad.ravel())
    joined = concatenate([ball, Ball.exact(np.ones((1, 3)))], 0)
    assert np.array_equal(joined.rad, np.vstack([ball.rad, np.zeros((1, 3))]))
    wide = Ball(np.zeros((2, 3)), np.array([1.0, 2.0, 3.0]))  # a radius that broadcasts
    assert np.array_equal(wide.T.rad, [[1, 1], [2, 2], [3, 3]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_overflow_proves_nothing():
    big = Ball.exact(np.array([HUGE]))
    wide = Ball(np.array([HUGE]), np.array([HUGE]))
    for ball in (big + big, big * big, big / Ball.exact(np.array([1e-300])), big - (-big), wide.sqrt(), wide * wide):
        assert not np.isfinite(ball.rad[0]) and not ball.is_exact
        assert not ball.lower()[0] > -np.inf and not ball.upper()[0] < np.inf and not ball.magnitude()[0] < np.inf
    assert not np.isfinite((big.reshape(1, 1) @ big.reshape(1, 1)).rad).any()


def test_is_exact_notices_unknown_radii():
    assert Ball.exact([1.0]).is_exact
    assert not Ball(np.zeros(2), np.array([0.0, SMALLEST])).is_exact
    assert not Ball(np.zeros(2), np.array([0.0, np.nan])).is_exact


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0.0, 1e300), min_size=1, max_size=30))
def test_inflate_bounds_sums_of_products(terms):
    """A left-to-right sum of n squares takes at most n + 1 nested roundings."""
    total = 0.0
    for term in terms:
        total += term * 0.1
    exact = sum(Fraction(term) * Fraction(0.1) for term in terms)
    assert Fraction(inflate(total, len(terms) + 1)) >= exact


def test_gamma_is_above_its_formula():
    for k in (0, 1, 2, 10, 1000, 10**6, 2**40):
        for unit in (UNIT, 2.0**-24 + UNIT, 2.0**-8):
            product_ = Fraction(k) * Fraction(unit)
            if product_ >= Fraction(1, 2):
                assert gamma(k, unit) == np.inf
            else:
                exact = product_ / (1 - product_)
                assert exact <= Fraction(gamma(k, unit)) <= exact * (1 + 20 * Fraction(UNIT)) + Fraction(SMALLEST)
    assert inflate(1.0, 2**52) == np.inf and (inflate(np.ones(2), 2**52) == np.inf).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_neighbours():
    assert up(1.0) == 1.0 + 2.0**-52 and down(1.0) == 1.0 - 2.0**-53
    assert up(0.0) == SMALLEST and up(HUGE) == np.inf and down(-HUGE) == -np.inf


@settings(max_examples=300, deadline=None)
@given(st.floats(0.0, 1e150), st.floats(0.0, 1e150))
def test_products_are_rounded_up(left, right):
    value = product_up(left, right)
    assert Fraction(value) >= Fraction(left) * Fraction(right)
    assert value <= left * right * (1 + 2.0**-51) + SMALLEST
    for exact in (0.0, 1.0):
        assert product_up(left, exact) == product_up(exact, left) == left * exact


@pytest.mark.parametrize("unknown", [np.nan, np.inf])
def test_products_with_unknown_factors_are_unknown(unknown):
    for other in (0.0, 1.0, 2.0, np.inf, np.nan):
        assert not np.isfinite(product_up(unknown, other)) and not np.isfinite(product_up(other, unknown))
