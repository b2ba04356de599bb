"""Branch and bound over the input: boxes are halved until a linear bound refutes each of them.

For inputs of few entries, where halving a box makes most activations linear soon. Every bound is computed in the proof's
own arithmetic, so a box that is closed is proved.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from certlip.bounds.forest import GrowingTree
from certlip.proofs.query import Query
from certlip.proofs.relaxation.backward import lower_bounds
from certlip.proofs.relaxation.branches import Tree
from certlip.proofs.relaxation.cells import cells_of
from certlip.rigor.rounding import Array, inflate

_BATCH = 256
_STEPS = 12  # of the search for weights


@dataclass
class InputSplit:
    """A search over boxes. point: called with inputs at which g may be unsafe; True stops the search (a counterexample
    was confirmed). After `run`, `tree` is the proof, or None; `open` says how many boxes are left."""

    query: Query
    number: int
    clauses: tuple[int, ...]
    slack: Array
    point: Callable[[Array], bool] = lambda x: False
    tree: Tree | None = None
    falsified: bool = False
    visited: int = 0
    open: int = 0
    _growing: GrowingTree = field(init=False)

    def __post_init__(self) -> None:
        self._growing = GrowingTree(self.number, self.clauses)

    def run(self, deadline: float | None) -> bool:
        """Whether all clauses are refuted on the whole domain."""
        domain = self.query.domain
        stack = [(0, domain.low, domain.high)]
        while stack:
            if deadline is not None and time.monotonic() > deadline:
                self.open = len(stack)
                return False
            some, stack = stack[-_BATCH:], stack[:-_BATCH]
            numbers = [node for node, _, _ in some]
            low, high = (np.stack([box[k] for box in some]) for k in (1, 2))
            stack += self._step(numbers, low, high)
            self.visited += len(numbers)
            if self.falsified:
                return False
        self.tree = self._growing.finished()
        return True

    def _step(self, numbers: list[int], low: Array, high: Array) -> list[tuple[int, Array, Array]]:
        """Bound these boxes, close what is refuted, halve the others."""
        query, count = self.query, len(numbers)
        size = query.graph.output_size
        used = sorted({k for clause in self.clauses for k in query.clauses[clause]})
        frame = cells_of(query.graph, query.domain, low, high)
        rows = np.tile(np.eye(size)[used], (count, 1)).reshape(-1, *query.graph.output_shape)
        cells = np.repeat(np.arange(count), len(used))
        bound = lower_bounds(frame, len(query.graph.nodes), rows, cells)
        least = np.full((count, size), -np.inf)
        least[:, used] = bound.least.reshape(count, -1)
        slopes = np.zeros((count, size, query.graph.input_size))
        slopes[:, used] = bound.slopes.reshape(count, len(used), -1)
        offsets = np.zeros((count, size))
        offsets[:, used] = bound.offset.reshape(count, -1)
        empty = frame.is_empty()
        closed = np.ones(count, dtype=bool)
        weights, worst, direction = [], np.full(count, np.inf), slopes[:, used[0]].copy()
        for clause in self.clauses:
            members = list(query.clauses[clause])
            found = least[:, members] - self.slack[members]
            chosen = np.zeros((count, len(members)))
            chosen[np.arange(count), found.argmax(1)] = 1.0
            value = found.max(1)
            if len(members) > 1:
                value = self._combine(frame, low, high, slopes, offsets, members, chosen, value, empty)
            weights.append(chosen)
            closed &= empty | (value > 0)
            mixed = np.einsum("ck,cki->ci", chosen, slopes[:, members])
            direction = np.where((value < worst)[:, None], mixed, direction)
            worst = np.minimum(worst, np.where(np.isnan(value), -np.inf, value))
        following = []
        width = (high - low).reshape(count, -1)
        score = np.abs(np.nan_to_num(direction)) * width + 1e-12 * width
        for i in np.flatnonzero(closed):
            self._growing.close(numbers[i], tuple(part[i] for part in weights))
        self._try(low, high, direction, np.flatnonzero(~closed))
        for i in np.flatnonzero(~closed):
            entry = int(score[i].argmax())
            ends = low[i].reshape(-1)[entry], high[i].reshape(-1)[entry]
            threshold = 0.5 * ends[0] + 0.5 * ends[1]
            below, above = self._growing.split(numbers[i], 0, entry, threshold)
            top, bottom = high[i].copy(), low[i].copy()
            top.reshape(-1)[entry] = threshold
            bottom.reshape(-1)[entry] = threshold
            following += [(below, low[i], top), (above, bottom, high[i])]
        return following

    def _combine(self, frame, low, high, slopes, offsets, members, chosen, value, empty) -> Array:
        """Where no constraint of a clause is refuted alone: weights for all of them, by ascent of the least value of the
        weighted linear bounds, proved together."""
        hopeless = empty | (value > 0)
        rows = np.flatnonzero(~hopeless)
        if not rows.size:
            return value
        a, t = slopes[rows][:, members], offsets[rows][:, members] - self.slack[members]
        lo, hi = low[rows].reshape(len(rows), -1), high[rows].reshape(len(rows), -1)
        w = np.full((len(rows), len(members)), 1.0 / len(members))
        best, best_w = np.full(len(rows), -np.inf), w.copy()
        for step in range(_STEPS):
            c = np.einsum("rk,rki->ri", w, a)
            x = np.where(c > 0, lo, hi)
            each = np.einsum("rki,ri->rk", a, x) + t
            now = (w * each).sum(1)
            better = now > best
            best, best_w = np.where(better, now, best), np.where(better[:, None], w, best_w)
            scale = np.abs(each).max(1, keepdims=True) + 1e-300
            w = w * np.exp(2.0 / (1.0 + 0.3 * step) * (each / scale))
            w /= w.sum(1, keepdims=True)
        promising = np.flatnonzero(best > 0)
        if not promising.size:
            return value
        here = rows[promising]
        full = np.zeros((len(here), self.query.graph.output_size))
        full[:, members] = best_w[promising]
        c = full.reshape(-1, *self.query.graph.output_shape)
        lost = inflate(full @ self.slack, 2 * full.shape[1])
        least = lower_bounds(frame, len(self.query.graph.nodes), c, here).least - lost
        proved = least > 0
        chosen[here[proved]] = best_w[promising][proved]
        value = value.copy()
        value[here[proved]] = least[proved]
        return value

    def _try(self, low: Array, high: Array, direction: Array, rows: Array) -> None:
        """Where the linear bounds are least, the network itself may be unsafe."""
        if not len(rows):
            return
        towards = direction[rows].reshape(-1, *low.shape[1:])
        points = np.where(towards > 0, low[rows], high[rows])
        points = np.concatenate([points, 0.5 * low[rows] + 0.5 * high[rows]])
        values = self.query.graph(points).reshape(len(points), -1)
        for clause in self.clauses:
            for i in np.flatnonzero((values[:, list(self.query.clauses[clause])] <= 0).all(1))[:3]:
                if self.point(points[i]):
                    self.falsified = True
                    return
