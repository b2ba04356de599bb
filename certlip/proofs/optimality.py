"""How good multipliers can be at all: a lower bound on every LipSDP bound of a form, from signals.

Theorem. Let signals x, z_1, ..., z_L with r columns satisfy, for every multiplier, sum (z - a v).(b v - z) >= 0 over
the rows that share it. Any P, T, D that prove a bound (`lipsdp`) make M >= 0, so <M, signals signals'> >= 0:

    |f|^2_D <= sum P |x|^2 - 2 sum T (z - a v).(b v - z) <= sum P |x|^2.

If |x|^2 <= 1, the squared l2 bound max P is at least |f|^2. If the rows of x that share an entry of P have together no
more than `metric_count`, so is the squared linf bound sum metric_count P. For two stages, let the rows of the second
input that share an entry of the cut D have no more energy than the rows of the first output that share it: then
|f|^2 <= sum D |y|^2 <= |u|^2_D <= sum P |x|^2. This says nothing about the network, only about this method.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from certlip.proofs.form import Form, Index
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, down, inflate

_INSIDE = 1.0 - 1e-10
"""Signals are rebuilt this much inside their balls, so that rounding leaves them feasible."""


def least_bound(stages: Sequence[Form], norm: str, signals: Sequence[Sequence[Array]]) -> float:
    """A number below every bound that `torus.prove_stages` could prove by any witness; 0 if the signals show none.

    signals[stage][k]: (F_k, n_k, r), any floats; they are moved to the nearest point that is safely feasible.
    """
    if not all(part.ndim == 3 and part.size for stage in signals for part in stage):
        return 0.0
    energy: Array | None = None
    square = 0.0
    for form, wanted in zip(stages, signals, strict=True):
        if energy is None:
            count = np.ones(1) if norm == "l2" else form.metric_count
            index = np.zeros(form.sizes[0], dtype=np.intp) if norm == "l2" else form.metric_index
        else:
            count, index = energy, form.metric_index
        output = _pass(form, wanted, index, count)
        if output is None:
            return 0.0
        squares = _lower_squares(output)
        if form.output_index is None:
            square = float(_sums_down(squares[None, :, None], np.zeros(len(squares), dtype=np.intp), 1)[0])
        else:
            size = int(form.output_index.max()) + 1
            energy = np.maximum(_sums_down(squares[None, :, None], form.output_index, size), 0.0)
    return float(down(np.sqrt(square))) if square > 0 else 0.0


def _pass(form: Form, wanted: Sequence[Array], index: Index, energy: Array) -> Ball | None:
    """The output's ball (F, rows, r) for feasible signals near the wanted ones, or None."""
    values = [_within(np.asarray(wanted[0], dtype=np.float64), index, energy)]
    given = [np.asarray(wanted[0], dtype=np.float64)]
    for k in range(1, form.hidden + 1):
        v, before = _image(form, k, values), _image(form, k, given).mid
        a, b = form.low[k - 1][:, None], form.high[k - 1][:, None]
        middle, radius = (a + b) / 2, (b - a) / 2
        variables, count = form.variables[k - 1], form.neurons
        direction = np.asarray(wanted[k], dtype=np.float64) - middle * before
        size = np.sqrt(np.bincount(variables, ((radius * v.mid) ** 2).sum((0, 2)), count))
        length = np.sqrt(np.bincount(variables, (direction**2).sum((0, 2)), count))
        factor = np.where(length > 0, _INSIDE * size / np.where(length > 0, length, 1.0), 0.0)
        z = middle * v.mid + factor[variables][:, None] * direction
        if not (np.isfinite(z).all() and np.isfinite(v.mid).all()):
            return None
        low, high = Ball.exact(a), Ball.exact(b)
        slack = (Ball.exact(z) - low * v) * (high * v - Ball.exact(z))
        least = np.asarray(down(slack.mid - np.broadcast_to(slack.rad, slack.shape)))
        hidden = _sums_down(least, variables, count)[variables] < 0
        if hidden.any():  # rounding hides the sign; without a signal the product is -a b v^2, or v is zero
            if not (((a <= 0) & (b >= 0))[:, 0] | ~_is_reached(form, k))[hidden].all():
                return None
            z[:, hidden] = 0.0
        values.append(z)
        given.append(np.asarray(wanted[k], dtype=np.float64))
    return _image(form, form.hidden + 1, values)


def _is_reached(form: Form, group: int) -> NDArray[np.bool_]:
    """For each row of v_group whether anything can reach it."""
    reached = np.zeros(form.sizes[group], dtype=np.bool_)
    for block in form.maps[group - 1].values():
        reached |= ((block.mid != 0) | (block.rad != 0)).any((0, 2, 3))
    return reached


def _within(x: Array, index: Index, energy: Array) -> Array:
    """x scaled so that the rows of each class have at most its energy, proved by sums rounded upwards."""
    total = np.bincount(index, (x * x).sum((0, 2)), len(energy))
    scale = np.where(total > 0, np.sqrt(energy / np.where(total > 0, total, 1.0)), 0.0) * _INSIDE
    scaled: Array = x * scale[index][:, None]
    terms = x.size + 8
    fits = inflate(np.bincount(index, (scaled * scaled).sum((0, 2)), len(energy)), terms) <= energy
    scaled[:, ~fits[index]] = 0.0
    return scaled


def _image(form: Form, group: int, values: Sequence[Array]) -> Ball:
    """v_group, or the output, of exact values."""
    total = Ball.exact(np.zeros((form.frequencies[group], form.sizes[group], values[0].shape[-1])))
    for source, block in form.maps[group - 1].items():
        read = values[source][form.folds[group, source]]  # (F, P, n, r)
        flat = block.map(lambda array: array.reshape(*array.shape[:2], -1))
        total = total + flat @ Ball.exact(read.reshape(len(read), -1, read.shape[-1]))
    return total


def _lower_squares(ball: Ball) -> Array:
    """For each row a number below its energy, over frequencies and columns."""
    least = np.maximum(down(np.abs(ball.mid) - np.broadcast_to(ball.rad, ball.shape)), 0.0)
    return _sums_down(np.maximum(down(least * least), 0.0), np.arange(ball.shape[1]), ball.shape[1])


def _sums_down(terms: Array, classes: Index, count: int) -> Array:
    """For each class of rows a number below the exact sum of its terms, over frequencies and columns."""
    total = np.bincount(classes, terms.sum((0, 2)), count)
    size = np.bincount(classes, np.abs(terms).sum((0, 2)), count)
    return np.where(size > 0, down(total - inflate(size, terms.size + 8) * (terms.size + 8) * 2.0**-53), 0.0)
