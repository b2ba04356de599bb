"""Maxima over groups of entries: pooling windows where they are ones, else a gather and a maximum over an axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from certlip.graph.kinds import Shape
from certlip.onnx_writer.draft import Draft, Tensor
from certlip.onnx_writer.rearrange import rearrange
from certlip.ops import MaxPool


@dataclass(frozen=True)
class _Windows:
    window: Shape
    strides: Shape
    dilations: Shape
    before: Shape
    after: Shape


def write_maxima(draft: Draft, operator: MaxPool, tensor: Tensor, name: str) -> Tensor:
    """The maxima; rest is that of the operator's result."""
    windows = _windows(operator)
    shape = operator.index.shape[:-1]
    if windows is not None and (draft.opset >= 10 or max(windows.dilations) == 1):
        attributes = {} if max(windows.dilations) == 1 else {"dilations": windows.dilations}
        made = draft.node(
            "MaxPool",
            name,
            tensor.name,
            kernel_shape=windows.window,
            strides=windows.strides,
            pads=windows.before + windows.after,
            **attributes,
        )
        return Tensor(made, draft.rest(shape))
    index = operator.index
    padded = index < 0
    some = np.take_along_axis(index, padded.argmin(-1)[..., None], -1)  # an entry that counts in any case
    index = np.where(padded, some, index)
    rest = (*draft.rest(shape), index.shape[-1])
    groups = rearrange(draft, tensor, index.reshape(rest), f"{name}.groups")
    return draft.largest(groups, name)


def _windows(operator: MaxPool) -> _Windows | None:
    """The pooling windows of images (1, channels, *space) that make this table, None where there are none."""
    index, source = operator.index, operator.source
    if len(source) < 3 or index.ndim != len(source) + 1 or source[:2] != index.shape[:2] or source[0] != 1:
        return None
    channel, image, counts = index[0, 0], source[2:], index.shape[2:-1]
    offsets = np.arange(source[1]) * prod(image)
    shifted = np.where(channel >= 0, channel + offsets.reshape(-1, *(1,) * channel.ndim), -1)
    if not np.array_equal(shifted, index[0]):
        return None
    for window in _factors(index.shape[-1], image):
        table = channel.reshape(*counts, *window)
        found = _progressions(table, image, len(counts))
        if found is None:
            continue
        strides, dilations, before = found
        reach = [d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True)]
        ends = [
            (o - 1) * s + r - n - b for o, s, r, n, b in zip(counts, strides, reach, image, before, strict=True)
        ]
        windows = _Windows(window, strides, dilations, before, tuple(max(0, end) for end in ends))
        if np.array_equal(_table(windows, image, counts), table) and _is_allowed(windows, image, counts):
            return windows
    return None


def _factors(count: int, image: Shape) -> Iterator[Shape]:
    """Windows of so many cells, the squarest first."""

    def split(left: int, axes: int) -> Iterator[Shape]:
        if axes == 1:
            yield (left,)
            return
        for k in range(1, left + 1):
            if left % k == 0:
                yield from ((k, *rest) for rest in split(left // k, axes - 1))

    yield from sorted(split(count, len(image)), key=lambda window: (max(window) - min(window), window))


def _progressions(table: NDArray[np.int64], image: Shape, axes: int) -> tuple[Shape, Shape, Shape] | None:
    """(strides, dilations, pads before) with coordinate = stride * window + dilation * cell - pad on each axis."""
    present = table >= 0
    coordinates = np.unravel_index(table[present], image)
    where = np.nonzero(present)
    found = []
    for axis, values in enumerate(coordinates):
        window, cell = where[axis], where[axes + axis]
        terms = np.stack([window, cell, np.ones_like(window)], -1).astype(np.float64)
        stride, dilation, start = np.rint(np.linalg.lstsq(terms, values.astype(np.float64), rcond=None)[0])
        stride = stride if window.max() > window.min() else 1.0
        dilation = dilation if cell.max() > cell.min() else 1.0
        start = np.rint(np.median(values - stride * window - dilation * cell))
        if stride < 1 or dilation < 1 or start > 0:
            return None
        found.append((int(stride), int(dilation), int(-start)))
    strides, dilations, before = zip(*found, strict=True)
    return strides, dilations, before


def _table(windows: _Windows, image: Shape, counts: Shape) -> NDArray[np.int64]:
    """The positions, -1 in the padding, that these windows read in an image."""
    result = np.zeros((*counts, *windows.window), dtype=np.int64)
    outside = np.zeros(result.shape, dtype=bool)
    axes = len(counts)
    for axis in range(axes):
        window = np.arange(counts[axis]).reshape(-1, *(1,) * (2 * axes - axis - 1))
        cell = np.arange(windows.window[axis]).reshape(-1, *(1,) * (axes - axis - 1))
        place = windows.strides[axis] * window + windows.dilations[axis] * cell - windows.before[axis]
        outside |= (place < 0) | (place >= image[axis])
        result += np.clip(place, 0, image[axis] - 1) * prod(image[axis + 1 :])
    return np.where(outside, -1, result)


def _is_allowed(windows: _Windows, image: Shape, counts: Shape) -> bool:
    """What ONNX asks of pads, and that it makes as many windows."""
    for axis, n in enumerate(image):
        pads = windows.before[axis] + windows.after[axis]
        reach = windows.dilations[axis] * (windows.window[axis] - 1) + 1
        if max(windows.before[axis], windows.after[axis]) >= windows.window[axis]:
            return False
        if (n + pads - reach) // windows.strides[axis] + 1 != counts[axis]:
            return False
    return True
