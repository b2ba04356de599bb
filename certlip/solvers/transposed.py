"""The closed form found backwards: multipliers of the transposed network are multipliers of the network itself.

A neuron's condition T (z - a v)(b v - z) >= 0 says T r^2 (v^2 - w^2) >= 0 for z = m v + r w, m = (a + b)/2,
r = (b - a)/2: a scaling of the loop w = d v, |d| <= 1. A loop and its transpose admit inverse scalings. So (rho, T') is
feasible for the network read from its output to its input, every weight transposed, exactly if (rho, T) is for the
network, with

    4 r^2 T T' = rho      entry by entry, T and T' as in the matrix M.

Both have the same optimum. The closed form, which fixes one layer after the other, finds two different bounds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from certlip.proofs.form import Form
from certlip.rigor.rounding import Array
from certlip.solvers.network import Network
from certlip.solvers.sweep import Infeasible, Sweep

_LINEAR = 1e-3
"""The radius that a linear neuron is given, over its slope: any large multiplier will do for it."""


def backwards(form: Form, device: str = "cpu") -> Array:
    """Multipliers for the metric I of a dense form, one per neuron; any scale of both is as good.

    Raises Infeasible where the sweep breaks off or the output is constant.
    """
    network = Network(transposed(form), device)
    found, rho = Sweep(network).closed_form(network.tensor(np.ones(form.sizes[-1])))
    if not rho > 0:
        raise Infeasible("the output is constant")
    low, high = (np.concatenate([np.zeros(0), *slopes]) for slopes in (form.low, form.high))
    steepest = np.maximum(np.abs(low), np.abs(high))
    radius = np.maximum((high - low) / 2, _LINEAR * np.where(steepest > 0, steepest, 1.0))
    inverse: Array = 4.0 * radius**2 * found.cpu().numpy()  # `found` comes with the metric I as well: over rho
    return 1.0 / (rho * inverse)


def transposed(form: Form) -> Form:
    """The dense form read backwards: group k becomes L + 1 - k, the output the input, every map its transpose."""
    last = form.hidden + 1
    maps: list[dict] = [{} for _ in range(last)]
    for k, blocks in enumerate(form.maps, 1):
        for s, block in blocks.items():
            maps[last - s - 1][last - k] = block.map(lambda array: array.transpose(0, 3, 2, 1))
    return replace(
        form,
        sizes=form.sizes[::-1],
        frequencies=form.frequencies[::-1],
        maps=tuple(maps),
        folds={(last - s, last - k): fold for (k, s), fold in form.folds.items()},
        low=form.low[::-1],
        high=form.high[::-1],
        variables=form.variables[::-1],
        metric_index=np.arange(form.sizes[-1]),
        metric_count=np.ones(form.sizes[-1]),
    )
