"""A dense chain as plain arrays: what the ADMM moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from certlip.graph import Graph, Node, Pointwise
from certlip.ops import Dense, LeakyRelu, Relu
from certlip.solvers import LipSDP, interior_point
from certlip.solvers.problem import Array

TOLERANCE = 1e-9
"""The relative gap to which LipSDP is solved."""


@dataclass(frozen=True, eq=False)
class Chain:
    """``f(x) = W_N phi_{N-1}(... phi_1(W_1 x + b_1) ...) + b_N`` with N >= 2.

    ``weights``: N matrices (outputs, inputs) that fit each other; ``biases``: N vectors; ``activations``: N - 1
    operators that act entry by entry. Raises ``ValueError`` when the arrays do not describe such a network.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activations: tuple[Pointwise, ...]

    def __post_init__(self) -> None:
        for name in ("weights", "biases"):
            object.__setattr__(self, name, tuple(np.array(a, dtype=np.float64) for a in getattr(self, name)))
        object.__setattr__(self, "activations", tuple(self.activations))
        if len(self.weights) < 2 or len(self.activations) != len(self.weights) - 1:
            raise ValueError("a chain has two layers or more, and an activation between each and the next")
        if any(W.ndim != 2 for W in self.weights) or any(V.shape[1] != W.shape[0] for W, V in pairwise(self.weights)):
            raise ValueError(f"matrices of shapes {[W.shape for W in self.weights]} are no chain")
        if [b.shape for b in self.biases] != [W.shape[:1] for W in self.weights]:
            raise ValueError("every layer has one bias for each of its outputs")

    def __call__(self, x: Array) -> Array:
        """The outputs (n, outputs) for rows x (n, inputs)."""
        z = np.asarray(x, dtype=np.float64)
        for W, b, phi in zip(self.weights, self.biases, self.activations, strict=False):
            z = phi.value(z @ W.T + b)
        return z @ self.weights[-1].T + self.biases[-1]

    @cached_property
    def slopes(self) -> tuple[tuple[Array, Array], ...]:
        """``(a, b)`` of each hidden layer, vectors of its width."""
        pairs = ((*phi.slopes(), b.shape) for phi, b in zip(self.activations, self.biases, strict=False))
        return tuple((np.broadcast_to(a, shape).copy(), np.broadcast_to(b, shape).copy()) for a, b, shape in pairs)

    @cached_property
    def wide_slopes(self) -> tuple[tuple[Array, Array], ...]:
        """``[min(a, 0), max(b, 0)]``: the slopes for which the semidefinite step is stated."""
        return tuple((np.minimum(a, 0.0), np.maximum(b, 0.0)) for a, b in self.slopes)

    def with_weights(self, weights: tuple[Array, ...]) -> Chain:
        """The same biases and activations."""
        return replace(self, weights=weights)

    def program(self, slopes: tuple[tuple[Array, Array], ...] | None = None) -> LipSDP:
        """The LipSDP of the chain, for given slopes or its own."""
        slopes = self.slopes if slopes is None else slopes
        inputs, widths = self.weights[0].shape[1], [b.size for b in self.biases[:-1]]
        neurons = sum(widths)
        V, C = np.zeros((neurons, inputs + neurons)), np.zeros((self.biases[-1].size, inputs + neurons))
        row = column = 0
        for W in self.weights[:-1]:
            V[row : row + W.shape[0], column : column + W.shape[1]] = W
            row, column = row + W.shape[0], column + W.shape[1]
        C[:, column:] = self.weights[-1]
        a, b = (np.concatenate(ends) for ends in zip(*slopes, strict=True))
        return LipSDP(V, C, inputs, a, b, tuple(widths))

    def squared_bound(self) -> float:
        """The squared Lipschitz bound of LipSDP in floating point: close to what certlip proves, and no proof."""
        return interior_point.solve(self.program(), tolerance=TOLERANCE).objective

    def multipliers(self) -> tuple[float, tuple[Array, ...]]:
        """``(rho, T)`` of LipSDP for `wide_slopes`: strictly feasible in floating point, T by hidden layer."""
        problem = self.program(self.wide_slopes)
        found = interior_point.solve(problem, tolerance=TOLERANCE)
        return found.objective, tuple(found.multipliers[block] for block in problem.blocks)

    def scaled(self, factor: float) -> Chain:
        """A chain that computes ``factor f``: by the last layer, or evenly where all activations are homogeneous."""
        if factor > 0 and all(isinstance(phi, (Relu, LeakyRelu)) for phi in self.activations):
            share = factor ** (1.0 / len(self.weights))
            biases = tuple(share ** (k + 1) * b for k, b in enumerate(self.biases))
            return replace(self, weights=tuple(share * W for W in self.weights), biases=biases)
        weights, biases = (*self.weights[:-1], factor * self.weights[-1]), (*self.biases[:-1], factor * self.biases[-1])
        return replace(self, weights=weights, biases=biases)

    def graph(self) -> Graph:
        """The chain as a graph, which certlip bounds."""
        nodes: list[Node] = []
        for k, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            nodes.append(Node(Dense.of(W, b), (len(nodes),), f"dense {k + 1}"))
            if k < len(self.activations):
                nodes.append(Node(self.activations[k], (len(nodes),), f"activation {k + 1}"))
        return Graph((self.weights[0].shape[1],), tuple(nodes))
