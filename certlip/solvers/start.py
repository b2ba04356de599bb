"""Strictly feasible points in closed form, before the first iteration.

The two sweeps cost about one Cholesky factorisation each; the better result is taken. They generalise
ECLipsE-Fast (Xu and Sivaranjani, 2024) to graphs and to any slopes; on chains of equal slopes
neither is worse than the product of the layers' norms, but for the few percent of slack that both keep so
that ``M > 0`` holds with room for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse.linalg import ArpackError, eigsh

from certlip.solvers.problem import Array, LipSDP, Mode, add_multipliers

SLACK = 1.05
# A multiplier that nothing asks for still has to be positive; this is its size next to those that matter.
NEGLIGIBLE = 1e-12
SMALLEST = 1e-280  # of any multiplier, lest it vanish in the range of floating point


def feasible_start(problem: LipSDP, *, mode: Mode = "layer") -> tuple[Array, Array]:
    """``(metric, T)`` with ``M(metric, T) > 0``, ``T > 0``, in closed form.

    ``T`` is constant on each layer in mode ``"layer"``; mode ``"neuron"`` also tries multipliers that balance
    what a neuron receives against what is asked of it. Dead neurons, zero layers and slopes with ``a = b``
    are allowed. Where the bound leaves the range of floating point, the metric returned is infinite.
    """
    sweeps: list[Callable[[LipSDP], tuple[Array, Array]]] = [backward_sweep, forward_sweep]
    if mode == "neuron":
        sweeps.append(partial(backward_sweep, balanced=True))
    best = np.full(problem.inputs, np.inf), np.ones(problem.neurons)
    for sweep in sweeps:
        with np.errstate(all="ignore"), suppress(np.linalg.LinAlgError, ValueError):
            metric, T = sweep(problem)
            if np.isfinite(T).all() and problem.objective(metric) < problem.objective(best[0]):
                best = metric, T
    return best


def backward_sweep(problem: LipSDP, *, balanced: bool = False) -> tuple[Array, Array]:
    """Choose the multipliers from the last layer to the first.

    Once the later layers are fixed, the columns of ``M`` that belong to layer ``k`` are known up to ``2 T_k``
    on its diagonal block, and the trailing block of ``M`` is positive iff ``2 T_k > K``, the fixed part's
    Schur complement. With ``s`` the smallest feasible multiple of the layer's weights, ``(1 + |m|/r) s``, ``m
    = (a + b)/2``, ``r = (b - a)/2``, is what costs the earlier layers least (``2 s`` for ReLU); the metric is
    found last, likewise.
    """
    n0 = problem.inputs
    M = -(problem.C.T @ problem.C)
    T, later = np.zeros(problem.neurons), 0.0
    order = np.zeros(0, dtype=int)
    factor = np.zeros((0, 0))
    for block in reversed(problem.blocks):
        rows = np.arange(n0 + block.start, n0 + block.stop)
        coupling = solve_triangular(factor, M[np.ix_(order, rows)], lower=True, check_finite=False)
        corner = M[np.ix_(rows, rows)]
        K = coupling.T @ coupling - corner
        incoming = np.linalg.norm(problem.V[block], axis=1)
        weights = _balance(K, incoming) if balanced else np.ones(rows.size)
        least = _largest_eigenvalue(K / np.sqrt(np.outer(weights, weights)))
        # Relative to what is asked here, not to other layers: theirs may be many orders of magnitude larger.
        floor = max(NEGLIGIBLE * (float(np.abs(K).max()) or later) or 1.0, SMALLEST)
        twice = max(least, floor) * _overshoot(problem.a[block], problem.b[block], incoming) * weights
        T[block], later = 0.5 * twice, float(twice.max())
        factor = bordered(factor, coupling, np.diag(twice) - K)
        order = np.concatenate((order, rows))
        add_multipliers(M, problem.V[block], problem.a[block], problem.b[block], T[block], rows)
    coupling = solve_triangular(factor, M[order, :n0], lower=True, check_finite=False)
    floor = max(NEGLIGIBLE * float(np.abs(M[:n0, :n0]).max()) or 1.0, SMALLEST)
    return _least_metric(problem, coupling.T @ coupling - M[:n0, :n0], floor), T


def forward_sweep(problem: LipSDP) -> tuple[Array, Array]:
    """Choose the multipliers from the first layer to the last, for the metric ``P = rho I``.

    ``S`` is the inverse of ``M``'s leading block, without ``C'C``, at ``rho = 1``. Layer ``k`` may take any
    ``T_k`` with ``I - R V S V' R > 0``, ``R = r sqrt(2 T_k)``; then ``S`` grows by ``S V'R (I - R V S V'R)^-1
    R V S`` and, with ``z = m v + e``, by the rows of ``z``. At the end ``rho = lambda_max(C S C')``, and
    ``T`` scales with ``rho``.
    """
    n0, n = problem.inputs, problem.size
    S = np.zeros((n, n))
    S[:n0, :n0] = np.eye(n0)
    twice, earlier = np.ones(problem.neurons), 1.0
    for block in problem.blocks:
        end = n0 + block.start
        V, a, b = problem.V[block, :end], problem.a[block], problem.b[block]
        m, r = (a + b) / 2, (b - a) / 2
        steepest = np.abs(m) + r
        gain = V @ S[:end, :end]
        sigma = _largest_eigenvalue(gain @ V.T)
        wanted = sigma * np.maximum(r, 1e-3 * steepest) * np.maximum(steepest, SLACK * r)
        earlier = max(float(wanted.max()), NEGLIGIBLE * (sigma * float(steepest.max()) ** 2 or earlier), SMALLEST)
        twice[block] = 1.0 / earlier
        R = r * np.sqrt(twice[block])
        lift = np.linalg.cholesky(np.eye(R.size) - R[:, None] * (gain @ V.T) * R)
        grown = solve_triangular(lift, R[:, None] * gain, lower=True, check_finite=False)
        S[:end, :end] += grown.T @ grown
        cross = m[:, None] * (V @ S[:end, :end])
        rows = slice(end, n0 + block.stop)
        S[rows, :end], S[:end, rows] = cross, cross.T
        S[rows, rows] = cross @ V.T * m + np.diag(1.0 / twice[block])
    rho = max(SLACK * _largest_eigenvalue(problem.C @ S @ problem.C.T) or 1.0, SMALLEST)
    return np.full(n0, rho), rho * twice / 2


def _least_metric(problem: LipSDP, K: Array, floor: float) -> Array:
    """A metric with ``P > K``: ``rho I``, or for linf the better of that and ``K``'s absolute row sums."""
    metric = np.full(problem.inputs, SLACK * max(_largest_eigenvalue(K), floor))
    if problem.norm == "l2":
        return metric
    dominant: Array = SLACK * np.maximum(np.abs(K).sum(axis=1), floor)
    return dominant if dominant.sum() < metric.sum() else metric


def _overshoot(a: Array, b: Array, incoming: Array) -> float:
    """``1 + |m|/r`` averaged over the neurons that can move, within what keeps ``M`` well conditioned."""
    m, r = (a + b) / 2, (b - a) / 2
    alive = (r > 0) & (incoming > 0)
    if not alive.any():
        return 2.0
    return float(np.mean(1.0 + np.clip(np.abs(m[alive]) / r[alive], SLACK - 1.0, 10.0)))


def _balance(K: Array, incoming: Array) -> Array:
    """Weights near ``sqrt(K_jj) / |V_j|``: the best multipliers if the neurons did not interact."""
    asked = np.sqrt(np.maximum(np.diag(K), NEGLIGIBLE * float(np.abs(K).max())))
    if not asked.any() or not incoming.any():
        return np.ones(asked.size)
    weights: Array = asked / np.maximum(incoming, NEGLIGIBLE * incoming.max())
    weights = np.maximum(weights / weights.max(), NEGLIGIBLE)
    return weights


def bordered(factor: Array, coupling: Array, corner: Array) -> Array:
    """The Cholesky factor after appending columns whose Schur complement is ``corner``."""
    old, new = factor.shape[0], corner.shape[0]
    bigger = np.zeros((old + new, old + new))
    bigger[:old, :old] = factor
    bigger[old:, :old] = coupling.T
    bigger[old:, old:] = cholesky(corner, lower=True, check_finite=False)
    return bigger


def _largest_eigenvalue(matrix: Array) -> float:
    """To a hundredth for large matrices, where ``SLACK`` makes up for it."""
    if matrix.shape[0] > 300:
        begin = np.random.default_rng(0).standard_normal(matrix.shape[0])
        with suppress(ArpackError):
            return float(eigsh(matrix, 1, which="LA", tol=1e-3, v0=begin, return_eigenvectors=False)[0])
    return float(np.linalg.eigvalsh(matrix)[-1])


def is_interior(problem: LipSDP, metric: Array, T: Array) -> bool:
    """Whether ``M``, scaled to a unit diagonal, has a Cholesky factor less ``4 size^2 u``: not a proof."""
    M = problem.matrix(metric, T)
    diagonal = M.diagonal()
    if not np.isfinite(M).all() or diagonal.min() <= 0:
        return False
    scale = 1.0 / np.sqrt(diagonal)
    M *= scale
    M *= scale[:, None]
    M[np.diag_indices_from(M)] -= 4.0 * problem.size**2 * np.finfo(np.float64).epsneg
    try:
        cholesky(M, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return False
    return True
