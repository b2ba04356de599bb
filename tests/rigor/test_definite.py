"""No matrix that exact arithmetic calls indefinite is ever called positive semidefinite."""

import contextlib
from fractions import Fraction

import numpy as np
import pytest
from exact import is_semidefinite, to_integers

from certlip.rigor.ball import Ball
from certlip.rigor.definite import is_positive_semidefinite

EXPONENTS = (-498, -60, 0, 60, 498)  # 2^498 is about 1e150


def proved(mid, rad=0.0) -> bool:
    return is_positive_semidefinite(Ball(np.asarray(mid, dtype=float), np.asarray(rad)))


def truth(mid) -> bool:
    return is_semidefinite(to_integers(np.asarray(mid, dtype=float)))


def test_the_oracle_itself():
    assert is_semidefinite([[1, 1], [1, 1]]) and is_semidefinite([[0, 0], [0, 3]]) and is_semidefinite([[0]])
    assert not is_semidefinite([[0, 1], [1, 5]]) and not is_semidefinite([[1, 2], [2, 3]])
    assert not is_semidefinite([[-1]]) and not is_semidefinite([[1, 0], [0, -1]])
    rng = np.random.default_rng(0)
    for _ in range(50):
        a = rng.integers(-5, 6, (4, 4))
        a = a + a.T
        values = np.linalg.eigvalsh(a)
        if abs(values[0]) > 1e-9:
            assert is_semidefinite(a.tolist()) == (values[0] > 0)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 20, 30])
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_singular_matrices_with_a_gap(size, exponent):
    """B B' is singular; one diagonal entry is lowered by a share from 1e-4 to 1e-18, which makes it indefinite."""
    rng = np.random.default_rng(size)
    factor = rng.integers(-4, 5, (size, max(1, size - 1)))
    factor[0, 0] = 3
    exact = (factor @ factor.T).astype(float)
    for gap in (0.0, 1e-18, 1e-16, 1e-14, 1e-12, 1e-9, 1e-7, 1e-4):
        lowered = exact.copy()
        at = int(rng.integers(size))
        lowered[at, at] -= gap * max(exact[at, at], 1.0)
        # members of a ball with a radius on that entry go even below
        for mid, rad in ((lowered, 0.0), (exact, gap)):
            scaled = np.ldexp(mid, exponent)
            radius = np.zeros((size, size))
            radius[at, at] = np.ldexp(rad * exact.max(), exponent)
            if size == 1:  # a positive number is definite
                assert not (proved(scaled, radius) and np.ldexp(mid[0, 0], exponent) < radius[0, 0])
                continue
            definite = truth(scaled) and not radius.any()
            assert not proved(scaled, radius) or definite


def test_rounding_decides_near_singular_matrices_never_wrongly():
    """Gram matrices of floats with nearly dependent rows, rounded: the sign of the smallest eigenvalue is chance."""
    rng = np.random.default_rng(7)
    outcomes = {(True, True): 0, (True, False): 0, (False, False): 0}
    for trial in range(400):
        n = int(rng.integers(2, 9))
        rows = rng.standard_normal((n, n + 2))
        rows[-1] = rows[:-1].sum(0) + 10.0 ** rng.uniform(-10, -4) * rng.standard_normal(n + 2)
        matrix = rows @ rows.T
        matrix = np.tril(matrix) + np.tril(matrix, -1).T
        matrix[0, 0] -= 10.0 ** rng.uniform(-18, -6)
        definite, claim = truth(matrix), proved(matrix)
        assert definite or not claim, trial
        outcomes[definite, claim] += 1
    assert all(count > 10 for count in outcomes.values()), outcomes  # the trials reach both sides of the border


def test_badly_scaled_matrices():
    """A congruence by powers of two keeps the sign: diagonals from 1e-150 to 1e150 at once."""
    rng = np.random.default_rng(3)
    for trial in range(60):
        n = int(rng.integers(2, 8))
        rows = rng.standard_normal((n, n + 3))
        matrix = rows @ rows.T
        if trial % 2:
            matrix[0, 0] -= 1.0 / np.linalg.inv(matrix)[0, 0] * (1 + 10.0 ** rng.uniform(-14, -4))
        matrix = np.tril(matrix) + np.tril(matrix, -1).T
        powers = rng.integers(-249, 250, n)
        scaled = np.ldexp(matrix, powers[:, None] + powers[None, :])
        assert truth(scaled) == truth(matrix)
        assert not proved(scaled) or truth(matrix)
        if trial % 2 == 0:
            assert proved(scaled)


@pytest.mark.parametrize("n", [1, 2, 10, 100, 300])
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_clearly_definite_matrices_are_proved(n, exponent):
    rng = np.random.default_rng(n)
    rows = rng.standard_normal((n, n)) / np.sqrt(n)
    matrix = np.ldexp(rows @ rows.T + 0.1 * np.eye(n), exponent)
    assert proved(matrix)
    assert proved(matrix, np.ldexp(0.01 / n, exponent))
    assert not proved(-matrix)
    assert not proved(matrix, np.ldexp(1.0, exponent + 10))


def test_close_definite_matrices_are_proved():
    """An eigenvalue of 1e-10 beside one of one is enough: the test is not blunt."""
    rng = np.random.default_rng(5)
    basis, _ = np.linalg.qr(rng.standard_normal((50, 50)))
    matrix = (basis * np.geomspace(1e-10, 1.0, 50)) @ basis.T
    assert proved(np.tril(matrix) + np.tril(matrix, -1).T)


def test_one_bad_matrix_spoils_its_batch():
    rng = np.random.default_rng(6)
    batch = np.stack([np.eye(4) + 0.1 * (a + a.T) / 2 for a in rng.standard_normal((6, 4, 4))])
    assert proved(batch)
    for i in range(6):
        altered = batch.copy()
        altered[i, 3, 3] = -1e-3
        assert not proved(altered)
        altered = batch.copy()
        altered[i, 2, 0] = altered[i, 0, 2] = 3.0
        assert not proved(altered)
        radius = np.zeros_like(batch)
        radius[i, 1, 1] = 2.0
        assert not proved(batch, radius)


def test_only_the_lower_triangle_is_read():
    assert proved([[1.0, 99.0], [0.5, 1.0]])
    assert not proved([[1.0, 0.5], [99.0, 1.0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_entries_that_are_no_numbers_prove_nothing(bad):
    for i, j in ((0, 0), (1, 0), (1, 1)):
        matrix = np.eye(2)
        matrix[i, j] = bad
        assert not proved(matrix)
        radius = np.zeros((2, 2))
        radius[i, j] = abs(bad)
        assert not proved(np.eye(2), radius)


def test_degenerate_sizes():
    assert proved(np.zeros((0, 0)))
    assert not proved([[0.0]]) and not proved([[-1e-300]]) and proved([[1e-300]]) and proved([[5e-324]])
    assert not proved([[1e-300]], 2e-300)


def test_entries_far_beyond_the_diagonal():
    """Equilibration would overflow: nothing may be concluded."""
    with np.errstate(all="ignore"):
        assert not proved([[1e-300, 0.0], [1e300, 1e-300]])
        assert not proved([[1e-300, 0.0], [1e-200, 1e-300]])


def near_singular(rng, n: int) -> np.ndarray:
    rows = rng.standard_normal((n, n + 1))
    rows[-1] = rows[:-1].sum(0) + 10.0 ** rng.uniform(-9, -7) * rng.standard_normal(n + 1)
    matrix = rows @ rows.T
    return np.tril(matrix) + np.tril(matrix, -1).T


def test_the_factorisation_is_not_trusted(monkeypatch):
    """Any matrix in place of the Cholesky factor: a better-looking one, one of another matrix, nonsense."""
    rng = np.random.default_rng(8)
    cholesky = np.linalg.cholesky
    forgeries = [
        lambda a: np.eye(len(a)),
        lambda a: np.zeros_like(a),
        lambda a: np.diag(np.sqrt(np.abs(np.diag(a)))),
        lambda a: np.full_like(a, np.nan),
        lambda a: np.full_like(a, 1e200),
        lambda a: rng.standard_normal(a.shape),
        lambda a: cholesky(a + 0.5 * np.eye(len(a))),
        *(lambda a, k=k: cholesky(a + k * 2.0**-53 * np.eye(len(a))) for k in (4, *range(20, 36), 64, 256, 1024)),
    ]
    matrices = [near_singular(rng, n) for n in (2, 2, 2, 3, 4) for _ in range(60)]
    matrices += [np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0 - 2.0**-52]]), -np.eye(3)]
    indefinite = [matrix for matrix in matrices if not truth(matrix)]
    for matrix in matrices[:200]:  # lowered to the border, where rounding alone decides
        lowered = matrix.copy()
        with contextlib.suppress(np.linalg.LinAlgError):
            lowered[0, 0] -= 1 / np.linalg.inv(matrix)[0, 0]
        if not truth(lowered):
            indefinite.append(lowered)
    assert len(indefinite) > 100
    with np.errstate(all="ignore"):
        for forge in forgeries:

            def forged(a, forge=forge):
                try:
                    return forge(a)
                except np.linalg.LinAlgError:
                    return forge(a + 1e-15 * np.eye(len(a)))

            monkeypatch.setattr(np.linalg, "cholesky", forged)
            for matrix in indefinite:
                assert not proved(matrix)
            assert not proved(np.eye(2), 1.5) and not proved(np.eye(3), [[0, 0, 0], [0, 0, 0], [0, 0, 2.0]])
            monkeypatch.setattr(np.linalg, "cholesky", lambda a, forge=forge: forge(np.eye(len(a))))
            assert not proved(np.eye(3), 0.6) and not proved([[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [1.1, 0.0]])


def test_the_radius_counts_beside_any_factor(monkeypatch):
    """[[1, 1], [1, 1.1]] less 0.01 has a factor, but a radius of 0.2 makes members indefinite."""
    matrix = np.array([[1.0, 1.0], [1.0, 1.1]])
    factor = np.linalg.cholesky(matrix / 4 - 0.0025 * np.eye(2))  # the test scales by 4 first
    monkeypatch.setattr(np.linalg, "cholesky", lambda a: factor)
    assert proved(matrix) and proved(matrix, 1e-3)
    for radius in (0.2, [[0.2, 0.0], [0.0, 0.2]], [[0.0, 0.0], [0.2, 0.0]], [[0.0, 0.0], [0.0, 0.2]]):
        assert not proved(matrix, radius)


def test_the_rounding_of_the_product_counts_beside_any_factor(monkeypatch):
    """Matrices a little above the *float* product R R', and indefinite all the same."""
    rng = np.random.default_rng(9)
    factors = np.zeros((20000, 2, 2))
    factors[:, 0, 0], factors[:, 1, 0] = rng.uniform(0.6, 0.95, 20000), rng.uniform(0.51, 0.9, 20000)
    factors[:, 1, 1] = 2.0**-27 * rng.random(20000)
    matrices = factors @ np.swapaxes(factors, -1, -2)
    matrices[:, [0, 1], [0, 1]] += 2.0**-54 * rng.integers(1, 3, (20000, 2))
    tested = 0
    for matrix, factor in zip(matrices, factors, strict=True):
        a, b, c = (Fraction(float(matrix[i])) for i in ((0, 0), (1, 0), (1, 1)))
        if a * c < b * b and min(a, c) >= 0.25 and max(a, c) < 1:
            tested += 1
            monkeypatch.setattr(np.linalg, "cholesky", lambda _, factor=factor: factor)
            assert not proved(matrix)
    assert tested >= 3
