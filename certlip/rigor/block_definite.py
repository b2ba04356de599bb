"""Proof that a symmetric matrix in blocks is positive semidefinite, at a cost that follows the blocks.

As in `definite`, nothing about the factorisation is trusted: with *any* block lower triangular float matrix R, here the
Cholesky factor of the centre less a slack, M = R R' + E is semidefinite if E is diagonally dominant with non-negative
diagonal. The groups are eliminated in the given order. What an elimination subtracts from a block is what R R' has
there, so E appears block by block while R is computed, and a column of R is dropped once it has been used.

E is computed as A - fl(L L') - ...: each product adds gamma_c |L||L|' with c the rows contracted in *this* step, each
difference u times its own result. Both are summed along rows; no dense matrix over all groups is ever formed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from certlip.rigor.ball import Ball
from certlip.rigor.block_matrix import BlockMatrix, Index, cut, equilibrate, fill_in
from certlip.rigor.rounding import UNIT, Array, gamma

_PANEL = 64  # columns of a triangular system that LAPACK solves at once


@np.errstate(all="ignore")  # what overflows is refused at the end
def is_block_positive_semidefinite(
    diagonal: Sequence[Ball], lower: Mapping[tuple[int, int], Ball], folds: Mapping[tuple[int, int], Index]
) -> bool:
    """True only if every *symmetric* member of the block matrix is positive semidefinite.

    diagonal: for each group k a ball (F_k, n_k, n_k), its lower triangle is read, or (F_k, n_k) for a diagonal block.
    lower: for k > s the ball (F_k, n_k, P, n_s) that couples frequency f of k with the frequencies folds[k, s][f] of s;
    folds[k, s] is (F_k, P), and its entries are each frequency of s once. Blocks that are not given are zero.

    False means "not proved", also for entries that are no finite numbers, shapes that do not fit and folds that are not
    nested (f reads g and g reads h, while another f' reads h).
    """
    slack: list[Array] | None = None
    for _ in range(2):
        matrix = cut(diagonal, lower, folds)
        if matrix is None or not equilibrate(matrix):
            return False
        expected = fill_in(matrix)
        slack = expected if slack is None else slack
        if expected is None or slack is None or not all((shift < 0.2).all() for shift in slack):
            return False
        try:
            remainder = _remainder(matrix, slack)
        except np.linalg.LinAlgError:
            return False
        limits = matrix.limits()
        if all(bool((points >= limit).all()) for points, limit in zip(remainder, limits, strict=True)):
            return True
        slack = [1.1 * limit + 8 * UNIT for limit in limits]  # there is a factor: now with what its rows really need
    return False


def _remainder(matrix: BlockMatrix, slack: list[Array]) -> list[Array]:
    """The diagonal of E as computed. What it must not be below is charged to the rows: the sums of |E| along them, and
    the rounding of the evaluation of all entries. LinAlgError where the matrix less the slack has no factor."""
    points = []
    for s, shift in enumerate(slack):
        root, diagonal = _factor_corner(matrix, s, shift)
        points.append(diagonal)
        factors = {k: _factor_block(matrix, k, s, root) for k in matrix.above(s)}
        _update(matrix, s, factors)
    return points


def _factor_corner(matrix: BlockMatrix, s: int, shift: Array) -> tuple[Array, Array]:
    """R_ss, (F, n, n) or (F, n) if diagonal, and the diagonal of E_ss; its other entries are charged."""
    corner = matrix.corners[s]
    if corner.ndim == 2:
        if not (corner > shift).all():
            raise np.linalg.LinAlgError("no factor")
        root: Array = np.asarray(np.sqrt(corner - shift), dtype=np.float64)
        square = np.square(root)
        points = corner - square
        matrix.charge(s, UNIT * (square + np.abs(points)))
        return root, points
    rows = np.arange(corner.shape[-1])
    shifted = corner.copy()
    shifted[:, rows, rows] -= shift
    root = np.linalg.cholesky(shifted).astype(np.float64, copy=False)
    corner -= root @ root.swapaxes(1, 2)
    points = corner[:, rows, rows]
    matrix.charge(s, gamma(len(rows)) * _image(np.abs(root), np.abs(root).sum(-2)))
    rest = np.abs(corner, out=corner)
    matrix.charge(s, UNIT * rest.sum(-1))
    rest[:, rows, rows] = 0.0
    matrix.charge(s, rest.sum(-1))
    matrix.corners[s] = np.zeros((len(corner), 0))  # its memory is not needed any more
    return root, points


def _factor_block(matrix: BlockMatrix, k: int, s: int, root: Array) -> Array:
    """R_ks = A_ks R_ss'^-1, (F_s, n_k, n_s), in some rounding; E_ks = A_ks - R_ks R_ss' is charged."""
    block, parent = matrix.blocks.pop((k, s)), matrix.parents[k, s]
    if root.ndim == 2:
        factor = block / root[:, None, :]
        rest = np.abs(block - factor * root[:, None, :])
        size, inner = np.abs(factor), 1
        rows, columns = _image(size, root), root * size.sum(-2)
    else:
        factor = _solved(block, root)
        rest = np.abs(block - factor @ root.swapaxes(1, 2))
        size, inner = np.abs(factor), root.shape[-1]
        rows, columns = _image(size, np.abs(root).sum(-2)), _image(np.abs(root), size.sum(-2))
    matrix.charge(k, (1.0 + UNIT) * rest.sum(-1) + gamma(inner) * rows, parent)
    matrix.charge(s, (1.0 + UNIT) * rest.sum(-2) + gamma(inner) * columns)
    return factor


def _update(matrix: BlockMatrix, s: int, factors: Mapping[int, Array]) -> None:
    """A_kj - R_ks R_js' for all later pairs of groups, with the rounding of the product and of the difference."""
    for j in factors:
        right = _gathered(factors[j], matrix.parents[j, s])
        size = np.abs(right)
        bound = gamma(right.shape[-1])
        for k in factors:
            if k < j:
                continue
            if k == j:
                corner = _full(matrix.corners[j])
                corner -= right @ right.swapaxes(1, 2)
                matrix.corners[j] = corner
                matrix.charge(j, bound * _image(size, size.sum(-2)) + UNIT * np.abs(corner).sum(-1))
                continue
            left = _gathered(factors[k], matrix.parents[j, s])
            product = left @ right.swapaxes(1, 2)
            known = matrix.blocks.get((k, j))
            block = np.negative(product, out=product) if known is None else np.subtract(known, product, out=known)
            matrix.blocks[k, j] = block
            rest, other = np.abs(block), np.abs(left)
            matrix.charge(k, bound * _image(other, size.sum(-2)) + UNIT * rest.sum(-1), matrix.parents[k, j])
            matrix.charge(j, bound * _image(size, other.sum(-2)) + UNIT * rest.sum(-2))


def _full(corner: Array) -> Array:
    if corner.ndim == 3:
        return corner
    full = np.zeros((*corner.shape, corner.shape[-1]))
    rows = np.arange(corner.shape[-1])
    full[:, rows, rows] = corner
    return full


def _gathered(block: Array, parent: Index) -> Array:
    """The matrices of all children of a parent side by side: (F_s, n, m) as (F_j, n, P m)."""
    if len(block) == 1:
        return block
    children = np.argsort(parent, kind="stable").reshape(int(parent.max()) + 1, -1)
    count, phases = children.shape
    return block[children].swapaxes(1, 2).reshape(count, block.shape[1], phases * block.shape[2])


def _image(matrix: Array, vector: Array) -> Array:
    """Matrix times vector at each frequency."""
    product: Array = (matrix @ vector[..., None])[..., 0]
    return product


def _solved(block: Array, root: Array) -> Array:
    """X with X R' = block for lower triangular R, by substitution in panels."""
    solution = np.empty(block.shape)
    for start in range(0, root.shape[-1], _PANEL):
        panel = slice(start, start + _PANEL)
        rest = block[..., panel] - solution[..., :start] @ root[:, panel, :start].swapaxes(1, 2)
        # in reversed order R is upper triangular, where elimination with pivots has nothing to do
        reverse = np.linalg.solve(root[:, panel, panel][:, ::-1, ::-1], rest.swapaxes(1, 2)[:, ::-1])
        solution[..., panel] = reverse[:, ::-1].swapaxes(1, 2)
    return solution
