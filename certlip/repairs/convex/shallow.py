"""A network with one hidden layer as plain arrays, and the LipSDP value of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from certlip.errors import UsageError
from certlip.graph import Graph, Node
from certlip.lipschitz import LipSDP
from certlip.ops import Dense, Relu
from certlip.solvers import LipSDP as Program
from certlip.solvers import interior_point
from certlip.solvers.problem import Array

_INTERIOR = 500
"""Inputs and neurons up to which the interior point, the most accurate engine, takes less than a second or two."""

_LEAST = 1e-12
"""The least multiplier relative to the largest: of a neuron that no input reaches it may be anything."""


@dataclass(frozen=True, eq=False)
class Shallow:
    """f(x) = W2 relu(W1 x + b1) + b2. W1: (m, d), b1: (m,), W2: (o, m), b2: (o,), all float64 and finite.

    Raises UsageError where shapes do not fit or an entry is not finite.
    """

    W1: Array
    b1: Array
    W2: Array
    b2: Array

    def __post_init__(self) -> None:
        for name in ("W1", "b1", "W2", "b2"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        shapes = tuple(array.shape for array in (self.W1, self.b1, self.W2, self.b2))
        matrices = self.W1.ndim == 2 and self.W2.ndim == 2
        if not matrices or shapes[1:] != ((self.neurons,), (self.outputs, self.neurons), (self.outputs,)):
            raise UsageError(f"weights {shapes} make no network of one hidden layer; pass (m, d), (m,), (o, m), (o,)")
        if not all(np.isfinite(array).all() for array in (self.W1, self.b1, self.W2, self.b2)):
            raise UsageError("a weight is not finite; repair starts from a network with finite weights")

    @property
    def inputs(self) -> int:
        """d."""
        return self.W1.shape[1]

    @property
    def neurons(self) -> int:
        """m."""
        return self.W1.shape[0]

    @property
    def outputs(self) -> int:
        """o."""
        return self.W2.shape[0]

    def pre_activations(self, x: Array) -> Array:
        """v = x W1' + b1, (N, m)."""
        return x @ self.W1.T + self.b1

    def __call__(self, x: Array) -> Array:
        """Outputs (N, o) for inputs (N, d)."""
        return np.maximum(self.pre_activations(x), 0.0) @ self.W2.T + self.b2

    def graph(self) -> Graph:
        """The same network in normal form, for certifiers."""
        first, second = Dense.of(self.W1, self.b1), Dense.of(self.W2, self.b2)
        return Graph(
            (self.inputs,), (Node(first, (0,), "first"), Node(Relu(), (1,), "relu"), Node(second, (2,), "last"))
        )

    def scaled(self, factor: float) -> Shallow:
        """The network with f - b2 times `factor` >= 0, and so is its Lipschitz constant; the first layer shrinks."""
        return Shallow(factor * self.W1, factor * self.b1, self.W2, self.b2)


@dataclass(frozen=True, eq=False)
class Multipliers:
    """L = `lipschitz` with |f(x) - f(y)|_2 <= L |x - y|_2, and T: (m,), T > 0, its witness: M(L^2, T) >= 0."""

    lipschitz: float
    T: Array


def multipliers(net: Shallow) -> Multipliers:
    """LipSDP (Fazlyab et al. 2019) of a network, in floating point, to a relative gap of about 1e-6."""
    if net.inputs + net.neurons <= _INTERIOR:
        V = np.concatenate((net.W1, np.zeros((net.neurons, net.neurons))), axis=1)
        C = np.concatenate((np.zeros((net.outputs, net.inputs)), net.W2), axis=1)
        low, high = np.zeros(net.neurons), np.ones(net.neurons)
        found = interior_point.solve(Program(V, C, net.inputs, low, high, (net.neurons,)))
        rho, T = found.objective, found.multipliers
    else:
        witness = LipSDP().propose(net.graph(), "l2", None)
        rho, T = float(witness.arrays["metric"].max()), witness.arrays["multipliers"]
    return Multipliers(float(np.sqrt(rho)), np.maximum(T, _LEAST * T.max(initial=0.0)))


def lipschitz(net: Shallow) -> float:
    """The LipSDP value of a network, an estimate that is proved elsewhere."""
    return multipliers(net).lipschitz
