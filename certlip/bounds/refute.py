"""Search for a proof that no input is unsafe: one linear bound, then cases of the input or of activations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from certlip.bounds.forest import GrowingTree
from certlip.bounds.input_split import InputSplit
from certlip.proofs.query import Query
from certlip.proofs.relaxation.backward import lower_bounds
from certlip.proofs.relaxation.branches import Tree
from certlip.proofs.relaxation.cells import cells_of
from certlip.proofs.relaxation.frame import Frame
from certlip.rigor.rounding import Array

if TYPE_CHECKING:
    from certlip.bounds.neuron_split import NeuronSplit

_SPARE = 2.0**-36

FEW_INPUTS = 16
"""Up to so many entries of the input that are free to move, boxes are halved; beyond, activations are split."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """trees: proved, for all clauses but those in `left`. method: "crown" for one linear bound, else which cases were
    distinguished. falsified: `point` accepted an input. complete: False where only time ended the search. visited: how
    many subproblems were bounded. frame: the ranges on the whole domain, None where there was no time for them."""

    number: int
    trees: tuple[Tree, ...]
    left: tuple[int, ...]
    method: str
    frame: Frame | None
    falsified: bool = False
    complete: bool = True
    visited: int = 1

    @property
    def is_proof(self) -> bool:
        """Whether no clause is left."""
        return not self.left


class _OutOfTime(Exception):
    """Raised by a clock inside a computation of ranges."""


def refute_at_once(
    query: Query, number: int = 0, slack: Array | None = None, deadline: float | None = None
) -> Outcome:
    """What one linear bound of each constraint proves; number: of the query, for the trees.

    slack: g_k must exceed slack_k for a constraint of the clause; zeros if None. Raises TypeError for an operator
    without a linear relaxation.
    """
    size = query.graph.output_size

    def tick() -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise _OutOfTime

    try:
        frame = cells_of(query.graph, query.domain, tick=tick)
    except _OutOfTime:
        return Outcome(number, (), tuple(range(len(query.clauses))), "crown", None, complete=False)
    rows = np.eye(size).reshape(size, *query.graph.output_shape)
    least = lower_bounds(frame, len(query.graph.nodes), rows).least - _slack(frame, slack)
    empty = bool(frame.is_empty().any())
    proved = [k for k, clause in enumerate(query.clauses) if empty or (least[list(clause)] > 0).any()]
    left = tuple(k for k in range(len(query.clauses)) if k not in proved)
    if not proved:
        return Outcome(number, (), left, "crown", frame)
    weights = []
    for k in proved:
        known = np.nan_to_num(least[list(query.clauses[k])], nan=-np.inf)
        weights.append((np.arange(len(known)) == (known.argmax() if len(known) else 0)).astype(np.float64))
    tree = GrowingTree(number, tuple(proved))
    tree.close(0, tuple(weights))
    return Outcome(number, (tree.finished(),), left, "crown", frame)


class Branching:
    """A proof by cases of what `refute_at_once` left, as a search that can be continued."""

    def __init__(
        self,
        query: Query,
        known: Outcome,
        slack: Array | None = None,
        point: Callable[[Array], bool] = lambda x: False,
        device: str = "cpu",
    ):
        """point: told of inputs at which g may be unsafe; True ends the search."""
        self._known = known
        self._search: InputSplit | NeuronSplit | None = None
        hopeless = any(not query.clauses[k] for k in known.left)  # a clause without constraints is unsafe everywhere
        if known.is_proof or known.frame is None or hopeless:
            return
        cases = query, known.number, known.left, _slack(known.frame, slack)
        if int((query.domain.low < query.domain.high).sum()) <= FEW_INPUTS:
            self._search = InputSplit(*cases, point)
        else:
            from certlip.bounds.neuron_split import NeuronSplit

            self._search = NeuronSplit(*cases, known.frame, device)

    def run(self, deadline: float | None) -> Outcome:
        """What is proved by the deadline."""
        known, search = self._known, self._search
        if search is None:
            return known
        done = search.run(deadline)
        trees, left = (*known.trees, *search.trees), () if done else known.left
        state = search.falsified, done or search.stuck, search.visited
        return Outcome(known.number, trees, left, search.method, known.frame, *state)


def refute(
    query: Query,
    number: int = 0,
    slack: Array | None = None,
    deadline: float | None = None,
    point: Callable[[Array], bool] = lambda x: False,
    device: str = "cpu",
) -> Outcome:
    """Both, one after the other."""
    return Branching(query, refute_at_once(query, number, slack, deadline), slack, point, device).run(deadline)


def _slack(frame: Frame, slack: Array | None) -> Array:
    """With a margin that a proof can lose on another machine, where sums of floats round differently."""
    spare = _SPARE * frame.magnitude(len(frame.graph.nodes))[0].reshape(-1)
    spare = np.where(np.isfinite(spare), spare, 0.0)
    return spare if slack is None else slack + spare
