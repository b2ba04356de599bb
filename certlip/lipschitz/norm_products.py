"""Bounds that need no search: products of layer norms along the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from certlip.graph import Graph
from certlip.lipschitz.certifier import Certifier, Witness
from certlip.ops import Dense

_FLOPS = 16.0
"""Floating-point operations of a proved norm over the cube of the size: a layer of 5000 took 46 s on one core."""

_NOTICED = 1e10
"""Below so many nobody waits, and the speed of the machine is not measured."""


@dataclass(frozen=True)
class Spectral(Certifier):
    """Product of proved operator norms: dense, convolution with its padding and stride, pooling, residual sums."""

    name: ClassVar[str] = "spectral"
    summary: ClassVar[str] = "product of proved operator norms; any graph, milliseconds, half a minute at 4000 neurons"
    when: ClassVar[str] = "first, and when seconds count: any graph"
    cost: ClassVar[int] = 1

    def first_seconds(self, graph: Graph, norm: str) -> float:
        """Expected time of the largest dense layers; all others take next to none."""
        from certlip.solvers.speed import gemm_rate

        shapes = [node.operator.weight.shape for node in graph.nodes if isinstance(node.operator, Dense)]
        flops = sum(_FLOPS * min(shape) ** 2 * max(shape) for shape in shapes)
        return flops / gemm_rate() if flops > _NOTICED else 0.0

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return Witness()


@dataclass(frozen=True)
class Gershgorin(Certifier):
    """Product of diagonal-dominance bounds with the best scaling of each layer."""

    name: ClassVar[str] = "gershgorin"
    summary: ClassVar[str] = "product of diagonal-dominance bounds with the best scaling; any graph, no eigenvalues"
    when: ClassVar[str] = "for layers that diagonal dominance makes 1-Lipschitz"
    cost: ClassVar[int] = 2
    in_auto: ClassVar[bool] = False  # each factor is at least the operator norm that `spectral` proves

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return Witness()
