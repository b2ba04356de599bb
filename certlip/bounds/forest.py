"""Trees of splits while they grow; finished, they are what `certlip.proofs.relaxation.branches` proves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.proofs.relaxation.branches import Leaf, Split, Tree
from certlip.rigor.rounding import Array


@dataclass
class _Inner:
    value: int
    entry: int
    threshold: float
    below: int
    above: int


class GrowingTree:
    """Nodes by number; node 0 is the root. A node is open, split or closed with what refutes it."""

    def __init__(self, query: int, clauses: tuple[int, ...]):
        self.query, self.clauses = query, clauses
        self._nodes: list[_Inner | Leaf | None] = [None]
        self._parents: list[tuple[int, int]] = [(-1, 0)]

    def __len__(self) -> int:
        return len(self._nodes)

    def split(self, node: int, value: int, entry: int, threshold: float) -> tuple[int, int]:
        """The numbers of the two branches, v <= threshold first."""
        below, above = len(self._nodes), len(self._nodes) + 1
        self._nodes[node] = _Inner(value, entry, threshold, below, above)
        self._nodes += [None, None]
        self._parents += [(node, -1), (node, 1)]
        return below, above

    def path(self, node: int) -> tuple[Split, ...]:
        """The splits on the way to a node, from the root."""
        steps: list[Split] = []
        while (parent := self._parents[node])[0] >= 0:
            inner = self._nodes[parent[0]]
            if not isinstance(inner, _Inner):
                raise ValueError("a parent is always split")
            steps.append((inner.value, inner.entry, inner.threshold, parent[1]))
            node = parent[0]
        return tuple(reversed(steps))

    def close(
        self,
        node: int,
        weights: tuple[Array, ...],
        multipliers: tuple[Array, ...] | None = None,
        slopes: tuple[Array, ...] | None = None,
    ) -> Leaf:
        """Refuted, by these numbers for each clause; none for multipliers or slopes: zeros, or the default lines."""
        path = self.path(node)
        inner = sum(split[0] != 0 for split in path)
        count = len(self.clauses)
        leaf = Leaf(
            path, weights, multipliers or (np.zeros(inner),) * count, slopes or (np.zeros(0),) * count
        )
        self._nodes[node] = leaf
        return leaf

    def finished(self, entries: NDArray[np.int64] | None = None) -> Tree:
        """The tree, its leaves in preorder. Raises ValueError while a node is open."""
        leaves: list[Leaf] = []
        stack = [0]
        while stack:
            node = self._nodes[stack.pop()]
            if node is None:
                raise ValueError("a node is still open")
            if isinstance(node, Leaf):
                leaves.append(node)
            else:
                stack += [node.above, node.below]
        return Tree(self.query, self.clauses, tuple(leaves), np.zeros((0, 2), int) if entries is None else entries)
