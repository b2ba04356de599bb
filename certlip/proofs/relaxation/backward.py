"""Lower bounds on linear functions of a network's values, by carrying coefficients back to the input (CROWN).

<c, v> for a value v = W z + b is <W'c, z> + <c, b>; for v = phi(z) it is at least <c s, z> + <c, t> with the lower line
(s, t) of phi where c > 0 and the upper one elsewhere (Zhang et al. 2018). At the input, what is left is a linear
function, and its minimum over a box or ball is known.

*Rounding.* The float coefficients at every value are taken as they are: they define a linear function. Only the step
from those at v to those at z has an error, and it is charged to the values themselves: with |z| <= m,

    |<fl(W'c) - W'c, z>|  <=  gamma sum_i |c_i| (|W| m)_i.

So one vector for each value, `charges`, times |c| bounds all rounding errors: a proof costs hardly more than an
estimate.

*Cuts.* Where a leaf of a case distinction has sigma (v_j - threshold) >= 0, beta sigma (v_j - threshold) may be
subtracted from the function for any beta >= 0: the minimum over the leaf does not grow (Wang et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Affine, Pointwise
from certlip.ops import Add, Concat
from certlip.proofs.relaxation.frame import Cells, Frame
from certlip.rigor.ball import between
from certlip.rigor.rounding import UNIT, Array, down, gamma, inflate, up

_LONG = 2**12  # floats in the rows of one cell, on average, from which they are bounded apart from others
_ENTRIES = 2**17  # floats that the coefficients of one value may fill at a time: they stay in the cache


@dataclass(frozen=True, eq=False)
class Cuts:
    """At one value: for some rows, sign (v[entry] - threshold) >= 0 with a multiplier >= 0; one array entry each."""

    rows: NDArray[np.int64]
    entries: NDArray[np.int64]
    signs: Array
    thresholds: Array
    multipliers: Array


@dataclass(frozen=True, eq=False)
class LinearBound:
    """<c, v> >= <slopes, x> + offset on the row's cell, and the minimum of that over the domain, `least`.

    slopes: (rows, *input shape) and offset: (rows,) in floats, unproved; least: proved, NaN or -inf where nothing is.
    """

    slopes: Array
    offset: Array
    least: Array


def lower_bounds(
    frame: Frame,
    value: int,
    coefficients: Array,
    cells: NDArray[np.int64] | None = None,
    cuts: Mapping[int, Cuts] | None = None,
    losses: dict[int, Array] | None = None,
    keep: bool = True,
) -> LinearBound:
    """Bounds on <c, v> for each row c of `coefficients` (rows, *shape of the value), v in the row's cell.

    cells: the cell of each row of the frame; None if row r is cell r, or there is one cell only. losses: filled, for
    searches, with what each activation's line may lose, (rows, *shape) by position of its node; not in parts.
    keep: False to be spared the slopes, which may be large.
    """
    widest = max(map(prod, frame.graph.shapes[: value + 1]))
    limit = max(1, _ENTRIES // max(1, widest))
    if cuts or losses is not None or not len(coefficients):
        return _lower_bounds(frame, value, coefficients, cells, cuts or {}, losses)
    if cells is None:
        cells = np.arange(len(coefficients)) if frame.cells > 1 else np.zeros(len(coefficients), dtype=np.int64)
    parts = []
    for start, end, cell in _runs(cells, widest):
        for first in range(start, end, limit):
            rows = slice(first, min(first + limit, end))
            here = cells[rows] if cell is None else cell
            part = _lower_bounds(frame, value, coefficients[rows], here, {}, None)
            parts.append(part if keep else replace(part, slopes=part.slopes[:0]))
    joined = (np.concatenate([getattr(part, key) for part in parts]) for key in ("slopes", "offset", "least"))
    return LinearBound(*joined)


def _runs(cells: NDArray[np.int64], widest: int) -> list[tuple[int, int, int | None]]:
    """Rows that may be bounded together: (start, end, cell), no cell where they are of several. Those of one cell share
    its arrays, which pays where arrays and runs are long."""
    ends = [*(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(cells)] if len(cells) else []
    if len(ends) > 1 and len(cells) * widest < _LONG * len(ends):
        return [(0, len(cells), None)]
    return [(start, end, int(cells[start])) for start, end in zip([0, *ends], ends, strict=False)]


@np.errstate(invalid="ignore", over="ignore")
def _lower_bounds(
    frame: Frame,
    value: int,
    coefficients: Array,
    cells: Cells,
    cuts: Mapping[int, Cuts],
    losses: dict[int, Array] | None,
) -> LinearBound:
    rows, total = len(coefficients), _Sum(len(coefficients))
    pending: dict[int, Array] = {value: coefficients}
    for cut_value in cuts:
        pending.setdefault(cut_value, np.zeros((rows, *frame.graph.shapes[cut_value])))
    for v in range(max(pending), 0, -1):
        c = pending.pop(v, None)
        if c is None:
            continue
        if v in cuts:
            c = _cut(frame, v, c, cells, cuts[v], total)
        total.charge(_dot(np.abs(c), frame.pick(frame.charges[v], cells)), frame.sizes[v])
        node = frame.graph.nodes[v - 1]
        operator = node.operator
        if isinstance(operator, Affine):
            total.add(_dot(c, np.broadcast_to(operator.bias.mid, operator.codomain)[None]))
            parts = [operator.backward(operator.weight.mid, c)]
        elif isinstance(operator, Pointwise):
            positive = c > 0
            low_slope, low_offset, high_slope, high_offset = frame.lines[v - 1].take(cells)
            total.add(_dot(c, np.where(positive, low_offset, high_offset)))
            parts = [c * np.where(positive, low_slope, high_slope)]
            if losses is not None:
                losses[v - 1] = _loss(frame, v - 1, c, cells)
        elif isinstance(operator, Add):
            parts = [c] * len(node.inputs)
        elif isinstance(operator, Concat):
            ends = np.cumsum([frame.graph.shapes[i][operator.axis] for i in node.inputs])[:-1]
            parts = np.split(c, ends, operator.axis + 1)
        else:
            raise TypeError(f"{type(operator).__name__} has no linear relaxation; rewrite maxima first")
        for i, part in zip(node.inputs, parts, strict=True):
            pending[i] = part if i not in pending else _joined(frame, i, pending[i], part, cells, total)
    c = pending.get(0)
    if c is None:
        c = np.zeros((rows, *frame.graph.input_shape))
    total.charge(_dot(np.abs(c), frame.pick(frame.charges[0], cells)), frame.sizes[0])
    total.charge(np.full(rows, frame.underflow), 1)
    offset = total.value.copy()
    return LinearBound(c, offset, _minimum(frame, c, cells, total))


def _loss(frame: Frame, position: int, c: Array, cells: Cells) -> Array:
    """|c| times how far the other line is from the one that is used, in the middle of the interval."""
    low_slope, low_offset, high_slope, high_offset = frame.lines[position].take(cells)
    argument = frame.graph.nodes[position].inputs[0]
    middle = 0.5 * frame.pick(frame.low[argument], cells) + 0.5 * frame.pick(frame.high[argument], cells)
    return np.abs(c) * np.maximum((high_slope - low_slope) * middle + high_offset - low_offset, 0.0)


def _minimum(frame: Frame, c: Array, cells: Cells, total: _Sum) -> Array:
    """The least of <c, x> + total over the row's box, or over the ball where that is more."""
    box = between(frame.pick(frame.low[0], cells), frame.pick(frame.high[0], cells))
    most = total.plus(_dot(c, box.mid), -_dot(np.abs(c), box.rad))
    if frame.center is None:
        return most
    squares = inflate((c * c).reshape(len(c), -1).sum(1), c[0].size + 1)
    reach = up(up(np.sqrt(squares)) * frame.radius)
    return np.fmax(most, down(total.plus(_dot(c, frame.center[None])) - reach))


def _cut(frame: Frame, v: int, c: Array, cells: Cells, cuts: Cuts, total: _Sum) -> Array:
    """c after the subtraction of all cuts; partial sums in an entry stay below |c_j| + (sum of all multipliers)."""
    if not len(cuts.rows):
        return c
    flat = c.reshape(len(c), -1).copy()
    steps = cuts.signs * cuts.multipliers
    most = np.zeros(len(c))
    np.add.at(most, cuts.rows, np.abs(cuts.multipliers))
    count = int(np.bincount(cuts.rows).max()) + 1
    reach = frame.magnitude(v).reshape(len(frame.magnitude(v)), -1)
    owners = cuts.rows if cells is None else np.broadcast_to(cells, len(c))[cuts.rows]
    size = reach[owners if len(reach) > 1 else 0, cuts.entries]
    slip = np.zeros(len(c))
    np.add.at(slip, cuts.rows, gamma(2 * count) * (np.abs(flat[cuts.rows, cuts.entries]) + most[cuts.rows]) * size)
    total.charge(slip, 2 * count)
    np.subtract.at(flat, (cuts.rows, cuts.entries), steps)
    shift, weight = np.zeros(len(c)), np.zeros(len(c))
    np.add.at(shift, cuts.rows, steps * cuts.thresholds)
    np.add.at(weight, cuts.rows, np.abs(steps * cuts.thresholds))
    total.add(shift)
    total.charge(gamma(count + 1) * weight, count)
    return flat.reshape(c.shape)


def _joined(frame: Frame, v: int, one: Array, other: Array, cells: Cells, total: _Sum) -> Array:
    """Coefficients of one value that come from two of its readers; each may have been rounded once before."""
    both = one + other
    sizes = np.abs(one) + np.abs(other) + np.abs(both)
    total.charge(_dot(sizes, frame.pick(2.0 * UNIT * frame.magnitude(v), cells)), frame.sizes[v] + 4)
    return both


def _dot(c: Array, other: Array) -> Array:
    """Row by row, over all axes but the first; `other` has as many rows, or one."""
    flat, rest = c.reshape(len(c), prod(c.shape[1:])), other.reshape(len(other), prod(other.shape[1:]))
    if rest.shape[1] == 1 and flat.shape[1] > 1:
        rest = np.broadcast_to(rest, (len(rest), flat.shape[1]))
    return flat @ rest[0] if len(rest) == 1 else np.einsum("ij,ij->i", flat, rest)


class _Sum:
    """Sums of a few terms for every row, the sizes of the terms, and what their errors sum up to."""

    def __init__(self, rows: int):
        self.value, self._sizes, self._errors, self._count = np.zeros(rows), np.zeros(rows), np.zeros(rows), 2

    def add(self, term: Array) -> None:
        """One more term; the error that it was computed with is charged by the caller."""
        self.value = self.value + term
        self._sizes = self._sizes + np.abs(term)
        self._count += 2

    def charge(self, error: Array, roundings: int) -> None:
        """A non-negative bound, evaluated with so many nested roundings."""
        self._errors = self._errors + inflate(error, roundings + 2)
        self._count += 1

    def plus(self, *terms: Array) -> Array:
        """A lower bound on the sum with these last terms."""
        total = _Sum(len(self.value))
        total.value, total._sizes, total._errors, total._count = self.value, self._sizes, self._errors, self._count
        for term in terms:
            total.add(term)
        slip = inflate(total._errors + gamma(total._count) * total._sizes, 2 * total._count + 6)
        return down(total.value - slip)
