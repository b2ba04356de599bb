"""Which entries of earlier values a rearranged value consists of, and the nodes that add chosen entries up.

While a graph grows, every entry of every value has a number, its *atom*. Reshapes, slices, gathers, concatenations and
changes of sign make no new numbers: their results are a selection of atoms with signs. So two spellings of the same
pair of entries are seen to be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Node, Operator
from certlip.graph.kinds import Shape
from certlip.ops import Concat, Dense, Reindex, Scale
from certlip.rigor.rounding import Array

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Selection:
    """The array signs * terms, entry by entry: terms by their numbers (those of atoms here), -1 for one left out, and
    signs, +1 or -1, both arrays of the selection's shape."""

    terms: Numbers
    signs: Array

    def __getitem__(self, key: Any) -> Selection:
        return Selection(self.terms[key], self.signs[key])

    def map(self, move: Callable[[NDArray], NDArray]) -> Selection:
        """Apply a rearrangement (reshape, transpose) to terms and signs alike."""
        return Selection(move(self.terms), move(self.signs))

    def take(self, index: Numbers) -> Selection:
        """Entries by their flat positions, -1 for one left out."""
        taken = self.map(lambda array: array.ravel()[np.maximum(index, 0)])
        return Selection(np.where(index >= 0, taken.terms, -1), np.where(index >= 0, taken.signs, 1.0))

    @staticmethod
    def concatenate(parts: Sequence[Selection], axis: int) -> Selection:
        return Selection(*(np.concatenate([getattr(part, key) for part in parts], axis) for key in ("terms", "signs")))


class Assembly:
    """The nodes of a graph under construction, and the atoms of their results."""

    def __init__(self, input_shape: Shape):
        self.nodes: list[Node] = []
        self.shapes = [input_shape]
        self._starts = [0, prod(input_shape)]

    def add(self, operator: Operator, *values: int, name: str = "") -> int:
        shape = operator.shape(*(self.shapes[value] for value in values))
        self.nodes.append(Node(operator, values, name))
        self.shapes.append(shape)
        self._starts.append(self._starts[-1] + prod(shape))
        return len(self.nodes)

    def entries(self, value: int) -> Numbers:
        """The atoms of a value, in its shape."""
        shape = self.shapes[value]
        return self._starts[value] + np.arange(prod(shape), dtype=np.int64).reshape(shape)

    def owners(self, atoms: Numbers) -> NDArray[np.intp]:
        """The value that each atom belongs to."""
        return np.searchsorted(self._starts, atoms, side="right") - 1

    def within(self, value: int, atoms: Numbers) -> Numbers:
        """Flat positions of a value's atoms in it."""
        return atoms - self._starts[value]

    def fresh(self, value: int) -> Selection:
        """A value as the selection of all its own entries."""
        return Selection(self.entries(value), np.ones(self.shapes[value]))

    def gather(self, chosen: Selection, name: str = "") -> int:
        """A value with these entries, in this shape; zero where one is left out."""
        atoms, present = chosen.terms, chosen.terms >= 0
        sources = [int(value) for value in np.unique(self.owners(atoms[present]))]
        if len(sources) == 1:
            source, index = sources[0], self.within(sources[0], atoms)
        else:
            flat = [self.add(Reindex.through(self.shapes[i], np.ravel), i, name=name) for i in sources]
            starts = np.array([self._starts[i] for i in sources])
            offsets = np.cumsum([0, *(prod(self.shapes[i]) for i in sources)])[:-1]
            source = self.add(Concat(0), *flat, name=name)
            place = np.searchsorted(starts, atoms, side="right") - 1
            index = atoms - starts[place] + offsets[place]
        index = np.where(present, index, -1)
        if index.shape != self.shapes[source] or (index.ravel() != np.arange(prod(self.shapes[source]))).any():
            source = self.add(Reindex.of(self.shapes[source], index), source, name=name)
        if (chosen.signs[present] > 0).all():
            return source
        return self.add(Scale.of(index.shape, chosen.signs), source, name=name)

    def combine(self, atoms: Numbers, factors: Array, name: str = "") -> int:
        """A value of shape (n, 1) with the sums over t of factors[:, t] * atoms[:, t], both of shape (n, terms)."""
        rows = self.gather(Selection(atoms, np.ones(atoms.shape)), name)
        weights = factors[:1]
        if (factors != weights).any():
            rows = self.add(Scale.of(atoms.shape, factors), rows, name=name)
            weights = np.ones_like(weights)
        return self.add(Dense.of(weights, lead=atoms.shape[:1]), rows, name=name)

    def finish(self, output: int) -> tuple[Node, ...]:
        """The nodes that lead to a value, renumbered; that value is the last."""
        needed = {output}
        for value in range(output, 0, -1):
            if value in needed:
                needed.update(self.nodes[value - 1].inputs)
        kept = [value for value in range(1, output + 1) if value in needed]
        order = {0: 0} | {old: new for new, old in enumerate(kept, 1)}
        nodes = (self.nodes[value - 1] for value in kept)
        return tuple(Node(node.operator, tuple(order[i] for i in node.inputs), node.name) for node in nodes)


def rearranged(operator: Operator, inputs: Sequence[Selection], own: Selection) -> Selection:
    """The operator's result as a selection: of its inputs' entries where it only moves them or turns their sign, of
    its `own` where it computes."""
    if isinstance(operator, Concat):
        return Selection.concatenate(inputs, operator.axis)
    if isinstance(operator, Reindex):
        moved = inputs[0].take(operator.index)
        copied = (operator.index >= 0) & (operator.bias.magnitude() == 0)
        return Selection(np.where(copied, moved.terms, own.terms), np.where(copied, moved.signs, own.signs))
    if isinstance(operator, Scale) and not (operator.weight.rad.any() or operator.bias.magnitude().any()):
        turns = operator.weight.mid
        return Selection(inputs[0].terms, inputs[0].signs * turns) if (np.abs(turns) == 1.0).all() else own
    return own
