"""One set of multipliers for every output of a network: a single factorisation serves all logits and all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from certlip.lipschitz.certifier import Witness
from certlip.proofs.form import Form
from certlip.proofs.torus import prove_stages
from certlip.rigor.rounding import Array

_STEPS = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


class SharedMultipliers:
    """Witnesses for scalar outputs c'f from the multipliers (P, T) found for the whole output f.

    With K = M(P, T) + C'C > 0 the LMI for c'f at (s P, s T) reads s K - C'c c'C >= 0, that is s >= c' H c for
    H = C K^-1 C', which one sweep through the network gives. Raises ArithmeticError where K is singular.
    """

    def __init__(self, stages: Sequence[Form], arrays: Mapping[str, Array]):
        from certlip.solvers.network import Network
        from certlip.solvers.sweep import Sweep

        self._arrays = arrays
        first = sum(form.neurons for form in stages[:-1])
        network = Network(stages[-1])
        metric = arrays["metric"] if len(stages) == 1 else arrays["cut"]
        rows = network.tensor(metric[stages[-1].metric_index])
        self._gram = Sweep(network).gram(rows, network.tensor(arrays["multipliers"][first:]))

    def witness(self, row: Array, stages: Sequence[Form], norm: str) -> Witness:
        """For the output row'f, whose network written out is `stages`."""
        scale = float(row @ self._gram @ row)
        arrays: dict[str, Array] = {}
        for step in _STEPS:
            arrays = {name: array * (scale * (1.0 + step)) for name, array in self._arrays.items()}
            if np.isfinite(prove_stages(stages, norm, arrays)):
                break
        return Witness(arrays, {"solver": "multipliers of the whole output, rescaled"})
