"""How far the computed values of a network may be from its exact ones, for all inputs of a region.

A *leaf* is the network's input or the result of an operator that is not linear. Between leaves, sums and products may
be reordered and regrouped: in any order, with fused multiply-add, constants multiplied out beforehand (a
BatchNormalization folded into a convolution, a bias or a skipped branch that starts the accumulator). The exact value
is a sum of monomials, v = sum_m c_m x_m with c_m a product of constants and x_m a leaf or 1. In every such execution
each monomial is rounded at most `depth` times, so with computed leaves x'_m and the errors h of underflow

    v' = sum_m c_m x'_m (1 + t_m) + h,   |t_m| <= gamma_depth   (Higham, Lemma 3.1),

    |v' - v| <= |sum_m c_m (x'_m - x_m)|  +  gamma_depth sum_m |c_m x'_m|  +  |h|.

`error` bounds the first sum, `size` the second one. An operation adds to h at most `tiny`, times the other factors of a
monomial that it is part of, times the later roundings, a factor below 2: |h| <= 2 tiny depth monomials reach, where
`reach` is at least the product of the norms and of the leaf, each counted as 1 where smaller. Where W or b is itself
made from constants, as scale / std is, each of these counts as such a factor (`Affine.extent`): W may be far smaller
than a factor that scales up what underflowed. No intermediate number exceeds 2 reach: where that is beyond the largest
finite number of the format, nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from certlip.graph.shift import Shift
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, Precision, inflate


@dataclass(frozen=True, eq=False)
class Computed:
    """One value of a network over a region: where it lies exactly, and what its executions may make of it.

    centre: ball around the exact value at the region's center; moved: how far the others may be from that one.
    The other fields are those of the module's inequality; `monomials`: at most so many in one entry.
    """

    centre: Ball
    moved: Shift
    error: Shift
    size: Array
    depth: int
    monomials: float
    reach: float

    @staticmethod
    def leaf(centre: Ball, moved: Shift, error: Shift) -> Computed:
        """A value by itself, computed within `error`; it may be rounded once more when it is stored or converted."""
        size = np.asarray(inflate(centre.magnitude() + moved.entries + error.entries, 3))
        reach = float(np.maximum(1.0, size.max(initial=0.0)))  # NaN stays
        return Computed(centre, moved, error, size, 1, 1.0, reach)

    def exact(self) -> Ball:
        """Ball around the exact values."""
        return Ball(self.centre.mid, np.asarray(inflate(self.centre.rad + self.moved.entries, 2)))

    def deviation(self, precision: Precision) -> Shift:
        """Bounds on computed - exact; infinite or NaN where nothing is known, as the execution may overflow."""
        if not 2.0 * self.reach <= precision.largest:  # NaN included
            return Shift.of(np.full(self.size.shape, np.inf))
        lost = 2.0 * precision.tiny * self.depth * self.monomials * self.reach
        return self.error.widened(inflate(precision.gamma(self.depth) * self.size + lost, 10))
