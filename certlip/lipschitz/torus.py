"""LipSDP for convolutions: one multiplier per channel, one small condition per frequency, nothing ever unrolled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from certlip.graph import Graph
from certlip.lipschitz.certifier import Certifier, Witness
from certlip.lipschitz.multipliers import engine_seconds, propose
from certlip.proofs.torus_form import torus_obstacle, torus_stages


@dataclass(frozen=True)
class TorusLipSDP(Certifier):
    """Zero padding by the torus argument, strides by folding, a dense head joined by a metric per channel."""

    name: ClassVar[str] = "lipsdp-torus"
    summary: ClassVar[str] = "semidefinite program over channels in the frequency domain, for convolutional networks"
    when: ClassVar[str] = "for images with too many neurons for lipsdp"
    cost: ClassVar[int] = 20

    tolerance: float = 2e-6
    device: str = "cpu"

    def supports(self, graph: Graph, norm: str) -> str | None:
        return torus_obstacle(graph)

    def seconds(self, graph: Graph, norm: str) -> float:
        """Expected time of search and proof."""
        return engine_seconds(torus_stages(graph), norm, "first order")

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return propose(torus_stages(graph), norm, "first order", "neuron", self.tolerance, deadline, near, self.device)
