"""Proved bounds on the norm of a zero-padded, strided, dilated, grouped convolution without its dense matrix."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certlip.rigor.ball import Ball
from certlip.rigor.norms import normalised, perron_vector, spectral_norm
from certlip.rigor.roots import roots_of_unity
from certlip.rigor.rounding import Array, inflate, up

if TYPE_CHECKING:
    from certlip.ops.conv import Conv

_BATCH_ENTRIES = 4_000_000


def torus(conv: Conv) -> tuple[int, ...]:
    """Side lengths of a torus on which the zero-padded convolution is a compression of the circular one.

    Per axis n >= H + max(k_eff - 1, p_before, p_after), n a multiple of the stride, n >= stride * H_out: reads that
    leave the image then land on zeros, never on pixels from the other side.
    """
    sides = []
    axes = zip(conv.size[1:], conv.window, conv.dilations, conv.pads, conv.strides, conv.space, strict=True)
    for height, k, dilation, pad, stride, out in axes:
        least = max(height + max(dilation * (k - 1), *pad), stride * out)
        sides.append(-(-least // stride) * stride)
    return tuple(sides)


def frequency_norm(conv: Conv) -> float:
    """Upper bound on |W|_2: the largest singular value over the frequencies of the torus.

    With K(w) = sum_t K[t] exp(-i w.t), a stride s keeps every s-th output and so folds s^d aliased frequencies into
    one block row [K(w), K(w + 2 pi/s), ...] / s^(d/2) (Sedghi, Gupta, Long 2019 for s = 1). Groups are independent.
    Real kernels: w and -w are conjugate, one of the two suffices. Each complex block is embedded as a real one,
    [[Re, -Im], [Im, Re]], which has the same norm.
    """
    sides = torus(conv)
    coarse = tuple(n // s for n, s in zip(sides, conv.strides, strict=True))
    grid = product(*(range(m) for m in coarse))
    rows = [w for w in grid if w <= tuple(-k % m for k, m in zip(w, coarse, strict=True))]
    phases = prod(conv.strides)
    per_block = 4 * prod(conv.weight.shape[:2]) * phases
    step = max(1, _BATCH_ENTRIES // per_block)
    bound = 0.0
    for start in range(0, len(rows), step):
        batch = np.array(rows[start : start + step])
        bound = max(bound, spectral_norm(_blocks(conv, sides, coarse, batch)))
    return up(bound / np.sqrt(float(phases)) * (1 + 1e-15)) if phases > 1 else bound


def _blocks(conv: Conv, sides: tuple[int, ...], coarse: tuple[int, ...], rows: Array) -> Ball:
    """Real embeddings of the folded kernels: (frequency, group, 2 out/groups, 2 phases in/groups)."""
    out, per_group = conv.weight.shape[:2]
    taps = np.array(list(product(*(range(k) for k in conv.window)))) * np.array(conv.dilations)
    aliases = np.array(list(product(*(range(s) for s in conv.strides)))) * np.array(coarse)
    frequencies = rows[:, None, :] + aliases[None, :, :]  # (rows, phases, axes), each below its side
    cos, sin = twiddles(frequencies.reshape(-1, len(sides)), taps, sides)
    kernel = conv.weight.reshape(out * per_group, len(taps))
    shape = (len(rows), len(aliases), conv.groups, out // conv.groups, per_group)

    def spectrum(twiddle: Ball) -> Ball:
        image = (kernel @ twiddle.T).map(np.transpose)  # (rows * phases, out * per_group)
        return image.reshape(*shape).map(
            lambda array: array.transpose(0, 2, 3, 1, 4).reshape(len(rows), conv.groups, shape[3], -1)
        )

    real, imaginary = spectrum(cos), spectrum(sin)
    top = _join(real, -imaginary)
    bottom = _join(imaginary, real)
    return Ball(
        np.concatenate([top.mid, bottom.mid], -2),
        np.concatenate([np.broadcast_to(b.rad, b.shape) for b in (top, bottom)], -2),
    )


def _join(left: Ball, right: Ball) -> Ball:
    rads = [np.broadcast_to(ball.rad, ball.shape) for ball in (left, right)]
    return Ball(np.concatenate([left.mid, right.mid], -1), np.concatenate(rads, -1))


def twiddles(frequencies: NDArray[Any], taps: NDArray[Any], sides: tuple[int, ...]) -> tuple[Ball, Ball]:
    """Balls around Re and Im of exp(-2 pi i sum_axis w t / n), one row per frequency, one column per tap."""
    real, imaginary = Ball.exact(np.ones((1, 1))), Ball.exact(np.zeros((1, 1)))
    for axis, n in enumerate(sides):
        cos, sin = roots_of_unity(n)
        angle = np.outer(frequencies[:, axis], taps[:, axis]) % n
        c, s = cos[angle], -sin[angle]
        real, imaginary = real * c - imaginary * s, real * s + imaginary * c
    return real, imaginary


def channel_dominance_norm(conv: Conv) -> float:
    """Upper bound on |W|_2 from the autocorrelation of the kernel over space (the SLL condition, Araujo et al. 2023).

    W W' is dominated, for every zero padding, stride and image, by the stride-1 operator on the infinite grid:
    |W|^2 <= max_i sum_j sum_u |(K * K)[i, j, u]| q_j / q_i for any q > 0,
    (K * K)[i, j, u] = sum_t K[i, t] . K[j, t + u].
    """
    out, per_group = conv.weight.shape[:2]
    rows = out // conv.groups
    scaled, scale = normalised(conv.weight)
    if not 0.0 < scale < np.inf:
        return scale
    kernel = scaled.map(lambda array: array.reshape(conv.groups, rows, per_group, *conv.window))
    sums = np.zeros((conv.groups, rows, rows))
    lags = list(product(*(range(-k + 1, k) for k in conv.window)))
    for lag in lags:
        here = tuple(slice(max(0, -u), k - max(0, u)) for u, k in zip(lag, conv.window, strict=True))
        there = tuple(slice(max(0, u), k - max(0, -u)) for u, k in zip(lag, conv.window, strict=True))
        left = kernel[(..., *here)].map(lambda array: array.reshape(conv.groups, rows, -1))
        right = kernel[(..., *there)].map(lambda array: array.reshape(conv.groups, rows, -1))
        sums = sums + (left @ right.T).magnitude()
    sums = inflate(sums, len(lags) + 2)
    bound = 0.0
    for group in sums:
        weights = perron_vector(group)
        bound = max(bound, float(inflate((group @ weights) / weights, rows + 4).max()))
    return up(up(np.sqrt(bound)) * scale)
