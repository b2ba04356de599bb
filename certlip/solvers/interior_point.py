"""A primal-dual interior-point method for the LipSDP, built on the rank two of its constraints.

With ``y = (metric, multipliers)`` and ``A(X)_k = <A_k, X>`` the pair of programs is

    minimise cost'y     over y >= 0,  S = sum_k y_k A_k - C'C >= 0
    maximise <C'C, X>   over X >= 0,  w = cost - A(X) >= 0

Mehrotra's predictor-corrector follows ``X S = mu I``, ``y w = mu`` (``newton.step``). It begins at the closed-form
multipliers with ``X = mu S^-1``, ``w = mu/y`` for a large ``mu``: exactly on a central path, only not of this primal
program, which the first full primal step makes up for. A strictly feasible primal point is easily written down too, but
in a network of 16 layers ``X S`` then has eigenvalues between ``1e-12`` and ``1`` and half of the iterations
go into centring. The dual side is strictly feasible throughout, ``S`` being rebuilt from ``y``: wherever the
iteration stops, the multipliers prove a bound and the repaired ``X`` shows how far it is from the best one.
Memory is ``O(n^2)``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from certlip.solvers.cone import ConeProgram
from certlip.solvers.cost import memory
from certlip.solvers.newton import Point, factorised, inverse, step
from certlip.solvers.primal import feasible_factor, thin_factor
from certlip.solvers.problem import Array, LipSDP, Mode, Proposal, Status
from certlip.solvers.reduction import Reduction, reduce
from certlip.solvers.speed import libraries
from certlip.solvers.start import feasible_start, is_interior

ONE_THREAD_BELOW = 2000  # the order of M from which BLAS threads pay even if another process takes a core
MAX_ITERATIONS = 150
PATIENCE = 12  # iterations without a smaller gap before the method counts as stalled
INWARDS = 1.5
FAR = 30.0  # mu of the first point over what its value would have on the central path


def solve(
    problem: LipSDP,
    *,
    mode: Mode = "neuron",
    tolerance: float = 1e-8,
    deadline: float | None = None,
    start: tuple[Array, Array] | None = None,
    want_primal: bool = False,
    memory_limit: float | None = None,
) -> Proposal:
    """Minimise the squared Lipschitz bound of ``problem`` over all multipliers (or one per layer).

    ``tolerance`` is the relative duality gap to reach; ``deadline`` a value of ``time.monotonic()``, looked
    at several times in an iteration; ``start`` a witness ``(metric, T)`` that the result will not be worse
    than (up to the last step below), ignored unless it is strictly feasible for ``problem``; ``want_primal``
    asks for ``Proposal.primal``. Raises ``MemoryError`` before allocating anything where ``memory(problem)``
    exceeds ``memory_limit`` bytes.

    The witness returned is positive definite in floating point on the original data, with a relative slack of
    about ``size^2`` units of roundoff: a point from early in the iteration is mixed in with a share of
    ``1e-8``, or more where rounding asks for it. Neurons with ``a = b != 0``, whose multipliers belong at
    infinity, can cost digits here: merge them beforehand. Only a constant network is answered by the zero
    metric, which leaves ``M`` singular.
    """
    began = time.monotonic()
    need = memory(problem)
    if memory_limit is not None and need > memory_limit:
        raise MemoryError(
            f"the interior-point method needs about {need / 1e9:.2g} GB for {problem.size} inputs and neurons, "
            f"more than the {memory_limit / 1e9:.2g} GB it may use"
        )
    reduction = reduce(problem, mode)
    reduced = reduction.reduced
    primal = None
    threads = 1 if reduced.size < ONE_THREAD_BELOW else None
    with libraries().limit(limits=threads, user_api="blas"), np.errstate(all="ignore"):
        if not reduced.C.any():
            metric, T = reduction.lift(np.zeros(reduced.inputs), np.zeros(reduced.neurons))
            primal = np.zeros((problem.size, 0)) if want_primal else None
            return Proposal(metric, T, 0.0, 0.0, 0, time.monotonic() - began, "solved", primal)
        begin = _begin(reduction, mode, start)
        if begin is None:
            metric, T = np.full(problem.inputs, np.inf), np.ones(problem.neurons)
            return Proposal(metric, T, np.inf, 0.0, 0, time.monotonic() - began, "stalled", primal)
        cone, y, best = begin
        path = follow(cone, _far_point(cone, y), best, tolerance, _pause(deadline))
        metric, T = _slightly_inside(reduction, cone, path)
        factor = cone.D[:, None] * path.factor_X
        lower = _value(reduced.C, feasible_factor(reduced, mode, factor), reduction.power)
        if want_primal:
            primal = feasible_factor(problem, mode, reduction.lift_factor(thin_factor(factor)))
            lower = max(lower, _value(problem.C, primal, 0))
    seconds = time.monotonic() - began
    return Proposal(metric, T, problem.objective(metric), lower, path.iterations, seconds, path.status, primal)


@dataclass(frozen=True, eq=False)
class Path:
    """How the iteration ended: its best ``y``, each ``y`` with its room, which of these was the last where ``mu`` meant
    a gap of a half, and a factor of the best ``X``."""

    best: Array
    trail: list[tuple[Array, float]]
    early: int
    factor_X: Array
    iterations: int
    status: Status


class OutOfTime(Exception):
    """The deadline has passed."""


def follow(cone: ConeProgram, point: Point | None, best: Array, tolerance: float, pause: Callable[[], None]) -> Path:
    """Follow the central path from ``point`` to a relative gap of ``tolerance``.

    ``best`` is a feasible ``y`` known already; ``pause`` raises ``OutOfTime`` when it is time to stop.
    """
    trail, early, factor_X = [(best, 0.0)], 0, np.zeros((cone.D.size, 0))
    lower, meant, gaps = 0.0, False, [1.0]
    status: Status = "stalled"
    while point is not None:
        VX = cone.times(point.X)
        residual = cone.cost - point.w - cone.adjoint(point.X, VX)
        # An infeasible primal side pays with the multipliers' size, by weak duality. Those of the optimum are not known
        # and these stand for them: where the price is not small, the value only serves until a better one comes.
        price = float(np.abs(residual) @ point.y)
        found = float(np.vdot(cone.gram, point.X)) - price
        means = price <= max(0.1 * point.mu * point.order, 0.5 * tolerance * float(cone.cost @ best))
        if means > meant or (means == meant and (found > lower or lower == 0.0)):
            lower, factor_X, meant = max(found, 0.0), point.factor_X, means
        if cone.cost @ point.y < cone.cost @ best:
            best = point.y
        value = float(cone.cost @ best)
        gaps.append((value - lower) / value)
        trail.append((point.y, point.room))
        if point.mu * point.order > 0.5 * value:
            early = len(trail) - 1
        if gaps[-1] <= tolerance and meant:
            status = "solved"
            break
        if len(gaps) > MAX_ITERATIONS or gaps[-1] >= gaps[max(len(gaps) - PATIENCE, 0)] < 1.0:
            break
        try:
            pause()
            point = step(cone, point, VX, pause)
        except OutOfTime:
            status = "deadline"
            break
    return Path(best, trail, early, factor_X, max(len(gaps) - 2, 0), status)


def _far_point(cone: ConeProgram, y: Array) -> Point | None:
    """``X = mu S^-1``, ``w = mu/y`` for a large ``mu``."""
    S = cone.combination(y) - cone.gram
    factor_S = factorised(S)
    if factor_S is None:
        return None
    Z = inverse(factor_S)
    mu = FAR * float(cone.cost @ y) / (S.shape[0] + y.size + float(np.vdot(Z, cone.gram)))
    X = mu * Z
    factor_X = factorised(X)
    return None if factor_X is None else Point(y, mu / y, S, X, Z, factor_S, factor_X)


def _begin(
    reduction: Reduction, mode: Mode, start: tuple[Array, Array] | None
) -> tuple[ConeProgram, Array, Array] | None:
    """The program in good coordinates, ``y`` to begin with, and the best ``y`` known; ``None`` if the bound overflows.

    A good ``start`` is near the boundary, a poor place to begin. Multipliers that fall from layer to layer move it
    inwards, for they shrink what couples a layer to the next one. With a start 1 % above the optimum a metric
    of ``INWARDS`` times its value saves a sixth (8 layers) to two fifths (32 layers) of the iterations.
    """
    reduced = reduction.reduced
    first = feasible_start(reduced, mode=mode)
    given = None if start is None else _restricted(reduction, start)
    if given is not None and INWARDS * reduced.objective(given[0]) < reduced.objective(first[0]):
        depth = np.repeat(np.arange(1, len(reduced.layers) + 1), reduced.layers) / (len(reduced.layers) + 1)
        inside = INWARDS * given[0], INWARDS ** (1.0 - depth) * given[1]
        if factorised(reduced.matrix(*inside)) is not None:
            first = inside
    if not np.isfinite(first[0]).all():
        return None
    cone = ConeProgram.scaled(reduced, mode, *first)
    y = best = cone.variables(*first)
    if given is not None:
        best = cone.variables(*given)
        if factorised(cone.combination(best) - cone.gram) is None:  # one multiplier per layer, several in the start
            best = y
    return cone, y, best


def _restricted(reduction: Reduction, start: tuple[Array, Array]) -> tuple[Array, Array] | None:
    """A witness of the original problem for the reduced one; ``None`` unless it is strictly feasible."""
    metric, T = reduction.restrict(*start)
    entries = np.concatenate((metric, T))
    if not np.isfinite(entries).all() or entries.min() <= 0:
        return None
    return (metric, T) if factorised(reduction.reduced.matrix(metric, T)) is not None else None


def _slightly_inside(reduction: Reduction, cone: ConeProgram, path: Path) -> tuple[Array, Array]:
    """The best witness moved inwards, by as little as lets ``M`` on the original data pass the test.

    Inwards is towards a point from early in the iteration, towards the one that offered most room for what it costs,
    or back along the path: nearly constant slopes and rounding decide which of them is best.
    """
    values = np.array([float(cone.cost @ y) for y, _ in path.trail])
    rooms = np.array([room for _, room in path.trail])
    least = float(cone.cost @ path.best)
    excess = np.maximum(values - least, 1e-9 * least)
    ends = dict.fromkeys((path.early, int(np.argmax(rooms / excess))))
    for loss in np.geomspace(1e-8, 1.0, 17):
        level = loss * max(float(excess[path.early]), 1e-3 * least)
        shares = [(k, min(level / float(excess[k]), 1.0)) for k in ends]
        if (excess <= level).any():
            shares.append((int(np.argmax(np.where(excess <= level, excess, 0.0))), 1.0))
        for k, share in shares:
            try:
                witness = reduction.lift(*cone.witness((1.0 - share) * path.best + share * path.trail[k][0]))
            except np.linalg.LinAlgError:  # the reduced matrix is not yet positive definite in floating point
                continue
            if is_interior(reduction.original, *witness):
                return witness
    return feasible_start(reduction.original)


def _value(C: Array, F: Array, power: int) -> float:
    """``|C F|_F^2 4**power``, within the range of floating point."""
    return min(float(np.ldexp(np.linalg.norm(C @ F) ** 2, 2 * power)), sys.float_info.max)


def _pause(deadline: float | None) -> Callable[[], None]:
    def pause() -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise OutOfTime

    return pause
