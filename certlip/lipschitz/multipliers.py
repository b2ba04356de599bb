"""From forms to multipliers that prove a bound: choose an engine, run it, move its offer inside until a proof holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from certlip.graph import Graph
from certlip.lipschitz.certifier import Witness
from certlip.lipschitz.threads import threads_for
from certlip.proofs.form import Form
from certlip.proofs.neuron_form import activations, dense_matrices
from certlip.proofs.optimality import least_bound
from certlip.proofs.torus import prove_stages
from certlip.rigor.rounding import Array

if TYPE_CHECKING:
    from certlip.solvers.problem import LipSDP as Program
    from certlip.solvers.problem import Norm, Proposal

Engine = Literal["auto", "closed form", "interior point", "first order", "conic"]
Mode = Literal["neuron", "layer"]

_STEPS = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""How far an offer is moved into the interior, until its proof goes through: a retry costs this much tightness."""

INTERIOR_ORDER = 4000
"""Inputs plus neurons up to which the interior point's dense matrices are written out."""

_NEAR = 0.999
"""An interior point that halts further than this from its proved lower value leaves the rest to the ascent."""

_BACKWARDS, _BRIEF = 4.0, 10.0
"""The time of both closed forms and their proof over that of the first; the seconds up to which the second is worth it:
where one takes longer, a search is."""

_ROOM = 1e-8
"""The share by which multipliers of the sweeps are raised: theirs are those for which M is singular, and a proof that
fails costs as much as one that does not."""

_WRITTEN = 25.0
"""Floating-point operations, over the cube of a group's size, until the closed form is proved: three convolutions with
4096 neurons each took 184 s on a core that others used as well."""


@dataclass(frozen=True, eq=False)
class Offer:
    """Multipliers of a form's stages, unproved, and a point inside the feasible set to move towards.

    details: "least" is a proved number below every bound that multipliers of this kind could prove (0 for none).
    """

    arrays: Mapping[str, Array]
    inside: Mapping[str, Array]
    details: Mapping[str, Any]
    resume: Any = None


def propose(
    stages: Sequence[Form],
    norm: str,
    engine: Engine = "auto",
    mode: Mode = "neuron",
    tolerance: float = 1e-7,
    deadline: float | None = None,
    resume: Any = None,
    device: str = "cpu",
) -> Witness:
    """A witness for `prove_stages`, as good as the engine finds before the deadline. device: where the first-order
    engine computes, in torch's words; what it finds is proved on the CPU all the same."""
    if mode == "layer":
        stages = [layered(form) for form in stages]

    def searched(engine: Engine, choice: str) -> tuple[float, Witness]:
        """What the engine's offer proves, and the witness that proves it."""
        began = time.monotonic()
        if engine == "interior point":
            offer = _interior_point(stages[0], norm, mode, tolerance, deadline)
        elif engine == "conic":
            offer = _conic(stages[0], norm, mode, deadline)
        else:
            offer = _first_order(stages, norm, tolerance, deadline, resume, engine == "closed form", device)
        details = {"solver": engine, "choice": choice, "mode": mode, "seconds_search": time.monotonic() - began}
        with threads_for(largest_block(stages)):
            value, arrays = proved(stages, norm, offer)
        return value, Witness(arrays, {**details, **offer.details}, offer.resume)

    if engine != "auto":
        return searched(engine, "")[1]
    chosen, choice = choose(stages, norm)
    value, witness = searched(chosen, choice)
    halted = chosen == "interior point" and witness.details["status"] == "stalled"
    if halted and witness.details["least"] < _NEAR * value:
        with suppress(ArithmeticError, ValueError):  # the second search may fail where the first one did
            other, second = searched("first order", "first order: the interior point came to a halt")
            return second if other < value else witness
    return witness


def choose(stages: Sequence[Form], norm: str) -> tuple[Engine, str]:
    """The engine expected to be quicker, and why in one line."""
    from certlip.solvers import cost, first_order_cost

    neurons = sum(form.neurons for form in stages)
    first = first_order_cost.search(stages)
    if len(stages) > 1 or not stages[0].is_dense:
        return "first order", f"first order: {neurons} multipliers over frequencies, about {_duration(first)}"
    order = stages[0].sizes[0] + neurons
    if order > INTERIOR_ORDER:
        return "first order", f"first order: {neurons} neurons, about {_duration(first)}; too many for interior point"
    second = cost.seconds(program(stages[0], norm))
    if second < first:
        return "interior point", f"interior point: {neurons} neurons, about {_duration(second)}"
    reason = f"about {_duration(first)} where the interior point needs {_duration(second)}"
    return "first order", f"first order: {neurons} neurons, {reason}"


def engine_seconds(stages: Sequence[Form], norm: str, engine: Engine) -> float:
    """Expected time of an engine on these forms, the proof included."""
    from certlip.solvers import cost, first_order_cost

    if engine == "closed form":
        return (_BACKWARDS if _is_plain(stages) else 1.0) * first_order_cost.sweep(stages)
    order = stages[0].sizes[0] + stages[0].neurons
    by_ascent = first_order_cost.search(stages)
    if engine == "first order" or len(stages) > 1 or not stages[0].is_dense or order > INTERIOR_ORDER:
        return by_ascent
    by_interior_point = cost.seconds(program(stages[0], norm))
    return by_interior_point if engine == "interior point" else min(by_ascent, by_interior_point)


def written_seconds(graph: Graph) -> float:
    """Expected time to write the graph out, to find multipliers in closed form and to prove them."""
    from certlip.solvers.speed import gemm_rate

    return sum(_WRITTEN * prod(shape) ** 3 for _, shape in activations(graph)) / gemm_rate()


def layered(form: Form) -> Form:
    """The form with one multiplier for each group instead of one per neuron."""
    groups = tuple(np.full(len(index), k) for k, index in enumerate(form.variables))
    return replace(form, variables=groups)


def program(form: Form, norm: str) -> Program:
    """A dense form as the interior point reads it."""
    from certlip.solvers.problem import LipSDP as Program

    low, high = (np.concatenate([np.zeros(0), *slopes]) for slopes in (form.low, form.high))
    return Program(*dense_matrices(form), form.sizes[0], low, high, form.sizes[1:-1], norm_of(norm))


def largest_block(stages: Sequence[Form]) -> int:
    """Rows of the largest group at one frequency."""
    return max(size for form in stages for size in (1, *form.sizes[1:-1]))


def norm_of(norm: str) -> Norm:
    return "linf" if norm == "linf" else "l2"


def _interior_point(form: Form, norm: str, mode: Mode, tolerance: float, deadline: float | None) -> Offer:
    from certlip.solvers.interior_point import solve

    problem = program(form, norm)
    found = solve(problem, mode=mode, tolerance=tolerance, deadline=deadline, want_primal=True)
    details: dict[str, Any] = {"status": found.status, "iterations": found.iterations, "least": 0.0}
    if found.primal is not None and found.primal.size:
        ends = np.cumsum([0, *form.sizes[:-1]])
        signals = [found.primal[None, start:stop] for start, stop in pairwise(ends)]
        details["least"] = least_bound([form], norm, [signals])
    return _proposed(problem, found, details)


def _conic(form: Form, norm: str, mode: Mode, deadline: float | None) -> Offer:
    from certlip.solvers.conic import available, solve

    usable, reason = {name: (works, reason) for name, works, reason in available()}["MOSEK"]
    solver, remark = ("MOSEK", "") if usable else ("CLARABEL", f"MOSEK was passed over: {reason}")
    problem = program(form, norm)
    found = solve(problem, mode=mode, solver=solver, deadline=deadline)
    gap = max(0.0, 1.0 - (1.0 - found.gap) ** 0.5)
    details = {"status": found.status, "iterations": found.iterations, "estimated_gap": gap}
    return _proposed(problem, found, {**details, "solver": f"cvxpy with {solver}", "remark": remark})


def _proposed(problem: Program, found: Proposal, details: Mapping[str, Any]) -> Offer:
    from certlip.solvers.start import feasible_start

    inside = dict(zip(("metric", "multipliers"), feasible_start(problem), strict=True))
    return Offer({"metric": found.metric, "multipliers": found.multipliers}, inside, details)


def _first_order(
    stages: Sequence[Form],
    norm: str,
    tolerance: float,
    deadline: float | None,
    resume: Any,
    closed: bool,
    device: str,
) -> Offer:
    from certlip.solvers.first_order import Search

    began = time.monotonic()
    with threads_for(largest_block(stages)):
        search = Search(stages, norm, device)
        found, inside = search.closed_form(), search.interior()
        spent = time.monotonic() - began  # about what the proof takes as well
        if not closed:
            found = search.run(tolerance, None if deadline is None else deadline - spent, resume or ())
        elif spent < _BRIEF and _is_plain(stages) and (deadline is None or began + _BACKWARDS * spent < deadline):
            found = search.closed_form_backwards()
    details: dict[str, Any] = {"status": found.status, "iterations": found.iterations}
    if not closed:
        details["least"] = least_bound(stages, norm, found.signals) if found.signals else 0.0
    return Offer(_arrays(stages, found, 1.0 + _ROOM), _arrays(stages, inside, 1.1), details, found.resume)


def _is_plain(stages: Sequence[Form]) -> bool:
    """One dense network with a multiplier for each neuron."""
    return len(stages) == 1 and stages[0].is_dense and stages[0].neurons == sum(stages[0].sizes[1:-1])


def _arrays(stages: Sequence[Form], found: Any, factor: float) -> dict[str, Array]:
    """The witness, every stage with `factor` times what the next one starts from. One multiplier per neuron where a
    dense group shares one; a cut only between stages."""
    powers = [factor ** (len(stages) - position) for position in range(len(stages))]
    ends = np.cumsum([0, *(form.neurons for form in stages)])
    own = [found.multipliers[slice(*pair)] * power for pair, power in zip(pairwise(ends), powers, strict=True)]
    arrays = {"metric": powers[0] * found.metric, "multipliers": np.concatenate([np.zeros(0), *own])}
    if len(stages) > 1 or not stages[0].is_dense:
        arrays["cut"] = powers[-1] * found.cut
    elif stages[0].neurons < sum(stages[0].sizes[1:-1]):
        arrays["multipliers"] = np.concatenate([arrays["multipliers"][index] for index in stages[0].variables])
    return arrays


def proved(stages: Sequence[Form], norm: str, offer: Offer) -> tuple[float, dict[str, Array]]:
    """The first step from the offer towards the interior that proves something, and what it proves."""
    whole = [_separate(form) for form in stages]
    value, arrays = float("inf"), dict(offer.arrays)
    for step in _STEPS:
        arrays = {
            name: np.maximum(array + step * (offer.inside[name] - array), 0.0) for name, array in offer.arrays.items()
        }
        value = prove_stages(whole, norm, arrays)
        if np.isfinite(value):
            break
    return value, arrays


def _separate(form: Form) -> Form:
    """One multiplier per neuron again: the form that the theorem is about."""
    if not form.is_dense:
        return form
    ends = np.cumsum([0, *form.sizes[1:-1]])
    return replace(form, variables=tuple(np.arange(*pair) for pair in pairwise(ends)))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1g} s"
