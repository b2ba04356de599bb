"""LipSDP (Fazlyab et al. 2019) over all neurons: the best diagonal multipliers, proved on the original weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from certlip.graph import Graph
from certlip.lipschitz.certifier import Certifier, Witness
from certlip.lipschitz.multipliers import (
    Engine,
    Mode,
    Offer,
    engine_seconds,
    norm_of,
    program,
    propose,
    proved,
    written_seconds,
)
from certlip.proofs.neuron_form import activations, neuron_form, obstacle

_CONIC_NEURONS = 150


@dataclass(frozen=True)
class LipSDP(Certifier):
    """mode "neuron": one multiplier per neuron (the tightest); "layer": one per layer. tolerance: the relative gap of
    the bound at which the search ends. device: where the first-order engine runs ("cuda" where torch has one)."""

    name: ClassVar[str] = "lipsdp"
    summary: ClassVar[str] = "semidefinite program over all neurons; the engine is chosen by expected time"
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
    cost: ClassVar[int] = 40
    in_auto: ClassVar[bool] = False
    is_reference: ClassVar[bool] = True
    engine: ClassVar[Engine] = "interior point"
    theorem: ClassVar[str] = "lipsdp"

    def supports(self, graph: Graph, norm: str) -> str | None:
        reason = super().supports(graph, norm)
        size = graph.input_size + sum(prod(shape) for _, shape in activations(graph))
        if reason is None and size > _INTERIOR_ORDER:
            reason = f"{size} inputs and neurons exceed the interior point's limit of {_INTERIOR_ORDER}; use lipsdp"
        return reason

    def first_seconds(self, graph: Graph, norm: str) -> float:
        """An iteration looks at no clock."""
        from certlip.solvers.speed import gemm_rate

        size = graph.input_size + sum(prod(shape) for _, shape in activations(graph))
        return _ITERATION * size**3 / gemm_rate() + written_seconds(graph)


_INTERIOR_ORDER = 4000

_ITERATION = 12.0
"""Floating-point operations of the first two iterations over the cube of the order (`solvers.cost`)."""


@dataclass(frozen=True)
class FirstOrder(LipSDP):
    """The low-rank ascent of `solvers.first_order`, whatever the size."""

    name: ClassVar[str] = "lipsdp-first-order"
    summary: ClassVar[str] = "LipSDP by first-order ascent of its low-rank dual, for up to ten thousand neurons"
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

    def seconds(self, graph: Graph, norm: str) -> float:
        return 10.0

    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        from certlip.solvers.conic import available, solve
        from certlip.solvers.start import feasible_start

        usable, reason = {name: (works, reason) for name, works, reason in available()}["MOSEK"]
        solver, remark = ("MOSEK", "") if usable else ("CLARABEL", f"MOSEK was passed over: {reason}")
        form = neuron_form(graph)
        problem = program(form, norm_of(norm))
        found = solve(problem, mode=self.mode, solver=solver, deadline=deadline)
        inside = dict(zip(("metric", "multipliers"), feasible_start(problem), strict=True))
        ratio = max(found.lower, 0.0) / found.objective if found.objective > 0 else 1.0
        details = {
            "solver": f"cvxpy with {solver}",
            "remark": remark,
            "mode": self.mode,
            "status": found.status,
            "iterations": found.iterations,
            "estimated_gap": max(0.0, 1.0 - float(np.sqrt(ratio))),
        }
        offer = Offer({"metric": found.metric, "multipliers": found.multipliers}, inside, details)
        return Witness(proved((form,), norm, offer), details)
