"""The LipSDP as a cone program in good coordinates, with every product at the price of the network's weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.solvers.problem import Array, LipSDP, Mode, strips


@dataclass(frozen=True, eq=False)
class ConeProgram:
    """A ``LipSDP`` as ``min cost'y`` over ``y >= 0``, ``sum_k y_k A_k - gram >= 0``, in good coordinates.

    ``y`` holds the metric's variables, then one multiplier per neuron (or layer). The substitution ``xi = D
    xi_s`` and a division by ``kappa`` give the start's matrix a diagonal and a value near one. ``D`` and
    ``kappa`` are powers of two, so that not a digit changes; without them deep networks drown in the
    tolerance. Entry ``j`` of ``(metric, T)`` is ``weight_j y_k / scale_j``, ``k`` the variable of ``j``.

    ``strips`` holds the non-zero part of each layer's rows of ``V``: ``(rows, columns, block)``. ``V`` times a
    symmetric ``X`` is written ``VX`` below and handed on, for it is the costly part of everything here.
    """

    C: Array
    a: Array
    b: Array
    inputs: int
    layers: tuple[int, ...]
    gram: Array
    cost: Array
    kappa: float
    D: Array
    weight: Array
    group: NDArray[np.intp]
    starts: NDArray[np.intp]
    strips: tuple[tuple[slice, slice, Array], ...]

    @classmethod
    def scaled(cls, problem: LipSDP, mode: Mode, metric: Array, T: Array) -> ConeProgram:
        """``problem`` in the coordinates that suit the strictly feasible ``(metric, T)``."""
        kappa = float(_power_of_two(np.array(problem.objective(metric))))
        D = _power_of_two(np.sqrt(kappa / np.diag(problem.matrix(metric, T))))
        if problem.norm == "l2":
            D[: problem.inputs] = 1.0
        return cls.with_scales(problem, mode, kappa, D)

    @classmethod
    def with_scales(cls, problem: LipSDP, mode: Mode, kappa: float, D: Array) -> ConeProgram:
        """``problem`` in given coordinates."""
        n0, neurons = problem.inputs, problem.neurons
        scale = D * D / kappa
        sizes = [n0] if problem.norm == "l2" else [1] * n0
        metrics = len(sizes)
        sizes += list(problem.layers) if mode == "layer" else [1] * neurons
        starts = np.cumsum([0, *sizes[:-1]])
        group = np.repeat(np.arange(len(sizes)), sizes)
        mean: Array = np.add.reduceat(scale, starts) / sizes
        cost = np.zeros(len(sizes))
        cost[:metrics] = 1.0 / (kappa * mean[:metrics])
        blocks = (
            (rows, columns, np.ascontiguousarray(block * D[columns] / D[n0:][rows, None]))
            for rows, columns, block in strips(problem)
        )
        C = problem.C * (D / np.sqrt(kappa))
        weight = scale / mean[group]
        a, b, layers = problem.a, problem.b, problem.layers
        return cls(C, a, b, n0, layers, C.T @ C, cost, kappa, D, weight, group, starts, tuple(blocks))

    @property
    def scale(self) -> Array:
        """Entry ``j`` of ``(metric, T)`` is ``weight_j y_k / scale_j``."""
        return self.D * self.D / self.kappa

    def variables(self, metric: Array, T: Array) -> Array:
        """``y`` for a witness; a layer's multipliers are averaged where the program has only one."""
        return self.gathered(np.concatenate((metric, T)) * self.scale / self.weight) / np.bincount(self.group)

    def witness(self, y: Array) -> tuple[Array, Array]:
        """``(metric, T)`` for ``y``."""
        entries = self.weight * y[self.group] / self.scale
        return entries[: self.inputs], entries[self.inputs :]

    def gathered(self, entries: Array) -> Array:
        """The sum of ``entries`` (one for each row) over the rows of each variable, along the first axis."""
        total: Array = np.add.reduceat(entries, self.starts, axis=0)
        return total

    def combination(self, y: Array) -> Array:
        """``sum_k y_k A_k``."""
        n0, entries = self.inputs, self.weight * y[self.group]
        S = np.zeros(self.gram.shape)
        T = entries[n0:]
        for rows, columns, block in self.strips:
            z = slice(n0 + rows.start, n0 + rows.stop)
            coupling = ((self.a + self.b) * T)[rows, None] * block
            S[z, columns] -= coupling
            S[columns, z] -= coupling.T
            curved = (2.0 * self.a * self.b * T)[rows]
            if curved.any():
                S[columns, columns] += block.T @ (curved[:, None] * block)
        S[np.diag_indices_from(S)] += np.concatenate((entries[:n0], 2.0 * T))
        return S

    def combination_times(self, y: Array, X: Array, VX: Array) -> Array:
        """``(sum_k y_k A_k) X`` for the price of the network's weights, given ``V X``."""
        n0, entries = self.inputs, self.weight * y[self.group]
        T = entries[n0:, None]
        factor = entries.copy()
        factor[n0:] *= 2.0
        product: Array = factor[:, None] * X
        both = (self.a + self.b)[:, None] * T
        product[n0:] -= both * VX
        back = both * X[n0:]
        if (self.a * self.b).any():
            back -= (2.0 * self.a * self.b)[:, None] * T * VX
        for rows, columns, block in self.strips:
            product[columns] -= block.T @ back[rows]
        return product

    def times(self, X: Array) -> Array:
        """``V X``."""
        product = np.zeros((self.a.size, X.shape[1]))
        for rows, columns, block in self.strips:
            np.matmul(block, X[columns], out=product[rows])
        return product

    def times_transposed(self, Y: Array) -> Array:
        """``Y V'``."""
        product = np.zeros((Y.shape[0], self.a.size))
        for rows, columns, block in self.strips:
            product[:, rows] = Y[:, columns] @ block.T
        return product

    def adjoint(self, X: Array, VX: Array) -> Array:
        """``A(X)_k = <A_k, X>``, ``X`` symmetric: ``2 g_j'X h_j`` per multiplier, ``X_kk`` for the metric."""
        n0 = self.inputs
        value = X.diagonal().copy()
        value[n0:] -= (self.a + self.b) * np.diagonal(VX[:, n0:])
        curved = self.a * self.b
        if curved.any():
            for rows, columns, block in self.strips:
                value[n0:][rows] += curved[rows] * np.einsum("ij,ij->i", VX[rows, columns], block)
        value[n0:] *= 2.0
        return self.gathered(self.weight * value)

    def adjoint_of_product(self, P: Array, Z: Array, VZ: Array) -> Array:
        """``A((P Z + Z P')/2)``, ``Z`` symmetric and ``P`` any matrix, without forming the product."""
        n0 = self.inputs
        VP = self.times(P)
        value = np.einsum("ij,ij->i", P, Z)
        cross = np.einsum("ij,ij->i", P[n0:], VZ) + np.einsum("ij,ij->i", VP, Z[n0:])
        value[n0:] = 2.0 * value[n0:] - (self.a + self.b) * cross
        curved = self.a * self.b
        if curved.any():
            value[n0:] += 2.0 * curved * np.einsum("ij,ij->i", VP, VZ)
        return self.gathered(self.weight * value)

    def schur(self, X: Array, VX: Array, Z: Array, VZ: Array) -> Array:
        """``B_jk = tr(A_j X A_k Z)`` for ``A_j = g_j h_j' + h_j g_j'``, by Hadamard products:

        ``(g_j'X g_k)(h_k'Z h_j) + (g_j'X h_k)(g_k'Z h_j) + (h_j'X g_k)(h_k'Z g_j) + (h_j'X h_k)(g_k'Z g_j)``;
        for the metric's ``e_k e_k'`` the products are ``X_kg Z_hk + X_kh Z_gk`` and ``X_kk Z_kk``. Shared
        variables add up their entries.
        """
        n0 = self.inputs
        metrics = int(self.group[n0 - 1]) + 1
        B = np.empty((self.cost.size, self.cost.size))
        gXg, hXg, hXh, xXg, xXh = self._slope_products(X, VX)
        gZg, hZg, hZh, xZg, xZh = self._slope_products(Z, VZ)
        corner = np.outer(self.weight[:n0], self.weight[:n0]) * X[:n0, :n0] * Z[:n0, :n0]
        side = self.weight[:n0, None] * (xXg * xZh + xXh * xZg)
        hXh *= gZg
        hXh += gXg * hZh
        hZg *= hXg.T
        hXh += hZg
        hXh += hZg.T
        if metrics < n0:
            corner, side = np.array([[corner.sum()]]), side.sum(axis=0, keepdims=True)
        if self.cost.size - metrics < self.a.size:
            weight, starts = self.weight[n0:], self.starts[metrics:] - n0
            hXh *= np.outer(weight, weight)
            hXh = np.add.reduceat(np.add.reduceat(hXh, starts, axis=0), starts, axis=1)
            side = np.add.reduceat(side * weight, starts, axis=1)
        B[:metrics, :metrics], B[:metrics, metrics:], B[metrics:, :metrics] = corner, side, side.T
        B[metrics:, metrics:] = hXh
        return B

    def _slope_products(self, X: Array, VX: Array) -> tuple[Array, Array, Array, Array, Array]:
        """``g'Xg, h'Xg, h'Xh`` and ``Xg, Xh`` in the rows of the input, for ``g = e - a v``, ``h = e - b v``."""
        n0, a, b = self.inputs, self.a, self.b
        hX = X[n0:] - b[:, None] * VX
        hXv, hXz, xXz, xXv = self.times_transposed(hX), hX[:, n0:], X[:n0, n0:], VX[:, :n0].T
        if not a.any():
            hXv *= b
            return X[n0:, n0:], hXz, np.subtract(hXz, hXv, out=hXv), xXz, xXz - xXv * b
        gX = X[n0:] - a[:, None] * VX
        gXg = gX[:, n0:] - self.times_transposed(gX) * a
        return gXg, hXz - hXv * a, hXz - hXv * b, xXz - xXv * a, xXz - xXv * b


def _power_of_two(x: Array) -> Array:
    return np.exp2(np.round(np.log2(x)))
