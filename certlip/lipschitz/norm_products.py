"""Bounds that need no search: products of layer norms along the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from certlip.graph import Graph
from certlip.lipschitz.certifier import Certifier, Witness


@dataclass(frozen=True)
class Spectral(Certifier):
    """Product of proved operator norms: dense, convolution with its padding and stride, pooling, residual sums."""

    name: ClassVar[str] = "spectral"
    summary: ClassVar[str] = "product of proved operator norms; any graph, milliseconds to seconds"
    cost: ClassVar[int] = 1

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return Witness()


@dataclass(frozen=True)
class Gershgorin(Certifier):
    """Product of diagonal-dominance bounds with the best scaling of each layer."""

    name: ClassVar[str] = "gershgorin"
    summary: ClassVar[str] = "product of diagonal-dominance bounds with the best scaling; any graph, no eigenvalues"
    cost: ClassVar[int] = 2
    in_auto: ClassVar[bool] = False  # each factor is at least the operator norm that `spectral` proves

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return Witness()
