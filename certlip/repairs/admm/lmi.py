"""The matrix inequality of LipSDP as an affine function of the weights and the inverse multipliers of all layers.

With slopes in ``[a, b]``, ``a <= 0 <= b``, and diagonal ``T_i > 0`` a chain has ``|Df|_2^2 <= rho |Dx|_2^2`` if

    [ rho I           -W_1'T_1(a_1 + b_1)                                         ]
    [ -(a_1 + b_1)T_1 W_1     2 T_1         -W_2'T_2(a_2 + b_2)                   ]
    [                          ...                   ...                          ]   >= 0
    [                                           2 T_{N-1}                   W_N'  ]
    [                                              W_N                       I    ]

(Fazlyab et al. 2019; the last layer by Schur's complement; signs beside the diagonal may be changed in whole rows). A
neuron with ``a < 0`` also takes ``2 a b T w w'`` from the block of its inputs ``w``, which one more row
``sqrt(-2 a b T) w'`` with the diagonal entry 1 accounts for.

Congruence with ``Lam_i = T_i^-1`` leaves ``2 Lam_i`` on the diagonal and ``(a_i + b_i) W_i Lam_{i-1}`` beside it:
linear in ``(rho, Lam_i, W_i Lam_{i-1})`` together. At a reference ``(rho_0, T)`` let ``Lam_i = T_i^-1 l_i`` and
``W_i = Z_i + E_i l_{i-1}^-1``, ``Z`` any base; divided by the roots of the reference's diagonal the matrix has the
blocks ``rho/rho_0 I, l_1, ..., I`` and beside them ``left_i (Z_i l_{i-1} + E_i) right_{i-1}``. It is positive for the
zero network, and with the weights ``W`` for all ``s W``, ``0 <= s <= 1``: changing the sign of every other row of
blocks shows it for ``-W``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from certlip.solvers.problem import Array


@dataclass(frozen=True, eq=False)
class _Layer:
    """Rows ``left W[rows] right`` of the block ``own`` against the columns ``before``.

    Rows beyond the width of ``W`` are the second ones of neurons with a < 0.
    """

    own: slice
    before: slice
    rows: np.ndarray
    left: Array
    right: Array

    def block(self, W: Array) -> Array:
        scaled: Array = self.left[:, None] * W[self.rows] * self.right
        return scaled

    def adjoint(self, block: Array) -> Array:
        scaled = self.left[:, None] * block * self.right
        width = int(self.rows.max()) + 1
        total: Array = scaled[:width].copy()
        np.add.at(total, self.rows[width:], scaled[width:])
        return total


@dataclass(frozen=True, eq=False)
class Lmi:
    """``S(x) = fixed + A x >= 0`` over ``x = (E_1, ..., E_N, l_1, ..., l_{N-1} if joint, rho/rho_0 if free_rho)``.

    ``base``: the matrices ``Z``. Where the multipliers stay, all ``l`` are one.
    """

    layers: tuple[_Layer, ...]
    base: tuple[Array, ...]
    joint: bool
    free_rho: bool
    fixed: Array

    @classmethod
    def of(
        cls,
        base: Sequence[Array],
        slopes: Sequence[tuple[Array, Array]],
        rho: float,
        T: Sequence[Array],
        *,
        joint: bool = False,
        free_rho: bool = False,
    ) -> Lmi:
        """Around the reference ``(rho, T)``; ``slopes`` and ``T``: one for each hidden layer, ``a <= 0 <= b``."""
        layers = []
        before, right = slice(0, base[0].shape[1]), np.full(base[0].shape[1], rho**-0.5)
        start = before.stop
        for i, Z in enumerate(base):
            rows, left = np.arange(len(Z)), np.ones(len(Z))
            if i < len(base) - 1:
                (a, b), t = slopes[i], T[i]
                curved = np.flatnonzero(a * b)
                rows = np.concatenate((rows, curved))
                left = np.concatenate(((a + b) * np.sqrt(t / 2), np.sqrt(-2.0 * (a * b * t)[curved])))
            layers.append(_Layer(slice(start, start + rows.size), before, rows, left, right))
            before, start = slice(start, start + len(Z)), start + rows.size
            if i < len(base) - 1:
                right = 1.0 / np.sqrt(2.0 * T[i])
        fixed = np.eye(start)
        if free_rho:
            fixed[layers[0].before, layers[0].before] = 0.0
        if joint:
            for layer in layers[:-1]:
                fixed[layer.own, layer.own] = 0.0
        for layer, Z in list(zip(layers, base, strict=True))[: 1 if joint else None]:
            _couple(fixed, layer, layer.block(np.asarray(Z)))
        return cls(tuple(layers), tuple(base), joint, free_rho, fixed)

    @property
    def order(self) -> int:
        return len(self.fixed)

    def joined(self, weights: Sequence[Array], rho: float = 1.0) -> Array:
        """``x`` of given weights, the reference's multipliers and so many times its ``rho``."""
        parts = [np.ravel(W - Z) for W, Z in zip(weights, self.base, strict=True)]
        parts += [np.ones(len(Z)) for Z in self.base[:-1] if self.joint]
        return np.concatenate([*parts, np.full(int(self.free_rho), rho)])

    def parts(self, x: Array) -> list[Array]:
        """``E_1, ..., E_N``, then the factors ``l``, then ``rho/rho_0`` as a vector of one entry, if they move."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(x, ends[:-1]), self._shapes, strict=True)]

    def point(self, x: Array) -> tuple[tuple[Array, ...], list[Array], float]:
        """Weights, factors ``l_1, ..., l_{N-1}``, ``rho/rho_0``."""
        parts, count = self.parts(x), len(self.base)
        factors = parts[count : 2 * count - 1] if self.joint else [np.ones(len(Z)) for Z in self.base[:-1]]
        divisors = [np.ones(self.base[0].shape[1]), *factors]
        weights = tuple(Z + E / s for Z, E, s in zip(self.base, parts, divisors, strict=False))
        return weights, factors, float(parts[-1][0]) if self.free_rho else 1.0

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = [Z.shape for Z in self.base]
        shapes += [(len(Z),) for Z in self.base[:-1] if self.joint]
        return shapes + [(1,)] * self.free_rho

    def change(self, x: Array) -> Array:
        """``A x``."""
        parts, count = self.parts(x), len(self.base)
        S = np.zeros(self.fixed.shape)
        blocks = [layer.block(E) for layer, E in zip(self.layers, parts, strict=False)]
        if self.joint:
            for i, factor in enumerate(parts[count : 2 * count - 1]):
                own = np.arange(self.layers[i].own.start, self.layers[i].own.stop)
                S[own, own] = factor[self.layers[i].rows]
                blocks[i + 1] += self._next_block(i) * factor
        for layer, block in zip(self.layers, blocks, strict=True):
            _couple(S, layer, block)
        if self.free_rho:
            inputs = np.arange(self.layers[0].before.stop)
            S[inputs, inputs] = parts[-1][0]
        return S

    def matrix(self, x: Array) -> Array:
        """``S(x)``."""
        return self.fixed + self.change(x)

    def adjoint(self, Q: Array) -> Array:
        """``A* Q`` for symmetric ``Q``."""
        parts = [2.0 * layer.adjoint(Q[layer.own, layer.before]) for layer in self.layers]
        if self.joint:
            for i, (layer, after) in enumerate(pairwise(self.layers)):
                diagonal = np.bincount(layer.rows, np.diag(Q)[layer.own])
                parts.append(diagonal + 2.0 * np.sum(self._next_block(i) * Q[after.own, after.before], axis=0))
        if self.free_rho:
            parts.append(np.trace(Q[self.layers[0].before, self.layers[0].before]))
        return np.concatenate([np.ravel(part) for part in parts])

    def normalising(self, x: Array) -> tuple[float, Array]:
        """The logarithm of the determinant of the blocks ``l_i``, and its gradient.

        ``log det S`` alone grows without bound as multipliers vanish.
        """
        value, parts, count = 0.0, self.parts(np.zeros(x.size)), len(self.base)
        if self.joint:
            for i, factor in enumerate(self.parts(x)[count : 2 * count - 1]):
                often = np.bincount(self.layers[i].rows)
                value += float(often @ np.log(factor))
                parts[count + i] = often / factor
        return value, np.concatenate([np.ravel(part) for part in parts])

    def preconditioner(self, P: Array, quadratic: Sequence[Array], tau: float) -> Callable[[Array], Array]:
        """About the inverse of ``D + tau A*(P A(.) P)``, exact within a layer but for the products of ``P``'s blocks
        beside the diagonal, so that Kronecker factors remain.

        ``quadratic``: the diagonal of ``D``, a row for the columns of each ``E_i``, a vector for each ``l_i``.
        """
        solves: list[Callable[[Array], Array]] = []
        terms = iter(quadratic)
        for layer, Z in zip(self.layers, self.base, strict=True):
            solves.append(_kronecker(layer, P, next(terms), 2.0 * tau, len(Z)))
        if self.joint:
            solves += [self._hadamard(i, P, next(terms), tau) for i in range(len(self.base) - 1)]
        if self.free_rho:
            inputs = self.layers[0].before
            curvature = tau * float(np.sum(P[inputs, inputs] ** 2))
            solves.append(lambda v: v / curvature)

        def apply(v: Array) -> Array:
            return np.concatenate([np.ravel(solve(part)) for solve, part in zip(solves, self.parts(v), strict=True)])

        return apply

    def _hadamard(self, i: int, P: Array, quadratic: Array, tau: float) -> Callable[[Array], Array]:
        """Factor ``j`` of a layer enters as ``e_j u_j' + u_j e_j'``."""
        layer, after = self.layers[i], self.layers[i + 1]
        own = after.before
        U = np.zeros((self.order, own.stop - own.start))
        U[own] = 0.5 * np.eye(own.stop - own.start)
        U[after.own] = self._next_block(i)
        EPU = (P @ U)[own]
        B = 2.0 * tau * (P[own, own] * (U.T @ P @ U) + EPU * EPU.T)
        second = np.arange(own.stop, layer.own.stop)
        B[np.diag_indices_from(B)] += quadratic + tau * np.bincount(
            layer.rows[len(EPU) :], P[second, second] ** 2, minlength=len(EPU)
        )
        factor = cho_factor(B + 1e-12 * np.trace(B) / len(B) * np.eye(len(B)))
        return lambda v: cho_solve(factor, v)

    def _next_block(self, i: int) -> Array:
        return self.layers[i + 1].block(np.asarray(self.base[i + 1]))


def _couple(S: Array, layer: _Layer, block: Array) -> None:
    S[layer.own, layer.before] = block
    S[layer.before, layer.own] = block.T


def _kronecker(layer: _Layer, P: Array, quadratic: Array, factor: float, width: int) -> Callable[[Array], Array]:
    """The solution of ``V diag(quadratic) + factor G V H = R`` from eigenvectors of ``G`` and of a scaled ``H``."""
    select = np.zeros((layer.rows.size, width))
    select[np.arange(layer.rows.size), layer.rows] = layer.left
    G = select.T @ P[layer.own, layer.own] @ select
    scale = layer.right / np.sqrt(quadratic)
    H = scale[:, None] * P[layer.before, layer.before] * scale
    g, Q = np.linalg.eigh(G)
    h, R = np.linalg.eigh(H)
    R /= np.sqrt(quadratic)[:, None]
    weights = 1.0 + factor * np.outer(np.maximum(g, 0.0), np.maximum(h, 0.0))
    return lambda V: Q @ ((Q.T @ V @ R) / weights) @ R.T
