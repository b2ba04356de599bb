"""What is known of every value of a network on many input sets at once: its range, the lines of its activation, and
what a rounding error in its coefficients may cost. Each input set, a box cut to a ball where there is one, is a *cell*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Affine, Graph, Node, Pointwise
from certlip.ops import Reindex
from certlip.proofs.relaxation.lines import Cells, Lines, image, lines, of_cells
from certlip.rigor.ball import between
from certlip.rigor.rounding import REAL, TINY, UNIT, Array, gamma, inflate


@dataclass(eq=False)
class Frame:
    """By value of the graph (0: its input): low, high and charges, arrays (cells or 1, *shape). By position of each
    pointwise node: lines. center, radius: of the ball, None without one. `charges` and `underflow` are explained in
    `backward`; sizes: how many terms a sum over the value has. slopes, for searches that ask: how steep the bounds on
    some entries of a value are in each entry of the input, (cells, entries, inputs) by value.
    """

    graph: Graph
    cells: int
    center: Array | None
    radius: float
    low: list[Array] = field(default_factory=list)
    high: list[Array] = field(default_factory=list)
    charges: list[Array] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    lines: dict[int, Lines] = field(default_factory=dict)
    underflow: float = 0.0
    slopes: dict[int, Array] | None = None

    @staticmethod
    def pick(array: Array, cells: Cells) -> Array:
        """The entries of each row's cell, or of the one of all."""
        return of_cells(array, cells)

    def magnitude(self, value: int) -> Array:
        """Bounds on |v|."""
        return np.maximum(np.abs(self.low[value]), np.abs(self.high[value]))

    def is_empty(self) -> NDArray[np.bool_]:
        """Cells in which some value has no place: no input lies in them."""
        empty = np.zeros(self.cells, dtype=bool)
        for low, high in zip(self.low, self.high, strict=True):
            empty |= (low > high).reshape(len(low), -1).any(1)
        return empty


Refine = Callable[["Frame", int, NDArray[np.bool_]], tuple[Array, Array]]
"""(frame, value, which entries matter) -> bounds of the value on every cell."""


@np.errstate(invalid="ignore", over="ignore")
def frame_of(
    graph: Graph,
    low: Array,
    high: Array,
    center: Array | None,
    radius: float,
    refine: Refine,
    keep_slopes: bool = False,
) -> Frame:
    """Ranges of all values for cells low <= x <= high, arrays (cells, *input shape).

    Boxes are carried forward; where an activation is not linear on the box of its argument, `refine` is asked.
    """
    frame = Frame(graph, len(low), center, radius, slopes={} if keep_slopes else None)
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for i in node.inputs:
            readers.setdefault(i, []).append(node)
    largest = np.maximum(np.abs(low), np.abs(high)) if center is None else np.fmax(
        np.maximum(np.abs(low), np.abs(high)), np.abs(center)
    )
    _append(frame, low, high, 2.0 * gamma(low[0].size + 4) * largest)  # for the middle of the box and for its radius
    independent = {0} if center is None else set()  # values whose entries move freely in a box: its image is exact
    for position, node in enumerate(graph.nodes):
        value, operator, arguments = position + 1, node.operator, node.inputs
        boxes = [between(frame.low[i], frame.high[i]) for i in arguments]
        own = np.zeros((1,) * (len(graph.shapes[value]) + 1))
        if isinstance(operator, Pointwise):
            frame.lines[position] = lines(operator, frame.low[arguments[0]], frame.high[arguments[0]])
            least, greatest = image(operator, frame.low[arguments[0]], frame.high[arguments[0]])
            own = offsets_charge(frame.lines[position])
        else:
            ball = operator.enclose(REAL, *boxes)
            least, greatest = ball.lower(), ball.upper()
            if isinstance(operator, Affine):
                own = _affine_charge(operator, frame.magnitude(arguments[0]))
        _append(frame, least, greatest, own)
        if isinstance(operator, Reindex) and operator.multiplicity <= 1 and arguments[0] in independent:
            independent.add(value)
        exact = isinstance(operator, Affine) and arguments[0] in independent
        if not exact:
            wanted = _bent(frame, value, readers.get(value, []))
            if wanted.any():
                better = refine(frame, value, wanted)
                frame.low[value] = np.fmax(frame.low[value], better[0])
                frame.high[value] = np.fmin(frame.high[value], better[1])
    return frame


def _append(frame: Frame, low: Array, high: Array, own: Array) -> None:
    """One more value. own: what its producer's step costs, for each unit of a coefficient."""
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    frame.low.append(low)
    frame.high.append(high)
    size = low[0].size
    magnitude = np.maximum(np.abs(low), np.abs(high))
    frame.charges.append(inflate(own + 4.0 * UNIT * magnitude, 6))
    frame.sizes.append(size)
    lost = float(magnitude.reshape(len(magnitude), -1).sum(1).max(initial=0.0))
    frame.underflow = inflate(frame.underflow + (lost + 1.0) * TINY * 2.0 * size, size + 4)


def offsets_charge(given: Lines) -> Array:
    """|fl(<c, t>) - <c, t>| is at most |c| times this, t the offsets of lower or upper lines."""
    offsets = np.maximum(np.abs(given.low_offset), np.abs(given.high_offset))
    return np.asarray(inflate(gamma(offsets[0].size + 2) * offsets, 2))


def _affine_charge(operator: Affine, magnitude: Array) -> Array:
    """|<fl(W'c), z> + fl(<c, b>) - <c, W z + b>| is at most |c| times this, with |z| <= magnitude."""
    size = prod(operator.codomain)
    slip = gamma(operator.terms_back + 2) * operator.spread(magnitude)
    if not operator.weight.is_exact:
        slip = slip + operator.forward(np.broadcast_to(operator.weight.rad, operator.weight.shape), magnitude)
    bias = operator.bias.rad + gamma(size + 2) * operator.bias.magnitude()
    return np.asarray(inflate(slip + bias, operator.terms + 6))


def _bent(frame: Frame, value: int, nodes: list[Node]) -> NDArray[np.bool_]:
    """Entries (cells, *shape) of the value at which some activation that reads it is not linear."""
    wanted = np.zeros(frame.low[value].shape, dtype=bool)
    for node in nodes:
        if isinstance(node.operator, Pointwise):
            low, high = frame.low[value], frame.high[value]
            a, b = node.operator.slopes_on(low, high)
            wanted |= a < b
    return wanted
