"""Exact oracles: integers and rationals instead of floats."""

from fractions import Fraction
from math import gcd, lcm

import numpy as np


def to_integers(matrix) -> list[list[int]]:
    """The matrix of numbers times a positive rational that makes every entry an integer, and them coprime."""
    rows = [[x if isinstance(x, Fraction) else Fraction(float(x)) for x in row] for row in matrix]
    scale = lcm(*(x.denominator for row in rows for x in row))
    integers = [[int(x * scale) for x in row] for row in rows]
    common = gcd(*(x for row in integers for x in row)) or 1
    return [[x // common for x in row] for row in integers]


def is_semidefinite(matrix: list[list[int]]) -> bool:
    """Symmetric elimination without fractions (Bareiss) with diagonal pivots; a pivot is a minor of the matrix."""
    rest = [list(row) for row in matrix]
    previous = 1
    while rest:
        n = len(rest)
        if min(rest[i][i] for i in range(n)) < 0:
            return False
        pivot = max(range(n), key=lambda i: rest[i][i])
        top = rest[pivot][pivot]
        if top == 0:
            return not any(any(row) for row in rest)
        others = [i for i in range(n) if i != pivot]
        rest = [[(rest[i][j] * top - rest[i][pivot] * rest[pivot][j]) // previous for j in others] for i in others]
        previous = top
    return True


def gram(rows: list[list[Fraction]]) -> list[list[Fraction]]:
    """X X'."""
    return [[sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0)) for y in rows] for x in rows]


def bounds_norm(value: float, matrix: np.ndarray) -> bool:
    """value >= |X|_2, decided exactly: value^2 I - X X' has no negative pivot."""
    rows = [[Fraction(float(x)) for x in row] for row in matrix]
    square = Fraction(value) ** 2
    rest = [[(square if i == j else 0) - entry for j, entry in enumerate(row)] for i, row in enumerate(gram(rows))]
    return value >= 0 and is_semidefinite(to_integers(rest))
