"""A primal-dual interior-point method for the LipSDP, built on the rank two of its constraints.

With ``y = (metric, multipliers)`` and ``A(X)_k = <A_k, X>`` the pair of programs is

    minimise cost'y     over y >= 0,  S = sum_k y_k A_k - C'C >= 0
    maximise <C'C, X>   over X >= 0,  w = cost - A(X) >= 0

Mehrotra's predictor-corrector follows ``X S = mu I``, ``y w = mu`` along the HKM direction (Helmberg et al.,
1996; Kojima et al., 1997; Monteiro, 1997). Both sides start strictly feasible and stay so, ``S`` being
rebuilt from ``y``: wherever the iteration stops, the multipliers prove a bound and ``<C'C, X>`` shows how far
it is from the best one. Memory is ``O(n^2)``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.linalg import blas, eigh_tridiagonal, lapack
from threadpoolctl import ThreadpoolController

from certlip.solvers.problem import Array, ConeProgram, LipSDP, Mode, Proposal, Status
from certlip.solvers.start import Reduction, feasible_start, is_interior, reduce

ONE_THREAD_BELOW = 2000  # the order of M from which BLAS threads pay even if another process takes a core
MAX_ITERATIONS = 150
PATIENCE = 12  # iterations without a smaller gap before the method counts as stalled


def solve(
    problem: LipSDP,
    *,
    mode: Mode = "neuron",
    tolerance: float = 1e-8,
    deadline: float | None = None,
    start: tuple[Array, Array] | None = None,
) -> Proposal:
    """Minimise the squared Lipschitz bound of ``problem`` over all multipliers (or one per layer).

    ``tolerance`` is the relative duality gap to reach; ``deadline`` a value of ``time.monotonic()``, looked
    at between iterations; ``start`` a witness ``(metric, T)`` that the result will not be worse than (up to
    the last step below), ignored unless it is strictly feasible for ``problem``.

    The witness returned is positive definite in floating point on the original data, with a relative slack of
    about ``size^2`` units of roundoff: a point from early in the iteration is mixed in with a share of
    ``1e-8``, or more where rounding asks for it. Neurons with ``a = b != 0``, whose multipliers belong at
    infinity, can cost digits here: merge them beforehand. Only a constant network is answered by the zero
    metric, which leaves ``M`` singular.
    """
    began = time.monotonic()
    reduction = reduce(problem, mode)
    reduced = reduction.reduced
    threads = 1 if reduced.size < ONE_THREAD_BELOW else None
    with _libraries().limit(limits=threads, user_api="blas"):
        if not reduced.C.any():
            metric, T = reduction.lift(np.zeros(reduced.inputs), np.zeros(reduced.neurons))
            return Proposal(metric, T, 0.0, 0.0, 0, time.monotonic() - began, "solved")
        first = feasible_start(reduced, mode=mode)
        cone = ConeProgram.scaled(reduced, mode, *first)
        y = best = cone.variables(*first)
        if start is not None and (warm := _warm(reduction, cone, start)) is not None:
            y, best = (
                (y + warm) / 2,
                warm,
            )  # half-way, for a witness near the boundary is a poor place to begin
        path = follow(cone, y, best, tolerance, deadline)
        metric, T = _slightly_inside(reduction, cone, path)
    lower = float(np.ldexp(path.lower * cone.kappa, 2 * reduction.power))
    seconds = time.monotonic() - began
    return Proposal(metric, T, problem.objective(metric), lower, path.iterations, seconds, path.status)


@dataclass(frozen=True, eq=False)
class Path:
    """How the iteration ended: its best ``y``, and one from when the relative gap was last above a half."""

    best: Array
    inside: Array
    lower: float
    iterations: int
    status: Status


@dataclass(frozen=True, eq=False)
class Point:
    """A strictly feasible pair with the Cholesky factors of ``S`` and ``X``."""

    y: Array
    w: Array
    S: Array
    X: Array
    factor_S: Array
    factor_X: Array


def follow(cone: ConeProgram, y: Array, best: Array, tolerance: float, deadline: float | None) -> Path:
    """Follow the central path from the strictly feasible ``y`` to a relative gap of ``tolerance``.

    ``best`` is a feasible point known already, perhaps ``y`` itself.
    """
    point = _first(cone, y)
    inside, lower, gaps = y, 0.0, [1.0]
    status: Status = "stalled"
    while point is not None:
        VX = cone.times(point.X)
        residual = cone.cost - point.w - cone.adjoint(point.X, VX)
        # Where rounding leaves the primal side infeasible, weak duality pays with the multipliers' size.
        lower = max(lower, float(np.vdot(cone.gram, point.X) - np.abs(residual) @ point.y))
        if cone.cost @ point.y < cone.cost @ best:
            best = point.y
        value = float(cone.cost @ best)
        gaps.append((value - lower) / value)
        if gaps[-1] > 0.5:
            inside = point.y
        if gaps[-1] <= tolerance:
            status = "solved"
            break
        if deadline is not None and time.monotonic() >= deadline:
            status = "deadline"
            break
        if len(gaps) > MAX_ITERATIONS or gaps[-1] >= gaps[max(len(gaps) - PATIENCE, 0)] < 1.0:
            break
        point = _next(cone, point, VX)
    return Path(best, inside, lower, max(len(gaps) - 2, 0), status)


def _first(cone: ConeProgram, y: Array) -> Point | None:
    S, X = cone.combination(y) - cone.gram, cone.primal_start()
    w = cone.cost - cone.adjoint(X, cone.times(X))
    factor_S, factor_X = _cholesky(S), _cholesky(X)
    if factor_S is not None and (factor_X is None or w.min() <= 0):
        # Slopes and scales too far apart within a layer for a feasible X: begin on the central path instead.
        Z = _inverse(factor_S)
        mu = float(cone.cost @ y) / (S.shape[0] + y.size + float(np.vdot(Z, cone.gram)))
        X, w, factor_X = mu * Z, mu / y, _cholesky(mu * Z)
    if factor_S is None or factor_X is None:
        return None
    return Point(y, w, S, X, factor_S, factor_X)


def _next(cone: ConeProgram, p: Point, VX: Array) -> Point | None:
    """One predictor-corrector step; ``None`` where rounding leaves no direction or no step."""
    order = p.S.shape[0] + p.y.size
    mu = float(np.vdot(p.X, p.S) + p.y @ p.w) / order
    Z = _inverse(p.factor_S)
    VZ = cone.times(Z)
    B = schur(cone, p.X, VX, Z, VZ)
    B[np.diag_indices_from(B)] += p.w / p.y
    jacobi = 1.0 / np.sqrt(B.diagonal())
    factor = _cholesky(B * np.outer(jacobi, jacobi))
    if factor is None:
        return None
    barrier = cone.adjoint(Z, VZ) + 1.0 / p.y

    def direction(target: float, second: Array | float, second_y: Array | float) -> tuple[Array, ...]:
        """``dy, dX, dw`` for ``X S = target I``, given the second-order terms of the predictor."""
        right = target * barrier - cone.cost - second_y
        if isinstance(second, np.ndarray):
            right -= cone.adjoint(second, cone.times(second))
        dy = jacobi * lapack.dpotrs(factor, jacobi * right, lower=1)[0]
        dy += jacobi * lapack.dpotrs(factor, jacobi * (right - B @ dy), lower=1)[0]
        dX = target * Z - p.X - second - _symmetric(cone.combination_times(dy, p.X, VX).T @ Z)
        return dy, dX, target / p.y - p.w - second_y - p.w / p.y * dy

    dy, dX, dw = direction(0.0, 0.0, 0.0)
    primal = min(1.0, _to_boundary(p.factor_X, dX, rough=True), _to_zero(p.w, dw))
    dual = min(1.0, _to_boundary(p.factor_S, cone.combination(dy), rough=True), _to_zero(p.y, dy))
    dXdS = cone.combination_times(dy, dX, cone.times(dX)).T
    reached = np.vdot(p.X, p.S) + primal * np.vdot(dX, p.S) + dual * np.vdot(cone.adjoint(p.X, VX), dy)
    reached += primal * dual * np.trace(dXdS) + (p.y + dual * dy) @ (p.w + primal * dw)
    centring = max(float(reached) / (mu * order), 0.0) ** max(1.0, 3.0 * min(primal, dual) ** 2)
    dy, dX, dw = direction(float(np.clip(centring, 1e-6, 1.0)) * mu, _symmetric(dXdS @ Z), dw * dy / p.y)
    primal = min(_to_boundary(p.factor_X, dX), _to_zero(p.w, dw))
    dual = min(_to_boundary(p.factor_S, cone.combination(dy)), _to_zero(p.y, dy))
    share = 0.9 + 0.09 * min(1.0, primal, dual)
    primal, dual = min(1.0, share * primal), min(1.0, share * dual)
    # The step lengths are estimates: the factorisations decide.
    for _ in range(30):
        X = p.X + primal * dX
        if (factor_X := _cholesky(X)) is not None:
            break
        primal *= 0.8
    for _ in range(30):
        y = p.y + dual * dy
        S = cone.combination(y) - cone.gram
        if (factor_S := _cholesky(S)) is not None:
            break
        dual *= 0.8
    if factor_X is None or factor_S is None:
        return None
    return Point(y, p.w + primal * dw, S, X, factor_S, factor_X)


def schur(cone: ConeProgram, X: Array, VX: Array, Z: Array, VZ: Array) -> Array:
    """``B_jk = tr(A_j X A_k Z)`` for ``A_j = g_j h_j' + h_j g_j'``, by Hadamard products:

    ``(g_j'X g_k)(h_k'Z h_j) + (g_j'X h_k)(g_k'Z h_j) + (h_j'X g_k)(h_k'Z g_j) + (h_j'X h_k)(g_k'Z g_j)``; for
    the metric's ``e_k e_k'`` the products are ``X_kg Z_hk + X_kh Z_gk`` and ``X_kk Z_kk``. Shared variables
    add up their entries.
    """
    n0 = cone.inputs
    gXg, gXh, hXh, xXg, xXh = _slope_products(cone, X, VX)
    gZg, gZh, hZh, xZg, xZh = _slope_products(cone, Z, VZ)
    B = np.empty(X.shape)
    B[:n0, :n0] = X[:n0, :n0] * Z[:n0, :n0]
    B[:n0, n0:] = xXg * xZh + xXh * xZg
    B[n0:, :n0] = B[:n0, n0:].T
    mixed = gXh * gZh.T
    B[n0:, n0:] = gXg * hZh + hXh * gZg + mixed + mixed.T
    if cone.starts.size == cone.group.size:
        return B
    B *= np.outer(cone.weight, cone.weight)
    return np.add.reduceat(np.add.reduceat(B, cone.starts, axis=0), cone.starts, axis=1)


def _slope_products(cone: ConeProgram, X: Array, VX: Array) -> tuple[Array, Array, Array, Array, Array]:
    """``g'Xg, g'Xh, h'Xh`` and ``Xg, Xh`` in the rows of the input, for ``g = e - a v``, ``h = e - b v``."""
    n0, a, b = cone.inputs, cone.a[:, None], cone.b[:, None]
    zXz, vXz, xXz, xXv = X[n0:, n0:], VX[:, n0:], X[:n0, n0:], VX[:, :n0].T
    vXv = cone.times(np.ascontiguousarray(VX.T))
    hXz = zXz - b * vXz
    hXh = hXz - (vXz.T - b * vXv) * b.T
    if not a.any():
        return zXz, hXz.T, hXh, xXz, xXz - xXv * b.T
    gXz = zXz - a * vXz
    gXv = vXz.T - a * vXv
    return gXz - gXv * a.T, gXz - gXv * b.T, hXh, xXz - xXv * a.T, xXz - xXv * b.T


def _warm(reduction: Reduction, cone: ConeProgram, start: tuple[Array, Array]) -> Array | None:
    """The variables of a witness for the original problem, or ``None`` where it is not strictly feasible."""
    metric, T = (np.ldexp(np.asarray(part, dtype=np.float64), -2 * reduction.power) for part in start)
    if reduction.original.norm == "l2":
        metric = np.full(reduction.reduced.inputs, metric.max())
    y = cone.variables(metric, T[reduction.kept])
    feasible = bool(np.all(y > 0)) and _cholesky(cone.combination(y) - cone.gram) is not None
    return y if feasible else None


def _slightly_inside(reduction: Reduction, cone: ConeProgram, path: Path) -> tuple[Array, Array]:
    """The best witness moved inwards, by as little as lets ``M`` on the original data pass the test."""
    for share in np.logspace(-8, 0, 17):
        try:
            witness = reduction.lift(*cone.witness((1.0 - share) * path.best + share * path.inside))
        except np.linalg.LinAlgError:  # the reduced matrix is not yet positive definite in floating point
            continue
        if is_interior(reduction.original, *witness):
            return witness
    return feasible_start(reduction.original)


def _to_boundary(L: Array, D: Array, *, rough: bool = False) -> float:
    """About the largest step with ``L L' + step D >= 0``, from Lanczos steps on ``-L^-1 D L^-T``."""
    n = L.shape[0]
    most, accuracy = (min(n, 20), 0.1) if rough else (min(n, 40), 0.05)
    basis, diagonal, below = np.empty((most, n)), np.empty(most), np.empty(most)
    q = np.random.default_rng(0).standard_normal(n)
    q /= float(np.linalg.norm(q))
    largest = 0.0
    for k in range(most):
        basis[k] = q
        q = -blas.dtrsv(L, D @ blas.dtrsv(L, q, lower=1, trans=1), lower=1)
        diagonal[k] = q @ basis[k]
        for _ in range(2):
            q -= (basis[: k + 1] @ q) @ basis[: k + 1]
        below[k] = float(np.linalg.norm(q))
        last = k == most - 1 or below[k] <= 1e-12 * np.abs(diagonal[: k + 1]).max()
        if last or k % 4 == 3:
            values, vectors = eigh_tridiagonal(diagonal[: k + 1], below[:k], select="i", select_range=(k, k))
            error = float(below[k] * abs(vectors[-1, 0]))
            largest = float(values[0] + error)
            if last or error <= accuracy * abs(values[0]) or largest < 0.5:
                break
        q /= below[k]
    return 1.0 / largest if largest > 0 else np.inf


def _to_zero(value: Array, change: Array) -> float:
    falling = change < 0
    return float(np.min(-value[falling] / change[falling])) if falling.any() else np.inf


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.T)


def _cholesky(matrix: Array) -> Array | None:
    factor, failed = lapack.dpotrf(matrix.T, lower=1, clean=1)
    return None if failed else factor


def _inverse(factor: Array) -> Array:
    lower: Array = np.tril(lapack.dpotri(factor, lower=1)[0])
    return lower + np.tril(lower, -1).T


@cache
def _libraries() -> ThreadpoolController:
    """Looking for the loaded BLAS libraries takes milliseconds: once per process."""
    return ThreadpoolController()
