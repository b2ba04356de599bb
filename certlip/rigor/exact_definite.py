"""Exact proof that a symmetric matrix of fixed-point numbers is positive semidefinite.

Theorem. Let |M - 2^-60 S| <= 2^-60 r entrywise, S symmetric, S and r of integers. Let R be *any* matrix, here a rounded
Cholesky factor in floats of which nothing is assumed, and E = S - 2^60 R R'. If E_ii >= r_ii + sum_{j != i} (|E_ij| +
r_ij) for all i, then 2^60 (M - R R') is diagonally dominant with a non-negative diagonal, hence semidefinite, and so is
M. E is computed in exact integer arithmetic, up to one unit to either side where digits below 2^-60 are cut off.
"""

from __future__ import annotations

import numpy as np

from certlip.rigor.exact_numbers import Exact, Integers, NotExact
from certlip.rigor.rounding import Array

GRID = 60
ORDER_LIMIT = 8192
"""Largest matrix: beyond, sums of products of digits of 20 bits are too long."""

_TILE = 512


def is_positive_semidefinite(matrix: Integers, radii: Integers) -> bool:
    """True only if every symmetric M with |M - 2^-60 matrix| <= 2^-60 r is semidefinite, for all batches.

    matrix: (..., n, n) integers below 2^58 in size. radii: (..., n), the sums of r along rows (the diagonal included).
    False means "not proved". Raises NotExact where the order exceeds the limit or numbers leave the range of int64.
    """
    n = matrix.shape[-1]
    if n > ORDER_LIMIT:
        raise NotExact(f"a matrix of order {n} exceeds the limit of {ORDER_LIMIT} for exact proofs")
    if not n or not matrix.size:
        return True
    limit = 1 << GRID - 2
    if not np.array_equal(matrix, matrix.swapaxes(-1, -2)) or not -limit < matrix.min() <= matrix.max() < limit:
        return False
    if not 0 <= radii.min() <= radii.max() < limit:
        return False
    matrix = matrix.copy()
    rows = np.arange(n)
    diagonal = matrix[..., rows, rows]
    empty = (diagonal == 0) & (radii == 0) & ~matrix.any(-1)
    matrix[..., rows, rows] = np.where(empty, 1 << GRID - 4, diagonal)  # a zero row is semidefinite beside the others
    needed = radii + (n + 1) * 2 ** (GRID - 53)
    for _ in range(2):
        factor = _factor(matrix, needed)
        if factor is None:
            return False
        points, needed = _remainder(matrix, factor)
        needed = needed + radii
        if bool((points >= needed).all()):
            return True
        needed = needed + (needed >> 1)  # there is a factor: now with what its rows really need
    return False


def is_semidefinite(matrix: Exact) -> bool:
    """True only if every symmetric member of `matrix` (..., n, n) is positive semidefinite, for all batches.

    The lower triangle is read. Rows and columns are scaled by powers of two first. Raises NotExact as the other test.
    """
    matrix = matrix.shifted(-max(matrix.mid, default=0))  # now in the range of floats
    full = matrix.map(lambda array: np.tril(array) + np.tril(array, -1).swapaxes(-1, -2))
    with np.errstate(all="ignore"):
        scale = Exact.of(powers_of_two(np.diagonal(full.near(), axis1=-2, axis2=-1)))
    row, column = scale.map(lambda array: array[..., None, :]), scale.map(lambda array: array[..., None])
    entries, radii = (full * column * row).grid()
    return is_positive_semidefinite(np.tril(entries) + np.tril(entries, -1).swapaxes(-1, -2), radii.sum(-1))


def _factor(matrix: Integers, slack: Integers) -> Exact | None:
    """A factor of the matrix less a slack on its diagonal, in floats, rounded to the grid; None where there is none."""
    rows = np.arange(matrix.shape[-1])
    floats = np.ldexp(matrix.astype(np.float64), -GRID)
    floats[..., rows, rows] -= np.ldexp(slack.astype(np.float64), -GRID)
    try:
        factor = np.linalg.cholesky(floats)
    except np.linalg.LinAlgError:
        return None
    if not (np.abs(factor) < 1).all():
        return None
    return Exact.of_counts(np.rint(np.ldexp(factor, GRID)).astype(np.int64), -3)


def _remainder(matrix: Integers, factor: Exact) -> tuple[Integers, Integers]:
    """Of E = matrix - 2^60 R R': what the diagonal is at least, and the sums along rows of |E| beside it at most."""
    n = matrix.shape[-1]
    points, sums = (np.zeros(matrix.shape[:-1], dtype=np.int64) for _ in range(2))
    tiles = [slice(start, min(start + _TILE, n)) for start in range(0, n, _TILE)]
    for i, row in enumerate(tiles):
        for column in tiles[: i + 1]:
            left, right = (factor[..., tile, : column.stop] for tile in (row, column))
            product, slip = (left @ right.map(lambda array: array.swapaxes(-1, -2))).grid()
            rest = matrix[..., row, column] - product
            size = np.abs(rest) + slip
            if int(size.max()) * n >= 1 << 62:
                raise NotExact("the rounded factor is too far from the matrix")
            if row == column:
                inner = np.arange(size.shape[-1])
                points[..., row] = (rest - slip)[..., inner, inner]
                size[..., inner, inner] = 0
            else:
                sums[..., column] += size.sum(-2)
            sums[..., row] += size.sum(-1)
    return points, sums

def powers_of_two(sizes: Array) -> Array:
    """Powers of two that, applied from both sides, scale a diagonal of these sizes to [1/20, 1/4)."""
    exponents = np.where((sizes > 0) & np.isfinite(sizes), -((np.frexp(1.01 * sizes)[1] + 3) // 2), 0)
    return np.ldexp(1.0, np.clip(exponents, -500, 500))
