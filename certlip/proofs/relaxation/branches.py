"""Proofs by distinction of cases: binary trees of splits, each leaf refuted by one linear bound.

Theorem. Let a query be as in `certlip.proofs.query`. A tree splits its domain at v_j <= threshold or v_j >= threshold,
v the network's input or any other value, so every x lies in a leaf. On a leaf let weights w >= 0 be given for each
clause K that the tree is about. If sum_k w_k g_k(x) > 0 for all x of the leaf, then g_k(x) > 0 for some k of K, and K
does not make x unsafe. If every clause has a tree and that holds for all leaves, the query is proved.

A tree is stored in preorder, an inner node before its two branches (<= first), so any array of splits is a tree or is
refused: nothing needs to be said about leaves covering the domain. Slopes of lines, weights and multipliers of the cuts
are free; what they prove is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Pointwise
from certlip.proofs.query import Query
from certlip.proofs.relaxation.backward import Cuts, lower_bounds
from certlip.proofs.relaxation.cells import cells_of
from certlip.proofs.relaxation.frame import Frame, offsets_charge
from certlip.proofs.relaxation.lines import lines
from certlip.rigor.rounding import Array, inflate

Split = tuple[int, int, float, int]
"""(value, entry, threshold, sign): sign (v[entry] - threshold) >= 0."""

_ROWS = 256  # leaves that are proved at a time



@dataclass(frozen=True, eq=False)
class Leaf:
    """One leaf with the clauses that it refutes: the splits on its way, and for each clause (one *row* each) weights of
    the constraints, multipliers of the splits that are not of the input, and slopes of lines by position.

    slopes: for each row by position of a pointwise node, the entries of its lower lines' slopes that are chosen.
    """

    path: tuple[Split, ...]
    weights: tuple[Array, ...]
    multipliers: tuple[Array, ...]
    slopes: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree about some clauses of one query. entries: (position, entry) of each slope that leaves choose."""

    query: int
    clauses: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    entries: NDArray[np.int64]


class Frames:
    """The frame of the last single box of one query: leaves that only split neurons share it."""

    def __init__(self) -> None:
        self._known: tuple[Query, tuple[Split, ...], Frame] | None = None

    def of(self, query: Query, paths: Sequence[tuple[Split, ...]]) -> Frame:
        """The frame of these boxes, each given by the splits that lead to it."""
        if len(paths) == 1 and self._known is not None and self._known[0] is query and self._known[1] == paths[0]:
            return self._known[2]
        low, high = (np.repeat(end[None], len(paths), 0) for end in (query.domain.low, query.domain.high))
        for cell, path in enumerate(paths):
            narrow(low[cell], high[cell], path)
        frame = cells_of(query.graph, query.domain, low, high)
        if len(paths) == 1:
            self._known = query, paths[0], frame
        return frame


def refutes(query: Query, tree: Tree, slack: Array | None = None, frames: Frames | None = None) -> NDArray[np.bool_]:
    """Which leaves of the tree are refuted. slack: g_k must exceed this, an array (m,); zero if None. frames: kept from
    one call to the next where a tree comes in parts."""
    proved = np.zeros(len(tree.leaves), dtype=bool)
    known = frames or Frames()
    for some in _batches(tree.leaves):
        leaves = [tree.leaves[i] for i in some]
        proved[some] = _refuted(query, tree, leaves, slack, known)
    return proved


def _batches(leaves: Sequence[Leaf]) -> Iterator[list[int]]:
    """Indices of leaves, those of one box together."""
    order = sorted(range(len(leaves)), key=lambda i: _input_splits(leaves[i].path))
    for start in range(0, len(order), _ROWS):
        yield order[start : start + _ROWS]


def _input_splits(path: Sequence[Split]) -> tuple[Split, ...]:
    return tuple(split for split in path if split[0] == 0)


def _refuted(
    query: Query, tree: Tree, leaves: Sequence[Leaf], slack: Array | None, frames: Frames
) -> NDArray[np.bool_]:
    boxes: dict[tuple[Split, ...], int] = {}
    cells = np.array([boxes.setdefault(_input_splits(leaf.path), len(boxes)) for leaf in leaves])
    frame = frames.of(query, list(boxes))
    count = len(tree.clauses)
    owners = np.repeat(np.arange(len(leaves)), count)
    rows = [(leaf, k) for leaf in leaves for k in range(count)]
    paths = [[split for split in leaf.path if split[0] != 0] for leaf, _ in rows]
    slopes = np.array([leaf.slopes[k] for leaf, k in rows]) if len(tree.entries) else None
    weights = np.zeros((len(rows), query.graph.output_size))
    for row, (leaf, k) in enumerate(rows):
        weights[row, list(query.clauses[tree.clauses[k]])] = leaf.weights[k]
    multipliers = [leaf.multipliers[k] for leaf, k in rows]
    least = least_of(frame, weights, cells[owners], paths, multipliers, tree.entries, slopes)
    needed = np.zeros(()) if slack is None else inflate(weights @ slack, 2 * weights.shape[1])
    sound = (weights >= 0).all(1)  # False for NaN
    return (sound & (least > needed)).reshape(-1, count).all(1)


def least_of(
    frame: Frame,
    weights: Array,
    cells: NDArray[np.int64],
    paths: Sequence[Sequence[Split]],
    multipliers: Sequence[Array],
    entries: NDArray[np.int64],
    slopes: Array | None,
) -> Array:
    """A lower bound on <weights, g> for each row, infinite where its part of the cell is empty. weights: (rows, m).

    paths: the splits of each row that are not of the input, with their multipliers. slopes: (rows, len(entries)).
    """
    empty = frame.is_empty()[cells if frame.cells > 1 else np.zeros_like(cells)]
    if slopes is not None or any(paths):
        frame, lost = restricted(frame, cells, paths, entries, slopes)
        empty |= lost
        cells_of_rows = None
    else:
        cells_of_rows = cells
    c = weights.reshape(len(weights), *frame.graph.output_shape)
    cuts = _cuts(paths, multipliers)
    least = lower_bounds(frame, len(frame.graph.nodes), c, cells_of_rows, cuts).least
    return np.where(empty, np.inf, least)


def narrow(low: Array, high: Array, path: Sequence[Split]) -> None:
    """Cut a box (of the input's shape, in place) at splits of the input."""
    lower, upper = low.reshape(-1), high.reshape(-1)
    for _, entry, threshold, sign in path:
        if sign > 0:
            lower[entry] = max(lower[entry], threshold)
        else:
            upper[entry] = min(upper[entry], threshold)


def restricted(
    frame: Frame,
    cells: NDArray[np.int64],
    paths: Sequence[Sequence[Split]],
    entries: NDArray[np.int64],
    slopes: Array | None,
) -> tuple[Frame, NDArray[np.bool_]]:
    """A frame with one cell for each row, its ranges cut at the splits and its lines with these slopes, and which rows
    have no input left."""
    rows = np.arange(len(cells))
    part = lambda array: array if len(array) == 1 else array[cells]  # noqa: E731
    low, high = [part(end) for end in frame.low], [part(end) for end in frame.high]
    empty = np.zeros(len(cells), dtype=bool)
    by_value: dict[int, list[tuple[int, int, float, int]]] = {}
    for row, path in enumerate(paths):
        for value, entry, threshold, sign in path:
            by_value.setdefault(value, []).append((row, entry, threshold, sign))
    for value, splits in by_value.items():
        shape = (len(cells), *frame.graph.shapes[value])
        low[value], high[value] = (np.broadcast_to(end, shape).copy() for end in (low[value], high[value]))
        lower, upper = low[value].reshape(len(cells), -1), high[value].reshape(len(cells), -1)
        for row, entry, threshold, sign in splits:
            if sign > 0:
                lower[row, entry] = max(lower[row, entry], threshold)
            else:
                upper[row, entry] = min(upper[row, entry], threshold)
            empty[row] |= lower[row, entry] > upper[row, entry]
    chosen = set(entries[:, 0].tolist()) if slopes is not None else set()
    fresh, charges = {}, [part(charge) for charge in frame.charges]
    for position, node in enumerate(frame.graph.nodes):
        if not isinstance(node.operator, Pointwise):
            continue
        value = node.inputs[0]
        if position not in chosen and value not in by_value:
            known = frame.lines[position]
            fresh[position] = known if frame.cells == 1 else type(known)(*known.take(cells))
            continue
        lower_slopes = None
        if position in chosen and slopes is not None:
            here = np.flatnonzero(entries[:, 0] == position)
            lower_slopes = np.full((len(cells), low[value][0].size), np.nan)
            lower_slopes[:, entries[here, 1]] = slopes[:, here]
            lower_slopes = lower_slopes.reshape(-1, *frame.graph.shapes[value])
        fresh[position] = lines(node.operator, low[value], high[value], lower_slopes)
        charges[position + 1] = inflate(charges[position + 1] + offsets_charge(fresh[position]), 1)
    return replace(frame, cells=len(rows), low=low, high=high, charges=charges, lines=fresh), empty


def _cuts(paths: Sequence[Sequence[Split]], multipliers: Sequence[Array]) -> Mapping[int, Cuts]:
    table: dict[int, list[tuple[int, int, int, float, float]]] = {}
    for row, (path, factors) in enumerate(zip(paths, multipliers, strict=True)):
        for (value, entry, threshold, sign), factor in zip(path, factors.tolist(), strict=True):
            if factor > 0:
                table.setdefault(value, []).append((row, entry, sign, threshold, factor))
    cuts = {}
    for value, found in table.items():
        row, entry, sign, threshold, factor = zip(*found, strict=True)
        numbers = (np.array(column, dtype=np.float64) for column in (sign, threshold, factor))
        cuts[value] = Cuts(np.array(row), np.array(entry), *numbers)
    return cuts
