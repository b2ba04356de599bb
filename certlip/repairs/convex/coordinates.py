"""Coordinates in which the programs are small and well scaled. Every step is exact in real arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.repairs.convex.shallow import Shallow
from certlip.solvers.problem import Array

_RANK = 1e-14
"""Eigenvalues of x'x below this share of the largest are rounding."""


def span(x: Array) -> Array | None:
    """An orthonormal basis (d, r) of what the rows of x: (N, d) span; None where it is everything, or nothing."""
    values, vectors = np.linalg.eigh(x.T @ x)
    kept = values > _RANK * values[-1]
    return vectors[:, kept] if kept.any() and not kept.all() else None


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The neurons that reach an output, scaled so that each one's output weights have length one; the span of the data.

    relu is positively homogeneous: w2 relu(w1 x + b1) = (w2 / s) relu(s w1 x + s b1) for s > 0. What W1 does off
    the span of the training inputs is invisible in the loss and can only raise L: W1 V V' has the same
    pre-activations where x = V V' x, and W1 V V' W1' <= W1 W1'. basis: V, of `span`.
    """

    original: Shallow
    kept: NDArray[np.intp]
    scales: Array
    basis: Array | None

    @staticmethod
    def of(net: Shallow, basis: Array | None) -> Coordinates:
        sizes = np.linalg.norm(net.W2, axis=0)
        kept = np.flatnonzero(sizes)
        return Coordinates(net, kept, sizes[kept], basis)

    def inside(self, net: Shallow) -> Shallow:
        """The same function on the training inputs, in these coordinates."""
        W1 = net.W1[self.kept] * self.scales[:, None]
        W1 = W1 if self.basis is None else W1 @ self.basis
        return Shallow(W1, net.b1[self.kept] * self.scales, net.W2[:, self.kept] / self.scales, net.b2)

    def outside(self, net: Shallow) -> Shallow:
        """A network of the original's sizes; neurons that reached no output are as they were."""
        W1, b1, W2 = (array.copy() for array in (self.original.W1, self.original.b1, self.original.W2))
        W1[self.kept] = (net.W1 if self.basis is None else net.W1 @ self.basis.T) / self.scales[:, None]
        b1[self.kept] = net.b1 / self.scales
        W2[:, self.kept] = net.W2 * self.scales
        return Shallow(W1, b1, W2, net.b2)
