"""Rounds of convex restrictions around the best network so far, each evaluated as it is before it counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.errors import UsageError
from certlip.repairs.convex import conic
from certlip.repairs.convex.both_layers import BothLayers
from certlip.repairs.convex.coordinates import Coordinates, span
from certlip.repairs.convex.hidden import DifferenceOfConvex, FrozenPatterns
from certlip.repairs.convex.last_layer import LastLayer
from certlip.repairs.convex.objective import Objective, Value
from certlip.repairs.convex.program import Program
from certlip.repairs.convex.shallow import Shallow, multipliers
from certlip.solvers.problem import Array

PROGRAMS = ("R1", "R2", "R3")
SOLVERS = ("auto", "clarabel", "mosek", "first-order")

SLACK = 1e-5
"""How far below the target candidates stay, relative to it: room for the proof, and for weights rounded to float32."""

_GAIN, _ENOUGH = 1e-9, 1e-5
"""The relative gain from which a candidate counts as better, and the gain of a round from which another one follows."""

_USED = 1e-4
"""The share of a limit that a candidate may leave unused without being stretched to it."""


@dataclass(frozen=True, eq=False)
class Round:
    """A network better than all before it. `lipschitz` is its LipSDP value in floats; a proof is made elsewhere.

    objective: loss + penalty L, or the loss alone where L is limited. program: what found it; seconds: since its
    program was begun; status: what the solver says of itself.
    """

    net: Shallow
    objective: float
    loss: float
    lipschitz: float
    number: int
    program: str
    solver: str
    seconds: float
    status: str


def improve(
    net: Shallow,
    x: Array,
    y: NDArray[Any],
    *,
    loss: str,
    penalty: float | None = None,
    target: float | None = None,
    program: str = "R2",
    solver: str = "auto",
    margin: float = 0.0,
    rounds: int = 20,
    deadline: float | None = None,
    device: str = "cpu",
) -> Iterator[Round]:
    """Ever better networks of the same sizes, starting from `net`; nothing where none is found.

    Minimises loss(f) + penalty L(f), or loss(f) subject to L(f) <= target, for the mean `loss` over x: (N, d) and
    targets y: (N,) or (N, o), or integer labels (N,). Each network that is yielded has a lower true objective than
    `net` and all before, evaluated on the network itself, not on a program's variables, and an L of at most
    (1 - SLACK) target. L is the LipSDP value in floating point.

    program: "R1" (frozen patterns), "R2" (difference of convex functions), "R3" (both layers at once). With several
    outputs each round is followed by the exactly convex program of the last layer. solver: "clarabel", "mosek",
    "first-order" (R2 only), or "auto", by size. margin: how much classes should win by, added to the rivals' scores.
    Ends after `rounds` rounds, when a round gains next to nothing, or at `deadline`, a value of time.monotonic().
    device: of torch, for "first-order".

    Raises UsageError where the arguments do not fit, where the start's L exceeds the target, and where a conic program
    is too large to be written down.
    """
    if program not in PROGRAMS:
        raise UsageError(f"unknown program '{program}'; choose one of {', '.join(PROGRAMS)}")
    if solver not in SOLVERS:
        raise UsageError(f"unknown solver '{solver}'; choose one of {', '.join(SOLVERS)}")
    if solver == "first-order" and program != "R2":
        raise UsageError(f"the first-order solver knows R2 only; choose R2, or another solver for {program}")
    if solver in ("clarabel", "mosek") and (reason := conic.unusable(solver)):
        raise UsageError(f"{solver} cannot be used: {reason}")
    if (program != "R2" or solver in ("clarabel", "mosek")) and (reason := too_large(net, len(x))):
        raise UsageError(reason)
    limit = None if target is None else (1.0 - SLACK) * target
    objective = Objective.of(net, x, y, loss, penalty, limit, margin)
    began = time.monotonic()
    value = objective.value(net)
    if deadline is not None:
        deadline -= 2.5 * (time.monotonic() - began)  # what evaluating the last candidate takes
    if target is not None and value.lipschitz > (1.0 + SLACK) * target:
        raise UsageError(
            f"the start's L, {value.lipschitz:.6g}, exceeds the target {target:.6g}; scale the start first"
        )
    return _rounds(net, value, objective, program, solver, rounds, deadline, device)


def too_large(net: Shallow, samples: int) -> str | None:
    """Why a conic program, all that R1 and R3 have, cannot be written down for this network; None where it can."""
    order, work = net.inputs + net.neurons + net.outputs, net.neurons * samples
    if order <= _LARGEST_ORDER and work <= _LARGEST_WORK:
        return None
    size = f"{net.neurons} neurons, {net.inputs} inputs and {samples} samples"
    return f"a conic program for {size} would exhaust the memory; choose R2 with the first-order solver"


def _rounds(
    net: Shallow,
    value: Value,
    objective: Objective,
    program: str,
    solver: str,
    rounds: int,
    deadline: float | None,
    device: str,
) -> Iterator[Round]:
    stages = (program, "last layer") if net.outputs > 1 else (program,)
    basis = span(objective.x)
    inner = objective if basis is None else objective.at(objective.x @ basis)
    patterns: FrozenPatterns | None = None
    for number in range(1, rounds + 1):
        before = value.objective
        for stage in stages:
            began = time.monotonic()
            if (deadline is not None and began >= deadline) or value.lipschitz <= 0:
                return
            coordinates = Coordinates.of(net, basis)
            start = coordinates.inside(net)
            chosen = _solver(solver, stage, start, inner)
            if chosen == "first-order":
                from certlip.repairs.convex import first_order

                found = first_order.solve(start, inner, stage, deadline, device)
            else:
                restriction = restricted(stage, start, inner.x, patterns)
                patterns = restriction if isinstance(restriction, FrozenPatterns) else patterns
                found = conic.solve(restriction, inner, chosen, deadline)
            for offer, status in found:
                candidate, reached = _evaluated(coordinates.outside(offer), objective)
                if reached.objective < value.objective - _GAIN * abs(value.objective):
                    net, value = candidate, reached
                    seconds = time.monotonic() - began
                    yield Round(
                        net, value.objective, value.loss, value.lipschitz, number, stage, chosen, seconds, status
                    )
        if before - value.objective <= _ENOUGH * abs(before):
            return


def restricted(stage: str, start: Shallow, x: Array, before: FrozenPatterns | None = None) -> Program:
    """The program of this name around `start`. before: R1's last one, whose patterns at the boundary are crossed."""
    if stage == "R1":
        return FrozenPatterns(start, x, before)
    if stage == "R2":
        return DifferenceOfConvex(start, x)
    if stage == "R3":
        found = multipliers(start)
        return BothLayers(start, x, found.lipschitz / found.T)
    return LastLayer(start, x)


def _evaluated(net: Shallow, objective: Objective) -> tuple[Shallow, Value]:
    """The candidate and its value. Under a limit it is also scaled to it: back, where a solver's tolerance let L exceed
    it, or up, where a search that was cut short has not used all of it, and that is better."""
    value = objective.value(net)
    limit = objective.limit
    if limit is None or value.lipschitz <= 0 or (1.0 - _USED) * limit <= value.lipschitz <= limit:
        return net, value
    scaled = net.scaled((1.0 - SLACK) * limit / value.lipschitz)
    there = objective.value(scaled)
    if there.lipschitz <= limit and (value.lipschitz > limit or there.loss < value.loss):
        return scaled, there
    return net, value if value.lipschitz <= limit else Value(np.inf, value.loss, value.lipschitz)


_ORDER, _WORK = 60, 20_000
"""The order of the LMI, and neurons times samples, up to which Clarabel takes half a minute at most on one core."""

_LARGEST_ORDER, _LARGEST_WORK = 200, 500_000
"""The same, up to which a conic program is written down: its dense block has 3 GB at this order."""


def _solver(solver: str, stage: str, start: Shallow, objective: Objective) -> str:
    """What "auto" stands for: a conic solver where it takes less than a minute or so, or where nothing else exists."""
    if solver != "auto":
        return solver
    order = start.inputs + start.neurons + start.outputs
    work = len(objective.x) * start.neurons
    if stage in ("R2", "last layer") and (order > _ORDER or work > _WORK):
        return "first-order"
    return "mosek" if conic.unusable("mosek") is None else "clarabel"
