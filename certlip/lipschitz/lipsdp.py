"""LipSDP (Fazlyab et al. 2019) over all neurons: the best diagonal multipliers, proved on the original weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from certlip.graph import Graph
from certlip.lipschitz.certifier import Certifier, Witness
from certlip.lipschitz.multipliers import (
    INTERIOR_ORDER,
    Engine,
    Mode,
    engine_seconds,
    propose,
    written_seconds,
)
from certlip.proofs.neuron_form import activations, neuron_form, obstacle

_CONIC_NEURONS, _CONIC_SECONDS = 150, 20.0


@dataclass(frozen=True)
class LipSDP(Certifier):
    """mode "neuron": one multiplier per neuron (the tightest); "layer": one per layer. tolerance: the relative gap of
    the bound at which the search ends. device: where the first-order engine runs ("cuda" where torch has one)."""

    name: ClassVar[str] = "lipsdp"
    summary: ClassVar[str] = "semidefinite program over all neurons; the engine is chosen by expected time"
    when: ClassVar[str] = "for the tightest bound"
    cost: ClassVar[int] = 30
    engine: ClassVar[Engine] = "auto"

    mode: Mode = "neuron"
    tolerance: float = 1e-6
    device: str = "cpu"

    def supports(self, graph: Graph, norm: str) -> str | None:
        return obstacle(graph)

    def seconds(self, graph: Graph, norm: str) -> float:
        """Expected time of search and proof."""
        return engine_seconds((neuron_form(graph),), norm, self.engine)

    def first_seconds(self, graph: Graph, norm: str) -> float:
        return written_seconds(graph)

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return propose((neuron_form(graph),), norm, self.engine, self.mode, self.tolerance, deadline, near, self.device)


@dataclass(frozen=True)
class InteriorPoint(LipSDP):
    """The primal-dual method of `solvers.interior_point`, whatever the size."""

    name: ClassVar[str] = "lipsdp-interior-point"
    summary: ClassVar[str] = "LipSDP by the structured interior point, for up to about a thousand neurons"
    when: ClassVar[str] = "to compare the engines"
    cost: ClassVar[int] = 40
    in_auto: ClassVar[bool] = False
    is_reference: ClassVar[bool] = True
    engine: ClassVar[Engine] = "interior point"
    theorem: ClassVar[str] = "lipsdp"

    def supports(self, graph: Graph, norm: str) -> str | None:
        reason = super().supports(graph, norm)
        size = graph.input_size + sum(prod(shape) for _, shape in activations(graph))
        if reason is None and size > INTERIOR_ORDER:
            reason = f"{size} inputs and neurons exceed the interior point's limit of {INTERIOR_ORDER}; use lipsdp"
        return reason

    def first_seconds(self, graph: Graph, norm: str) -> float:
        """The first iterations lead from the closed form to the first better bound."""
        from certlip.solvers.speed import gemm_rate

        size = graph.input_size + sum(prod(shape) for _, shape in activations(graph))
        return _ITERATION * size**3 / gemm_rate() + written_seconds(graph)


_ITERATION = 12.0
"""Floating-point operations of the first two iterations over the cube of the order (`solvers.cost`)."""


@dataclass(frozen=True)
class FirstOrder(LipSDP):
    """The low-rank ascent of `solvers.first_order`, whatever the size."""

    name: ClassVar[str] = "lipsdp-first-order"
    summary: ClassVar[str] = "LipSDP by first-order ascent of its low-rank dual, for up to ten thousand neurons"
    when: ClassVar[str] = "to compare the engines; with `device`, on a GPU"
    cost: ClassVar[int] = 40
    in_auto: ClassVar[bool] = False
    is_reference: ClassVar[bool] = True
    engine: ClassVar[Engine] = "first order"
    theorem: ClassVar[str] = "lipsdp"


@dataclass(frozen=True)
class ConicLipSDP(LipSDP):
    """The same program through cvxpy: MOSEK where a licence is found, else Clarabel: the reference for small ones."""

    name: ClassVar[str] = "lipsdp-conic"
    summary: ClassVar[str] = "LipSDP through cvxpy with MOSEK or Clarabel, the slow reference for small networks"
    when: ClassVar[str] = "to compare with a general solver, up to 150 neurons"
    cost: ClassVar[int] = 50
    is_reference: ClassVar[bool] = True
    in_auto: ClassVar[bool] = False  # the same optimum as `lipsdp`, hundreds of times slower
    theorem: ClassVar[str] = "lipsdp"

    def supports(self, graph: Graph, norm: str) -> str | None:
        reason = super().supports(graph, norm)
        size = sum(prod(shape) for _, shape in activations(graph))
        if reason is None and size > _CONIC_NEURONS:
            reason = f"a general conic solver cannot hold {size} neurons (limit {_CONIC_NEURONS}); use lipsdp"
        return reason

    def first_seconds(self, graph: Graph, norm: str) -> float:
        """Expected time until the program is written down, which nothing can stop."""
        return _CONIC_SECONDS * (sum(prod(shape) for _, shape in activations(graph)) / _CONIC_NEURONS) ** 3

    def seconds(self, graph: Graph, norm: str) -> float:
        """Expected time of a solve by Clarabel."""
        return 10 * self.first_seconds(graph, norm)

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        return propose((neuron_form(graph),), norm, "conic", self.mode, self.tolerance, deadline)
