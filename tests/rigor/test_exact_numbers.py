"""Exact arrays against Python's rationals: every result holds the true one, and next to nothing else."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.rigor.ball import Ball
from certlip.rigor.exact_numbers import BASE, Exact, NotExact, bilinear, concatenate, maximum, sqrt_up


def rationals(array) -> list[Fraction]:
    return [Fraction(float(x)) for x in np.ravel(array)]


def holds(ball: Exact, truth, width: Fraction = Fraction(0)) -> bool:
    """Whether the true values lie in the ball, whose radii are at most `width`."""
    low, high = ball.ends()
    inside = all(a <= x <= b for a, x, b in zip(low, truth, high, strict=True))
    return inside and all(b - a <= 2 * width for a, b in zip(low, high, strict=True))


def spread(rng, *shape, decades: int) -> np.ndarray:
    return rng.standard_normal(shape) * 10.0 ** rng.integers(-decades, decades + 1, shape)


@given(st.lists(st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) > 1e-25), min_size=1, max_size=6))
def test_floats_of_moderate_range_are_exact(numbers):
    assert holds(Exact.of(np.array(numbers)), rationals(numbers))


@given(st.lists(st.floats(-(2.0**999), 2.0**999), min_size=1, max_size=6))
def test_any_floats_are_enclosed(numbers):
    top = max(map(abs, rationals(numbers)))
    assert holds(Exact.of(np.array(numbers)), rationals(numbers), top / 2**200)


@pytest.mark.parametrize("number", [0.5, 2.0**-21, 2.0**19, 2.0**-1074, 2.0**999, 1 - 2.0**-53, -(2.0**-41)])
def test_digits_end_at_powers_of_the_base(number):
    ball = Exact.of(np.array([number]))
    assert holds(ball, [Fraction(number)])
    assert all(abs(int(limb[0])) <= BASE // 2 for limb in ball.mid.values())


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1.7415152243978685e308, -(2.0**1000)])
def test_numbers_at_the_end_of_the_range_are_refused(number):
    with pytest.raises(NotExact):
        Exact.of(np.array([1.0, number]))
    with pytest.raises(NotExact):
        Exact.of(Ball(np.ones(2), np.array([0.0, abs(number)])))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 25))
def test_products_and_sums(seed, decades):
    rng = np.random.default_rng(seed)
    a, b, c = spread(rng, 3, 4, decades=decades), spread(rng, 4, 2, decades=decades), spread(rng, 2, decades=decades)
    places = [(i, j) for i in range(3) for j in range(2)]
    truth = [sum(Fraction(a[i, k]) * Fraction(b[k, j]) for k in range(4)) - Fraction(c[j]) for i, j in places]
    result = Exact.of(a) @ Exact.of(b) - Exact.of(c)
    size = 4 * max(map(abs, rationals(a))) * max(map(abs, rationals(b))) + max(map(abs, rationals(c)))
    assert holds(result, truth, size / 2**220)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_products_of_balls_hold_products_of_members(seed):
    rng = np.random.default_rng(seed)
    balls = [Ball(spread(rng, n, n, decades=3), np.abs(spread(rng, n, n, decades=2)) * 1e-9) for n in (3, 3)]
    result = Exact.of(balls[0]) @ Exact.of(balls[1])
    for _ in range(3):
        signs = rng.choice([-1, 1], (2, 9))
        x, y = (np.array(rationals(b.mid)) + s * np.array(rationals(b.rad)) for b, s in zip(balls, signs, strict=True))
        truth = x.reshape(3, 3) @ y.reshape(3, 3)
        assert holds(result, truth.ravel().tolist(), Fraction(1))


def test_sums_that_floats_could_round_are_refused():
    long = 1 << 16
    rough = Exact.of_integers(np.full((1, long), BASE // 2 - 1, dtype=object), 0)
    with pytest.raises(NotExact, match="too long"):
        rough @ rough.map(np.transpose)
    short = rough[:, : 1 << 15]
    assert holds(short @ short.map(np.transpose), [Fraction((1 << 15) * (BASE // 2 - 1) ** 2)])


def test_the_largest_digits_multiply_exactly_in_any_order():
    rng = np.random.default_rng(0)
    x = rng.integers(-(BASE // 2), BASE // 2, (1, 1 << 15))
    ball = Exact.of_integers(x.astype(object), 0)
    truth = sum(int(a) * int(a) for a in x.ravel())
    for order in (np.arange(x.size), rng.permutation(x.size)):
        moved = ball[:, order]
        assert holds(moved @ moved.map(np.transpose), [Fraction(truth)])


@given(st.lists(st.integers(-(10**60), 10**60), min_size=1, max_size=5), st.integers(-9, 9), st.integers(0, 10**25))
def test_integers_go_in_and_out(numbers, exponent, error):
    unit = Fraction(2) ** (20 * exponent)
    ball = Exact.of_integers(np.array(numbers, dtype=object), exponent, error)
    low, high = ball.ends()
    assert all(a <= unit * (n - error) and unit * (n + error) <= b for a, n, b in zip(low, numbers, high, strict=True))
    mid, rad = ball.integers(exponent)
    assert mid.tolist() == numbers and all(error <= r <= error * (1 + 2.0**-16) + 1 for r in rad.tolist())


def test_grids_cut_off_what_they_say():
    x = np.array([0.3, -0.3, 2.0**-61, -(2.0**-70), 0.0, 1e-300])
    mid, rad = Exact.of(x).grid()
    for number, m, r in zip(x, mid.tolist(), rad.tolist(), strict=True):
        assert abs(Fraction(number) * 2**60 - m) <= r <= 2
    assert rad[4] == 0
    with pytest.raises(NotExact, match="too large"):
        Exact.of(np.array([4.0])).grid()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_choices_between_balls(seed):
    rng = np.random.default_rng(seed)
    balls = [Ball(spread(rng, 8, decades=1), np.abs(spread(rng, 8, decades=1)) * 0.1) for _ in range(2)]
    one, two = map(Exact.of, balls)
    assert (one.sign() == np.sign(balls[0].mid)).all()
    truth = [max(a, b) for a, b in zip(rationals(balls[0].mid), rationals(balls[1].mid), strict=True)]
    largest = maximum(one, two)
    for sides in rng.choice([-1, 0, 1], (4, 2, 8)):
        members = [[m + int(t) * r for m, t, r in zip(rationals(b.mid), side, rationals(b.rad), strict=True)]
                   for b, side in zip(balls, sides, strict=True)]  # fmt: skip
        assert holds(largest, list(map(max, *members)), Fraction(10**3))
    joined = concatenate([one[:4], two[4:]], 0)
    assert joined.ends() == one.where(np.arange(8) < 4, two).ends()
    assert holds(Exact(largest.mid, {}, (8,)), truth)


def test_maxima_of_entries_far_below_the_largest():
    """Their difference must not be cut off: nothing would be left of the small entries, and the left one would win."""
    for power in (100, 259, 300, 900):
        left, right = np.array([2.0**power, 0.0, 0.0]), np.array([0.0, 1.0, -1.0])
        for pair in ((left, right), (right, left)):
            expected = [Fraction(2) ** power, Fraction(1), Fraction(0)]
            assert maximum(*map(Exact.of, pair)).ends() == (expected, expected)
            low, high = maximum(*(Exact.of(Ball(np.zeros(3), np.abs(side))) for side in pair)).ends()
            radii = [Fraction(2) ** power, Fraction(1), Fraction(1)]
            assert all(a <= -r and r <= b for a, r, b in zip(low, radii, high, strict=True))
    one, two = Exact.of(np.array([[2.0**400], [0.0]])), Exact.of(np.array([1.0, -1.0]))  # broadcast
    largest = Fraction(2) ** 400
    assert maximum(one, two).ends()[0] == [largest, largest, 1, 0]


def test_scalars_and_empty_arrays():
    product = bilinear(np.multiply, Exact.of(3.0), Exact.of(np.array([2.0, 0.0])), 1)
    assert holds(product, [Fraction(6), Fraction(0)])
    assert Exact.of(np.zeros((2, 0))).ends() == ([], [])
    assert (Exact.of(np.zeros((2, 3))) @ Exact.of(np.zeros((3, 4)))).shape == (2, 4)


@given(st.fractions(0, 10**40))
def test_roots_are_rounded_up_and_close(square):
    root = sqrt_up(square)
    assert square <= root**2 <= square * (1 + Fraction(1, 2**280))
    assert sqrt_up(square**2) == square
