"""LipSDP: the best diagonal multipliers by an interior-point method, proved on the original weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from certlip.graph import Graph
from certlip.lipschitz.certifier import Certifier, Witness
from certlip.proofs.lipsdp import prove_form
from certlip.proofs.neuron_form import activations, neuron_form, obstacle
from certlip.rigor.rounding import Array

if TYPE_CHECKING:
    from certlip.solvers.problem import LipSDP as Program
    from certlip.solvers.problem import Proposal

_STEPS = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""How far a witness is moved into the interior, until its proof goes through: a retry costs this much tightness."""

_CONIC_NEURONS = 150

_FLOPS_PER_CUBE = 25.0  # floating-point operations of one iteration over the cube of the program's order
_FLOPS_PER_SECOND = 2e10  # a cautious figure for two cores; only decides what is not worth starting


@dataclass(frozen=True)
class LipSDP(Certifier):
    """mode "neuron": one multiplier per neuron (the tightest); "layer": one per layer."""

    name: ClassVar[str] = "lipsdp"
    summary: ClassVar[str] = "semidefinite program over all neurons; graphs of affine layers, activations and skips"
    cost: ClassVar[int] = 10

    mode: Literal["neuron", "layer"] = "neuron"
    tolerance: float = 1e-8

    def supports(self, graph: Graph, norm: str) -> str | None:
        return obstacle(graph)

    def seconds_for_start(self, graph: Graph, norm: str) -> float:
        """Rough time of the first few iterations, before which a deadline cannot stop the solver."""
        form = neuron_form(graph)
        neurons = len(form.a)
        order = neurons + (form.inputs if norm == "linf" else min(form.inputs, neurons + form.C.shape[0]))
        return 3 * _FLOPS_PER_CUBE * order**3 / _FLOPS_PER_SECOND

    def propose(self, graph: Graph, norm: str, deadline: float | None) -> Witness:
        """Solve, then move the solution into the interior until the definiteness proof goes through."""
        from certlip.solvers.problem import LipSDP as Program
        from certlip.solvers.start import feasible_start

        form = neuron_form(graph)
        program = Program(form.V.mid, form.C.mid, form.inputs, form.a, form.b, form.layers, _norm(norm))
        solver, remark, proposal = self._solve(program, deadline)
        inside = None
        for step in _STEPS:
            metric, multipliers = proposal.metric, proposal.multipliers
            if step > 0:
                inside = inside or feasible_start(program)
                metric = metric + step * (inside[0] - metric)
                multipliers = multipliers + step * (inside[1] - multipliers)
            witness = {"metric": np.maximum(metric, 0.0), "multipliers": np.maximum(multipliers, 0.0)}
            if np.isfinite(prove_form(form, norm, witness)):
                break
        gap = max(0.0, 1.0 - np.sqrt(max(proposal.lower, 0.0) / proposal.objective)) if proposal.objective > 0 else 0.0
        details = {
            "solver": solver,
            "remark": remark,
            "mode": self.mode,
            "status": proposal.status,
            "iterations": proposal.iterations,
            "estimated_gap": float(gap),
        }
        return Witness(witness, details)

    def _solve(self, program: Program, deadline: float | None) -> tuple[str, str, Proposal]:
        """Name of the solver, what the user should know about the choice, and its proposal."""
        from certlip.solvers.interior_point import solve

        proposal = solve(program, mode=self.mode, tolerance=self.tolerance, deadline=deadline)
        return "structured interior point", "", proposal


@dataclass(frozen=True)
class ConicLipSDP(LipSDP):
    """The same program through cvxpy: MOSEK where a licence is found, else Clarabel: the reference for small ones."""

    name: ClassVar[str] = "lipsdp-conic"
    summary: ClassVar[str] = "LipSDP through cvxpy with MOSEK or Clarabel, the slow reference for small networks"
    cost: ClassVar[int] = 20
    is_reference: ClassVar[bool] = True
    in_auto: ClassVar[bool] = False  # the same optimum as `lipsdp`, hundreds of times slower

    def supports(self, graph: Graph, norm: str) -> str | None:
        reason = super().supports(graph, norm)
        size = sum(prod(shape) for _, shape in activations(graph))
        if reason is None and size > _CONIC_NEURONS:
            reason = f"a general conic solver cannot hold {size} neurons (limit {_CONIC_NEURONS}); use lipsdp"
        return reason

    def seconds_for_start(self, graph: Graph, norm: str) -> float:
        return 10.0

    def _solve(self, program: Program, deadline: float | None) -> tuple[str, str, Proposal]:
        from certlip.solvers.conic import available, solve

        usable, reason = {name: (works, reason) for name, works, reason in available()}["MOSEK"]
        solver, remark = ("MOSEK", "") if usable else ("CLARABEL", f"MOSEK was passed over: {reason}")
        return f"cvxpy with {solver}", remark, solve(program, mode=self.mode, solver=solver, deadline=deadline)


class SharedMultipliers:
    """Witnesses for scalar outputs c = row f from the multipliers (P, T) found for the whole output f.

    With K = M(P, T) + C'C > 0 the LMI for c at (s P, s T) reads s K - c'c >= 0, that is s >= c K^-1 c': one
    factorisation serves every logit and every pair of logits.
    """

    def __init__(self, graph: Graph, norm: str, whole: Witness):
        from certlip.solvers.problem import LipSDP as Program

        form = neuron_form(graph)
        self._norm, self._whole = norm, whole.arrays
        program = Program(form.V.mid, form.C.mid, form.inputs, form.a, form.b, form.layers, _norm(norm))
        kernel = program.matrix(whole.arrays["metric"], whole.arrays["multipliers"]) + form.C.mid.T @ form.C.mid
        self._factor = np.linalg.cholesky(kernel)  # LinAlgError where the witness is not strictly feasible

    def witness(self, graph: Graph) -> Witness:
        """For a graph that differs from the whole one in its last affine map alone, with one output."""
        form = neuron_form(graph)
        image = np.linalg.solve(self._factor, form.C.mid.T)
        scale = float((image * image).sum())
        witness: dict[str, Array] = {}
        for step in _STEPS[1:]:
            witness = {name: array * (scale * (1.0 + step)) for name, array in self._whole.items()}
            if np.isfinite(prove_form(form, self._norm, witness)):
                break
        return Witness(witness, {"solver": "multipliers of the whole output, rescaled"})


def _norm(norm: str) -> Literal["l2", "linf"]:
    return "linf" if norm == "linf" else "l2"
