"""The semidefinite program behind LipSDP bounds, for any network whose nonlinearities act entry by entry.

Let ``xi = (x, z)`` hold the input ``x`` and the outputs ``z`` of all activations in topological order.
Activation ``j`` reads ``v_j = V_j xi + const`` and has its slopes in ``[a_j, b_j]``; the network's output is
``f = C xi + const``. Differences of two evaluations obey ``(Dz_j - a_j Dv_j)(b_j Dv_j - Dz_j) >= 0``, so with
``g_j = e_{n0+j} - a_j V_j'`` and ``h_j = e_{n0+j} - b_j V_j'`` any ``T >= 0`` and ``P`` that satisfy

    M(P, T) = blockdiag(P, 0) - C'C + sum_j T_j (g_j h_j' + h_j g_j') >= 0

prove ``|Df|_2^2 <= Dx' P Dx``. Chains, residual graphs and dense skips differ only in ``V`` and ``C``.
(Fazlyab et al., "Efficient and accurate estimation of Lipschitz constants for deep neural networks", 2019.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Norm: TypeAlias = Literal["l2", "linf"]
Mode: TypeAlias = Literal["neuron", "layer"]
Status: TypeAlias = Literal["solved", "deadline", "stalled"]


@dataclass(frozen=True, eq=False)
class LipSDP:
    """Minimise the metric's cost subject to ``M(P, T) >= 0``, ``T >= 0``.

    ``V``: (N, n0 + N), strictly block lower triangular: a layer reads the input and earlier layers only.
    ``C``: (m, n0 + N). ``inputs``: n0. ``a``, ``b``: (N,) slope bounds (numbers are broadcast).
    ``layers``: sizes of the consecutive blocks of ``z``, summing to N.
    ``norm``: ``"l2"`` has ``P = rho I``, minimises ``rho`` and proves ``|Df|_2 <= sqrt(rho) |Dx|_2``;
    ``"linf"`` has ``P = diag(d)``, minimises ``sum d`` and proves ``|Df|_2 <= sqrt(sum d) |Dx|_inf``.

    Raises ``ValueError`` when the arrays do not describe such a network.
    """

    V: Array
    C: Array
    inputs: int
    a: Array
    b: Array
    layers: tuple[int, ...]
    norm: Norm = "l2"

    def __post_init__(self) -> None:
        V, C = (np.ascontiguousarray(matrix, dtype=np.float64) for matrix in (self.V, self.C))
        layers = tuple(int(size) for size in self.layers)
        neurons = sum(layers)
        if self.inputs < 1 or any(size < 1 for size in layers):
            raise ValueError("a network needs at least one input and no empty layer")
        if V.shape != (neurons, self.inputs + neurons) or C.ndim != 2 or C.shape[1] != V.shape[1]:
            raise ValueError(f"{self.inputs} inputs and {neurons} neurons do not fit V {V.shape} and C {C.shape}")
        a, b = (np.broadcast_to(np.asarray(s, dtype=np.float64), (neurons,)).copy() for s in (self.a, self.b))
        if not all(np.isfinite(array).all() for array in (V, C, a, b)):
            raise ValueError("weights and slopes must be finite")
        if np.any(a > b):
            raise ValueError("a slope interval [a, b] is empty")
        if self.norm not in ("l2", "linf"):
            raise ValueError(f"unknown norm {self.norm!r}: choose 'l2' or 'linf'")
        for name, value in (("V", V), ("C", C), ("a", a), ("b", b), ("layers", layers)):
            object.__setattr__(self, name, value)
        if any(V[block, self.inputs + block.start :].any() for block in self.blocks):
            raise ValueError("a layer may read only the input and earlier layers")

    @property
    def neurons(self) -> int:
        """``N``."""
        return len(self.a)

    @property
    def size(self) -> int:
        """The order of ``M``."""
        return self.inputs + len(self.a)

    @property
    def blocks(self) -> list[slice]:
        """The neurons of each layer, as slices of ``range(N)``."""
        ends = np.cumsum(self.layers, dtype=int)
        return [slice(int(end) - size, int(end)) for end, size in zip(ends, self.layers, strict=True)]

    def matrix(self, P_diag: Array | float, T: Array | float) -> Array:
        """``M(P, T)`` in floating point, for ``P = diag(P_diag)`` and ``T``: (N,) or a number."""
        metric = np.broadcast_to(np.asarray(P_diag, dtype=np.float64), (self.inputs,))
        T = np.broadcast_to(np.asarray(T, dtype=np.float64), (self.neurons,))
        M = -(self.C.T @ self.C)
        add_multipliers(M, self.V, self.a, self.b, T, np.arange(self.inputs, self.size))
        M[np.arange(self.inputs), np.arange(self.inputs)] += metric
        return M

    def objective(self, metric: Array) -> float:
        """The squared bound that a feasible ``metric`` proves: its largest entry (l2) or its sum (linf)."""
        return float(np.max(metric) if self.norm == "l2" else np.sum(metric))


@dataclass(frozen=True, eq=False)
class Proposal:
    """A solver's offer: a witness ``(metric, multipliers)``, to be proved, for the problem as given.

    ``objective`` is the squared bound that the witness would prove, ``lower`` the value of a point of the dual
    program, feasible up to rounding: no witness of this mode proves less, and their gap shows what more solving
    could gain. ``primal``, if asked for, is such a point as a factor ``F`` (n0 + N, r), see
    ``primal.feasible_factor``. ``status`` tells where the witness comes from and is never a proof:

    ``"solved"``    the relative gap reached the tolerance (the last step, inwards, may add a little to it),
    ``"deadline"``  time ran out: a candidate, but not the best one,
    ``"stalled"``   rounding, the limit of iterations or a failed solver stopped the progress before that.
    """

    metric: Array
    multipliers: Array
    objective: float
    lower: float
    iterations: int
    seconds: float
    status: Status
    primal: Array | None = None

    @property
    def gap(self) -> float:
        """``(objective - lower) / objective``, zero for a constant network, one without a finite bound."""
        if not np.isfinite(self.objective):
            return 1.0
        return (self.objective - self.lower) / self.objective if self.objective > 0 else 0.0


def add_multipliers(M: Array, V: Array, a: Array, b: Array, T: Array, rows: NDArray[np.intp]) -> None:
    """Add ``sum_j T_j (g_j h_j' + h_j g_j')`` to ``M`` in place; neuron ``j`` owns the row ``rows[j]``."""
    coupling = (T * (a + b))[:, None] * V
    M[rows] -= coupling
    M[:, rows] -= coupling.T
    M[rows, rows] += 2.0 * T
    curved = np.flatnonzero(a * b)
    if curved.size:
        M += V[curved].T @ ((2.0 * T * a * b)[curved, None] * V[curved])


def strips(problem: LipSDP) -> list[tuple[slice, slice, Array]]:
    """``(rows, columns, block)`` for the rows of ``V`` of each layer that reads anything, cut to what it reads."""
    found = []
    for rows in problem.blocks:
        used = np.flatnonzero(problem.V[rows].any(axis=0))
        if used.size:
            columns = slice(int(used[0]), int(used[-1]) + 1)
            found.append((rows, columns, problem.V[rows, columns]))
    return found
