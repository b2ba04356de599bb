"""Proof that a symmetric matrix known entrywise up to a radius is positive semidefinite.

Nothing about the factorisation is trusted. Let R be *any* float matrix (here a Cholesky factor of mid - s I) and
E = M - R R'. If E is diagonally dominant with non-negative diagonal then E >= 0 and M = R R' + E >= 0. The float
product P = fl(R R') satisfies |P - R R'| <= gamma_n |R||R|', so row sums of |mid - P| plus these error terms plus
the radius decide it. The matrix is first scaled by powers of two, a congruence that is exact and keeps the sign.

This is the exact-integer test of Rump's school with a float residual; it needs only that matrix products are
conventional, not how LAPACK orders a Cholesky factorisation.
"""

from __future__ import annotations

import numpy as np

from certlip.rigor.ball import Ball
from certlip.rigor.rounding import TINY, UNIT, Array, gamma, inflate


def is_positive_semidefinite(matrix: Ball) -> bool:
    """True only if every *symmetric* member of `matrix` (..., n, n) is positive semidefinite, for all batches.

    False means "not proved". Only the lower triangle is read: a symmetric member lies in its mirror image too.
    """
    n = matrix.mid.shape[-1]
    if n == 0:
        return True
    mid = _mirror(matrix.mid)
    rad = _mirror(np.broadcast_to(matrix.rad, matrix.mid.shape))
    diagonal = np.diagonal(mid, axis1=-2, axis2=-1)
    if not (np.isfinite(mid).all() and np.isfinite(rad).all() and (diagonal > 0).all()):
        return False
    mid, rad = _equilibrate(mid, rad, diagonal)
    slack = 1.5 * n * gamma(n + 2) + 2.0 * float(rad.sum(-1).max()) + 8 * n * UNIT
    if not slack < 0.5:
        return False
    eye = np.eye(n)
    try:
        factor = np.linalg.cholesky(mid - slack * eye)
    except np.linalg.LinAlgError:
        return False
    residual = mid - factor @ np.swapaxes(factor, -1, -2)
    size = np.abs(factor)
    products = (size @ np.swapaxes(size, -1, -2).sum(-1, keepdims=True))[..., 0]
    dominant = np.diagonal(residual, axis1=-2, axis2=-1)
    others = np.abs(residual).sum(-1) - np.abs(dominant)
    errors = rad.sum(-1) + gamma(n) * products + 2 * UNIT * np.abs(residual).sum(-1) + n * TINY
    # `others` subtracts the diagonal again: the rounding of that subtraction is covered by the last factor.
    needed = inflate(np.maximum(others, 0.0) + errors + 4 * n * UNIT * np.abs(dominant), 2 * n + 8)
    return bool(np.isfinite(needed).all() and (dominant >= needed).all())


def _mirror(array: Array) -> Array:
    lower = np.tril(array)
    return lower + np.swapaxes(np.tril(array, -1), -1, -2)


def _equilibrate(mid: Array, rad: Array, diagonal: Array) -> tuple[Array, Array]:
    """Scale to a diagonal near one by powers of two; entries that underflow stay covered by the radius."""
    exponent = -np.frexp(diagonal)[1] // 2
    scale = exponent[..., :, None] + exponent[..., None, :]
    return np.ldexp(mid, scale), inflate(np.ldexp(rad, scale), 1)
