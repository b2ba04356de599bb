"""Small piecewise linear networks, cell by cell in exact integers: true Lipschitz constants and true least margins.

Cells are found by branching on the sign of every neuron; a sign is possible where a system of strict inequalities has a
solution, which Fourier-Motzkin elimination decides without rounding. Exponential in the inputs: for up to three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np

Row = tuple[int, ...]
"""(a_1, ..., a_n, b): the inequality a x + b > 0, or >= 0."""

Affine = list[Fraction]
"""(a_1, ..., a_n, b): the function a x + b."""

SLOPES = {"Relu": (0, 1), "Abs": (-1, 1), "LeakyRelu": (Fraction(float(np.float32(0.01))), 1)}
"""Slopes below and above zero; 0.01 is what ONNX takes where a file says nothing."""


@dataclass(frozen=True)
class Cell:
    """An open polyhedron and the outputs there."""

    rows: tuple[Row, ...]
    outputs: tuple[Affine, ...]


def cells(layers: Sequence, activation: str, box: Sequence[Row] = ()) -> Iterator[Cell]:
    """All cells that meet the open box, for layers (W, b) with the activation between them."""
    size = np.shape(layers[0][0])[1]
    inputs = [[Fraction(int(i == j)) for j in range(size)] + [Fraction(0)] for i in range(size)]
    yield from _cells(list(layers), SLOPES[activation], list(box), inputs)


def _cells(layers: list, slopes, rows: list[Row], values: list[Affine]) -> Iterator[Cell]:
    (weight, bias), *rest = layers
    arguments = [
        _sum([_times(Fraction(float(w)), value) for w, value in zip(row, values, strict=True)], Fraction(float(b)))
        for row, b in zip(weight, bias, strict=True)
    ]
    if not rest:
        yield Cell(tuple(rows), tuple(arguments))
        return
    for chosen, bent in _signs(arguments, slopes, rows, []):
        yield from _cells(rest, slopes, chosen, bent)


def _signs(arguments: list[Affine], slopes, rows: list[Row], bent: list[Affine]) -> Iterator[tuple[list[Row], list]]:
    """Every possible choice of signs of the arguments, with what the activation makes of them."""
    if len(bent) == len(arguments):
        yield rows, bent
        return
    argument = arguments[len(bent)]
    below, above = slopes
    if not any(argument[:-1]):
        kept = [*bent, _times(Fraction(above if argument[-1] > 0 else below), argument)]
        yield from _signs(arguments, slopes, rows, kept)
        return
    for sign, slope in ((-1, below), (1, above)):
        narrowed = [*rows, integers(_times(Fraction(sign), argument))]
        if is_feasible(narrowed):
            yield from _signs(arguments, slopes, narrowed, [*bent, _times(Fraction(slope), argument)])


def _times(factor: Fraction, function: Affine) -> Affine:
    return [factor * entry for entry in function]


def _sum(functions: list[Affine], constant: Fraction) -> Affine:
    total = [sum(entries, Fraction(0)) for entries in zip(*functions, strict=True)]
    return [*total[:-1], total[-1] + constant]


def integers(function: Affine) -> Row:
    """The same inequality with coprime integers."""
    scale = lcm(*(entry.denominator for entry in function))
    row = [int(entry * scale) for entry in function]
    common = gcd(*row) or 1
    return tuple(entry // common for entry in row)


def is_feasible(rows: Sequence[Row]) -> bool:
    """Whether some x satisfies a x + b > 0 for every row."""
    system = set(rows)
    for variable in range(len(rows[0]) - 1 if rows else 0):
        system = eliminate(system, variable)
    return all(row[-1] > 0 for row in system)


def eliminate(system: set[Row], variable: int) -> set[Row]:
    """What the inequalities say of the other variables: those without it, and each pair of opposite signs combined."""
    rest = {row for row in system if row[variable] == 0}
    over = [row for row in system if row[variable] > 0]
    under = [row for row in system if row[variable] < 0]
    for p in over:
        for q in under:
            row = [p[variable] * b - q[variable] * a for a, b in zip(p, q, strict=True)]
            common = gcd(*row) or 1
            rest.add(tuple(entry // common for entry in row))
    return rest


def box_rows(center: Sequence[Fraction], eps: Fraction) -> list[Row]:
    """The box |x - center| < eps."""
    rows = []
    for i, middle in enumerate(center):
        for sign in (1, -1):
            unit = [Fraction(sign * int(i == j)) for j in range(len(center))]
            rows.append(integers([*unit, eps - sign * middle]))
    return rows


def difference(cell: Cell, first: int = 0, second: int = 1) -> Affine:
    """f_first - f_second on a cell."""
    return [a - b for a, b in zip(cell.outputs[first], cell.outputs[second], strict=True)]


def least(cell: Cell, function: Affine) -> Fraction:
    """The least value of an affine function on the closure of a bounded cell: t >= function(x), x eliminated."""
    size = len(function) - 1
    system = {(*row[:-1], 0, row[-1]) for row in cell.rows}
    system |= {integers([-entry for entry in function[:-1]] + [Fraction(1), -function[-1]])}
    for variable in range(size):
        system = eliminate(system, variable)
    return max(Fraction(-row[-1], row[-2]) for row in system if row[-2] > 0)


def slope_squared(function: Affine, norm: str) -> Fraction:
    """The square of the Lipschitz constant of an affine function: dual norm of its gradient."""
    gradient = function[:-1]
    if norm == "l2":
        return sum((entry * entry for entry in gradient), Fraction(0))
    return sum((abs(entry) for entry in gradient), Fraction(0)) ** 2
