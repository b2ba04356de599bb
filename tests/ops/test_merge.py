"""Sums, concatenations and maxima: values, enclosures, gains and gradients."""

from fractions import Fraction

import numpy as np
import pytest

from certlip.ops import Add, Concat, MaxPool
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import BINARY32, REAL


def windows(size, width, stride, padding):
    """Sliding windows over a line, -1 where they reach into the padding."""
    starts = range(-padding, size + padding - width + 1, stride)
    index = np.array([[i if 0 <= i < size else -1 for i in range(s, s + width)] for s in starts])
    return MaxPool(index, (size,))


POOLS = [windows(6, 2, 2, 0), windows(7, 3, 2, 1), windows(5, 3, 1, 1), windows(9, 2, 3, 0)]


def test_shapes():
    assert Add().shape((2, 3), (2, 3)) == (2, 3)
    assert Concat(1).shape((2, 3), (2, 5)) == (2, 8)
    with pytest.raises(ValueError, match="different shapes"):
        Add().shape((2,), (3,))
    for bad in (((2, 3), (3, 3)), ((2,), (2,))):
        with pytest.raises(ValueError, match="cannot be concatenated"):
            Concat(1).shape(*bad)
    with pytest.raises(ValueError, match="expected an input"):
        POOLS[0].shape((5,))
    with pytest.raises(ValueError, match="entirely in the padding"):
        MaxPool(np.array([[0, 1], [-1, -1]]), (2,))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_sums_hold_the_exact_sum_and_every_execution(count):
    rng = np.random.default_rng(count)
    for trial in range(20):
        mids = [rng.standard_normal((1, 4)) * 10.0 ** rng.integers(-8, 9) for _ in range(count)]
        if trial % 2 and count > 1:
            mids[-1] = -mids[0] * (1 + 1e-9)
        mids = [mid.astype(np.float32).astype(np.float64) for mid in mids]
        rads = [rng.random((1, 4)) * 1e-9 for _ in range(count)]
        for precision in (REAL, BINARY32):
            ball = Add().enclose(precision, *(Ball(m, r) for m, r in zip(mids, rads, strict=True)))
            for sign in (-1, 1):
                for i in range(4):
                    pairs = zip(mids, rads, strict=True)
                    exact = sum(Fraction(float(m[0, i])) + sign * Fraction(float(r[0, i])) for m, r in pairs)
                    assert abs(exact - Fraction(float(ball.mid[0, i]))) <= Fraction(float(ball.rad[0, i]))
        for order in (mids, mids[::-1]):
            total = np.zeros((1, 4), np.float32)
            for mid in order:
                total = total + mid.astype(np.float32)
            assert (np.abs(total - ball.mid) <= ball.rad).all()


def test_gains_bound_sampled_movements():
    rng = np.random.default_rng(0)
    for _ in range(200):
        moves = [rng.standard_normal(int(n)) * 10.0 ** rng.integers(-3, 4) for n in rng.integers(1, 5, 3)]
        for norm, order in (("l2", 2), ("linf", np.inf)):
            sizes = [float(np.linalg.norm(move, order)) for move in moves]
            joined = np.linalg.norm(np.concatenate(moves), order)
            gain = Concat(0).gain(norm, *sizes)
            assert joined * (1 - 1e-14) <= gain <= joined * (1 + 1e-12)
            same = [move[:1] for move in moves]
            size = sum(float(np.linalg.norm(move, order)) for move in same)
            assert np.linalg.norm(sum(same), order) <= Add().gain(norm, *(float(abs(m[0])) for m in same))
            assert size * (1 - 1e-14) <= Add().gain(norm, *(float(abs(m[0])) for m in same)) <= size * (1 + 1e-12)


def test_gain_of_a_concatenation_is_exact_arithmetic_from_above():
    rng = np.random.default_rng(1)
    for _ in range(300):
        bounds = (rng.random(int(rng.integers(1, 6))) * 10.0 ** rng.integers(-200, 200)).tolist()
        value = Fraction(Concat(0).gain("l2", *bounds))
        assert value * value >= sum(Fraction(bound) ** 2 for bound in bounds)
        assert Fraction(Add().gain("l2", *bounds)) >= sum(map(Fraction, bounds))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("operator", [Concat(0), Add()])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_unknown_branches_are_not_forgotten(operator, norm):
    """A branch without a finite bound leaves none, wherever it stands: max() would drop a NaN behind a number."""
    for bounds in ((0.0, np.nan), (np.nan, 0.0), (1.0, np.nan), (np.inf, np.inf), (0.0, np.inf), (np.inf, 0.0, np.nan)):
        assert not np.isfinite(operator.gain(norm, *bounds))
    assert operator.gain(norm, 0.0, 0.0) <= 1e-300


@pytest.mark.parametrize("pool", POOLS)
def test_maxima_against_loops(pool):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, *pool.source))
    expected = [[max(row[i] for i in window if i >= 0) for window in pool.index.tolist()] for row in x]
    assert np.array_equal(pool.value(x), expected)
    counts = [sum(i in window for window in pool.index.tolist()) for i in range(pool.source[0])]
    assert pool.multiplicity == max(counts)
    direction = rng.standard_normal((4, len(pool.index)))
    gradient = pool.pullback(direction, x)[0]
    step = 1e-6 * rng.standard_normal(x.shape)
    change = ((pool.value(x + step) - pool.value(x - step)) * direction).sum() / 2
    assert (gradient * step).sum() == pytest.approx(change, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("pool", POOLS)
def test_maxima_of_members_and_movements(pool):
    rng = np.random.default_rng(3)
    for _ in range(100):
        x = rng.standard_normal((1, *pool.source)) * 10.0 ** rng.integers(-2, 3)
        rad = rng.random(x.shape)
        ball = pool.enclose(REAL, Ball(x, rad))
        y = x + rng.uniform(-1, 1, x.shape) * rad
        moved = np.abs(pool.value(y) - pool.value(x))
        assert (np.abs(pool.value(y) - ball.mid) <= ball.rad * (1 + 1e-15)).all()
        assert (moved <= pool.spread(np.abs(y - x)) * (1 + 1e-12)).all()
        for norm, order in (("l2", 2), ("linf", np.inf)):
            assert np.linalg.norm(moved[0], order) <= pool.gain(norm, float(np.linalg.norm((y - x)[0], order)))


def test_overlap_costs_the_root_of_the_multiplicity_and_attains_it():
    """One entry in three windows: moving it alone moves three outputs."""
    pool = windows(5, 3, 1, 0)
    x, y = np.zeros((1, 5)), np.array([[0.0, 0, 1, 0, 0]])
    moved = np.linalg.norm(pool.value(y) - pool.value(x))
    assert moved == np.sqrt(3.0) and moved <= pool.gain("l2", 1.0) <= moved * (1 + 1e-15)
    assert pool.gain("linf", 1.0) == 1.0 and POOLS[0].gain("l2", 1.0) == 1.0


def test_concatenation_splits_its_gradient():
    rng = np.random.default_rng(4)
    a, b, y = rng.standard_normal((2, 3, 2)), rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 6))
    left, right = Concat(1).pullback(y, a, b)
    assert np.array_equal(left, y[..., :2]) and np.array_equal(right, y[..., 2:])
    ball = Concat(1).enclose(REAL, Ball(a, np.asarray(0.5)), Ball.exact(b))
    assert np.array_equal(ball.mid, np.concatenate([a, b], -1)) and (ball.rad[..., :2] == 0.5).all()
    assert not ball.rad[..., 2:].any()
