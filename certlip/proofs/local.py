"""Lipschitz bounds on a region: the slopes that activations show there, and LipSDP with them.

Theorem. Let every pre-activation v_j lie in [l_j, h_j] on a region R, and every difference quotient of phi_j on
[l_j, h_j] in [a_j, b_j]. Then the theorem of `certlip.proofs.lipsdp` with these slopes holds for all x, y in R:
|f(x) - f(y)| <= L |x - y|. The norm of L is free; it need not be that of R.

Slopes are rounded outwards to multiples of 2^-20 (where they leave any freedom), so that a machine whose sums round
differently finds the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from certlip.graph import Graph, Pointwise
from certlip.passes.maxima import maxima_obstacle, without_maxima
from certlip.proofs.form import Form
from certlip.proofs.linear_neurons import without_linear
from certlip.proofs.lipsdp import prove_form
from certlip.proofs.neuron_form import NoNeuronForm, neuron_form
from certlip.proofs.ranges import Region, activation_ranges
from certlip.rigor.rounding import Array

Slopes = Mapping[int, tuple[Array, Array]]

_GRID = 2.0**20


@lru_cache(maxsize=2)  # a prover and its retries ask again and again
def local_slopes(graph: Graph, region: Region) -> dict[int, tuple[Array, Array]]:
    """(a, b) of the node's shape, by position of each pointwise node: all its difference quotients on the region.

    Maxima are no pointwise nodes: take `pointwise_graph` first. Raises ValueError where the center is no input.
    """
    slopes = {}
    for position, (low, high) in activation_ranges(graph, region).items():
        operator = _pointwise(graph, position)
        a, b = operator.slopes_on(low[None], high[None])
        least, greatest = (np.broadcast_to(slope, low.shape) for slope in operator.slopes())
        free = a < b
        a = np.where(free, np.maximum(np.floor(a * _GRID) / _GRID, least), a)[0]
        b = np.where(free, np.minimum(np.ceil(b * _GRID) / _GRID, greatest), b)[0]
        slopes[position] = a, b
    return slopes


@dataclass(frozen=True)
class Gain:
    """How many of the activations are linear on a region, and how many others have a narrower range than everywhere."""

    fixed: int
    narrowed: int
    neurons: int

    def __str__(self) -> str:
        return f"{self.fixed} of {self.neurons} neurons are linear there, {self.narrowed} more have narrower slopes"


def gain(graph: Graph, slopes: Slopes) -> Gain:
    """Compare local slopes with the global ones."""
    fixed = narrowed = neurons = 0
    for position, (a, b) in slopes.items():
        least, greatest = _pointwise(graph, position).slopes()
        narrower = (a > least) | (b < greatest)
        fixed += int(np.count_nonzero(narrower & (a == b)))
        narrowed += int(np.count_nonzero(narrower & (a != b)))
        neurons += a.size
    return Gain(fixed, narrowed, neurons)


def gains(graph: Graph, slopes: Slopes) -> bool:
    """Whether some neuron's slopes are narrower than its global ones; if not, a local bound is the global one."""
    found = gain(graph, slopes)
    return found.fixed + found.narrowed > 0


def prove_local_lipsdp(graph: Graph, norm: str, witness: Mapping[str, Array], region: Region) -> float:
    """L with |f(x) - f(y)| <= L |x - y| in `norm` for x, y in the region, infinite if the witness proves none.

    witness: `metric` (n0,), and `multipliers`, one for each neuron that is not linear on the region. Slopes are
    computed here, from the graph and the region alone.
    """
    return prove_form(local_form(graph, region), norm, witness["metric"], witness["multipliers"])


@lru_cache(maxsize=2)
def local_form(graph: Graph, region: Region) -> Form:
    """The network with its slopes on the region, neurons that are linear there substituted. Raises NoNeuronForm."""
    graph = pointwise_graph(graph)
    return without_linear(neuron_form(graph, slopes=local_slopes(graph, region)))


@lru_cache(maxsize=4)
def pointwise_graph(graph: Graph) -> Graph:
    """The same function without maxima, the graph that local slopes are about. Raises NoNeuronForm."""
    reason = maxima_obstacle(graph)
    if reason is not None:
        raise NoNeuronForm(reason)
    return without_maxima(graph, exact=True)


LOCAL_PROOFS: Mapping[str, Callable[[Graph, str, Mapping[str, Array], Region], float]] = {"lipsdp": prove_local_lipsdp}
"""The theorem of each method that has a local form."""


def _pointwise(graph: Graph, position: int) -> Pointwise:
    operator = graph.nodes[position].operator
    if not isinstance(operator, Pointwise):
        raise TypeError(f"node {position} is not pointwise")
    return operator
