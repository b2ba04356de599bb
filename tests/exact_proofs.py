"""The exact level as a number or nothing; `prove_exactly` says why there is nothing."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from certlip.graph import Graph
from certlip.proofs.exact import prove_exactly
from certlip.proofs.neuron_form import NoNeuronForm
from certlip.proofs.ranges import Region
from certlip.proofs.torus_image import NoTorusForm
from certlip.rigor.exact_numbers import NotExact
from certlip.rigor.rounding import Array


def exact_lipschitz(
    graph: Graph, norm: str, method: str, witness: Mapping[str, Array], region: Region | None = None
) -> Fraction | None:
    """What the witness proves in exact arithmetic, None where that is nothing."""
    try:
        return prove_exactly(graph, norm, method, witness, region)
    except (NotExact, NoNeuronForm, NoTorusForm):
        return None
