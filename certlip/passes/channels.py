"""Channels of images read with a stride and an offset, and the convolutions that add such readings up.

A shift-invariant selection of entries (the k-th entry of every pooling window of a channel, one channel of a slice) is
a *view*: pixel p of it is pixel starts + strides * p of one channel of an earlier value, zero where that lies outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from certlip.graph.kinds import Shape
from certlip.ops import Add, Conv
from certlip.passes.selection import Assembly, Numbers, Selection
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array


class View(NamedTuple):
    """One channel of a value (1, channels, *image), read at starts + strides * p for pixels p of `space`."""

    value: int
    channel: int
    starts: tuple[int, ...]
    strides: tuple[int, ...]
    space: Shape


class Channels:
    """Views by number."""

    def __init__(self, assembly: Assembly):
        self.assembly = assembly
        self.views: list[View] = []
        self._padded: list[bool] = []
        self._numbers: dict[View, int] = {}

    def padded(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Which of these views have pixels that stand for no entry at all."""
        return np.array([self._padded[i] for i in numbers.ravel()], dtype=bool).reshape(numbers.shape)

    def number(self, view: View, padded: bool = False) -> int:
        if view not in self._numbers:
            self._numbers[view] = len(self.views)
            self.views.append(view)
            self._padded.append(padded)
        return self._numbers[view]

    def whole(self, value: int) -> Numbers:
        """Numbers of the channels of a value, as they are."""
        _, channels, *space = self.assembly.shapes[value]
        still, ones = (0,) * len(space), (1,) * len(space)
        return np.array([self.number(View(value, c, still, ones, tuple(space))) for c in range(channels)])

    def read(self, chosen: Selection, exact: bool) -> Selection | None:
        """The views (n,) that make a selection of atoms of shape (n, *space), -1 for one without entries.

        None where they are no views; with `exact`, also where a view reaches beyond its image.
        """
        atoms, signs = chosen.terms, chosen.signs
        count, space = atoms.shape[0], atoms.shape[1:]
        if not atoms.size or not space:
            return None
        present = atoms >= 0
        used = present.reshape(count, -1).any(1)
        first = present.reshape(count, -1).argmax(1)

        def leading(array: NDArray) -> NDArray:
            """What an array says at the first entry that is present, for each view."""
            return array.reshape(count, -1)[np.arange(count), first].reshape(count, *(1,) * len(space))

        owners = self.assembly.owners(atoms)
        values = leading(owners)
        if (exact and not present[used].all()) or ((owners != values) | (signs != leading(signs)))[present].any():
            return None
        shapes = {int(value): self.assembly.shapes[value] for value in np.unique(values[used])}
        if any(len(shape) != len(space) + 2 or shape[0] != 1 for shape in shapes.values()):
            return None
        coordinates = np.zeros((1 + len(space), *atoms.shape), dtype=np.int64)
        extents = np.ones((len(space), *values.shape), dtype=np.int64)
        for value, shape in shapes.items():
            mine = used & (values.ravel() == value)
            inside = np.where(present[mine], self.assembly.within(value, atoms[mine]), 0)
            coordinates[:, mine] = np.unravel_index(inside, shape[1:])
            extents[:, mine] = np.reshape(shape[2:], (-1, *(1,) * (values.ndim)))
        channels = leading(coordinates[0])
        regular = coordinates[0] == channels
        covered = np.ones(atoms.shape, dtype=bool)
        starts, strides = [], []
        for axis, (n, position, extent) in enumerate(zip(space, coordinates[1:], extents, strict=True), 1):
            neighbours = np.delete(present, 0, axis) & np.delete(present, -1, axis)
            steps = np.diff(position, axis=axis)[neighbours]
            if not steps.size and n > 1:
                return None
            stride = int(steps[0]) if steps.size else 1
            if stride < 1:
                return None
            grid = stride * np.arange(n).reshape(-1, *(1,) * (len(space) - axis))
            origin = leading(position - grid)
            regular &= position == origin + grid
            covered &= (origin + grid >= 0) & (origin + grid < extent)
            starts.append(origin.ravel())
            strides.append(stride)
        if not regular[present].all() or (covered != present)[used].any():
            return None
        numbers = np.full(count, -1, dtype=np.int64)
        for i in np.flatnonzero(used):
            begin = tuple(int(start[i]) for start in starts)
            view = View(int(values.ravel()[i]), int(channels.ravel()[i]), begin, tuple(strides), space)
            numbers[i] = self.number(view, not present[i].all())
        return Selection(numbers, leading(signs).ravel())

    def value(self, chosen: Selection, name: str) -> int:
        """A value (1, n, *space) whose channels are these views with these signs."""
        return self.combine(chosen.terms[:, None], chosen.signs[:, None], name)

    def combine(self, numbers: Numbers, factors: Array, name: str = "") -> int:
        """A value (1, n, *space) with the sums over t of factors[:, t] * views[numbers[:, t]], both (n, terms).

        One convolution for each value and stride that is read, and their sum.
        """
        terms: dict[tuple[int, tuple[int, ...]], list[tuple[int, View, float]]] = {}
        for (row, t), number in np.ndenumerate(numbers):
            view = self.views[number]
            terms.setdefault((view.value, view.strides), []).append((row, view, float(factors[row, t])))
        parts = []
        for (value, _), part in sorted(terms.items()):
            if not self._is_whole(len(numbers), part):
                value = self.assembly.add(self._convolution(len(numbers), part), value, name=name)
            parts.append(value)
        return parts[0] if len(parts) == 1 else self.assembly.add(Add(), *parts, name=name)

    def _is_whole(self, rows: int, terms: Sequence[tuple[int, View, float]]) -> bool:
        """True where the terms are all channels of one value as they are."""
        first = terms[0][1]
        still, ones = (0,) * len(first.space), (1,) * len(first.space)
        everything = [(c, View(first.value, c, still, ones, first.space), 1.0) for c in range(rows)]
        return self.assembly.shapes[first.value] == (1, rows, *first.space) and list(terms) == everything

    def _convolution(self, rows: int, terms: Sequence[tuple[int, View, float]]) -> Conv:
        """Row r of the result adds the views of the terms (r, view, factor), all of one value and stride."""
        value, _, _, strides, space = terms[0][1]
        size = self.assembly.shapes[value][1:]
        starts = np.array([view.starts for _, view, _ in terms])
        low = np.minimum(starts.min(0), 0)
        image, steps, out = np.array(size[1:]), np.array(strides), np.array(space)
        # zeros at the kernel's end leave exactly `space` pixels where it would slide further
        window = np.maximum(starts.max(0) - low + 1, image - low - steps * out + 1)
        after = np.maximum(steps * (out - 1) + window + low - image, 0)
        groups = _groups(rows, size[0], {(row, view.channel) for row, view, _ in terms})
        kernel = np.zeros((rows, size[0] // groups, *window))
        for (row, view, factor), start in zip(terms, starts - low, strict=True):
            kernel[(row, view.channel % kernel.shape[1], *start)] += factor
        pads = tuple((int(a), int(b)) for a, b in zip(-low, after, strict=True))
        ones = (1,) * len(space)
        return Conv(Ball.exact(kernel), Ball.exact(0.0), np.zeros(()), size, strides, pads, ones, groups)


def _groups(rows: int, channels: int, pairs: set[tuple[int, int]]) -> int:
    """The largest number of groups of a convolution that connects these pairs (output row, input channel)."""
    common = gcd(rows, channels)
    for groups in (g for g in range(common, 1, -1) if common % g == 0):
        if all(channel * groups // channels == row * groups // rows for row, channel in pairs):
            return groups
    return 1
