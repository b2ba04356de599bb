"""A search for points where a query is unsafe: samples, corners and descents, in batches of a torch function.

It only proposes. A candidate counts once `confirm`, or the pipeline's own check, has proved it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from certlip.bounds.torch_graph import torch_graph
from certlip.graph import Affine, Graph
from certlip.ops import Reindex
from certlip.proofs.query import Query
from certlip.rigor.rounding import Array
from certlip.verification.descent import descend
from certlip.verification.losses import Clauses
from certlip.verification.region import FEW, Region, float_type

if TYPE_CHECKING:
    import torch

_CHUNK = 4096  # points evaluated at once in a sweep ...
_CHUNK_ENTRIES = 2e7  # ... where the largest value of the network has no more entries than this in all of them
_AT_ONCE = 5e8  # multiplications between two looks at the clock
_DEEPER = 1.5  # a later candidate is worth trying where the violation is so many times as large
_WRITE = 16  # multiplications in the time of writing one number
_SHOWN = 3  # candidates from one batch


@dataclass(frozen=True)
class Effort:
    """How long to look. samples: points of a sweep; restarts: descents in a batch; steps: of each; rounds: sweeps
    with two batches of descents; work: multiplications altogether, which limits all these for large networks."""

    samples: int
    restarts: int
    steps: int
    rounds: int
    work: float

    def within(self, cost: float) -> Effort:
        """What the work suffices for where one evaluation takes `cost` multiplications."""
        share = self.work / (cost * (self.samples + 4.0 * self.restarts * self.steps))
        if share >= 1.0:
            return replace(self, rounds=int(min(self.rounds, share)))
        restarts = int(max(self.restarts * share, min(self.restarts, 8)))
        steps = int(np.clip(self.work / (4.0 * cost * restarts), min(self.steps, 10), self.steps))
        return Effort(int(max(self.samples * share, restarts)), restarts, steps, 1, self.work)


QUICK = Effort(samples=4096, restarts=64, steps=40, rounds=2, work=4e9)
"""A few tenths of a second, before any proof is tried."""

THOROUGH = Effort(samples=16384, restarts=128, steps=120, rounds=40, work=3e11)
"""Seconds to a minute, for what neither falls to the first nor is proved."""


def find_unsafe(
    query: Query, *, seed: int, deadline: float | None, device: str = "cpu", effort: Effort = QUICK
) -> Iterator[Array]:
    """Points of the query's domain, up to rounding, where some clause holds in floats; as soon as they are found.

    The first of a batch violates more than all before, so that a caller whom rounding keeps from proving one goes on
    to the next. Without a deadline (a time of `time.monotonic`) the answer depends on the arguments alone.
    """
    if not query.clauses or (deadline is not None and time.monotonic() > deadline):
        return
    if any(not clause for clause in query.clauses):  # it holds everywhere
        yield 0.5 * (query.domain.low + query.domain.high)
        return
    search = _Search(query, seed, deadline, device, effort)
    for points, gaps in search.batches():
        for point in search.news(points, gaps):
            yield point.cpu().numpy().astype(np.float64).reshape(query.graph.input_shape)
        if deadline is not None and time.monotonic() > deadline:
            return


class _Search:
    """What a search knows: the best point for each clause, and how deep the deepest candidate is."""

    def __init__(self, query: Query, seed: int, deadline: float | None, device: str, effort: Effort):
        kind = float_type(query.domain)
        self.region = Region(query.domain, kind, device, seed)
        self.clauses = Clauses(query.clauses, device)
        self.function = _rowwise(query.graph, torch_graph(query.graph, kind, device))
        if len(self.region.free) > FEW:  # samples rarely say more than a descent from them
            effort = replace(effort, samples=min(effort.samples, 8 * effort.restarts))
        cost = _multiplications(query.graph)
        at_once = int(np.clip(_AT_ONCE / cost, 8, _CHUNK))
        self.effort = replace(effort, restarts=min(effort.restarts, at_once)).within(cost)
        self.chunk = int(np.clip(_CHUNK_ENTRIES / max(map(prod, query.graph.shapes)), 1, at_once))
        self.deepest = 0.0
        self.best: torch.Tensor | None = None  # gap of each clause
        self.where = self.region.centre.expand(len(self.clauses), -1).clone()

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Points with their gaps (N, clauses), from all over the set and then from descents."""
        for turn in range(self.effort.rounds):
            low: list[tuple[torch.Tensor, torch.Tensor]] = []
            for points, gaps in self._sweep():
                yield points, gaps
                values = gaps.amin(1)
                first = values.argsort()[: self.effort.restarts]
                low.append((values[first], points[first]))
            starts, targets = self._starts(low, turn)
            steps = self.effort.steps
            yield from descend(self.function, self.region, self.clauses, starts, targets, steps)
            yield from descend(self.function, self.region, self.clauses, *self._again(), steps // 2, reach=0.1)

    def _sweep(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        import torch

        region = self.region
        points = torch.cat([region.spread(self.effort.samples), region.corners(self.effort.samples // 4)])
        for chunk in points.split(self.chunk):
            with torch.no_grad():
                g = self.function(chunk)
            if self.clauses.scale is None:
                self.clauses.calibrate(g)
            yield chunk, self.clauses.gaps(g)

    def _starts(self, low: list[tuple[torch.Tensor, torch.Tensor]], turn: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Half of the descents start where the sweep came nearest or where a clause was nearest to holding, half
        anywhere. One in three goes for the clause nearest to it, the others for one each, the nearest first."""
        import torch

        values, points = (torch.cat(parts) for parts in zip(*low, strict=True))
        lowest = points[values.argsort()[: self.effort.restarts]]
        rows = torch.arange(self.effort.restarts, device=points.device)
        order = self.best.argsort()  # type: ignore[union-attr]
        targets = order[(rows + rows // len(order) + turn * self.effort.restarts) % len(order)]
        starts = self.region.spread(self.effort.restarts)[: self.effort.restarts].clone()
        near = (rows % 4 == 1) & (rows // 4 < len(lowest))
        starts[near] = lowest[rows[near] // 4]
        known = rows % 4 == 3
        starts[known] = self.where[targets[known]]
        if turn:
            share = 2.0 ** (-6.0 * self.region.uniform(self.effort.restarts, 1))
            moved = self.region.near(starts, share)
            starts[known | near] = moved[known | near]
        targets = torch.where(rows % 3 == 0, -1, targets)
        return starts, targets

    def _again(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The best points of the nearest clauses, moved a little, and where their descents go."""
        import torch

        rows = torch.arange(max(self.effort.restarts // 2, 8), device=self.where.device)
        order = self.best.argsort()[: max(len(rows) // 8, 1)]  # type: ignore[union-attr]
        targets = order[rows // 8 % len(order)]
        share = (rows % 8 > 0)[:, None] * 2.0 ** (-3.0 - 4.0 * self.region.uniform(len(rows), 1))
        return self.region.near(self.where[targets], share), targets

    def news(self, points: torch.Tensor, gaps: torch.Tensor) -> list[torch.Tensor]:
        """Note the batch; its candidates that violate clearly more than all before."""
        import torch

        values, rows = gaps.min(0)
        if self.best is None:
            self.best = torch.full_like(values, torch.inf)
        better = values < self.best
        self.best[better], self.where[better] = values[better], points[rows[better]]
        nearest = gaps.amin(1)
        depth, order = nearest.sort()
        if not depth[0] <= 0.0 or (self.deepest < 0.0 and depth[0] > _DEEPER * self.deepest):
            return []
        self.deepest = min(self.deepest, float(depth[0]))
        return [points[row] for row in order[:_SHOWN] if nearest[row] <= 0.0]


def _rowwise(graph: Graph, function: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function on rows (N, entries), values (N, functions)."""
    return lambda rows: function(rows.reshape(len(rows), *graph.input_shape)).reshape(len(rows), -1)


def _multiplications(graph: Graph) -> float:
    """About how many take the time of one evaluation; to write a number takes that of several."""
    total = float(_WRITE * sum(map(prod, graph.shapes)))
    for node in graph.nodes:
        if isinstance(node.operator, Affine) and not isinstance(node.operator, Reindex):
            total += node.operator.terms * prod(node.operator.codomain)
    return total
