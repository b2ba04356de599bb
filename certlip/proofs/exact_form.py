"""The linear maps between the groups of a network, composed in exact arithmetic.

`neuron_form` and `torus_form` say which groups, frequencies, slopes and multipliers a network has; here the matrices of
those forms are computed again from the stored weights, as balls of integers whose radii come only from weights that are
balls themselves and from the cosines and roots of the Fourier transform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import isqrt, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Affine, Graph, Node, Pointwise
from certlip.ops import Concat, Conv, Dense, Scale
from certlip.ops.convolution_norms import torus
from certlip.passes.maxima import without_maxima
from certlip.proofs.exact_values import linear_image
from certlip.proofs.form import Form, Index
from certlip.proofs.torus_form import torus_stages
from certlip.proofs.torus_grid import Level, TorusGrid
from certlip.proofs.torus_image import channel_factors, image_part, is_activation
from certlip.rigor.exact_numbers import WIDTH, Exact, concatenate
from certlip.rigor.roots import cos_sin

Maps = tuple[Mapping[int, Exact], ...]
"""maps[k - 1][s]: (F_k, n_k, P, n_s), as in `Form`."""

_Value = tuple[tuple[int, ...], Mapping[int, Exact]]
"""A shape, and for each group that the value reads the images of its unit vectors, (size, *shape)."""


def dense_maps(graph: Graph) -> Maps:
    """The maps of `neuron_form(graph)`: unit vectors of every group, carried through the operators."""
    graph = without_maxima(graph)
    sizes = [graph.input_size]
    maps: list[Mapping[int, Exact]] = []

    def step(node: Node, values: Sequence[_Value]) -> _Value:
        operator = node.operator
        shape = operator.shape(*(shape for shape, _ in values))
        if isinstance(operator, Pointwise):
            maps.append(_blocks(*values[0]))
            sizes.append(prod(shape))
            unit = Exact.of(np.eye(prod(shape)).reshape(-1, *shape))
            return shape, {len(maps): unit}
        if isinstance(operator, Affine):
            return shape, {s: _pushed(operator, image) for s, image in values[0][1].items()}
        images = {}
        for s in sorted(set().union(*(terms for _, terms in values))):
            zeros = [Exact({}, {}, (sizes[s], *part)) for part, _ in values]
            parts = [terms.get(s, zero) for (_, terms), zero in zip(values, zeros, strict=True)]
            if isinstance(operator, Concat):
                images[s] = concatenate(parts, operator.axis + 1)
            else:
                images[s] = sum(parts[1:], parts[0])
        return shape, images

    start: _Value = graph.input_shape, {0: Exact.of(np.eye(sizes[0]).reshape(-1, *graph.input_shape))}
    maps.append(_blocks(*graph.fold(start, step)[-1]))
    return tuple(maps)


def _pushed(operator: Affine, image: Exact) -> Exact:
    size = image.shape[0]
    is_unit = set(image.mid) == {0} and not image.rad and size == prod(image.shape[1:])
    is_unit = is_unit and np.array_equal(image.mid[0].reshape(size, size), np.eye(size))
    if isinstance(operator, Dense) and is_unit and prod(operator.lead) == 1:  # W I needs no product
        return Exact.of(operator.weight).map(lambda array: array.T.reshape(size, *operator.codomain))
    return linear_image(operator, image)


def _blocks(shape: tuple[int, ...], images: Mapping[int, Exact]) -> dict[int, Exact]:
    flat = {s: image.map(lambda array: array.reshape(len(array), -1).T[None, :, None]) for s, image in images.items()}
    return {s: block for s, block in flat.items() if block.mid or block.rad}


@dataclass(frozen=True, eq=False)
class _Kernel:
    """A value as a convolution of a group: y[p] = sum_t taps[t] z[strides p + offsets[t]], taps (count, out, in)."""

    taps: Exact
    offsets: NDArray[Any]
    strides: Level


@dataclass(frozen=True, eq=False)
class _Image:
    level: Level
    kernels: Mapping[int, _Kernel]


def torus_maps(graph: Graph) -> Maps:
    """The maps of the first of `torus_stages(graph)`. Kernels are composed over pixels and transformed once."""
    part, form = image_part(graph), torus_stages(graph)[0]
    image, axes = part.graph, len(part.grid.sides)
    read: list[_Image] = []
    levels = [part.levels[0]]

    def group(number: int, channels: int, level: Level) -> _Image:
        return _Image(level, {number: _unit(channels, axes)})

    def step(node: Node, values: Sequence[_Image]) -> _Image:
        operator = node.operator
        if is_activation(operator):
            read.append(values[0])
            levels.append(values[0].level)
            return group(len(read), image.shapes[node.inputs[0]][1], values[0].level)
        if isinstance(operator, Conv):
            level = tuple(a * s for a, s in zip(values[0].level, operator.strides, strict=True))
            return _Image(level, {s: _convolved(operator, kernel) for s, kernel in values[0].kernels.items()})
        if isinstance(operator, Scale):
            factors = Exact.of(channel_factors(operator)).map(lambda array: array.reshape(1, -1, 1))
            scaled = {s: replace(kernel, taps=kernel.taps * factors) for s, kernel in values[0].kernels.items()}
            return _Image(values[0].level, scaled)
        return _joined(operator, values, [image.shapes[i][1] for i in node.inputs])

    read.append(image.fold(group(0, image.input_shape[1], part.levels[0]), step)[-1])
    counts = [part.grid.count(level) for level in levels]
    order = [0, *sorted(range(1, len(levels)), key=lambda k: -counts[k])]  # as in `torus_form`
    rank = {k: position for position, k in enumerate(order)}
    rows = [read[k - 1] for k in order[1:]] + [read[-1]]
    maps = []
    for k, row in enumerate(rows, 1):
        folds = {s: form.folds[k, rank[s]] for s in row.kernels}
        maps.append({rank[s]: _transformed(part.grid, levels[s], row.kernels[s], folds[s]) for s in folds})
    return tuple(maps)


def _unit(channels: int, axes: int) -> _Kernel:
    """The group itself."""
    return _Kernel(Exact.of(np.eye(channels)[None]), np.zeros((1, axes), dtype=np.int64), (1,) * axes)


def transfer(conv: Conv) -> Exact:
    """Matrices (F, 2 out, 2 P in), one for each frequency of a torus, of which the largest norm is at least |W|_2."""
    still = (1,) * len(conv.strides)
    grid = TorusGrid(torus(conv), conv.strides)
    kernel = _convolved(conv, _unit(conv.size[0], len(still)))
    blocks = _transformed(grid, still, kernel, grid.fold(conv.strides, still))
    return blocks.map(lambda array: array.reshape(*array.shape[:2], -1))


def _convolved(conv: Conv, kernel: _Kernel) -> _Kernel:
    """The taps of one after the other: offsets of the later count strides of the earlier."""
    positions = np.array(list(product(*(range(k) for k in conv.window))), dtype=np.int64).reshape(-1, len(conv.window))
    offsets = positions * np.array(conv.dilations) - np.array([before for before, _ in conv.pads])
    out, per_group = conv.weight.shape[:2]
    rows = out // conv.groups

    def full(array: NDArray[Any]) -> NDArray[Any]:
        taps = np.zeros((len(positions), out, conv.groups * per_group), dtype=array.dtype)
        for g in range(conv.groups):
            here = slice(g * rows, (g + 1) * rows)
            part = array.reshape(out, per_group, -1)[here]
            taps[:, here, g * per_group : (g + 1) * per_group] = np.moveaxis(part, -1, 0)
        return taps

    taps = Exact.of(conv.weight).map(full)[:, None] @ kernel.taps[None]
    reached = offsets[:, None] * np.array(kernel.strides) + kernel.offsets[None]
    strides = tuple(a * s for a, s in zip(kernel.strides, conv.strides, strict=True))
    flat = taps.map(lambda array: array.reshape(-1, *array.shape[2:]))
    return _Kernel(flat, reached.reshape(-1, len(strides)), strides)


def _joined(operator: Any, values: Sequence[_Image], channels: Sequence[int]) -> _Image:
    """Sums and concatenations of channels: all taps side by side, in their own rows."""
    ends = np.cumsum([0, *channels]) if isinstance(operator, Concat) else [0] * (len(channels) + 1)
    total = sum(channels) if isinstance(operator, Concat) else channels[0]
    kernels: dict[int, _Kernel] = {}
    for value, start, width in zip(values, ends, channels, strict=False):
        above, below = int(start), total - int(start) - width
        for s, kernel in value.kernels.items():
            taps = kernel.taps.map(_padded(above, below))
            known = kernels.get(s)
            if known is not None:
                taps = concatenate([known.taps, taps], 0)
                kernel = replace(kernel, offsets=np.concatenate([known.offsets, kernel.offsets]))
            kernels[s] = replace(kernel, taps=taps)
    return _Image(values[0].level, kernels)


def _padded(above: int, below: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda array: np.pad(array, ((0, 0), (above, below), (0, 0)))


def _transformed(grid: TorusGrid, level: Level, kernel: _Kernel, fold: Index) -> Exact:
    """[[Re, -Im], [Im, Re]] of sum_t taps[t] exp(2 pi i w t / n) / sqrt(prod strides) at the frequencies w of the
    source that each frequency of the result reads: (F, 2 out, P, 2 in)."""
    count, out, inner = kernel.taps.shape
    cos, sin = _twiddles(grid, level, kernel.offsets)
    flat = kernel.taps.map(lambda array: array.reshape(count, out * inner))
    strides = prod(kernel.strides)
    if strides > 1:
        root = isqrt(strides)
        shift = WIDTH * 13
        factor, error = ((1 << shift) // root, 1) if root * root == strides else (isqrt((1 << 2 * shift) // strides), 2)
        flat = flat * Exact.of_integers(np.array(factor, dtype=object), -13, error)
    real, imaginary = (
        (twiddle @ flat).map(
            lambda array: np.moveaxis(array.reshape(-1, out, inner)[fold], 1, 2)  # (F, P, out, in) -> (F, out, P, in)
        )
        for twiddle in (cos, sin)
    )
    return concatenate([concatenate([real, -imaginary], -1), concatenate([imaginary, real], -1)], 1)


def _twiddles(grid: TorusGrid, level: Level, offsets: NDArray[Any]) -> tuple[Exact, Exact]:
    """cos and sin of 2 pi w t / n for each frequency w of a level and each offset t: (F, taps)."""
    frequencies = grid.frequencies(level)
    cos, sin = Exact.of(np.ones((1, 1))), Exact.of(np.zeros((1, 1)))
    for axis, n in enumerate(grid.sides_at(level)):
        angle = np.outer(frequencies[:, axis], offsets[:, axis]) % n
        pairs = np.array([cos_sin(k, n) for k in range(n)], dtype=object)  # counts of 2^-128, off by less than 2^12
        # 2^-128 is 2^12 times 2^-140
        c, s = (Exact.of_integers(pairs[:, i] << 12, -7, 1 << 24)[angle] for i in range(2))
        cos, sin = cos * c - sin * s, sin * c + cos * s
    return cos, sin


def exact_stages(graph: Graph) -> list[tuple[Form, Maps]]:
    """The stages of `torus_stages`, each with its maps."""
    forms = torus_stages(graph)
    stages = [(forms[0], torus_maps(graph))]
    head = image_part(graph).head
    if head is not None:
        stages.append((forms[1], dense_maps(head)))
    return stages
