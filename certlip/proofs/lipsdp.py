"""LipSDP (Fazlyab et al. 2019) as a proof: given multipliers, a semidefinite test certifies the bound.

Theorem. With v = V xi + const, f = C xi + const and z_j = phi_j(v_j), slopes in [a_j, b_j], two evaluations satisfy
(Dz_j - a_j Dv_j)(b_j Dv_j - Dz_j) >= 0. If T and D are diagonal, T, D >= 0, P is diagonal and

    M = blockdiag(P, 0) - C'D C + 2 diag(0, T) - E'(T (a + b)) V - V'(T (a + b)) E + 2 V' diag(a b T) V >= 0,

E selecting z from xi, then 0 <= Dxi' M Dxi = Dx' P Dx - Df' D Df - 2 sum_j T_j (Dz_j - a_j Dv_j)(b_j Dv_j - Dz_j),
hence Df' D Df <= Dx' P Dx. So sqrt(Df' D Df) <= sqrt(max P) |Dx|_2 and <= sqrt(sum P) |Dx|_inf. With D = 1 the left
side is |Df|_2 >= |Df|_inf.

T must be diagonal: coupled multipliers are unsound (relu(x) - relu(x + 1) would get 0 instead of 1), and the arrays'
shapes admit no others. A form with several frequencies has one such M per frequency of its coarsest group.

Negative squares, -C'D C and 2 V' diag(a b T) V where a b < 0, may stand in a group of their own: for W > 0

    K - v' W v >= 0   if and only if   [[K, v'], [v, W^-1]] >= 0.

This keeps a wide input diagonal, so that the input is eliminated for the price of one product V_x P^-1 V_x'.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement

import numpy as np

from certlip.graph import Graph
from certlip.proofs.form import Form, Index
from certlip.proofs.neuron_form import neuron_form
from certlip.rigor.ball import Ball
from certlip.rigor.block_definite import is_block_positive_semidefinite
from certlip.rigor.rounding import Array, inflate, up


def prove_lipsdp(graph: Graph, norm: str, witness: Mapping[str, Array]) -> float:
    """The bound that `metric` (n0,) and `multipliers` (N,) prove, or infinity if they prove none."""
    return prove_form(neuron_form(graph), norm, witness["metric"], witness["multipliers"])


@np.errstate(all="ignore")  # a hostile witness may overflow; what is not finite proves nothing
def prove_form(form: Form, norm: str, metric: Array, multipliers: Array, cut: Array | None = None) -> float:
    """The bound on sqrt(Df' D Df) over |Dx| in `norm` that the witness proves, or infinity if it proves none.

    metric: the entries of P, one for each entry of form.metric_count. multipliers: (form.neurons,), the entries of T.
    cut: the entries of D, read through form.output_index, which must be given exactly if the form has one; else D = 1.
    """
    weights = _output_weights(form, cut)
    if weights is None or not _is_admissible(metric, np.shape(form.metric_count)):
        return float("inf")
    if norm not in ("l2", "linf") or not _is_admissible(multipliers, (form.neurons,)):
        return float("inf")
    weighed = np.flatnonzero(weights)
    if not any(_is_nonzero(block[:, weighed]) for block in form.maps[-1].values()):
        return 0.0  # a constant output
    if not is_feasible(form, metric, multipliers, cut):
        return float("inf")
    if norm == "l2":
        square = float(metric.max(initial=0.0))
    else:
        square = float(inflate(float((form.metric_count * metric).sum()), metric.size + 1))
    return up(np.sqrt(square)) if square > 0 else 0.0


@np.errstate(all="ignore")
def is_feasible(form: Form, metric: Array, multipliers: Array, cut: Array | None = None) -> bool:
    """True only if M >= 0 for every network in the form's balls; False means not proved.

    Entries are taken as they are: whoever states a bound checks that T and D are not negative.
    """
    weights = _output_weights(form, cut)
    if weights is None:
        return False
    matrix = _Augmented(form, metric)
    for k, (low, high, variables) in enumerate(zip(form.low, form.high, form.variables, strict=True), 1):
        if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
            return False
        slopes, T = (Ball.exact(low), Ball.exact(high)), multipliers[variables]
        matrix.add_neurons(k, T, (slopes[0] + slopes[1]) * Ball.exact(T))
        bent = slopes[0] * slopes[1] * Ball.exact(2.0) * Ball.exact(T)
        for sign in (1.0, -1.0):
            # the sign of a b is read from the factors, whose product may underflow
            rows = np.flatnonzero((np.sign(low) * np.sign(high) == sign) & (T != 0))
            if not matrix.add_squares(k, rows, bent[rows], sign):
                return False
    rows = np.flatnonzero(weights)
    if not matrix.add_squares(form.hidden + 1, rows, Ball.exact(-weights[rows]), -1.0):
        return False
    return is_block_positive_semidefinite(matrix.diagonal, matrix.lower, matrix.folds)


class _Augmented:
    """M with its extra groups, block by block; place[k] is where group k of the form stands."""

    def __init__(self, form: Form, metric: Array):
        self.form, self.metric = form, metric
        self.diagonal = [Ball.exact(_copies(metric[form.metric_index], form.frequencies[0]))]
        self.lower: dict[tuple[int, int], Ball] = {}
        self.folds: dict[tuple[int, int], Index] = {}
        self.place = [0]

    def add_neurons(self, k: int, T: Array, coupling: Ball) -> None:
        """The group z_k with 2 T on its diagonal and -coupling V_ks before it."""
        self.place.append(len(self.diagonal))
        self.diagonal.append(Ball.exact(_copies(2.0 * T, self.form.frequencies[k])))
        for s, block in self.form.maps[k - 1].items():
            product = -(coupling.reshape(-1, 1, 1) * block)
            if not (T.all() and self.metric.all()):  # a row without weight must be known to be zero
                is_zero = (T == 0)[:, None, None] | ((block.mid == 0) & (block.rad == 0))
                product = Ball(np.where(is_zero, 0.0, product.mid), np.where(is_zero, 0.0, product.rad))
            self._couple(len(self.diagonal) - 1, s, product, self.form.folds[k, s])

    def add_squares(self, k: int, rows: Index, weight: Ball, sign: float) -> bool:
        """v' diag(weight) v for these rows of v_k, the weights all of this sign. False where it cannot be written."""
        maps, folds = self.form.maps[k - 1], self.form.folds
        if not rows.size or not maps:
            return True
        is_unfolded = all(folds[k, s].shape[1] == 1 for s in maps)
        if sign < 0 and not (is_unfolded and rows.size >= sum(self.form.sizes[s] for s in maps)):
            inverse = Ball.exact(np.ones(rows.size)) / -weight
            count = self.form.frequencies[k]
            self.diagonal.append(inverse.map(lambda array: _copies(array, count)))
            for s, block in maps.items():
                self._couple(len(self.diagonal) - 1, s, block[:, rows], folds[k, s])
            return True
        if not is_unfolded:
            return False
        for t, s in combinations_with_replacement(sorted(maps), 2):
            left, right = (maps[i].map(lambda array: array[:, rows, 0]) for i in (s, t))
            self._add(k, s, t, left.T @ (weight.reshape(-1, 1) * right))
        return True

    def _couple(self, row: int, s: int, block: Ball, fold: Index) -> None:
        self.lower[row, self.place[s]] = block
        self.folds[row, self.place[s]] = fold

    def _add(self, k: int, s: int, t: int, block: Ball) -> None:
        """Add (F_k, n_s, n_t), s >= t, at the frequencies of s and t that those of k read."""
        order = np.argsort(self.form.folds[k, s][:, 0])
        block, row, column = block[order], self.place[s], self.place[t]
        if s == t:
            present = self.diagonal[row]
            self.diagonal[row] = block + (present if present.mid.ndim == 3 else present.map(_full))
            return
        fold = self.form.folds[k, t][order]
        block = block.map(lambda array: array[:, :, None])
        if (row, column) not in self.lower:
            self.lower[row, column], self.folds[row, column] = block, fold
        elif np.array_equal(self.folds[row, column], fold):
            self.lower[row, column] = self.lower[row, column] + block
        else:
            raise ValueError(f"groups {s} and {t} meet at different frequencies in group {k} than directly")


def _copies(row: Array, count: int) -> Array:
    return np.broadcast_to(row, (count, len(row)))


def _full(diagonal: Array) -> Array:
    full = np.zeros((*diagonal.shape, diagonal.shape[-1]))
    rows = np.arange(diagonal.shape[-1])
    full[:, rows, rows] = diagonal
    return full


def _output_weights(form: Form, cut: Array | None) -> Array | None:
    """D for each row of the output, None where `cut` does not fit."""
    if form.output_index is None or cut is None:
        return np.ones(form.sizes[-1]) if form.output_index is None and cut is None else None
    return cut[form.output_index] if _is_admissible(cut, (int(form.output_index.max(initial=-1)) + 1,)) else None


def _is_admissible(array: Array, shape: tuple[int, ...]) -> bool:
    return array.shape == shape and bool((np.isfinite(array) & (array >= 0)).all())


def _is_nonzero(ball: Ball) -> bool:
    return bool(ball.mid.any() or ball.rad.any())
