"""LipSDP (Fazlyab et al. 2019) as a proof: given multipliers, a semidefinite test certifies the bound.

Theorem. With v = V xi + const, f = C xi + const and z_j = phi_j(v_j), slopes in [a_j, b_j], two evaluations satisfy
(Dz_j - a_j Dv_j)(b_j Dv_j - Dz_j) >= 0. If T is diagonal, T >= 0, P is diagonal and

    M = blockdiag(P, 0) - C'C + 2 diag(0, T) - E'(T (a + b)) V - V'(T (a + b)) E + 2 V' diag(a b T) V >= 0,

E selecting z from xi, then Dxi' M Dxi = Dx' P Dx - |Df|^2 - 2 sum_j T_j (Dz_j - a_j Dv_j)(b_j Dv_j - Dz_j) >= 0, hence
|Df|_2^2 <= Dx' P Dx. So |Df|_2 <= sqrt(max P) |Dx|_2 and |Df|_2 <= sqrt(sum P) |Dx|_inf; |Df|_inf <= |Df|_2.

T must be diagonal: coupled multipliers are unsound (relu(x) - relu(x + 1) would get 0 instead of 1), and the arrays'
shapes admit no others. Where nothing but P stands in M's input block, the Schur complement
M_zz - M_zx P^-1 M_xz >= 0 is the same condition without the input's size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Graph
from certlip.proofs.neuron_form import NeuronForm, neuron_form
from certlip.rigor.ball import Ball
from certlip.rigor.definite import is_positive_semidefinite
from certlip.rigor.rounding import Array, inflate, up


def prove_lipsdp(graph: Graph, norm: str, witness: Mapping[str, Array]) -> float:
    """The bound that `metric` (n0,) and `multipliers` (N,) prove, or infinity if they prove none."""
    return prove_form(neuron_form(graph), norm, witness)


def prove_form(form: NeuronForm, norm: str, witness: Mapping[str, Array]) -> float:
    """`prove_lipsdp` for a network already written out."""
    metric, multipliers = witness["metric"], witness["multipliers"]
    if metric.shape != (form.inputs,) or multipliers.shape != form.a.shape:
        return float("inf")
    if not (np.isfinite(metric).all() and np.isfinite(multipliers).all()):
        return float("inf")
    if not form.C.magnitude().any():
        return 0.0  # a constant output
    if (metric < 0).any() or (multipliers < 0).any() or not is_feasible(form, metric, multipliers):
        return float("inf")
    square = float(metric.max()) if norm == "l2" else inflate(float(metric.sum()), metric.size)
    return up(np.sqrt(square)) if square > 0 else 0.0


def is_feasible(form: NeuronForm, metric: Array, multipliers: Array) -> bool:
    """True only if M >= 0 for the exact network; False means not proved."""
    n = form.inputs
    through = np.flatnonzero(_touches(form.V[:, :n]))
    curved = _is_curved(form)
    if not _touches(form.C[:, :n]).any() and not curved[through].any() and (metric > 0).all():
        return is_positive_semidefinite(_schur_complement(form, metric, multipliers, through))
    diagonal = np.zeros(n + len(multipliers))
    diagonal[:n] = metric
    return is_positive_semidefinite(_lmi(form, multipliers, 0) + Ball.exact(np.diag(diagonal)))


def _touches(block: Ball) -> Array:
    return (np.abs(block.mid) + block.rad != 0).any(1)


def _lmi(form: NeuronForm, multipliers: Array, first: int) -> Ball:
    """The lower triangle of M without P, on the coordinates of xi from `first` on (the test reads no more).

    Rows z of V are strictly lower triangular in z, so -E'(T (a + b)) V lies below the diagonal, its transpose above.
    """
    V, C = form.V[:, first:], form.C[:, first:]
    total = -(C.T @ C)
    curvature = Ball.exact(form.a) * Ball.exact(form.b) * Ball.exact(2.0) * Ball.exact(multipliers)
    if _is_curved(form).any():
        total = total + V.T @ (curvature.reshape(-1, 1) * V)
    coupling = (_slope_sum(form) * Ball.exact(multipliers)).reshape(-1, 1) * V
    mid, rad = np.zeros(total.shape), np.zeros(total.shape)
    start = form.inputs - first
    mid[start:], rad[start:] = -coupling.mid, coupling.rad
    neurons = np.arange(start, len(mid))
    mid[neurons, neurons] += 2.0 * multipliers
    return total + Ball(mid, rad)


def _schur_complement(form: NeuronForm, metric: Array, multipliers: Array, through: NDArray[np.intp]) -> Ball:
    """M_zz - M_zx P^-1 M_xz, with M_zx = -diag(T (a + b)) V_x nonzero in the rows `through` alone."""
    n = form.inputs
    inner = _lmi(form, multipliers, n)
    if not through.size:
        return inner
    rows = form.V[:, :n][through]
    inverse = Ball.exact(np.ones(n)) / Ball.exact(metric)
    coupling = (_slope_sum(form) * Ball.exact(multipliers))[through]
    gram = rows @ (rows * inverse.reshape(1, -1)).T
    block = coupling.reshape(-1, 1) * gram * coupling.reshape(1, -1)
    mid, rad = inner.mid.copy(), np.broadcast_to(inner.rad, inner.shape).copy()
    where = np.ix_(through, through)
    part = inner[where] - block
    mid[where], rad[where] = part.mid, part.rad
    return Ball(mid, rad)


def _is_curved(form: NeuronForm) -> Array:
    """Where a b is not zero (the product of floats may underflow)."""
    return (form.a != 0) & (form.b != 0)


def _slope_sum(form: NeuronForm) -> Ball:
    return Ball.exact(form.a) + Ball.exact(form.b)
