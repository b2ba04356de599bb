"""The same LMI through cvxpy: the reference for small networks, and the way to MOSEK.

Nothing is shared with the interior-point method but the statement of the problem: the matrix is written down
entry by entry from ``g_j`` and ``h_j``. Time and memory grow steeply: beyond about a hundred neurons use
``interior_point``.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from certlip.errors import UsageError
from certlip.solvers.problem import Array, LipSDP, Mode, Proposal, Status
from certlip.solvers.start import feasible_start, is_interior

SOLVERS = ("CLARABEL", "SCS", "MOSEK")


def solve(
    problem: LipSDP, *, mode: Mode = "neuron", solver: str = "CLARABEL", deadline: float | None = None
) -> Proposal:
    """Solve ``problem`` with a general conic solver; ``deadline`` is a value of ``time.monotonic()``.

    The solver's point, feasible only up to its tolerance, is mixed with the closed-form start, from a share
    of ``1e-10`` up, until ``M`` is positive definite in floating point. Without a point the closed-form start
    itself is returned. Raises ``UsageError`` when the solver cannot be used here, with the reason.
    """
    began = time.monotonic()
    if solver not in SOLVERS:
        raise UsageError(f"Unknown conic solver {solver!r}: choose one of {', '.join(SOLVERS)}.")
    usable, reason = _probe(solver)
    if not usable:
        raise UsageError(f"{solver} cannot be used: {reason}")
    start = feasible_start(problem, mode="layer")
    witness, lower, iterations = start, 0.0, 0
    status: Status = "deadline"
    scale = problem.objective(start[0])
    # Solvers' tolerances are absolute near zero: bring the optimum near one, again if the start misjudged it.
    for _ in range(3):
        if deadline is not None and time.monotonic() >= deadline:
            break
        found, lower, steps, status = _solved(problem, mode, solver, deadline, scale)
        iterations += steps
        witness = witness if found is None else found
        if status != "solved" or problem.objective(witness[0]) > 0.1 * scale or lower <= 0:
            break
        scale = problem.objective(witness[0])
    metric, T = _slightly_inside(problem, witness, start)
    return Proposal(metric, T, problem.objective(metric), lower, iterations, time.monotonic() - began, status)


def available() -> list[tuple[str, bool, str]]:
    """``(name, usable, reason)`` for every conic solver that certlip can address."""
    return [(solver, *_probe(solver)) for solver in SOLVERS]


def _solved(
    problem: LipSDP, mode: Mode, solver: str, deadline: float | None, scale: float
) -> tuple[tuple[Array, Array] | None, float, int, Status]:
    """Witness, lower estimate, iterations and status of one solve, the objective divided by ``scale``."""
    import cvxpy as cp

    n0, N, n = problem.inputs, problem.neurons, problem.size
    C = problem.C / np.sqrt(scale)
    axes = np.eye(n)[:, :n0]
    if problem.norm == "l2":
        cost = cp.Variable(nonneg=True)
        metric = cost * np.ones(n0)
    else:
        metric = cp.Variable(n0, nonneg=True)
        cost = cp.sum(metric)
    M = axes @ cp.diag(metric) @ axes.T - C.T @ C
    T = cp.Constant(np.zeros(0))
    if N:
        shared = np.eye(N)
        if mode == "layer":
            shared = np.repeat(np.eye(len(problem.layers)), problem.layers, axis=0)
        T = shared @ cp.Variable(shared.shape[1], nonneg=True)
        G, H = (np.eye(n)[:, n0:] - slopes * problem.V.T for slopes in (problem.a, problem.b))
        M = M + G @ cp.diag(T) @ H.T + H @ cp.diag(T) @ G.T
    positive = (M + M.T) / 2 >> 0
    program = cp.Problem(cp.Minimize(cost), [positive])
    try:
        program.get_problem_data(solver)  # kept by the program: what is left then is the solver's own
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            return None, 0.0, 0, "deadline"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a solution is inaccurate is in its status, and the proof decides
            program.solve(solver=solver, **time_limit(solver, remaining))
    except cp.SolverError:
        return None, 0.0, 0, "stalled"
    late = deadline is not None and time.monotonic() >= deadline
    status: Status = "solved" if program.status == cp.OPTIMAL else "deadline" if late else "stalled"
    iterations = int(program.solver_stats.num_iters or 0) if program.solver_stats else 0
    if metric.value is None or T.value is None:
        return None, 0.0, iterations, status
    X = positive.dual_value
    lower = 0.0 if X is None else scale * max(float(np.sum((C.T @ C) * X)), 0.0)
    witness = scale * np.maximum(metric.value, 0.0), scale * np.maximum(T.value, 0.0)
    return witness, lower, iterations, status


def _slightly_inside(
    problem: LipSDP, witness: tuple[Array, Array], start: tuple[Array, Array]
) -> tuple[Array, Array]:
    for share in np.logspace(-10, 0, 21):
        metric, T = ((1.0 - share) * mine + share * safe for mine, safe in zip(witness, start, strict=True))
        if is_interior(problem, metric, T):
            return metric, T
    return start


def time_limit(solver: str, seconds: float | None) -> dict[str, Any]:
    if seconds is None:
        return {}
    if solver == "MOSEK":
        return {"mosek_params": {"MSK_DPAR_OPTIMIZER_MAX_TIME": seconds}}
    return {"time_limit" if solver == "CLARABEL" else "time_limit_secs": seconds}


def _probe(solver: str) -> tuple[bool, str]:
    """Whether ``solver`` can be used and why, in a sentence: being listed as installed is no licence."""
    try:
        import cvxpy as cp
    except ImportError:
        return False, "cvxpy is not installed."
    if solver not in cp.installed_solvers():
        return False, f"The package of {solver} is not installed."
    if solver != "MOSEK":
        return True, "It is installed and needs no licence."
    tiny = cp.Variable((2, 2), PSD=True)
    try:
        cp.Problem(cp.Minimize(cp.trace(tiny)), [tiny[0, 1] == 1]).solve(solver=solver)
    except Exception as error:  # a missing licence has an exception class of its own in each release
        return (
            False,
            f"It is installed, but a tiny problem failed ({type(error).__name__}): is there a licence?",
        )
    return True, "It is installed and solved a tiny problem."
