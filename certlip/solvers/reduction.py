"""What the program does not need, removed before the first iteration; every step is exact in real arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, qr, solve_triangular

from certlip.solvers.problem import Array, LipSDP, Mode, add_multipliers
from certlip.solvers.start import NEGLIGIBLE, bordered

RANK_TOLERANCE = 1e-12  # what of a row, of length one, counts as rounding


@dataclass(frozen=True, eq=False)
class Reduction:
    """A smaller program with the same optimal value, and the way back to a witness for the original.

    ``kept`` lists the neurons of ``original`` that ``reduced`` still has; the others are linear in the
    earlier ones. ``reduced`` describes the network divided by ``2**power``; its ``C`` is zero if and only if
    the network is constant. Its input stands for ``x = basis x_reduced``, or for ``x`` itself.
    """

    original: LipSDP
    reduced: LipSDP
    mode: Mode
    kept: NDArray[np.intp]
    power: int
    basis: Array | None

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
            factor = bordered(factor, coupling, np.diag(2.0 * enough) - K)
            order = np.concatenate((order, rows))
            add_multipliers(M, V[found], np.zeros(found.size), (p.b - p.a)[found], enough, rows)
        return metric, full

    def restrict(self, metric: Array, T: Array) -> tuple[Array, Array]:
        """The witness for ``reduced``, feasible if the given one for ``original`` is."""
        metric = np.ldexp(np.asarray(metric, dtype=np.float64), -2 * self.power)
        if self.original.norm == "l2":
            metric = np.full(self.reduced.inputs, metric.max())
        return metric, np.ldexp(np.asarray(T, dtype=np.float64)[self.kept], -2 * self.power)

    def lift_factor(self, F: Array) -> Array:
        """The factor of the original's ``X`` for one of the reduced program's."""
        p = self.original
        m = self.reduced.inputs
        full = np.zeros((p.size, F.shape[1]))
        full[: p.inputs] = F[:m] if self.basis is None else self.basis @ F[:m]
        full[p.inputs + self.kept] = F[m:]
        linear = np.setdiff1d(np.arange(p.neurons), self.kept)
        for block in p.blocks:
            found = linear[(linear >= block.start) & (linear < block.stop)]
            full[p.inputs + found] = p.a[found, None] * (p.V[found] @ full)
        return full


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
    are. For l2, ``x`` enters through ``[V_x; C_x]`` alone: as many coordinates as that matrix has rank are enough
    (never for linf, whose metric has an axis of its own per input). Tall ``C`` becomes its factor ``R``, and ``C`` is
    divided by a power of two.
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
    inputs, basis = n0, None
    if problem.norm == "l2" and (basis := _inputs_that_matter(np.concatenate((V, C))[:, :n0])) is not None:
        inputs = basis.shape[1]
        V, C = (np.concatenate((matrix[:, :n0] @ basis, matrix[:, n0:]), axis=1) for matrix in (V, C))
    sizes = (int(np.count_nonzero(~linear[block])) for block in problem.blocks)
    layers = tuple(size for size in sizes if size)
    reduced = LipSDP(V, C, inputs, problem.a[kept], problem.b[kept], layers, problem.norm)
    return Reduction(problem, reduced, mode, kept, power, basis)


def _inputs_that_matter(reading: Array) -> Array | None:
    """An orthonormal basis (n0, rank) of the span of the rows of ``reading``; ``None`` if it is everything."""
    n0 = reading.shape[1]
    rows = reading[reading.any(axis=1)]
    if not rows.size:
        return np.eye(n0, 1)
    # Rows of unit length, for layers may differ by many orders of magnitude.
    Q, R, _ = qr((rows / np.linalg.norm(rows, axis=1)[:, None]).T, mode="economic", pivoting=True)
    rank = int(np.count_nonzero(np.abs(R.diagonal()) > RANK_TOLERANCE))
    return Q[:, :rank] if rank < n0 else None


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
