"""Bounds on a ball or box around a sample, where activations show narrower slopes than everywhere."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from certlip.graph import Graph
from certlip.lipschitz.bound import Bound
from certlip.lipschitz.certifier import PORTABILITY, Witness
from certlip.lipschitz.multipliers import propose
from certlip.proofs.local import gain, gains, local_form, local_slopes, pointwise_graph, prove_local_lipsdp
from certlip.proofs.neuron_form import NoNeuronForm
from certlip.proofs.ranges import Region
from certlip.properties import Output, select
from certlip.rigor.rounding import up

METHOD = "lipsdp local"
TOO_LARGE = "the region is too large for local bounds to gain anything; use a smaller eps"
LINEAR = "the network has no activations, so its bound is the same everywhere"


def local_bound(
    graph: Graph,
    output: Output,
    region: Region,
    norm: str = "l2",
    deadline: float | None = None,
    target: float | None = None,
) -> Bound:
    """A proved L with |f(x) - f(y)| <= L |x - y| in `norm` for x, y in the region, by LipSDP with local slopes.

    graph: the raw graph of the imported model. First the multipliers in closed form, then, unless they prove less than
    `target`, those of the semidefinite program. `proved` is false, with the reason in `note`, where no neuron's slopes
    are narrower than everywhere, the network has no LipSDP or the deadline (a `time.monotonic` value) has passed.
    """
    began = time.monotonic()
    details: dict[str, Any] = {}

    def nothing(note: str) -> Bound:
        seconds = time.monotonic() - began
        return Bound(METHOD, norm, output, float("inf"), False, seconds, note=note, details=details, region=region)

    if deadline is not None and began >= deadline:
        details["status"] = "deadline"
        return nothing("the time budget was spent before this bound could be tried")
    chosen = select(graph, output)
    try:
        pieces = pointwise_graph(chosen)
        slopes = local_slopes(pieces, region)
        found = gain(pieces, slopes)
        details |= {"fixed": found.fixed, "narrowed": found.narrowed, "neurons": found.neurons}
        if not gains(pieces, slopes):
            return nothing(TOO_LARGE if found.neurons else LINEAR)
        local_form(chosen, region)
    except NoNeuronForm as reason:
        return nothing(str(reason))
    value, witness = _search(chosen, region, norm, deadline, target)
    details = {**witness.details, **details}
    if not np.isfinite(value):
        return nothing("no witness was proved; a longer timeout may help")
    value = up(value * (1.0 + PORTABILITY)) if value > 0 else value
    seconds = time.monotonic() - began
    return Bound(
        METHOD, norm, output, value, True, seconds, witness.arrays, "lipsdp", str(found), details, region=region
    )


def _search(
    graph: Graph, region: Region, norm: str, deadline: float | None, target: float | None
) -> tuple[float, Witness]:
    """The best value proved, infinite for none, and its witness."""
    best = float("inf"), Witness()
    form = local_form(graph, region)
    for engine in ("closed form", "auto"):
        if deadline is not None and time.monotonic() >= deadline:
            return best[0], Witness(best[1].arrays, {**best[1].details, "status": "deadline"})
        try:
            with np.errstate(all="ignore"):  # what overflows proposes nothing; the proof decides
                witness = propose((form,), norm, engine, deadline=deadline)
            with threadpool_limits(1, user_api="blas"):
                value = prove_local_lipsdp(graph, norm, witness.arrays, region)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):  # a search may fail, its numbers being floats
            continue
        if value < best[0]:
            best = value, witness
        if target is not None and best[0] * (1.0 + 2.0 * PORTABILITY) < target:
            break
    return best
