"""Search for a proof that no input is unsafe: one linear bound, then branch and bound over the input or over neurons."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from certlip.bounds.forest import GrowingTree
from certlip.bounds.input_split import InputSplit
from certlip.proofs.query import Query
from certlip.proofs.relaxation.backward import lower_bounds
from certlip.proofs.relaxation.branches import Tree
from certlip.proofs.relaxation.cells import cells_of
from certlip.rigor.rounding import Array

FEW_INPUTS = 16
"""Up to so many entries of the input that are free to move, boxes are halved; beyond, activations are split."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """trees: what `certlip.proofs.relaxation.branches` accepts for all clauses, None where no proof was found.

    method: "crown" for one linear bound, else which branching. falsified: `point` accepted an input. complete: False
    where only time ended the search. visited: bounded subproblems.
    """

    trees: tuple[Tree, ...] | None
    method: str
    falsified: bool = False
    complete: bool = True
    visited: int = 0


def refute(
    query: Query,
    number: int = 0,
    slack: Array | None = None,
    deadline: float | None = None,
    point: Callable[[Array], bool] = lambda x: False,
    device: str = "cpu",
) -> Outcome:
    """Look for a proof that all g_k(x) <= slack_k of a clause never hold together.

    number: of the query, for the trees. point: told of inputs at which g may be unsafe; True ends the search.
    Raises TypeError for an operator without a linear relaxation.
    """
    size = query.graph.output_size
    slack = np.zeros(size) if slack is None else slack
    frame = cells_of(query.graph, query.domain)
    rows = np.eye(size).reshape(size, *query.graph.output_shape)
    least = lower_bounds(frame, len(query.graph.nodes), rows).least - slack
    empty = bool(frame.is_empty().any())
    at_once = [k for k, clause in enumerate(query.clauses) if empty or any(least[list(clause)] > 0)]
    trees: list[Tree] = []
    if at_once:
        tree = GrowingTree(number, tuple(at_once))
        weights = []
        for k in at_once:
            chosen = np.zeros(len(query.clauses[k]))
            chosen[int(np.nan_to_num(least[list(query.clauses[k])], nan=-np.inf).argmax()) if len(chosen) else 0] = 1.0
            weights.append(chosen)
        tree.close(0, tuple(weights))
        trees.append(tree.finished())
    rest = tuple(k for k in range(len(query.clauses)) if k not in at_once)
    if not rest:
        return Outcome(tuple(trees), "crown", visited=1)
    if deadline is not None and time.monotonic() > deadline:
        return Outcome(None, "crown", complete=False, visited=1)
    free = int((query.domain.low < query.domain.high).sum())
    if free <= FEW_INPUTS:
        boxes = InputSplit(query, number, rest, slack, point)
        done = boxes.run(deadline)
        found = (boxes.tree,) if boxes.tree is not None else ()
        return Outcome((*trees, *found) if done else None, "input splits", boxes.falsified, done, boxes.visited + 1)
    from certlip.bounds.neuron_split import NeuronSplit

    neurons = NeuronSplit(query, number, rest, slack, frame, device, point)
    done = neurons.run(deadline)
    complete = done or neurons.stuck
    proof = (*trees, *(neurons.trees or ())) if done else None
    return Outcome(proof, "neuron splits", neurons.falsified, complete, neurons.visited + 1)
