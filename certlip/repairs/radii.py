"""Certified radii of samples from one proved Lipschitz bound, and from bounds on pairs of classes that it leads to."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction

import numpy as np

from certlip.importers import Model
from certlip.lipschitz import Bound, best, bound_output
from certlip.proofs.margin import output_balls
from certlip.properties import select
from certlip.properties.outputs import DECISION, scores
from certlip.repairs.task import Rows
from certlip.rigor.rounding import Array, down, product_up
from certlip.verification.bounds import BoundTable, class_pairs
from certlip.verification.margins import certified_radius, label_margins

_ROOT_TWO_UP = 1.4142135624
_BATCH = 64


def certified_radii(model: Model, whole: Bound | None, rows: Rows, deadline: float) -> Array:
    """For each sample a radius in the bound's norm within which every input is given the sample's own label, proved; 0
    where it is misclassified or nothing is proved. whole: of all outputs; pairs are bounded until the deadline."""
    if whole is None or not whole.proved:
        return np.zeros(len(rows))
    graph = select(model.graph, scores(model.graph))
    size = graph.output_size
    if size == 1:
        decision = best(bound_output(model.graph, DECISION, whole.norm, "auto", deadline))
        limits = np.full((2, 2), np.inf if decision is None else decision.value)
    else:
        limits = _pair_limits(model, whole, size, deadline)
    radii = np.zeros(len(rows))
    for start in range(0, len(rows), _BATCH):
        balls = output_balls(graph, rows.x[start : start + _BATCH])
        for i in range(len(balls.mid)):
            label = int(rows.y[start + i])
            margins = label_margins(balls[i], label)
            bounds = limits[label] if size > 1 else limits[label, 1 - label : 2 - label]
            rivals = np.delete(np.arange(size), label) if size > 1 else np.arange(1)  # whatever their margins are
            radii[start + i] = min((certified_radius(float(margins[k]), float(bounds[k])) for k in rivals), default=0.0)
    return radii


def tolerated_radius(whole: Bound | None, tolerance: Fraction) -> float:
    """Within this distance of any input no output moves by more than the tolerance."""
    return 0.0 if whole is None or not whole.proved else certified_radius(down(float(tolerance)), whole.value)


def exceeds(radius: float, eps: Fraction) -> bool:
    """radius > eps, exactly; a radius is infinite where the outputs are constant."""
    return radius == float("inf") or Fraction(radius) > eps


def _pair_limits(model: Model, whole: Bound, size: int, deadline: float) -> Array:
    """Bounds on f_i - f_j for all i, j: |f_i - f_j| <= sqrt(2) |f|_2 and <= 2 |f|_inf, or smaller ones of their own."""
    factor = _ROOT_TWO_UP if whole.norm == "l2" else 2.0
    limits = np.full((size, size), product_up(factor, whole.value))
    if whole.theorem != "lipsdp":
        return limits
    table = BoundTable(model.graph, whole.norm, "lipsdp", own_seconds=0.0)
    table.know(replace(whole, method="lipsdp"))
    for output in class_pairs(size):
        if time.monotonic() > deadline:
            break
        for bound in table.refine(output, deadline):
            if bound is not None:
                i, j = output.indices
                limits[i, j] = limits[j, i] = min(limits[i, j], bound.value)
    return limits
