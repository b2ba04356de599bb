"""A symmetric matrix in blocks over groups and frequencies, cut into tiles and scaled for a Cholesky factorisation.

Blocks come at several frequencies. A frequency f of group k is coupled with P frequencies of an earlier group s, and
each frequency of s with exactly one of k, its parent; blocks are held as (F_s, n_k, n_s), one matrix per child.
Groups are cut into tiles, so that contractions stay short however large a group is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from certlip.rigor.ball import Ball
from certlip.rigor.rounding import UNIT, Array, gamma, inflate

Index = NDArray[np.intp]
Rows = list[tuple[int, slice]]
"""The tiles of a group: their numbers and rows."""

_UNDERFLOW = 2.0**-900  # above what all underflows in one row can add up to, with a diagonal near one
_TILE = 128  # rows of a tile at most


@dataclass(eq=False)
class BlockMatrix:
    """Tiles in the order of elimination, and what the rows of E = M - R R' will have to exceed on the diagonal.

    corners: (F_k, n_k) for a diagonal tile, else (F_k, n_k, n_k). blocks[k, s], k > s: (F_s, n_k, n_s).
    parents[k, s]: (F_s,), the frequency of k that each of s is coupled with. Radii are None or missing where exact.
    needed: (F_k, n_k), sums of non-negative terms along the rows, before the rounding of these sums themselves.
    """

    corners: list[Array] = field(default_factory=list)
    corner_radii: list[Array | None] = field(default_factory=list)
    blocks: dict[tuple[int, int], Array] = field(default_factory=dict)
    block_radii: dict[tuple[int, int], Array] = field(default_factory=dict)
    parents: dict[tuple[int, int], Index] = field(default_factory=dict)
    needed: list[Array] = field(default_factory=list)

    def above(self, s: int) -> list[int]:
        """The later tiles that s is coupled with."""
        return [k for k in range(s + 1, len(self.corners)) if (k, s) in self.parents]

    def charge(self, k: int, sums: Array, parent: Index | None = None) -> None:
        """Add to what the rows of k need, at the frequencies `parent` where there is a sum for each child."""
        if parent is None or len(self.needed[k]) == len(sums) == 1:
            self.needed[k] += sums
        else:
            np.add.at(self.needed[k], parent, sums)

    def limits(self) -> list[Array]:
        """Floats above what is needed: sums run over rows, contractions and steps, and none is longer than this."""
        roundings = 8 * (sum(needed.size for needed in self.needed) + len(self.needed) ** 2 + 8)
        return [inflate(needed, roundings) for needed in self.needed]


def cut(
    diagonal: Sequence[Ball], lower: Mapping[tuple[int, int], Ball], folds: Mapping[tuple[int, int], Index]
) -> BlockMatrix | None:
    """The tiles of a matrix given as for `is_block_positive_semidefinite`; None where shapes or folds do not fit."""
    shapes = [ball.shape for ball in diagonal]
    if not all(len(shape) in (2, 3) and shape[0] > 0 and len(set(shape[1:])) == 1 for shape in shapes):
        return None
    matrix = BlockMatrix()
    tiles: list[Rows] = []
    for ball in diagonal:
        tiles.append(_cut_corner(matrix, ball))
    for (k, s), ball in lower.items():
        fold = np.asarray(folds.get((k, s), ()))
        if not 0 <= s < k < len(shapes) or fold.ndim != 2 or fold.dtype.kind != "i":
            return None
        if ball.shape != (shapes[k][0], shapes[k][1], fold.shape[1], shapes[s][1]) or len(fold) != shapes[k][0]:
            return None
        order = np.argsort(fold, axis=None, kind="stable")
        if not np.array_equal(fold.ravel()[order], np.arange(shapes[s][0])):
            return None
        _cut_block(matrix, tiles[k], tiles[s], _per_child(ball, order), order // fold.shape[1])
    return matrix


def _cut_corner(matrix: BlockMatrix, ball: Ball) -> Rows:
    """The tiles of a full diagonal block are coupled frequency by frequency; only its lower triangle is read."""
    count, size = ball.shape[:2]
    parts = max(1, -(-size // _TILE))
    tiles: Rows = []
    for start, stop in pairwise(size * i // parts for i in range(parts + 1)):
        number, rows = len(matrix.corners), slice(start, stop)
        corner = ball[:, rows] if len(ball.shape) == 2 else ball[:, rows, rows].map(_mirrored)
        matrix.corners.append(corner.mid)
        matrix.corner_radii.append(_radius(corner))
        if len(ball.shape) == 3:
            _cut_block(matrix, [(number, slice(None))], tiles, ball[:, rows], np.arange(count))
        tiles.append((number, rows))
    return tiles


def _cut_block(matrix: BlockMatrix, above: Rows, below: Rows, ball: Ball, parent: Index) -> None:
    for k, rows in above:
        for s, columns in below:
            part = ball[:, rows, columns]
            matrix.blocks[k, s], matrix.parents[k, s] = part.mid, parent
            radius = _radius(part)
            if radius is not None:
                matrix.block_radii[k, s] = radius


def _radius(ball: Ball) -> Array | None:
    return None if ball.is_exact else np.broadcast_to(ball.rad, ball.shape)


def _per_child(ball: Ball, order: Index) -> Ball:
    """(F_k, n_k, P, n_s) as (F_s, n_k, n_s)."""
    _, rows, _, columns = ball.shape
    edges = ball.map(lambda array: array.swapaxes(1, 2).reshape(len(order), rows, columns))
    return edges if np.array_equal(order, np.arange(len(order))) else edges[order]


def _mirrored(array: Array) -> Array:
    lower = np.tril(array)
    return lower + np.tril(array, -1).swapaxes(1, 2)


def equilibrate(matrix: BlockMatrix) -> bool:
    """Scale to a diagonal near one by powers of two, and charge the radii. All arrays are replaced by copies.

    A row of exact zeros is semidefinite by itself: it gets a one on the diagonal. False where any other row has no
    positive finite number there.
    """
    exponents: list[NDArray[np.int32]] = []
    for k, corner in enumerate(matrix.corners):
        points = corner if corner.ndim == 2 else np.diagonal(corner, axis1=1, axis2=2)
        is_empty = (points == 0) & ~_touched(matrix, k) if (points == 0).any() else np.zeros(points.shape, dtype=bool)
        if not (np.isfinite(points) & ((points > 0) | is_empty)).all():
            return False
        matrix.needed.append(np.full(points.shape, _UNDERFLOW))
        exponents.append((-np.frexp(points)[1] // 2).astype(np.int32))
    for k, (corner, radius) in enumerate(zip(matrix.corners, matrix.corner_radii, strict=True)):
        exponent = exponents[k]
        if corner.ndim == 2:
            scaled = np.ldexp(corner, 2 * exponent)
            scaled[scaled == 0] = 1.0
        else:
            scaled = np.ldexp(corner, exponent[:, :, None] + exponent[:, None, :])
            rows = np.arange(corner.shape[-1])
            scaled[:, rows, rows] += scaled[:, rows, rows] == 0
        matrix.corners[k] = scaled
        if radius is not None and corner.ndim == 2:
            matrix.charge(k, np.ldexp(radius, 2 * exponent))
        elif radius is not None:
            matrix.charge(k, np.ldexp(radius, exponent[:, :, None] + exponent[:, None, :]).sum(-1))
    for (k, s), block in matrix.blocks.items():
        parent = matrix.parents[k, s]
        exponent = exponents[k][parent][:, :, None] + exponents[s][:, None, :]
        matrix.blocks[k, s] = np.ldexp(block, exponent)
        if (k, s) in matrix.block_radii:
            radius = np.ldexp(matrix.block_radii.pop((k, s)), exponent)
            matrix.charge(k, radius.sum(-1), parent)
            matrix.charge(s, radius.sum(-2))
    return True


def _touched(matrix: BlockMatrix, k: int) -> NDArray[np.bool_]:
    """Where a row of tile k has an entry or a radius other than zero."""
    touched = np.zeros(matrix.corners[k].shape[:2], dtype=bool)
    for array in (matrix.corners[k], matrix.corner_radii[k]):
        if array is not None:
            touched |= array != 0 if array.ndim == 2 else (array != 0).any(-1)
    for entries in (matrix.blocks, matrix.block_radii):
        for (row, column), array in entries.items():
            if row == k:
                np.logical_or.at(touched, matrix.parents[row, column], (array != 0).any(-1))
            elif column == k:
                touched |= (array != 0).any(-2)
    return touched


def fill_in(matrix: BlockMatrix) -> list[Array] | None:
    """Add to `parents` where the factor fills in; the slack that rows are expected to need. None if not nested.

    In an equilibrated matrix rows of R are no longer than one, so (|R||R|')_ij <= 1: an entry costs at most gamma of
    the longest contraction into it, once for the residual, less than half for the factorisation, and u per difference.
    Rows that are not nearly parallel need a few percent of that; a tenth is a guess that the caller may have to revise.
    8 u are for the diagonal itself.
    """
    parents = matrix.parents
    frequencies, sizes = ([corner.shape[axis] for corner in matrix.corners] for axis in (0, 1))
    is_full = [corner.ndim == 3 for corner in matrix.corners]
    longest: dict[tuple[int, int], int] = {}
    steps: dict[tuple[int, int], int] = {}

    def step(k: int, j: int, inner: int) -> None:
        longest[k, j] = max(longest.get((k, j), 0), inner)
        steps[k, j] = steps.get((k, j), 0) + 1

    for s in range(len(sizes)):
        above = matrix.above(s)
        for k in [s, *above]:
            step(k, s, sizes[s] if is_full[s] else 1)
        for position, j in enumerate(above):
            is_full[j] = True
            for k in above[position:]:
                step(k, j, frequencies[s] // frequencies[j] * sizes[s])
                if k > j and (k, j) not in parents:
                    parents[k, j] = np.empty(frequencies[j], dtype=np.intp)
                    parents[k, j][parents[j, s]] = parents[k, s]
                if k > j and not np.array_equal(parents[k, j][parents[j, s]], parents[k, s]):
                    return None
    slack = [1.01 * needed + 8 * UNIT for needed in matrix.needed]
    for (k, j), inner in longest.items():
        entry = 0.1 * (1.5 * gamma(inner) + 4 * UNIT * (steps[k, j] + 1))
        slack[k] += entry * (frequencies[j] // frequencies[k] * (sizes[j] if is_full[j] or k > j else 1))
        if k > j:
            slack[j] += entry * sizes[k]
    return slack
