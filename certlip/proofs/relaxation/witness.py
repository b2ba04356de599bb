"""Forests of case distinctions as the named arrays of a certificate, and their proof.

`duties`: (tree, query, clause), one row for each clause that a tree is about, sorted by tree. Every clause of every
query must have exactly one. `nodes`: all nodes of all trees in preorder, the value that is split or -1 at a leaf; inner
nodes come before their branches, <= first. `entries` and `thresholds`: one number for each inner node in this order.

So the end of a tree is where its last branch ends, and any `nodes` are a sequence of trees or are refused: that leaves
cover the domain needs no proof. What refutes a leaf stands in further arrays, by leaf in this order, then by clause in
the order of the duties (a *row*):

    weights       of the constraints, for clauses of more than one; that of a single constraint is 1
    multipliers   one for each split of the way to the leaf, from the root, that is not of the input
    lines         (tree, position, entry) of lower lines whose slopes are chosen, sorted by tree
    slopes        for each row those of its tree's lines; NaN for the slope that the proof chooses itself

Arrays may be left out where they would be empty; thresholds and multipliers also where all are zero. Whatever the
numbers are, `certlip.proofs.relaxation.branches` proves what they imply; here only their places are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from certlip.errors import CertificateRejected
from certlip.graph import Graph, Pointwise
from certlip.proofs.query import Query
from certlip.proofs.relaxation.branches import Frames, Leaf, Split, Tree, refutes
from certlip.rigor.rounding import Array

ARRAYS = ("duties", "nodes", "entries", "thresholds", "weights", "multipliers", "lines", "slopes")
MAX_NUMBERS = 2**26
"""In all arrays together."""

_DEPTH = 2**12  # splits on the way to a leaf
_STEPS = 2**28  # the same, over all leaves
_FLOATS = 2**22  # that all values of a batch of rows may fill
_LEAVES = 256  # in a batch


@np.errstate(all="ignore")  # what overflows proves nothing
def prove(queries: Sequence[Query], arrays: Mapping[str, Array], slacks: Sequence[Array] | None = None) -> None:
    """Prove all queries, or raise CertificateRejected with the reason.

    slacks: for each query an array (m,) of finite numbers >= 0; then some g_k of a clause exceeds slack_k everywhere.
    """
    forest = _Forest(arrays)
    for number, (which, clauses) in enumerate(_duties(forest, queries)):
        query, frames = queries[which], Frames()
        for part in forest.parts(number, which, query, clauses):
            proved = refutes(query, part, None if slacks is None else slacks[which], frames)
            if not proved.all():
                path = part.leaves[int(np.flatnonzero(~proved)[0])].path
                raise CertificateRejected(
                    f"the witness does not exclude the unsafe outputs of a case that {len(path)} splits lead to"
                )
    forest.require_end()


class _Forest:
    """The arrays, read from their beginnings."""

    def __init__(self, arrays: Mapping[str, Array]):
        unknown = sorted(set(arrays) - set(ARRAYS))
        if unknown:
            raise CertificateRejected(f"the array '{unknown[0][:40]}' is unknown to this checker")
        if sum(array.size for array in arrays.values()) > MAX_NUMBERS:
            raise CertificateRejected(f"the witness holds more than {MAX_NUMBERS} numbers")
        empty = np.zeros(0)
        self.duties = _table(arrays.get("duties", np.zeros((0, 3))), "duties")
        self._lines = _table(arrays.get("lines", np.zeros((0, 3))), "lines")
        self._nodes = _integers(_flat(arrays.get("nodes", empty), "nodes") + 1.0, "nodes") - 1
        self._entries = _integers(_flat(arrays.get("entries", empty), "entries"), "entries")
        inner = int((self._nodes >= 0).sum())
        self._thresholds = _flat(arrays.get("thresholds", np.zeros(inner)), "thresholds")
        if not len(self._entries) == len(self._thresholds) == inner:
            raise CertificateRejected("the splits of the witness lack entries or thresholds, or have too many")
        if not np.isfinite(self._thresholds).all():
            raise CertificateRejected("a threshold of the witness is not finite")
        self._numbers = {
            "weights": _weights(arrays.get("weights", empty), "weights"),
            "multipliers": _weights(arrays["multipliers"], "multipliers") if "multipliers" in arrays else None,
            "slopes": _flat(arrays.get("slopes", empty), "slopes"),
        }
        self._read = dict.fromkeys((*self._numbers, "nodes", "splits", "lines"), 0)
        self._steps = 0

    def parts(self, number: int, which: int, query: Query, clauses: tuple[int, ...]) -> Iterator[Tree]:
        """The next tree, in parts whose proof takes bounded memory: some leaves with some of the clauses."""
        entries = self._lines_of(number, query.graph)
        rows = max(1, _FLOATS // max(1, sum(map(prod, query.graph.shapes))))
        most = min(_LEAVES, max(1, rows // len(clauses)))
        leaves: list[Leaf] = []

        def trees() -> Iterator[Tree]:
            for start in range(0, len(clauses), rows):
                some = slice(start, start + rows)
                cut = tuple(
                    Leaf(leaf.path, leaf.weights[some], leaf.multipliers[some], leaf.slopes[some]) for leaf in leaves
                )
                yield Tree(which, clauses[some], cut, entries)

        for path in self._paths(query.graph):
            leaves.append(self._leaf(path, query, clauses, len(entries)))
            if len(leaves) == most:
                yield from trees()
                leaves = []
        if leaves:
            yield from trees()

    def _paths(self, graph: Graph) -> Iterator[tuple[Split, ...]]:
        """The ways to the leaves of the next tree."""
        path: list[Split] = []
        while True:
            value = int(self._take("nodes", self._nodes, 1)[0])
            if value >= 0:
                if value >= len(graph.shapes) or len(path) >= _DEPTH:
                    raise CertificateRejected(f"a split of value {value} leaves the graph, or has too many before it")
                at = self._read["splits"]
                self._read["splits"] += 1
                entry = int(self._entries[at])
                if entry >= prod(graph.shapes[value]):
                    raise CertificateRejected(f"value {value} has no entry {entry} that a split could be of")
                path.append((value, entry, float(self._thresholds[at]), -1))
                continue
            self._steps += len(path)
            if self._steps > _STEPS:
                raise CertificateRejected("the trees of the witness are too deep to be checked")
            yield tuple(path)
            while path and path[-1][3] > 0:
                path.pop()
            if not path:
                return
            path[-1] = (*path[-1][:3], 1)

    def _leaf(self, path: tuple[Split, ...], query: Query, clauses: tuple[int, ...], lines: int) -> Leaf:
        inner = sum(split[0] != 0 for split in path)
        weights, multipliers, slopes = [], [], []
        for clause in clauses:
            size = len(query.clauses[clause])
            weights.append(_ONE if size == 1 else self._numbers_of("weights", size))
            multipliers.append(self._numbers_of("multipliers", inner))
            slopes.append(self._numbers_of("slopes", lines))
        return Leaf(path, tuple(weights), tuple(multipliers), tuple(slopes))

    def _numbers_of(self, name: str, count: int) -> Array:
        known = self._numbers[name]
        return np.zeros(count) if known is None else self._take(name, known, count)

    def _take(self, name: str, array: NDArray, count: int) -> NDArray:
        start = self._read[name]
        if start + count > len(array):
            raise CertificateRejected(f"the witness ends too early: it lacks {name}")
        self._read[name] = start + count
        return array[start : start + count]

    def _lines_of(self, number: int, graph: Graph) -> NDArray[np.int64]:
        """(position, entry) of the lines of one tree."""
        start = self._read["lines"]
        end = start + int(np.searchsorted(self._lines[start:, 0], number, "right"))
        found = self._lines[start:end]
        self._read["lines"] = end
        if (found[:, 0] != number).any():
            raise CertificateRejected("the lines of the witness are not in the order of its trees")
        for _, position, entry in found.tolist():
            if position >= len(graph.nodes) or not isinstance(graph.nodes[position].operator, Pointwise):
                raise CertificateRejected(f"the node {position} has no lines whose slopes could be chosen")
            if entry >= prod(graph.shapes[position + 1]):
                raise CertificateRejected(f"the node {position} has no entry {entry} whose slope could be chosen")
        return found[:, 1:]

    def require_end(self) -> None:
        """Raises CertificateRejected where anything is left."""
        lengths = {name: len(array) for name, array in self._numbers.items() if array is not None}
        lengths |= {"nodes": len(self._nodes), "lines": len(self._lines)}
        left = [name for name, length in lengths.items() if self._read[name] != length]
        if left:
            raise CertificateRejected(f"the witness holds more {left[0]} than its trees use")


_ONE = np.ones(1)


def _duties(forest: _Forest, queries: Sequence[Query]) -> list[tuple[int, tuple[int, ...]]]:
    """The query and the clauses of each tree. All clauses of all queries are covered, none twice."""
    trees: list[tuple[int, list[int]]] = []
    for tree, which, clause in forest.duties.tolist():
        if tree == len(trees):
            trees.append((which, []))
        if tree != len(trees) - 1 or trees[-1][0] != which:
            raise CertificateRejected("the duties of the witness are not in the order of its trees, or mix queries")
        trees[-1][1].append(clause)
    found = sorted((which, clause) for which, clauses in trees for clause in clauses)
    wanted = [(which, clause) for which, query in enumerate(queries) for clause in range(len(query.clauses))]
    if found != wanted:
        raise CertificateRejected("the trees of the witness are not about all cases of the claim, each of them once")
    return [(which, tuple(clauses)) for which, clauses in trees]


def _flat(array: Array, name: str) -> Array:
    if array.ndim != 1:
        raise CertificateRejected(f"the array '{name}' of the witness is no list of numbers")
    return array


def _weights(array: Array, name: str) -> Array:
    if not (np.isfinite(_flat(array, name)).all() and (array >= 0).all()):
        raise CertificateRejected(f"the {name} of the witness are not all finite and at least 0")
    return array


def _table(array: Array, name: str) -> NDArray[np.int64]:
    """Rows of three indices."""
    if array.ndim != 2 or array.shape[1] != 3:
        raise CertificateRejected(f"the array '{name}' of the witness has not three columns")
    return _integers(array, name)


def _integers(array: Array, name: str) -> NDArray[np.int64]:
    if not ((array >= 0) & (array < 2.0**53) & (array == np.floor(array))).all():  # False for NaN
        raise CertificateRejected(f"the {name} of the witness are not all integers in their range")
    return array.astype(np.int64)
