"""Norm bounds are above the exact norm, decided in rational arithmetic, and not far above."""

from fractions import Fraction

import numpy as np
import pytest
from exact import bounds_norm

from certlip.rigor.ball import Ball
from certlip.rigor.norms import dominance_norm, infinity_norm, perron_vector, row_sum_norm, spectral_norm

SCALES = (1e-290, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1e290)


def matrices():
    rng = np.random.default_rng(0)
    for i in range(24):
        m, n = rng.integers(1, 7, 2)
        x = rng.standard_normal((m, n))
        if i % 4 == 1:
            x = np.outer(x[:, 0], x[0])  # rank one
        elif i % 4 == 2:
            x = np.round(4 * x) / 4 * (rng.random((m, n)) < 0.5)  # sparse
        elif i % 4 == 3:
            x = x * 10.0 ** rng.integers(-8, 9, (m, n))
        yield x


@pytest.mark.parametrize("scale", SCALES)
def test_bounds_are_above_the_exact_norm_and_tight(scale):
    for x in matrices():
        matrix = x * scale
        bounds = {f: f(Ball.exact(matrix)) for f in (spectral_norm, dominance_norm)}
        for value in bounds.values():
            assert np.isfinite(value) and bounds_norm(value, matrix)
        largest = np.abs(matrix).max()
        if largest > 0:
            estimate = np.linalg.norm(matrix / largest, 2) * largest
            assert bounds[spectral_norm] <= estimate * (1 + 1e-6)
            assert bounds[dominance_norm] <= estimate * np.sqrt(min(matrix.shape)) * (1 + 1e-9)


def test_the_exact_comparison_sees_a_last_digit():
    assert bounds_norm(5.0, np.array([[3.0, 4.0]])) and not bounds_norm(np.nextafter(5.0, 0), np.array([[3.0, 4.0]]))
    assert bounds_norm(2.0, np.ones((2, 2))) and not bounds_norm(np.nextafter(2.0, 0), np.ones((2, 2)))


@pytest.mark.parametrize("bound", [spectral_norm, dominance_norm, infinity_norm])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (0, 3), (3, 0), (2, 3, 4)])
def test_zero(bound, shape):
    assert 0.0 <= bound(Ball.exact(np.zeros(shape))) <= 1e-300


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("entry", [1.0, -3.5, 1e-200, 5e-324, 1e200, 1.7976931348623157e308, -0.1])
@pytest.mark.parametrize("bound", [spectral_norm, dominance_norm, infinity_norm])
def test_single_entries(bound, entry):
    value = bound(Ball.exact([[entry]]))
    assert value >= abs(entry)
    assert value == np.inf or value <= abs(entry) * (1 + 1e-12) + 1e-300
    if abs(entry) < 1e300:
        assert np.isfinite(value)


def test_members_of_a_ball_are_bounded_too():
    rng = np.random.default_rng(1)
    for _ in range(20):
        m, n = rng.integers(1, 6, 2)
        mid, rad = rng.standard_normal((m, n)), rng.random((m, n)) * 10.0 ** rng.integers(-12, 1)
        values = [bound(Ball(mid, rad)) for bound in (spectral_norm, dominance_norm)]
        rows = infinity_norm(Ball(mid, rad))
        for _ in range(10):
            member = mid + rng.choice([-1.0, 1.0], (m, n)) * rad * (1 - 2.0**-50)
            assert all(bounds_norm(value, member) for value in values)
            assert rows >= np.abs(member).sum(1).max()


def test_a_ball_around_zero():
    value = spectral_norm(Ball(np.zeros((3, 2)), np.full((3, 2), 0.5)))
    assert np.sqrt(6) / 2 <= value <= np.sqrt(6) / 2 * (1 + 1e-12)


def test_batches_are_bounded_by_their_largest():
    rng = np.random.default_rng(2)
    batch = rng.standard_normal((5, 3, 4)) * np.array([1.0, 1e-3, 7.0, 0.0, 2.0])[:, None, None]
    largest = np.linalg.norm(batch, 2, axis=(-2, -1)).max()
    value = spectral_norm(Ball.exact(batch))
    assert all(bounds_norm(value, matrix) for matrix in batch) and value <= largest * (1 + 1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal", "rank one", "close pair"])
def test_large_matrices_use_an_estimate_that_is_checked(kind):
    """Above the size of full eigendecompositions the guess is a Krylov value, which must not be believed."""
    rng = np.random.default_rng(3)
    n = 420
    matrix = rng.standard_normal((n, n)) / np.sqrt(n)
    if kind == "orthogonal":
        matrix, _ = np.linalg.qr(matrix)
    elif kind == "rank one":
        matrix = np.outer(matrix[0], matrix[1])
    elif kind == "close pair":
        basis, _ = np.linalg.qr(matrix)
        matrix = (basis * np.concatenate([[1.0, 1 - 1e-9], np.linspace(0.999, 0, n - 2)])) @ basis.T
    exact = np.linalg.norm(matrix, 2)
    value = spectral_norm(Ball.exact(matrix))
    slack = 1e-5 if kind == "close pair" else 1e-6  # the estimate is slow where singular values crowd at the top
    assert exact * (1 - 1e-13) <= value <= exact * (1 + slack)


def test_dominance_is_the_spectral_norm_for_non_negative_matrices():
    rng = np.random.default_rng(4)
    for _ in range(10):
        matrix = rng.random(rng.integers(1, 30, 2))
        exact = np.linalg.norm(matrix, 2)
        assert exact * (1 - 1e-13) <= dominance_norm(Ball.exact(matrix)) <= exact * (1 + 1e-8)


def test_any_positive_weights_are_valid():
    rng = np.random.default_rng(5)
    for _ in range(20):
        matrix = rng.standard_normal((4, 6))
        weights = 10.0 ** rng.uniform(-3, 3, 4)
        assert bounds_norm(row_sum_norm(Ball.exact(matrix) @ Ball.exact(matrix).T, weights), matrix)
        assert (perron_vector(np.abs(matrix @ matrix.T)) > 0).all()
    assert (perron_vector(np.zeros((3, 3))) > 0).all()


def test_infinity_norm_is_the_largest_row_sum():
    for matrix in matrices():
        exact = max(sum(Fraction(abs(float(x))) for x in row) for row in matrix)
        value = Fraction(infinity_norm(Ball.exact(matrix)))
        assert exact <= value <= exact * Fraction(1 + 1e-13) + Fraction(1e-300)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_unbounded_entries_have_no_finite_bound(bad):
    for ball in (Ball.exact([[1.0, bad]]), Ball(np.ones((1, 2)), np.array([[0.0, abs(bad)]]))):
        for bound in (spectral_norm, dominance_norm, infinity_norm):
            assert not np.isfinite(bound(ball))
