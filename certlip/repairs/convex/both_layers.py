"""R3: both layers move; products of variables are differences of squares, of which the concave side is linearised.

The bound. Of the LMI in (W1, Lam, L) only Lam W2' is bilinear now. With E, F the selectors of the hidden and the output
block, any diagonal G > 0, P = E Lam G + F W2 G^-1 and Q = E Lam G - F W2 G^-1,

    E Lam W2' F' + F W2 Lam E' = (P P' - Q Q') / 2,     P P' >= P P0' + P0 P' - P0 P0'

(the difference is (P - P0)(P - P0)' >= 0). A Schur complement for Q Q' leaves a sufficient condition that is linear in
everything and at P = P0 the LMI itself:

    [[blockdiag(L I, [W1 ..], 2 Lam, L I) + (P P0' + P0 P' - P0 P0') / 2, Q], [Q', 2 I]] >= 0

The scores. The signs of W2 stay: W2 = s o A with A >= 0. For one neuron with output weight a >= 0, pre-activation v,
z = relu(v) and any c > 0, 2 a z = (c a + z / c)^2 - (c a)^2 - (z / c)^2. All three squares are convex in (a, v), being
squares of convex functions that are not negative. Their tangents at the start, with the slope d of relu where needed,

    (c a)^2 >= c^2 a0 (2 a - a0)     z^2 >= z0 (2 v - z0)     q^2 >= q0 (2 (c a + d v / c) - q0),  q = c a + z / c

make a convex majorant of a z and a concave minorant, both equal to it at the start. The second one: z^2 is convex and
differentiable in v, with the slope 2 z0 at v0. The third: q^2 >= q0 (2 q - q0), q0 >= 0 and q >= c a + d v / c.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from certlip.repairs.convex.losses import Rows
from certlip.repairs.convex.program import Program, values_of
from certlip.repairs.convex.shallow import Shallow
from certlip.solvers.problem import Array

_SMALL = 1e-3
"""The least that a magnitude counts when squares are balanced, relative to the largest."""


class BothLayers(Program):
    """R3 around `start`, whose multipliers Lam0: (m,) are those of its LipSDP bound L0 (Lam = L T^-1)."""

    def __init__(self, start: Shallow, x: Array, multipliers: Array):
        import cvxpy as cp

        self._x, self._start = x, start
        self._sign = np.where(start.W2 < 0, -1.0, 1.0)
        v = start.pre_activations(x)
        self._z0, self._active = np.maximum(v, 0.0), (v > 0).astype(np.float64)
        self._W1, self._b1 = cp.Variable(start.W1.shape), cp.Variable(start.neurons)
        self._b2 = cp.Variable(start.outputs)
        self._A = cp.Variable(start.W2.shape, nonneg=True)
        self.lipschitz = cp.Variable(nonneg=True)
        self._Lam = cp.Variable(start.neurons, nonneg=True)
        self._z = cp.Variable((len(x), start.neurons), nonneg=True)  # relu(v) at the optimum: larger ones cost
        everything = x @ self._W1.T + np.ones((len(x), 1)) @ self._b1[None, :]
        self.constraints: list[Any] = [self._bound_holds(multipliers), self._z >= everything]
        self._v = everything
        size = _magnitude(np.sqrt(np.mean(self._z0**2, axis=0)))
        self._c = np.sqrt(size / _magnitude(np.abs(start.W2)))  # (o, m): a change of a and one of z cost alike

    def _bound_holds(self, Lam0: Array) -> Any:
        import cvxpy as cp

        (d, m, o), W2 = (self._start.inputs, self._start.neurons, self._start.outputs), cp.multiply(self._sign, self._A)
        G = np.sqrt(_magnitude(np.linalg.norm(self._start.W2, axis=0)) / _magnitude(Lam0))
        hidden, output = np.diag(G), np.diag(1.0 / G)
        P0 = np.concatenate((np.zeros((d, m)), np.diag(Lam0 * G), self._start.W2 / G))
        Lam = cp.diag(self._Lam)
        P = cp.vstack([np.zeros((d, m)), Lam @ hidden, W2 @ output])
        Q = cp.vstack([np.zeros((d, m)), Lam @ hidden, -W2 @ output])
        zero = np.zeros((d, o))
        linear = cp.bmat(
            [
                [self.lipschitz * np.eye(d), self._W1.T, zero],
                [self._W1, 2 * Lam, np.zeros((m, o))],
                [zero.T, np.zeros((o, m)), self.lipschitz * np.eye(o)],
            ]
        )
        product = P @ P0.T
        corner = linear + (product + product.T - P0 @ P0.T) / 2
        matrix = cp.bmat([[corner, Q], [Q.T, 2.0 * np.eye(m)]])
        return (matrix + matrix.T) / 2 >> 0

    def majorant(self, rows: Rows, K: Array) -> Any:
        """Only outputs that an entry of K asks for are bounded: from above, from below, or both."""
        import cvxpy as cp

        total = np.ones((len(rows), 1)) @ (K @ self._b2)[None, :]
        for k in range(self._start.outputs):
            for sign in (1.0, -1.0):
                share = np.maximum(sign * K[:, k], 0.0)
                if share.any():
                    side = cp.reshape(self._one_side(rows, k, sign), (len(rows), 1), order="C")
                    total = total + side @ share[None, :]
        return total

    def _one_side(self, rows: Rows, k: int, sign: float) -> Any:
        """A convex expression (n,), at least sign * (f_k - b2_k) on the rows."""
        import cvxpy as cp

        rising = self._sign[k] * sign > 0
        up, down = np.flatnonzero(rising), np.flatnonzero(~rising)
        v, z, n = self._v[rows], self._z[rows], np.ones((len(rows), 1))
        squares, tangents = [], []
        if up.size:
            a, a0, c = self._A[k, up], self._start_size(k)[up], self._c[k, up]
            z0 = self._z0[np.ix_(rows, up)]
            squares.append(n @ cp.multiply(c, a)[None, :] + z[:, up] / c[None, :])
            tangents.append(n @ cp.multiply(c**2 * a0, 2 * a - a0)[None, :])
            tangents.append(cp.multiply(z0, 2 * v[:, up] - z0) / (c**2)[None, :])
        if down.size:
            a, a0, c = self._A[k, down], self._start_size(k)[down], self._c[k, down]
            z0, active = self._z0[np.ix_(rows, down)], self._active[np.ix_(rows, down)]
            squares += [n @ cp.multiply(c, a)[None, :], z[:, down] / c[None, :]]
            q0 = c * a0 + z0 / c
            slope = n @ cp.multiply(c, a)[None, :] + cp.multiply(active, v[:, down]) / c[None, :]
            tangents.append(cp.multiply(q0, 2 * slope - q0))
        square = cp.square(cp.norm(cp.hstack(squares), 2, axis=1))  # a cone per row, not one per term
        return (square - sum(cp.sum(tangent, axis=1) for tangent in tangents)) / 2

    def _start_size(self, k: int) -> Array:
        return np.abs(self._start.W2[k])

    def solution(self) -> Shallow | None:
        found = values_of(self._W1, self._b1, self._A, self._b2)
        if found is None:
            return None
        W1, b1, A, b2 = found
        return Shallow(W1, b1, self._sign * np.maximum(A, 0.0), b2)

    def place(self, net: Shallow) -> None:
        self._W1.value, self._b1.value, self._b2.value = net.W1, net.b1, net.b2
        self._A.value = self._sign * net.W2
        self._z.value = np.maximum(net.pre_activations(self._x), 0.0)


def _magnitude(sizes: Array) -> Array:
    """Positive sizes for balancing."""
    largest = float(sizes.max(initial=0.0))
    return np.maximum(sizes, _SMALL * largest) if largest > 0 else np.ones_like(sizes)
