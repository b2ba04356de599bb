"""Branch and bound over the input: boxes are halved until a linear bound refutes each of them.

For inputs of few entries, where halving a box makes most activations linear soon. Every bound is computed in the
proof's own arithmetic, so a box that is closed is proved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from certlip.bounds.forest import GrowingTree
from certlip.graph import Affine
from certlip.proofs.query import Query
from certlip.proofs.relaxation.backward import lower_bounds
from certlip.proofs.relaxation.branches import Tree
from certlip.proofs.relaxation.cells import cells_of
from certlip.proofs.relaxation.frame import Frame
from certlip.rigor.rounding import Array, inflate

_BATCH = 256
_FLOATS = 2**25  # that the slopes of one value may fill
_THREADS = 2
_WORTHWHILE = 0.2  # smallest share of a box that is cut off where a bound refutes it; else boxes are halved
_STEPS = 12  # of the search for weights


_Box = tuple[int, Array, Array]
"""The number of a node of the tree, and its box."""


@dataclass(frozen=True, eq=False)
class _Found:
    """Of some boxes: their ends, which are refuted by which weights for each clause, the slopes of the worst bound, how
    much of each entry's interval is refuted, and how much each entry is to blame for what is not."""

    low: Array
    high: Array
    closed: NDArray[np.bool_]
    weights: list[Array]
    direction: Array
    shares: Array
    blame: Array


@dataclass
class InputSplit:
    """A search over boxes. point: called with inputs at which g may be unsafe; True stops the search (a counterexample
    was confirmed). After `run`, `trees` is the proof, or empty."""

    query: Query
    number: int
    clauses: tuple[int, ...]
    slack: Array
    point: Callable[[Array], bool] = lambda x: False
    method: ClassVar[str] = "input splits"
    trees: tuple[Tree, ...] = ()
    falsified: bool = False
    stuck: bool = False
    visited: int = 0
    _growing: GrowingTree = field(init=False)
    _stack: list[_Box] = field(default_factory=list)
    _batch: int = _BATCH
    _matrices: dict[int, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._growing = GrowingTree(self.number, self.clauses)
        widest = max(map(prod, self.query.graph.shapes)) * self.query.graph.input_size
        self._batch = int(min(_BATCH, max(1, _FLOATS // widest)))
        self._stack.append((0, self.query.domain.low, self.query.domain.high))

    def run(self, deadline: float | None) -> bool:
        """Whether all clauses are refuted on the whole domain; where time ends the search, it can be continued."""
        stack = self._stack
        with ThreadPoolExecutor(_THREADS) as pool:
            while stack and not self.stuck:
                if deadline is not None and time.monotonic() > deadline:
                    return False
                share = min(self._batch, -(-len(stack) // _THREADS))
                batches = [stack[-share * (i + 1) : len(stack) - share * i] for i in range(_THREADS)]
                batches = [batch for batch in batches if batch]
                del stack[-sum(map(len, batches)) :]
                for batch, found in zip(batches, pool.map(self._bound, batches), strict=True):
                    stack += self._branch(batch, found)
                    self.visited += len(batch)
                if self.falsified or self.stuck:
                    return False
        if not self.stuck:
            self.trees = (self._growing.finished(),)
        return not self.stuck

    def _bound(self, batch: list[_Box]) -> _Found:
        """What the linear bounds say about these boxes."""
        query, count = self.query, len(batch)
        low, high = (np.stack([box[k] for box in batch]) for k in (1, 2))
        size = query.graph.output_size
        used = sorted({k for clause in self.clauses for k in query.clauses[clause]})
        frame = cells_of(query.graph, query.domain, low, high, keep_slopes=True)
        losses: dict[int, Array] = {}
        rows = np.tile(np.eye(size)[used], (count, 1)).reshape(-1, *query.graph.output_shape)
        owners = np.repeat(np.arange(count), len(used))
        bound = lower_bounds(frame, len(query.graph.nodes), rows, owners, losses=losses)
        least = np.full((count, size), -np.inf)
        least[:, used] = bound.least.reshape(count, -1)
        slopes = np.zeros((count, size, query.graph.input_size))
        slopes[:, used] = bound.slopes.reshape(count, len(used), -1)
        offsets = np.zeros((count, size))
        offsets[:, used] = bound.offset.reshape(count, -1)
        empty = frame.is_empty()
        closed = np.ones(count, dtype=bool)
        weights, worst, direction = [], np.full(count, np.inf), slopes[:, used[0]].copy()
        guilty = np.full(count, used[0])  # the constraint whose bound is to improve
        shares = np.full((2, count, query.graph.input_size), np.inf)  # of each entry's interval, at its low or high end
        for clause in self.clauses:
            members = list(query.clauses[clause])
            found = least[:, members] - self.slack[members]
            chosen = np.zeros((count, len(members)))
            chosen[np.arange(count), found.argmax(1)] = 1.0
            value = found.max(1)
            linear = [(slopes[:, k], offsets[:, k] - self.slack[k]) for k in members]
            if len(members) > 1:
                value, mixture = self._combine(frame, low, high, slopes, offsets, members, chosen, value, empty)
                a, t = slopes[:, members], offsets[:, members] - self.slack[members]
                linear.append((np.einsum("ck,cki->ci", mixture, a), (mixture * t).sum(1)))
            ends = low.reshape(count, -1), high.reshape(count, -1)
            reach = [_refuted_shares(a, t, *ends) for a, t in linear]
            shares = np.minimum(shares, np.max(reach, axis=0))
            weights.append(chosen)
            closed &= empty | (value > 0)
            mixed = np.einsum("ck,cki->ci", chosen, slopes[:, members])
            direction = np.where((value < worst)[:, None], mixed, direction)
            guilty = np.where(value < worst, np.array(members)[chosen.argmax(1)], guilty)
            worst = np.minimum(worst, np.where(np.isnan(value), -np.inf, value))
        blame = self._blame(frame, losses, np.arange(count) * len(used) + np.searchsorted(used, guilty), high - low)
        return _Found(low, high, closed, weights, np.nan_to_num(direction), np.nan_to_num(shares), blame)

    def _blame(self, frame: Frame, losses: Mapping[int, Array], rows: NDArray[np.int64], width: Array) -> Array:
        """How much of what the lines lose is due to each entry of the input: (boxes, inputs). A neuron's loss is shared
        out by how far each entry moves its argument."""
        count = len(width)
        width = width.reshape(count, 1, -1)
        blame = np.zeros((count, width.shape[2]))
        for position, loss in losses.items():
            value = self.query.graph.nodes[position].inputs[0]
            known = frame.slopes.get(value) if frame.slopes is not None else None
            if known is None:
                operator = self.query.graph.nodes[value - 1].operator if value else None
                if not isinstance(operator, Affine) or operator.domain != self.query.graph.input_shape:
                    continue
                known = np.abs(self._first(value, operator))[None]
            moved = known * width
            moved = moved / (moved.sum(2, keepdims=True) + 1e-300)
            moved = np.broadcast_to(moved, (count, *moved.shape[1:]))
            blame += np.einsum("cn,cni->ci", loss[rows].reshape(count, -1), moved)
        return np.nan_to_num(blame)

    def _first(self, value: int, operator: Affine) -> Array:
        if value not in self._matrices:
            self._matrices[value] = operator.matrix().mid
        return self._matrices[value]

    def _branch(self, batch: list[_Box], found: _Found) -> list[_Box]:
        """Close what is refuted, halve the other boxes where the linear bound varies most."""
        following: list[_Box] = []
        width = (found.high - found.low).reshape(len(batch), -1)
        score = found.blame + 1e-12 * width
        for i in np.flatnonzero(found.closed):
            self._growing.close(batch[i][0], tuple(part[i] for part in found.weights))
        still = np.flatnonzero(~found.closed)
        self._try(found.low, found.high, found.direction, still)
        for i in still:
            node, low, high = batch[i]
            side, entry = divmod(int(found.shares[:, i].argmax()), width.shape[1])
            share = 0.98 * found.shares[side, i, entry]
            if share < _WORTHWHILE:
                entry, share = int(score[i].argmax()), 0.5
            least, greatest = low.reshape(-1)[entry], high.reshape(-1)[entry]
            part = share if side == 0 else 1.0 - share
            threshold = float((1.0 - part) * least + part * greatest)
            if not least < threshold < greatest:  # a point, in floats: no smaller box would say more
                self.stuck = True
                return following
            below, above = self._growing.split(node, 0, entry, threshold)
            top, bottom = high.copy(), low.copy()
            top.reshape(-1)[entry] = threshold
            bottom.reshape(-1)[entry] = threshold
            following += [(below, low, top), (above, bottom, high)]
        return following

    def _combine(
        self,
        frame: Frame,
        low: Array,
        high: Array,
        slopes: Array,
        offsets: Array,
        members: list[int],
        chosen: Array,
        value: Array,
        empty: NDArray[np.bool_],
    ) -> tuple[Array, Array]:
        """Where no constraint of a clause is refuted alone: weights for all of them, by ascent of the least value of
        the weighted linear bounds, proved together. Returns the bounds with them, and the weights."""
        hopeless = empty | (value > 0)
        rows = np.flatnonzero(~hopeless)
        mixture = chosen.copy()
        if not rows.size:
            return value, mixture
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
        mixture[rows] = best_w
        promising = np.flatnonzero(best > 0)
        if not promising.size:
            return value, mixture
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
        return value, mixture

    def _try(self, low: Array, high: Array, direction: Array, rows: NDArray[np.intp]) -> None:
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


def _refuted_shares(a: Array, t: Array, low: Array, high: Array) -> Array:
    """How much of each entry's interval a bound a x + t refutes, from its low and from its high end: (2, boxes, n)."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        least = t + np.where(a > 0, a * low, a * high).sum(1)
        share = 1.0 + least[:, None] / (np.abs(a) * (high - low))
    share = np.where(np.isfinite(share), np.clip(share, 0.0, 1.0), 0.0)  # infinite where there is nothing to cut
    return np.stack([np.where(a < 0, share, 0.0), np.where(a > 0, share, 0.0)])
