"""Layers as explicit matrices, entry by entry: an oracle that shares nothing with certlip.layers."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np


def matrix_of(weight: np.ndarray, size: tuple[int, ...], stride, dilation, padding, groups: int) -> np.ndarray:
    """The matrix of a zero-padded convolution (out, in / groups, *window) on images (in, *size), tap by tap."""
    if weight.ndim == 2:
        return weight
    axes = weight.ndim - 2
    out, per_group, *window = weight.shape
    stride, dilation, padding = ((v,) * axes if isinstance(v, int) else tuple(v) for v in (stride, dilation, padding))
    space = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, padding, dilation, window, stride, strict=True)
    ]
    matrix = np.zeros((out, *space, per_group * groups, *size))
    for o, c in product(range(out), range(per_group)):
        channel = (o // (out // groups)) * per_group + c
        for t in product(*map(range, space)):
            for a in product(*map(range, window)):
                at = tuple(s * i - p + d * j for s, i, p, d, j in zip(stride, t, padding, dilation, a, strict=True))
                if all(0 <= q < n for q, n in zip(at, size, strict=True)):
                    matrix[(o, *t, channel, *at)] += weight[(o, c, *a)]
    return matrix.reshape(out * prod(space), -1)


def norm(matrix: np.ndarray) -> float:
    """The largest singular value."""
    return float(np.linalg.svd(matrix, compute_uv=False)[0])
