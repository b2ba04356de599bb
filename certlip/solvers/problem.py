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
            raise ValueError(
                f"{self.inputs} inputs and {neurons} neurons do not fit V {V.shape} and C {C.shape}"
            )
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

    ``objective`` is the squared bound that the witness would prove, ``lower`` the solver's estimate from
    below of the best value in its mode: their gap shows what more solving could gain. ``status`` tells where
    the witness comes from and is never a proof:

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

    @property
    def gap(self) -> float:
        """``(objective - lower) / objective``, zero for a constant network."""
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


@dataclass(frozen=True, eq=False)
class ConeProgram:
    """A ``LipSDP`` as ``min cost'y`` over ``y >= 0``, ``sum_k y_k A_k - gram >= 0``, in good coordinates.

    ``y`` holds the metric's variables, then one multiplier per neuron (or layer). The substitution ``xi = D
    xi_s`` and a division by ``kappa`` give the start's matrix a diagonal and a value near one. ``D`` and
    ``kappa`` are powers of two, so that not a digit changes; without them deep networks drown in the
    tolerance. Entry ``j`` of ``(metric, T)`` is ``weight_j y_k / scale_j``.
    """

    V: Array
    a: Array
    b: Array
    inputs: int
    layers: tuple[int, ...]
    gram: Array
    cost: Array
    kappa: float
    scale: Array
    weight: Array
    group: NDArray[np.intp]
    starts: NDArray[np.intp]
    strips: tuple[tuple[slice, slice, Array], ...]

    @classmethod
    def scaled(cls, problem: LipSDP, mode: Mode, metric: Array, T: Array) -> ConeProgram:
        """``problem`` in the coordinates that suit the strictly feasible ``(metric, T)``."""
        n0, neurons = problem.inputs, problem.neurons
        kappa = float(_power_of_two(np.array(problem.objective(metric))))
        D = _power_of_two(np.sqrt(kappa / np.diag(problem.matrix(metric, T))))
        if problem.norm == "l2":
            D[:n0] = 1.0
        V = problem.V * D / D[n0:, None]
        C = problem.C * (D / np.sqrt(kappa))
        scale = D * D / kappa
        sizes = [n0] if problem.norm == "l2" else [1] * n0
        metrics = len(sizes)
        sizes += list(problem.layers) if mode == "layer" else [1] * neurons
        starts = np.cumsum([0, *sizes[:-1]])
        group = np.repeat(np.arange(len(sizes)), sizes)
        mean: Array = np.add.reduceat(scale, starts) / sizes
        cost = np.zeros(len(sizes))
        cost[:metrics] = 1.0 / (kappa * mean[:metrics])
        strips = []
        for rows in problem.blocks:
            used = np.flatnonzero(V[rows].any(axis=0))
            if used.size:
                columns = slice(int(used[0]), int(used[-1]) + 1)
                strips.append((rows, columns, np.ascontiguousarray(V[rows, columns])))
        a, b, layers, weight = problem.a, problem.b, problem.layers, scale / mean[group]
        return cls(V, a, b, n0, layers, C.T @ C, cost, kappa, scale, weight, group, starts, tuple(strips))

    def variables(self, metric: Array, T: Array) -> Array:
        """``y`` for a witness; a layer's multipliers are averaged where the program has only one."""
        entries = np.concatenate((metric, T)) * self.scale / self.weight
        y: Array = np.add.reduceat(entries, self.starts) / np.bincount(self.group)
        return y

    def witness(self, y: Array) -> tuple[Array, Array]:
        """``(metric, T)`` for ``y``."""
        entries = self.weight * y[self.group] / self.scale
        return entries[: self.inputs], entries[self.inputs :]

    def combination(self, y: Array) -> Array:
        """``sum_k y_k A_k``."""
        entries = self.weight * y[self.group]
        S = np.zeros(self.gram.shape)
        x, z = np.arange(self.inputs), np.arange(self.inputs, len(S))
        add_multipliers(S, self.V, self.a, self.b, entries[self.inputs :], z)
        S[x, x] += entries[: self.inputs]
        return S

    def combination_times(self, y: Array, X: Array, VX: Array) -> Array:
        """``(sum_k y_k A_k) X`` for the price of the network's weights, given ``V X``."""
        n0, entries = self.inputs, self.weight * y[self.group]
        T = entries[n0:, None]
        product = entries[:, None] * X
        product[n0:] *= 2.0
        both = (self.a + self.b)[:, None] * T
        product[n0:] -= both * VX
        back = (2.0 * self.a * self.b)[:, None] * T * VX - both * X[n0:]
        for rows, columns, block in self.strips:
            product[columns] += block.T @ back[rows]
        return product

    def times(self, X: Array) -> Array:
        """``V X``."""
        product = np.zeros((self.a.size, X.shape[1]))
        for rows, columns, block in self.strips:
            product[rows] = block @ X[columns]
        return product

    def adjoint(self, X: Array, VX: Array) -> Array:
        """``A(X)_k = <A_k, X>``, ``X`` symmetric: ``2 g_j'X h_j`` per multiplier, ``X_kk`` for the metric."""
        n0 = self.inputs
        value = X.diagonal().copy()
        value[n0:] -= (self.a + self.b) * np.diagonal(VX[:, n0:])
        value[n0:] += self.a * self.b * np.einsum("ij,ij->i", VX, self.V)
        value[n0:] *= 2.0
        return np.add.reduceat(self.weight * value, self.starts)

    def primal_start(self) -> Array:
        """A strictly feasible ``X``, i.e. ``X > 0``, ``A(X) < cost``: the covariance of ``xi`` for random
        inputs when ``z = m v + noise``, ``m = (a + b)/2``. Noise of variance ``e`` leaves neuron ``j`` the
        slack ``2 (r^2 E v^2 - e)``, ``r = (b - a)/2``; nine tenths of what the slopes allow keeps both
        positive.
        """
        n0 = end = self.inputs
        X = np.zeros(self.gram.shape)
        x = np.arange(n0)
        X[x, x] = 0.9 * (self.cost / np.bincount(self.group))[self.group[:n0]]
        for size in self.layers:
            rows, z = slice(end - n0, end - n0 + size), slice(end, end + size)
            V, m, r = self.V[rows, :end], (self.a[rows] + self.b[rows]) / 2, (self.b[rows] - self.a[rows]) / 2
            X[z, :end] = m[:, None] * (V @ X[:end, :end])
            X[:end, z] = X[z, :end].T
            covariance = V @ X[:end, :end] @ V.T
            allowed = r**2 * covariance.diagonal()
            # A neuron that cannot move may be in a layer that can: it borrows some of the shared noise.
            weight, group = self.weight[z], self.group[z] - self.group[end]
            average = np.bincount(group, weight * allowed) / np.bincount(group, weight)
            X[z, z] = m[:, None] * covariance * m + np.diag(0.9 * np.maximum(allowed, 1e-3 * average[group]))
            end += size
        return X


def _power_of_two(x: Array) -> Array:
    return np.exp2(np.round(np.log2(x)))
