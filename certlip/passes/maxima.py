"""Maxima as affine maps and absolute values: max(a, b) = (a + b) / 2 + |a - b| / 2.

A window of k entries is a tournament of k - 1 comparators; the comparators of one round over all windows are one Abs
node, and the rest is affine with factors +-1/2. Exact over the reals, but for the padded windows of images (below).

*Shared comparators.* min(a, b) = -max(-a, -b) needs the same |a - b|. Entries are followed through reshapes, slices,
concatenations and changes of sign to where they were computed, and each unordered pair gets one comparator. So a
semidefinite bound knows that (max, min) of a pair is as long as the pair: for D max = (s + d) / 2, D min = (s - d) / 2
with s = Da + Db and |d| <= |Da - Db|, the squares sum up to (s^2 + d^2) / 2 <= Da^2 + Db^2.

*Images.* Where the k-th entries of all windows of a channel make a shift-invariant picture of one channel (pooling over
space, maxima over channels), all affine maps are convolutions with fixed kernels, and so are rearrangements of whole
channels. Other maxima gather their entries (Reindex) and add them up (Dense).

*Padding.* Cells in the padding of a window are left out of its maximum, while a convolution reads zero there. That
changes values at the border, not what slopes admit: with 0 for the difference of a cell left out, max(a, nothing) = a
moves by Da = (Da + 0) / 2 + d / 2 with d = Da, which the slopes [-1, 1] of |a - 0| admit; nothing at all moves by
0. Here d is not the difference of a function of a - 0: the minimum needs d = -Da. So a comparator of which a cell
may be missing is shared only between maxima of the same entries with the same signs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Graph, Node
from certlip.graph.kinds import Shape
from certlip.ops import Abs, Concat, MaxPool, Reindex, Scale
from certlip.passes.channels import Channels
from certlip.passes.normal_form import normal_form
from certlip.passes.selection import Assembly, Numbers, Selection, rearranged
from certlip.rigor.rounding import Array

MAX_WINDOW = 64
"""Largest number of entries of one window that is written out as comparators."""


def maxima_obstacle(graph: Graph) -> str | None:
    """Why `without_maxima` refuses the graph, or None."""
    for node in graph.nodes:
        if isinstance(node.operator, MaxPool):
            entries = int((node.operator.index >= 0).sum(-1).max(initial=0))
            if entries > MAX_WINDOW:
                return f"node '{node.name}' takes the maximum of {entries} entries, more than the limit of {MAX_WINDOW}"
    return None


def without_maxima(graph: Graph, exact: bool = False) -> Graph:
    """A graph in normal form without MaxPool nodes whose slope conditions admit all differences of the original.

    For any two inputs there are slopes in the ranges of the result's activations under which their difference moves
    through the result's nodes to the difference of the original's outputs: what is proved of the result from the
    slopes alone, for all inputs, holds for the original. With `exact` the result is the same function over the reals,
    as claims about values or about a region need, and padded windows are gathered entry by entry.

    The graph itself where it has no maxima. Raises ValueError where `maxima_obstacle` gives a reason.
    """
    if not any(isinstance(node.operator, MaxPool) for node in graph.nodes):
        return graph
    reason = maxima_obstacle(graph)
    if reason:
        raise ValueError(reason)
    rewriting = _Rewriting(graph.input_shape, exact)
    for node in graph.nodes:
        rewriting.append(node)
    nodes = rewriting.assembly.finish(rewriting.values[-1])
    return normal_form(replace(graph, nodes=nodes))


class _Rewriting:
    """For each value of the original: its index in the assembly, the entries that it selects there, and these once
    more as far as only signs were changed (a reshape may have made the image whose channels can be read)."""

    def __init__(self, input_shape: Shape, exact: bool):
        self.assembly = Assembly(input_shape)
        self.exact = exact
        self.channels = Channels(self.assembly)
        self.of_channels = _Comparators(self.assembly, self.channels)
        self.of_entries = _Comparators(self.assembly, _Entries(self.assembly))
        self.values = [0]
        self.selections = [self.assembly.fresh(0)]
        self.turned = [self.assembly.fresh(0)]

    def append(self, node: Node) -> None:
        if isinstance(node.operator, MaxPool):
            value, selection = self._maximum(node, node.operator)
        else:
            value = self.assembly.add(node.operator, *(self.values[i] for i in node.inputs), name=node.name)
            inputs = [self.selections[i] for i in node.inputs]
            selection = rearranged(node.operator, inputs, self.assembly.fresh(value))
            if isinstance(node.operator, (Reindex, Concat)) and _is_image(self.assembly.shapes[value]):
                views = self.channels.read(selection[0], exact=True)  # whole channels are moved by convolutions
                value = value if views is None else self.channels.value(views, node.name)
        turned = self.assembly.fresh(value)
        if isinstance(node.operator, Scale):
            turned = rearranged(node.operator, [self.turned[node.inputs[0]]], turned)
        self.values.append(value)
        self.selections.append(selection)
        self.turned.append(turned)

    def _maximum(self, node: Node, pool: MaxPool) -> tuple[int, Selection]:
        (source,) = node.inputs
        *shape, entries = pool.index.shape
        resolved = self.selections[source].take(pool.index)
        if _is_image(tuple(shape)):
            for chosen in (resolved, self.turned[source].take(pool.index)):
                # one view for each channel and each entry of its windows
                stacked = chosen.map(lambda array: np.moveaxis(array[0], -1, 1).reshape(-1, *shape[2:]))
                views = self.channels.read(stacked, self.exact)
                if views is not None:
                    windows = views.map(lambda array: array.reshape(-1, entries))
                    value = self.channels.value(self.of_channels.largest(windows, node.name), node.name)
                    return value, self.assembly.fresh(value)
        windows = resolved.map(lambda array: array.reshape(-1, entries))
        selection = self.of_entries.largest(windows, node.name).map(lambda array: array.reshape(shape))
        return self.assembly.gather(selection, node.name), selection


def _is_image(shape: Shape) -> bool:
    return len(shape) >= 3 and shape[0] == 1


class _Terms(Protocol):
    """What comparators compare, known by numbers: single entries, or views of channels."""

    def combine(self, numbers: Numbers, factors: Array, name: str) -> int:
        """The value with the sums over t of factors[:, t] times the terms numbers[:, t]."""

    def whole(self, value: int) -> Numbers:
        """Numbers of the terms that such a value consists of."""

    def padded(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Which of them may stand for no entry at all."""


class _Entries:
    """Single entries, numbered by their atoms."""

    def __init__(self, assembly: Assembly):
        self.combine = assembly.combine
        self._assembly = assembly

    def whole(self, value: int) -> Numbers:
        return self._assembly.entries(value).ravel()

    def padded(self, numbers: Numbers) -> NDArray[np.bool_]:
        return np.zeros(numbers.shape, dtype=bool)


class _Comparators:
    """Tournaments whose comparators are formed once for each pair of terms."""

    def __init__(self, assembly: Assembly, terms: _Terms):
        self._assembly, self._terms = assembly, terms
        self._distances: dict[tuple, int] = {}  # |a - b| / 2
        self._maxima: dict[tuple, int] = {}

    def largest(self, windows: Selection, name: str) -> Selection:
        """The largest of each row of signed terms (windows, entries)."""
        order = np.argsort(windows.terms < 0, axis=1, kind="stable")  # those left out come last
        left = windows.map(lambda array: np.take_along_axis(array, order, 1))
        while left.terms.shape[1] > 1:
            paired = left.terms.shape[1] // 2 * 2
            left = Selection.concatenate(
                [self._larger(left[:, 0:paired:2], left[:, 1:paired:2], name), left[:, paired:]], 1
            )
        return left[:, 0]

    def _larger(self, one: Selection, other: Selection, name: str) -> Selection:
        """The larger of s a and t b, pair by pair; where b is left out, or the same, that is s a."""
        contested = (other.terms >= 0) & ((one.terms != other.terms) | (one.signs != other.signs))
        swap = (one.terms > other.terms)[contested]
        a, b = _in_order(swap, one.terms[contested], other.terms[contested])
        s, t = _in_order(swap, one.signs[contested], other.signs[contested])
        # a distance knows the pair up to order and common sign; where an entry may be missing, the sign counts
        # (a winner that stands for nothing somewhere never leaves its tournament, where its sign is +)
        orientation = np.where(self._terms.padded(a) | self._terms.padded(b), s, 0.0)
        pairs = list(zip(a.tolist(), b.tolist(), (s * t).tolist(), orientation.tolist(), strict=True))
        fresh = _first_of_each(pairs, self._distances)
        if len(fresh):
            halves = np.stack([np.full(len(fresh), 0.5), -0.5 * (s * t)[fresh]], 1)
            difference = self._terms.combine(np.stack([a, b], 1)[fresh], halves, name)
            distance = self._assembly.add(Abs(), difference, name=name)
            self._distances.update(zip((pairs[i] for i in fresh), self._terms.whole(distance).tolist(), strict=True))
        d = np.array([self._distances[pair] for pair in pairs], dtype=np.int64)
        contests = list(zip(pairs, s.tolist(), strict=True))
        fresh = _first_of_each(contests, self._maxima)
        if len(fresh):
            factors = np.stack([0.5 * s, 0.5 * t, np.ones(len(s))], 1)[fresh]
            winner = self._terms.combine(np.stack([a, b, d], 1)[fresh], factors, name)
            self._maxima.update(zip((contests[i] for i in fresh), self._terms.whole(winner).tolist(), strict=True))
        terms, signs = one.terms.copy(), one.signs.copy()
        terms[contested] = [self._maxima[contest] for contest in contests]
        signs[contested] = 1.0
        return Selection(terms, signs)


def _in_order(swap: NDArray[np.bool_], one: NDArray, other: NDArray) -> tuple[NDArray, NDArray]:
    return np.where(swap, other, one), np.where(swap, one, other)


def _first_of_each(keys: list[tuple], known: dict[tuple, int]) -> Numbers:
    """Positions of keys that are not known, one for each."""
    first: dict[tuple, int] = {}
    for i, key in enumerate(keys):
        if key not in known:
            first.setdefault(key, i)
    return np.array(list(first.values()), dtype=np.int64)
