"""LipSDP over stages: a convolutional part over frequencies, then a dense head, joined by a metric.

Theorem. If the first stage proves |Du|^2_D <= Dx'PDx for the value u between the two (`torus_form`) and the second
|Df|^2 <= |Du|^2_D, then |Df|_2^2 <= Dx'PDx, and so |Df|_2 <= sqrt(max P) |Dx|_2 and |Df|_2 <= sqrt(sum P) |Dx|_inf, the
sum being over all entries of the input. D has one entry per channel of u, shared by its pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from certlip.graph import Graph
from certlip.proofs.form import Form
from certlip.proofs.lipsdp import is_feasible, prove_form
from certlip.proofs.torus_form import torus_stages
from certlip.rigor.rounding import Array


def prove_torus(graph: Graph, norm: str, witness: Mapping[str, Array]) -> float:
    """The bound that `metric` (channels of x), `multipliers` and `cut` (channels of u, or none) prove, or infinity."""
    return prove_stages(torus_stages(graph), norm, witness)


def prove_stages(stages: Sequence[Form], norm: str, witness: Mapping[str, Array]) -> float:
    """`prove_torus` for a network already written out, of one stage or two."""
    metric, multipliers = witness["metric"], witness["multipliers"]
    if len(stages) == 1:
        if "cut" in witness and witness["cut"].size:
            return float("inf")
        return prove_form(stages[0], norm, metric, multipliers)
    first, second = stages
    cut, counts = witness["cut"], (first.neurons, second.neurons)
    if multipliers.shape != (sum(counts),) or cut.shape != second.metric_count.shape:
        return float("inf")
    own, head = multipliers[: counts[0]], multipliers[counts[0] :]
    if not (np.isfinite(head) & (head >= 0)).all() or not (np.isfinite(cut) & (cut >= 0)).all():
        return float("inf")
    if not is_feasible(second, cut, head):
        return float("inf")
    return prove_form(first, norm, metric, own, cut)
