"""ECLipsE-Fast (Xu and Sivaranjani 2024): LipSDP multipliers in closed form, on any graph the other methods take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from certlip.graph import Graph
from certlip.lipschitz.certifier import Certifier, Witness
from certlip.lipschitz.multipliers import engine_seconds, propose, written_seconds
from certlip.proofs.neuron_form import neuron_form, obstacle
from certlip.proofs.torus_form import torus_obstacle, torus_stages


@dataclass(frozen=True)
class EclipseFast(Certifier):
    """One multiplier per layer, as large as the layers before allow. In l2 never worse than the norm product on a chain
    with slopes in [0, 1]; branches, maxima and other slopes may lose to it."""

    name: ClassVar[str] = "eclipse-fast"
    summary: ClassVar[str] = "LipSDP multipliers in closed form, layer by layer: seconds at any depth"
    when: ClassVar[str] = "for deep networks in a hurry"
    cost: ClassVar[int] = 10
    theorem: ClassVar[str] = "lipsdp"
    start_of: ClassVar[str] = "lipsdp"

    def supports(self, graph: Graph, norm: str) -> str | None:
        return obstacle(graph)

    def seconds(self, graph: Graph, norm: str) -> float:
        """Expected time of the sweep and the proof."""
        return engine_seconds((neuron_form(graph),), norm, "closed form")

    def first_seconds(self, graph: Graph, norm: str) -> float:
        return written_seconds(graph)

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return propose((neuron_form(graph),), norm, "closed form", deadline=deadline)


@dataclass(frozen=True)
class EclipseFastTorus(Certifier):
    """The same over channels and frequencies, for images whose neurons are too many to write out."""

    name: ClassVar[str] = "eclipse-fast-torus"
    summary: ClassVar[str] = "the closed form over channels in the frequency domain, for convolutional networks"
    when: ClassVar[str] = "for large images in a hurry"
    cost: ClassVar[int] = 11
    in_auto: ClassVar[bool] = False  # `lipsdp-torus` starts from it and takes seconds
    theorem: ClassVar[str] = "lipsdp-torus"

    def supports(self, graph: Graph, norm: str) -> str | None:
        return torus_obstacle(graph)

    def seconds(self, graph: Graph, norm: str) -> float:
        """Expected time of the sweep and the proof."""
        return engine_seconds(torus_stages(graph), norm, "closed form")

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return propose(torus_stages(graph), norm, "closed form", deadline=deadline)
