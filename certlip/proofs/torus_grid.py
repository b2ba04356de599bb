"""Frequencies of nested tori, and the transfer matrices of convolutions on them.

A value whose strides multiply to `level` (one number per axis) lives on a torus of sides n / level. Its coordinates are
the unitary discrete Fourier transform over that torus, with real and imaginary parts side by side: channels c become
rows (Re x_1, ..., Re x_c, Im x_1, ..., Im x_c), and a complex matrix becomes [[Re, -Im], [Im, Re]].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from certlip.graph.kinds import Shape
from certlip.ops import Conv
from certlip.ops.convolution_norms import twiddles
from certlip.proofs.form import Index
from certlip.rigor.ball import Ball, concatenate
from certlip.rigor.rounding import Array

Level = tuple[int, ...]


@dataclass(frozen=True)
class TorusGrid:
    """sides: of the torus of level 1. coarsest: a level that every other one divides, and that divides the sides.

    A stride s folds the frequencies w, w + m, w + 2m, ... (m = side / s) into one, so everything splits over the
    frequencies of the coarsest torus. Kernels are real: w and -w are conjugate, and only the first of the two (in
    lexicographic order) is kept, with all frequencies of finer tori that fold onto it.
    """

    sides: Shape
    coarsest: Level

    def sides_at(self, level: Level) -> Shape:
        return tuple(n // s for n, s in zip(self.sides, level, strict=True))

    def count(self, level: Level) -> int:
        """How many frequencies of this level are kept."""
        coarse = self.sides_at(self.coarsest)
        own_mirror_images = prod(2 - n % 2 for n in coarse)
        aliases = prod(c // s for c, s in zip(self.coarsest, level, strict=True))
        return (prod(coarse) + own_mirror_images) // 2 * aliases

    def frequencies(self, level: Level) -> Index:
        """The kept frequencies (F, axes) in lexicographic order."""
        return _frequencies(self, level)

    def fold(self, level: Level, finer: Level) -> Index:
        """(F, P): the P = prod(level / finer) frequencies of `finer` that fold onto each one of `level`, ascending."""
        return _fold(self, level, finer)

    def transfer(self, conv: Conv, level: Level) -> Ball:
        """K(w) / sqrt(prod strides) for an image at `level`: (F, 2 out, 2 in), F the frequencies of the image.

        Output p of the circular convolution is sum_t K[t] x[s p + t d - pad]. With n its side, K(w) = sum_t K[t]
        exp(2 pi i w (t d - pad) / n), and at the frequency v y(v) = s^(-1/2) sum of K(w) x(w) over w = v mod n / s.
        """
        out, per_group = conv.weight.shape[:2]
        taps = np.array(list(product(*(range(k) for k in conv.window)))).reshape(-1, len(conv.window))
        behind = np.array([before for before, _ in conv.pads]) - taps * np.array(conv.dilations)
        kernel = conv.weight.reshape(out * per_group, len(taps))
        strides = prod(conv.strides)
        if strides > 1:
            kernel = kernel / Ball.exact([float(strides)]).sqrt()
        real, imaginary = (
            _ungrouped((kernel @ twiddle.T).T.reshape(-1, out, per_group), conv.groups)
            for twiddle in twiddles(self.frequencies(level), behind, self.sides_at(level))
        )
        return _embed(real, imaginary)


@lru_cache(maxsize=64)
def _frequencies(grid: TorusGrid, level: Level) -> Index:
    sides, coarse = grid.sides_at(level), grid.sides_at(grid.coarsest)
    every = np.stack(np.unravel_index(np.arange(prod(sides)), sides), axis=1)
    kept = _flat(every % coarse, coarse) <= _flat(-every % coarse, coarse)
    return every[kept]


@lru_cache(maxsize=64)
def _fold(grid: TorusGrid, level: Level, finer: Level) -> Index:
    sides = grid.sides_at(level)
    coarse = _flat(grid.frequencies(level), sides)
    target = np.searchsorted(coarse, _flat(grid.frequencies(finer) % sides, sides))
    return np.argsort(target, kind="stable").reshape(len(coarse), -1)


def _flat(frequencies: Index, sides: Shape) -> Index:
    return np.ravel_multi_index(tuple(frequencies.T), sides)


def _ungrouped(blocks: Ball, groups: int) -> Ball:
    """From (F, out, in / groups) to (F, out, in) with zeros between different groups."""
    if groups == 1:
        return blocks
    count, out, per_group = blocks.shape
    rows = out // groups

    def place(array: Array) -> Array:
        full = np.zeros((count, out, groups * per_group))
        for g in range(groups):
            here = slice(g * rows, (g + 1) * rows)
            full[:, here, g * per_group : (g + 1) * per_group] = array[:, here]
        return full

    return blocks.map(place)


def _embed(real: Ball, imaginary: Ball) -> Ball:
    top, bottom = concatenate([real, -imaginary], -1), concatenate([imaginary, real], -1)
    return concatenate([top, bottom], -2)
