"""Branch and bound over activations: the argument of one is split at its kink, and slopes and multipliers are optimised
on each side (Wang et al. 2021, "Beta-CROWN").

The search runs in torch, many subproblems at a time. One that seems refuted is proved at once in rigorous arithmetic;
where that fails it stays open.
"""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from certlip.bounds.forest import GrowingTree
from certlip.bounds.torch_relaxation import Parameters, Relaxation
from certlip.ops import Relu
from certlip.proofs.query import Query
from certlip.proofs.relaxation.branches import Split, Tree, least_of
from certlip.proofs.relaxation.frame import Frame
from certlip.rigor.rounding import Array, inflate

if TYPE_CHECKING:
    import torch

_BATCH = 64
_ROOT_STEPS, _STEPS = 50, 8
_CANDIDATES = 5


@dataclass(frozen=True, eq=False)
class _Open:
    """A subproblem: its tree and node, its parameters as rows of one, logits of the weights of its constraints."""

    tree: int
    node: int
    given: Parameters
    logits: torch.Tensor


@dataclass(eq=False)
class NeuronSplit:
    """A search for one tree for each clause. frame: the proved ranges of the whole domain. After `run`, `trees` are the
    proof, or empty; stuck: nothing is left to split."""

    query: Query
    number: int
    clauses: tuple[int, ...]
    slack: Array
    frame: Frame
    device: str = "cpu"
    method: ClassVar[str] = "neuron splits"
    trees: tuple[Tree, ...] = ()
    falsified: bool = False
    stuck: bool = False
    visited: int = 0
    _queue: list[tuple[float, int, _Open]] = field(default_factory=list)

    def __post_init__(self) -> None:
        import torch

        self._torch = torch
        self._relaxation = Relaxation(self.frame, self.device)
        self._growing = [GrowingTree(self.number, (clause,)) for clause in self.clauses]
        self._longest = max(len(self.query.clauses[clause]) for clause in self.clauses)
        self._counter = itertools.count()
        relaxed = self._relaxation
        self._entries = np.array(
            [(position, entry) for position in relaxed.positions for entry in relaxed.entries[position]], dtype=np.int64
        ).reshape(-1, 2)
        relus = {p for p in relaxed.positions if isinstance(self.query.graph.nodes[p].operator, Relu)}
        self._chosen = np.array([position in relus for position, _ in self._entries], dtype=bool)
        self._cuts = np.concatenate([np.zeros(0), *(relaxed.thresholds[p] for p in relaxed.positions)])

    def run(self, deadline: float | None) -> bool:
        """Whether all clauses are refuted; where time ends the search, it can be continued."""
        if not self.visited:
            self._begin(deadline)
        while self._queue:
            if self.stuck or (deadline is not None and time.monotonic() > deadline):
                return False
            some = [heapq.heappop(self._queue)[2] for _ in range(min(_BATCH, len(self._queue)))]
            self._branch(some, deadline)
        if self.stuck:
            return False
        entries = self._entries[self._chosen]
        self.trees = tuple(tree.finished(entries) for tree in self._growing)
        return True

    def _begin(self, deadline: float | None) -> None:
        """The whole domain, once for each clause."""
        count = len(self.clauses)
        logits = self._torch.zeros((count, self._longest), dtype=self._relaxation.kind, device=self.device)
        self._settle(list(range(count)), [0] * count, self._relaxation.start(count), logits, _ROOT_STEPS, deadline)

    def _branch(self, some: list[_Open], deadline: float | None) -> None:
        """Split each subproblem where that seems to help most, and bound both sides."""
        torch = self._torch
        given = Parameters(
            *(torch.stack([getattr(each.given, key) for each in some]) for key in ("slopes", "multipliers", "states"))
        )
        logits = torch.stack([each.logits for each in some])
        trees = [each.tree for each in some]
        column = self._choose(trees, given, logits)
        children, child_logits, child_trees, nodes = [], [], [], []
        for i, each in enumerate(some):
            j = int(column[i])
            if j < 0:
                self.stuck = True
                return
            position, entry = self._entries[j].tolist()
            value = self.query.graph.nodes[position].inputs[0]
            pair = self._growing[each.tree].split(each.node, value, entry, float(self._cuts[j]))
            for node, sign in zip(pair, (-1.0, 1.0), strict=True):
                child = given.take(slice(i, i + 1))
                child = Parameters(child.slopes, child.multipliers, child.states.clone())
                child.states[0, j] = sign
                children.append(child)
                child_logits.append(logits[i])
                child_trees.append(each.tree)
                nodes.append(node)
        joined = Parameters(
            *(torch.cat([getattr(child, key) for child in children]) for key in ("slopes", "multipliers", "states"))
        )
        self._settle(child_trees, nodes, joined, torch.stack(child_logits), _STEPS, deadline)

    def _choose(self, trees: list[int], given: Parameters, logits: torch.Tensor) -> Array:
        """The column to split for each row, -1 where none is left: the best of those whose lines lose most."""
        torch = self._torch
        with torch.no_grad():
            losses = torch.zeros_like(given.slopes)
            self._bound(trees, given, logits, losses)
            losses = torch.where(given.states == 0, losses, torch.full_like(losses, -1.0))
            k = min(_CANDIDATES, losses.shape[1])
            if not k:
                return np.full(len(trees), -1)
            top = losses.topk(k, 1)
            rows = torch.arange(len(trees), device=losses.device)
            best, column = losses.new_full((len(trees),), -np.inf), torch.full_like(rows, -1)
            for rank in range(k):
                j = top.indices[:, rank]
                sides = []
                for sign in (-1.0, 1.0):
                    states = given.states.clone()
                    states[rows, j] = sign
                    sides.append(self._bound(trees, Parameters(given.slopes, given.multipliers, states), logits))
                worse, better = torch.minimum(*sides), torch.maximum(*sides)
                score = worse.clamp(max=0.0) + 0.1 * better.clamp(max=0.0)
                take = (score > best) & (top.values[:, rank] > -0.5)
                best, column = torch.where(take, score, best), torch.where(take, j, column)
            return column.cpu().numpy()

    def _weights(self, trees: list[int], logits: torch.Tensor) -> torch.Tensor:
        """Of the constraints, (rows, m), on the simplex of each row's clause."""
        torch = self._torch
        members = [self.query.clauses[self.clauses[tree]] for tree in trees]
        mask = torch.full_like(logits, -np.inf)
        index = torch.zeros_like(logits, dtype=torch.int64)
        for row, clause in enumerate(members):
            mask[row, : len(clause)] = 0.0
            index[row, : len(clause)] = torch.tensor(clause, device=logits.device)
        shares = torch.softmax(logits + mask, 1)
        return logits.new_zeros(len(trees), self.query.graph.output_size).scatter_add(1, index, shares)

    def _bound(
        self, trees: list[int], given: Parameters, logits: torch.Tensor, losses: torch.Tensor | None = None
    ) -> torch.Tensor:
        weights = self._weights(trees, logits)
        rows = weights.reshape(-1, *self.query.graph.output_shape)
        bound = self._relaxation.bound(len(self.query.graph.nodes), rows, given, losses)
        return bound - weights @ self._relaxation.constant(self.slack)

    def _optimised(
        self, trees: list[int], given: Parameters, logits: torch.Tensor, steps: int, deadline: float | None
    ) -> tuple[Array, Parameters, torch.Tensor]:
        """The best bounds of some steps of Adam on slopes, multipliers and weights, with these."""
        torch = self._torch
        slopes, multipliers = given.slopes.clone().requires_grad_(), given.multipliers.clone().requires_grad_()
        mixed = logits.clone().requires_grad_()
        climb = [_Adam(slopes, 0.2), _Adam(multipliers, 0.1), _Adam(mixed, 0.3)]
        best = slopes.new_full((len(trees),), -np.inf)
        kept = given.slopes.clone(), given.multipliers.clone(), logits.clone()
        for step in range(steps):
            bound = self._bound(trees, Parameters(slopes, multipliers, given.states), mixed)
            with torch.no_grad():
                better = bound > best
                best = torch.where(better, bound, best)
                kept = tuple(
                    torch.where(better[:, None], now.detach(), old)
                    for now, old in zip((slopes, multipliers, mixed), kept, strict=True)
                )  # type: ignore[assignment]
                late = deadline is not None and time.monotonic() > deadline
                if step == steps - 1 or late or bool((best > 0).all()):
                    break
            gradients = torch.autograd.grad(
                bound.clamp(max=1e-3).sum(), (slopes, multipliers, mixed), allow_unused=True, materialize_grads=True
            )  # nothing reads the slopes of a network that is linear on the domain
            with torch.no_grad():
                for each, gradient in zip(climb, gradients, strict=True):
                    each.step(gradient)
                slopes.clamp_(0.0, 1.0)
                multipliers.clamp_(min=0.0)
        return best.cpu().numpy(), Parameters(kept[0], kept[1], given.states), kept[2]

    def _settle(
        self,
        trees: list[int],
        nodes: list[int],
        given: Parameters,
        logits: torch.Tensor,
        steps: int,
        deadline: float | None,
    ) -> None:
        """Bound subproblems; those that are proved are closed, the others queued, the worst first."""
        self.visited += len(trees)
        best, given, logits = self._optimised(trees, given, logits, steps, deadline)
        hopeful = np.flatnonzero(best > 0)
        proved = np.zeros(len(trees), dtype=bool)
        if len(hopeful):
            proved[hopeful] = self._prove(hopeful, trees, nodes, given, logits)
        for row in np.flatnonzero(~proved):
            estimate = min(float(best[row]), 0.0) if np.isfinite(best[row]) else -np.inf
            part = Parameters(given.slopes[row], given.multipliers[row], given.states[row])
            subproblem = _Open(trees[row], nodes[row], part, logits[row])
            heapq.heappush(self._queue, (estimate, next(self._counter), subproblem))

    def _prove(
        self, rows: NDArray[np.intp], trees: list[int], nodes: list[int], given: Parameters, logits: torch.Tensor
    ) -> NDArray[np.bool_]:
        """Prove these rows in rigorous arithmetic and close the nodes of those for which that succeeds."""
        weights = self._weights([trees[i] for i in rows], logits[rows]).cpu().numpy().astype(np.float64)
        slopes = given.slopes[rows].cpu().numpy().astype(np.float64)[:, self._chosen]
        factors = given.multipliers[rows].cpu().numpy().astype(np.float64)
        column = {(position, entry): j for j, (position, entry) in enumerate(self._entries.tolist())}
        position_of = {self.query.graph.nodes[p].inputs[0]: p for p in self._relaxation.positions}
        paths: list[tuple[Split, ...]] = [self._growing[trees[i]].path(nodes[i]) for i in rows]
        multipliers = [
            np.array([factors[k, column[position_of[value], entry]] for value, entry, _, _ in path])
            for k, path in enumerate(paths)
        ]
        cells = np.zeros(len(rows), dtype=np.int64)
        entries = self._entries[self._chosen]
        least = least_of(self.frame, weights, cells, paths, multipliers, entries, slopes if len(entries) else None)
        proved = least > inflate(weights @ self.slack, 2 * weights.shape[1])
        for k in np.flatnonzero(proved):
            tree = trees[rows[k]]
            members = list(self.query.clauses[self.clauses[tree]])
            inner = np.array([split[0] != 0 for split in paths[k]], dtype=bool)  # a split of the input narrows its box
            self._growing[tree].close(nodes[rows[k]], (weights[k, members],), (multipliers[k][inner],), (slopes[k],))
        return proved


class _Adam:
    """Ascent in one tensor (Kingma and Ba 2015). torch's own takes a second to import."""

    def __init__(self, parameter: torch.Tensor, rate: float):
        self._parameter, self._rate, self._count = parameter, rate, 0
        self._mean, self._square = parameter.detach() * 0.0, parameter.detach() * 0.0

    def step(self, gradient: torch.Tensor) -> None:
        self._count += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.lerp_(gradient * gradient, 0.05)
        mean, square = self._mean / (1.0 - 0.9**self._count), self._square / (1.0 - 0.95**self._count)
        self._parameter += self._rate * 0.97**self._count * mean / (square.sqrt() + 1e-12)
