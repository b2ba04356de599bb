"""What happens before the first iteration: exact reductions, and strictly feasible points in closed form.

The two sweeps cost about one Cholesky factorisation each; the better result is taken. They generalise
ECLipsE-Fast (Xu and Sivaranjani, 2024) to graphs and to any slopes; on chains of equal slopes
neither is worse than the product of the layers' norms, but for the few percent of slack that both keep so
that ``M > 0`` holds with room for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, qr, solve_triangular

from certlip.solvers.problem import Array, LipSDP, Mode, add_multipliers

SLACK = 1.05
# A multiplier that nothing asks for still has to be positive; this is its size next to those that matter.
NEGLIGIBLE = 1e-12


def feasible_start(problem: LipSDP, *, mode: Mode = "layer") -> tuple[Array, Array]:
    """``(metric, T)`` with ``M(metric, T) > 0``, ``T > 0``, in closed form.

    ``T`` is constant on each layer in mode ``"layer"``; mode ``"neuron"`` also tries multipliers that balance
    what a neuron receives against what is asked of it. Dead neurons, zero layers and slopes with ``a = b``
    are allowed.
    """
    candidates = [backward_sweep(problem), forward_sweep(problem)]
    if mode == "neuron":
        candidates.append(backward_sweep(problem, balanced=True))
    return min(candidates, key=lambda candidate: problem.objective(candidate[0]))


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
    T = np.zeros(problem.neurons)
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
        floor = NEGLIGIBLE * max(float(T.max(initial=0.0)), float(np.abs(corner).max())) or 1.0
        twice = max(least, floor) * _overshoot(problem.a[block], problem.b[block], incoming) * weights
        T[block] = 0.5 * twice
        factor = _bordered(factor, coupling, np.diag(twice) - K)
        order = np.concatenate((order, rows))
        add_multipliers(M, problem.V[block], problem.a[block], problem.b[block], T[block], rows)
    coupling = solve_triangular(factor, M[order, :n0], lower=True, check_finite=False)
    floor = NEGLIGIBLE * float(np.abs(M[:n0, :n0]).max()) or 1.0
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
    twice = np.ones(problem.neurons)
    for block in problem.blocks:
        end = n0 + block.start
        V, a, b = problem.V[block, :end], problem.a[block], problem.b[block]
        m, r = (a + b) / 2, (b - a) / 2
        steepest = np.abs(m) + r
        gain = V @ S[:end, :end]
        sigma = _largest_eigenvalue(gain @ V.T)
        wanted = sigma * np.maximum(r, 1e-3 * steepest) * np.maximum(steepest, SLACK * r)
        floor = NEGLIGIBLE * max(float(wanted.max()), float(np.diag(S).max()))
        twice[block] = 1.0 / max(float(wanted.max()), floor)
        R = r * np.sqrt(twice[block])
        lift = np.linalg.cholesky(np.eye(R.size) - R[:, None] * (gain @ V.T) * R)
        grown = solve_triangular(lift, R[:, None] * gain, lower=True, check_finite=False)
        S[:end, :end] += grown.T @ grown
        cross = m[:, None] * (V @ S[:end, :end])
        rows = slice(end, n0 + block.stop)
        S[rows, :end], S[:end, rows] = cross, cross.T
        S[rows, rows] = cross @ V.T * m + np.diag(1.0 / twice[block])
    rho = SLACK * _largest_eigenvalue(problem.C @ S @ problem.C.T) or 1.0
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


def _bordered(factor: Array, coupling: Array, corner: Array) -> Array:
    """The Cholesky factor after appending columns whose Schur complement is ``corner``."""
    old, new = factor.shape[0], corner.shape[0]
    bigger = np.zeros((old + new, old + new))
    bigger[:old, :old] = factor
    bigger[old:, :old] = coupling.T
    bigger[old:, old:] = cholesky(corner, lower=True, check_finite=False)
    return bigger


def _largest_eigenvalue(matrix: Array) -> float:
    return float(np.linalg.eigvalsh(matrix)[-1])


@dataclass(frozen=True, eq=False)
class Reduction:
    """A smaller program with the same optimal value, and the way back to a witness for the original.

    ``kept`` lists the neurons of ``original`` that ``reduced`` still has; the others are linear in the
    earlier ones. ``reduced`` describes the network divided by ``2**power``; its ``C`` is zero if and only if
    the network is constant.
    """

    original: LipSDP
    reduced: LipSDP
    mode: Mode
    kept: NDArray[np.intp]
    power: int

    def lift(self, metric: Array, T: Array) -> tuple[Array, Array]:
        """The witness for ``original``, positive definite (up to rounding) if the given one is.

        A linear neuron's multiplier belongs at infinity; a finite one is enough. With ``z = a v + s`` for
        these neurons, ``M`` in the coordinates ``(x, z_kept, s)`` begins with the reduced matrix, and a
        linear neuron has slopes ``[0, b - a]``: a backward sweep over ``s`` finds ``2 T > K``, here as the
        absolute row sums of the Schur complement ``K``.
        """
        p = self.original
        full = np.zeros(p.neurons)
        full[self.kept] = np.ldexp(T, 2 * self.power)
        metric = np.ldexp(metric, 2 * self.power)
        if p.norm == "l2":
            metric = np.full(p.inputs, metric[0])
        linear = np.setdiff1d(np.arange(p.neurons), self.kept)
        if not linear.size:
            return metric, full
        change = _linear_coordinates(p, linear)
        M = change.T @ p.matrix(metric, full) @ change
        V = p.V @ change
        # The zero witness of a constant network leaves nothing of M outside s.
        rest = np.concatenate((np.arange(p.inputs), p.inputs + self.kept))
        order = rest if metric.any() else rest[:0]
        factor = cholesky(M[np.ix_(order, order)], lower=True) if order.size else np.zeros((0, 0))
        for block in reversed(p.blocks):
            found = linear[(linear >= block.start) & (linear < block.stop)]
            if not found.size:
                continue
            rows = p.inputs + found
            coupling = solve_triangular(factor, M[np.ix_(order, rows)], lower=True, check_finite=False)
            K = coupling.T @ coupling - M[np.ix_(rows, rows)]
            sums = np.abs(K).sum(axis=1)
            enough = np.maximum(sums, NEGLIGIBLE * max(float(sums.max()), float(full.max())) or 1.0)
            if self.mode == "layer":
                enough[:] = enough.max()
            full[found] = enough
            factor = _bordered(factor, coupling, np.diag(2.0 * enough) - K)
            order = np.concatenate((order, rows))
            add_multipliers(M, V[found], np.zeros(found.size), (p.b - p.a)[found], enough, rows)
        return metric, full


def _linear_coordinates(problem: LipSDP, linear: NDArray[np.intp]) -> Array:
    """``xi`` as a matrix times ``(x, z_kept, s)``, each ``s`` in the place of its ``z = a v + s``."""
    s = problem.inputs + linear
    slopes = problem.a[linear, None]
    rest = np.setdiff1d(np.arange(problem.size), s)
    solved = np.linalg.inv(np.eye(linear.size) - slopes * problem.V[np.ix_(linear, s)])
    change = np.eye(problem.size)
    change[np.ix_(s, s)] = solved
    change[np.ix_(s, rest)] = solved @ (slopes * problem.V[np.ix_(linear, rest)])
    return change


def reduce(problem: LipSDP, mode: Mode) -> Reduction:
    """Remove what the program does not need; every step is exact in real arithmetic.

    Linear neurons (``a = b``, or nothing read) are substituted; in mode ``"layer"`` only whole linear layers
    are. For l2, ``x`` enters through ``[V_x; C_x]`` alone: with fewer non-zero rows than inputs, a QR
    factorisation turns ``x`` into as many coordinates (never for linf, whose metric has an axis of its own
    per input). Tall ``C`` becomes its factor ``R``, and ``C`` is divided by a power of two.
    """
    n0, V, C = problem.inputs, problem.V.copy(), problem.C
    linear = np.zeros(problem.neurons, dtype=bool)
    for block in problem.blocks:
        V[block] = _substituted(V[block], V, problem.a, np.flatnonzero(linear))
        fixed = (problem.a[block] == problem.b[block]) | ~V[block].any(axis=1)
        linear[block] = fixed if mode == "neuron" else fixed.all()
    C = _substituted(C, V, problem.a, np.flatnonzero(linear))
    kept = np.flatnonzero(~linear)
    columns = np.concatenate((np.arange(n0), n0 + kept))
    V, C = V[np.ix_(kept, columns)], C[:, columns]
    power = int(np.frexp(np.abs(C).max(initial=0.0))[1])
    C = np.ldexp(C, -power)
    if C.shape[0] > C.shape[1]:
        C = _triangle(C)
    inputs, reading = n0, np.concatenate((V, C))[:, :n0]
    used = reading.any(axis=1)
    if problem.norm == "l2" and used.sum() < n0:
        inputs = max(int(used.sum()), 1)
        narrow = np.zeros((used.size, inputs))
        if used.any():
            narrow[used] = _triangle(reading[used].T).T
        V = np.concatenate((narrow[: kept.size], V[:, n0:]), axis=1)
        C = np.concatenate((narrow[kept.size :], C[:, n0:]), axis=1)
    sizes = (int(np.count_nonzero(~linear[block])) for block in problem.blocks)
    layers = tuple(size for size in sizes if size)
    reduced = LipSDP(V, C, inputs, problem.a[kept], problem.b[kept], layers, problem.norm)
    return Reduction(problem, reduced, mode, kept, power)


def _triangle(matrix: Array) -> Array:
    """``R`` of ``matrix = Q R``."""
    triangle: Array = qr(matrix, mode="r", check_finite=False)[0][: matrix.shape[1]]
    return triangle


def _substituted(rows: Array, V: Array, a: Array, linear: NDArray[np.intp]) -> Array:
    """``rows`` with ``z_j = a_j V_j xi`` for the ``linear`` neurons, whose rows of ``V`` are done already."""
    if not linear.size:
        return rows
    columns = V.shape[1] - V.shape[0] + linear
    substituted = rows + rows[:, columns] @ (a[linear, None] * V[linear])
    substituted[:, columns] = 0.0
    return substituted


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
