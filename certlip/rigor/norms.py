"""Proved upper bounds on matrix norms. Estimates only propose; a definiteness proof or a row sum decides."""

from __future__ import annotations

import numpy as np

from certlip.rigor.ball import Ball
from certlip.rigor.definite import is_positive_semidefinite
from certlip.rigor.rounding import UNIT, Array, inflate, up

_EIGEN_SIZE = 400  # below this a full eigendecomposition is the quickest good estimate


def spectral_norm(matrix: Ball) -> float:
    """Upper bound on |X|_2 for every member X, and every batch, of `matrix` (..., m, n).

    Proved: s^2 I - G >= 0 for the Gram matrix G of the shorter side, with s the value returned; infinite where an
    entry is unbounded.
    """
    scaled, scale = normalised(matrix)
    if not 0.0 < scale < np.inf:
        return scale
    gram = _gram(scaled)
    n = gram.mid.shape[-1]
    guess = max(_largest_eigenvalue(gram.mid), 1e-300)
    eye = np.eye(n)
    excess = 8 * n * n * UNIT + float(np.broadcast_to(gram.rad, gram.shape).sum(-1).max()) / guess
    while excess < 0.1:
        square = guess * (1.0 + 4 * excess)
        if is_positive_semidefinite(Ball(square * eye, np.zeros(())) - gram):
            return up(up(np.sqrt(square)) * scale)
        excess *= 8
    return row_sum_norm(gram, np.ones(n), scale)


def dominance_norm(matrix: Ball) -> float:
    """Upper bound on |X|_2 by diagonal dominance: |X|^2 <= max_i sum_j |X X'|_ij q_j / q_i, q > 0.

    The best q is the Perron vector of |X X'|, approximated by power iteration; any positive q is valid.
    """
    scaled, scale = normalised(matrix)
    if not 0.0 < scale < np.inf:
        return scale
    gram = _gram(scaled)
    return row_sum_norm(gram, perron_vector(gram.magnitude()), scale)


def row_sum_norm(gram: Ball, weights: Array, scale: float = 1.0) -> float:
    """sqrt(max_i sum_j |G_ij| q_j / q_i) * scale, rounded up; bounds |X|_2 when G = X X' / scale^2."""
    n = gram.mid.shape[-1]
    sums = inflate((gram.magnitude() @ weights) / weights, n + 4)
    return up(up(np.sqrt(float(sums.max()))) * scale)


def perron_vector(matrix: Array, iterations: int = 100) -> Array:
    """A positive vector near the leading eigenvector of a non-negative matrix (an estimate, always positive)."""
    vector = np.ones(matrix.shape[-1])
    for _ in range(iterations):
        image = matrix @ vector
        top = image.max()
        if not top > 0:
            break
        vector = np.maximum(0.5 * vector + 0.5 * image / top, 1e-9)
    return vector


def infinity_norm(matrix: Ball) -> float:
    """Upper bound on max_i sum_j |X_ij| for every member X."""
    return float(inflate(matrix.magnitude().sum(-1), matrix.mid.shape[-1] + 1).max(initial=0.0))


def normalised(matrix: Ball) -> tuple[Ball, float]:
    """Divide by a power of two, the scale, so that squares neither overflow nor underflow.

    Scale 0 means the zero matrix, an infinite one that an entry is infinite, NaN or unbounded.
    """
    top = float(matrix.magnitude().max(initial=0.0))
    if not np.isfinite(top):
        return matrix, float("inf")
    if top == 0.0:
        return matrix, 0.0
    exponent = min(int(np.frexp(top)[1]), 1023)  # 2^1024 is no float; entries below 2 do as well
    rad = matrix.rad if matrix.is_exact else inflate(np.ldexp(matrix.rad, -exponent), 1)
    mid = np.ldexp(matrix.mid, -exponent)
    if np.any(np.ldexp(mid, exponent) != matrix.mid):  # entries 2^1000 below the largest lost digits
        rad = inflate(rad + np.full((), 2.0**-1000), 1)
    return Ball(mid, rad), float(np.ldexp(1.0, exponent))


def _gram(matrix: Ball) -> Ball:
    rows, columns = matrix.mid.shape[-2:]
    return matrix @ matrix.T if rows <= columns else matrix.T @ matrix


def _largest_eigenvalue(gram: Array) -> float:
    """Estimate of the largest eigenvalue (of all batches) of positive semidefinite matrices."""
    if gram.shape[-1] <= _EIGEN_SIZE or gram.ndim > 2:
        return float(np.linalg.eigvalsh(gram)[..., -1].max())
    block = np.random.default_rng(0).standard_normal((gram.shape[-1], 8))
    krylov = []
    for _ in range(14):
        block, _ = np.linalg.qr(gram @ block)
        krylov.append(block)
    basis, _ = np.linalg.qr(np.hstack(krylov))
    return float(np.linalg.eigvalsh(basis.T @ gram @ basis)[-1])
