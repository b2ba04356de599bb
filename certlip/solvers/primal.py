"""Exactly feasible points of the primal program, whose values bound the best multipliers from below.

Read ``X = F F'`` as the covariance of ``xi = F s``, ``s`` white noise. It is feasible iff ``X_xx`` has trace at
most one (l2) or diagonal entries of at most one (linf) and every neuron obeys its slopes on average,

    E (z_j - a_j v_j)(b_j v_j - z_j) >= 0,   that is   E e_j^2 <= r_j^2 E v_j^2

for ``e = z - m v``, ``m = (a + b)/2``, ``r = (b - a)/2`` (for a shared multiplier: summed over the layer). So any
``F`` becomes feasible in one pass through the network that shrinks each ``e_j`` to what ``v_j`` allows.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from certlip.solvers.problem import Array, LipSDP, Mode, strips

MARGIN = 1e-13  # the relative slack left in every constraint, more than rounding takes


def feasible_factor(problem: LipSDP, mode: Mode, F: Array) -> Array:
    """``F`` (n0 + N, r) changed as little as makes ``X = F F'`` feasible: then no multipliers of this mode prove
    less than ``|C F|_F^2``.

    Row by row ``sum_s (z - a v)(b v - z) >= 0`` with ``(x, z) = F``, ``v = V F``; and ``|x|_F <= 1`` (l2), or a
    norm of at most one for each row of ``x`` (linf). A small slack in each keeps this true after rounding.
    """
    n0 = problem.inputs
    if not F[:n0].any() or not np.isfinite(F).all():
        return np.zeros((problem.size, 0))
    lengths = np.linalg.norm(F[:n0], axis=1)
    size = float(lengths.max() if problem.norm == "linf" else np.linalg.norm(lengths))
    if problem.norm == "linf" and size > 1.0:  # a row of its own for each input: the others need not suffer
        F = np.concatenate((F[:n0] / np.maximum(lengths, 1.0)[:, None], F[n0:]))
        size = 1.0
    F = F * ((1.0 - MARGIN) / size)
    out = np.empty_like(F)
    out[:n0] = F[:n0]
    middle, radius = (problem.a + problem.b) / 2, (problem.b - problem.a) / 2
    read = {rows.start: (columns, block) for rows, columns, block in strips(problem)}
    for rows in problem.blocks:
        z, m = slice(n0 + rows.start, n0 + rows.stop), middle[rows, None]
        noise, mean = F[z].copy(), np.zeros((rows.stop - rows.start, F.shape[1]))
        if rows.start in read:
            columns, block = read[rows.start]
            noise -= m * (block @ F[columns])
            mean = block @ out[columns]
        # The rounding of z is as large as that of m v, which may exceed the noise by far.
        least = radius[rows] - MARGIN * (np.abs(middle[rows]) + radius[rows])
        allowed = np.maximum(least, 0.0) ** 2 * np.einsum("ij,ij->i", mean, mean)
        wanted = np.einsum("ij,ij->i", noise, noise)
        if mode == "layer":
            allowed, wanted = (np.full(allowed.size, part.sum()) for part in (allowed, wanted))
        share = np.sqrt(np.minimum(1.0, allowed / np.where(wanted > 0, wanted, np.inf)))
        out[z] = m * mean + share[:, None] * noise
    return out


def thin_factor(F: Array) -> Array:
    """``(n, r)`` with nearly the same ``F F'`` and as few columns as that takes.

    Rows are brought to length one first, so that each keeps ten digits of its own.
    """
    lengths = np.linalg.norm(F, axis=1)
    unit = F / np.where(lengths > 0, lengths, 1.0)[:, None]
    factor, pivots, rank, _ = lapack.dpstrf(unit @ unit.T, tol=1e-10, lower=1)
    thin = np.zeros((F.shape[0], rank))
    thin[pivots - 1] = np.tril(factor)[:, :rank]
    return thin * lengths[:, None]
