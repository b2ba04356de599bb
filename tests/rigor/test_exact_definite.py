"""What is accepted as semidefinite is: by elimination in integers, at every corner of the radii."""

from contextlib import suppress
from itertools import product

import numpy as np
import pytest
from exact import is_semidefinite as truly_semidefinite
from hypothesis import given, settings
from hypothesis import strategies as st

import certlip.rigor.exact_definite as definite
from certlip.rigor.exact_definite import is_positive_semidefinite, is_semidefinite
from certlip.rigor.exact_numbers import Exact, NotExact

ONE = 1 << 60


def accepted(matrix, radius: int = 0) -> bool:
    matrix = np.array(matrix, dtype=np.int64)
    return is_positive_semidefinite(matrix, np.full(matrix.shape[:-1], radius * matrix.shape[-1]))


def singular(rng, n: int, rank: int) -> np.ndarray:
    """A matrix of integers near 2^56 of this rank, exactly."""
    factor = rng.integers(-(1 << 26), 1 << 26, (n, rank)).astype(object)
    return (factor @ factor.T) * (1 << 56 - 53 - rank.bit_length())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_the_edge_of_semidefiniteness(seed):
    """A singular matrix less one unit (2^-60) is refused, with 2^-30 more it is accepted."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    edge = singular(rng, n, n - 1)
    eye = np.eye(n, dtype=int).astype(object)
    assert truly_semidefinite(edge.tolist()) and not truly_semidefinite((edge - eye).tolist())
    assert not accepted(edge - eye)
    assert accepted(edge + (ONE >> 30) * eye)
    assert not accepted(edge + (ONE >> 30) * eye, radius=ONE >> 30)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(-10, 14), st.integers(0, 40))
def test_whatever_is_accepted_is_semidefinite_with_every_member(seed, distance, radius):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    margin = int(2.0 ** (14 + distance)) - int(rng.integers(0, 1 << 16))
    matrix = singular(rng, n, max(n - 1, 1)) + margin * np.eye(n, dtype=int).astype(object)
    if accepted(matrix, radius):
        for signs in product((-1, 1), repeat=n):
            change = -radius * np.outer(signs, signs).astype(object)  # the worst members: -r s s'
            assert truly_semidefinite((matrix + change).tolist())


@pytest.mark.parametrize("seed", range(20))
def test_nothing_about_the_factor_is_trusted(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    n = 3
    matrix = (singular(rng, n, 2) - 1000 * np.eye(n, dtype=int)).astype(np.int64)

    def forged(given, slack):
        root = np.linalg.cholesky(np.ldexp(given.astype(float), -60) + 2.0**-40 * np.eye(n))
        return Exact.of(root * (1 + 1e-9 * rng.standard_normal((n, n))))

    monkeypatch.setattr(definite, "_factor", forged)
    assert not truly_semidefinite(matrix.tolist())
    assert not accepted(matrix)


def test_zero_rows_are_semidefinite_only_without_anything_beside_them():
    base = np.zeros((3, 3), dtype=np.int64)
    base[0, 0] = base[2, 2] = 1 << 57
    assert accepted(base)
    assert not accepted(base, radius=1)
    base[0, 1] = base[1, 0] = 1
    assert not accepted(base)


def test_what_does_not_fit_is_refused():
    good = np.eye(2, dtype=np.int64) << 57
    assert accepted(good) and accepted(np.zeros((0, 0)))
    assert not accepted(-good)
    assert not accepted([[1 << 57, 1], [0, 1 << 57]])
    assert not accepted([[1 << 62, 0], [0, 1 << 57]])
    assert not accepted([[np.iinfo(np.int64).min, 0], [0, 1 << 57]])
    assert not is_positive_semidefinite(good, np.array([-1, 0]))
    huge = definite.ORDER_LIMIT + 1
    with pytest.raises(NotExact, match="exceeds the limit"):
        is_positive_semidefinite(np.broadcast_to(np.int64(0), (huge, huge)), np.broadcast_to(np.int64(0), (huge,)))


def test_every_batch_counts():
    good = np.eye(3, dtype=np.int64) << 57
    bad = good.copy()
    bad[0, 1] = bad[1, 0] = 1 << 57 | 1
    assert accepted(np.stack([good, good]))
    assert not accepted(np.stack([good, bad])) and not accepted(np.stack([bad, good]))


def test_tiles_are_put_together(monkeypatch):
    monkeypatch.setattr(definite, "_TILE", 3)
    rng = np.random.default_rng(0)
    edge = singular(rng, 8, 7)
    eye = np.eye(8, dtype=int).astype(object)
    assert accepted(edge + (ONE >> 30) * eye) and not accepted(edge - eye)
    for i, j in ((7, 0), (4, 3), (1, 0)):  # one entry off the factor's reach, in each kind of tile
        moved = edge + (ONE >> 34) * eye
        moved[i, j] += ONE >> 32
        moved[j, i] += ONE >> 32
        assert accepted(moved) <= truly_semidefinite(moved.tolist())


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_matrices_of_any_scale(seed):
    """D S D with powers of two on the diagonal of D, far beyond the grid."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    factor = rng.integers(-9, 10, (n, n)).astype(float)
    scale = 2.0 ** rng.integers(-60, 60, n)
    matrix = (factor @ factor.T + np.eye(n)) * scale * scale[:, None]
    assert is_semidefinite(Exact.of(matrix))
    negative = factor @ factor.T - 2 * np.trace(factor @ factor.T) * np.eye(n) - 2.0**-20 * np.eye(n)
    with suppress(NotExact):  # a zero or negative diagonal may leave entries beyond the grid
        assert not is_semidefinite(Exact.of(negative * scale * scale[:, None]))


def test_a_radius_beyond_the_margin_is_refused():
    ball = Exact.of_integers(np.array([[10, 9], [9, 10]], dtype=object), 0)
    assert is_semidefinite(ball)
    assert not is_semidefinite(ball.widened(Exact.of(np.full((2, 2), 0.75)).mid))
    assert is_semidefinite(ball.widened(Exact.of(np.full((2, 2), 0.25)).mid))
