"""A restriction through cvxpy: Clarabel, or MOSEK where a licence is found."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any, Literal

from certlip.repairs.convex.objective import Objective
from certlip.repairs.convex.program import Program
from certlip.repairs.convex.shallow import Shallow
from certlip.solvers import conic

Status = Literal["solved", "inaccurate", "deadline", "failed"]

_NAMES = {"clarabel": "CLARABEL", "mosek": "MOSEK"}


def unusable(solver: str) -> str | None:
    """Why this solver cannot be used here, as a sentence; None where it can."""
    name = _NAMES[solver]
    return next((reason for listed, usable, reason in conic.available() if listed == name and not usable), None)


def solve(
    program: Program, objective: Objective, solver: str = "clarabel", deadline: float | None = None
) -> Iterator[tuple[Shallow, Status]]:
    """The network at the program's optimum, as far as the solver got; nothing where it has none.

    Minimises majorised loss + penalty L, or the majorised loss subject to L <= limit, as `objective` has it. Nothing is
    claimed of the network: it is evaluated by whoever asked. deadline: a value of time.monotonic().
    """
    import cvxpy as cp

    problem = cp.Problem(*stated(program, objective))
    problem.get_problem_data(_NAMES[solver])  # kept by the problem: what is left then is the solver's own time
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        return
    status: Status
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a solution is inaccurate is in its status
            problem.solve(solver=_NAMES[solver], **conic.time_limit(_NAMES[solver], left))
        late = deadline is not None and time.monotonic() >= deadline
        status = "solved" if problem.status == cp.OPTIMAL else "deadline" if late else "inaccurate"
    except cp.SolverError:
        status = "failed"  # there may be a point all the same
    found = program.solution()
    if found is not None:
        yield found, status


def stated(program: Program, objective: Objective) -> tuple[Any, list[Any]]:
    """The cvxpy objective and constraints."""
    import cvxpy as cp

    total, constraints = 0, list(program.constraints)
    for scores in objective.scores:
        terms, more = objective.loss.conic(program.majorant(scores.rows, scores.K) + scores.offset)
        total, constraints = total + terms, constraints + more
    goal = total / objective.count
    if objective.limit is not None:
        return cp.Minimize(goal), [*constraints, program.lipschitz <= objective.limit]
    return cp.Minimize(goal + objective.penalty * program.lipschitz), constraints
