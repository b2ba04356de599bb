"""Rearrangements of entries as the operators that a person would write: reshape, transpose, slice, pad, else gather."""

from __future__ import annotations

from itertools import permutations
from math import prod

import numpy as np
from numpy.typing import NDArray

from certlip.graph.kinds import Shape
from certlip.onnx_writer.draft import Draft, Tensor

_MOST_AXES = 4  # transposes of more axes are written as a gather

Index = NDArray[np.int64]


def rearrange(draft: Draft, tensor: Tensor, index: Index, name: str, fill: float = 0.0) -> Tensor:
    """y.flat[i] = x.flat[index[i]], `fill` where index[i] is -1; `index` has the axes of y after the batch."""
    if (index < 0).any():
        padded = _pad(draft, tensor, index, name, fill)
        if padded is not None:
            return padded
        size = prod(tensor.rest)
        row = draft.flat(tensor, f"{name}.flat")
        tensor = Tensor(draft.pad(row.name, f"{name}.extended", [0], [1], fill), (size + 1,))
        index = np.where(index < 0, size, index)
    flat = index.ravel()
    if flat.size == prod(tensor.rest) and (flat == np.arange(flat.size)).all():
        return draft.reshaped(tensor, index.shape, name)
    for rule in (_axes_of_the_source, _along_axes, _axes_of_the_result):
        moved = rule(draft, tensor, index, name)
        if moved is not None:
            return moved
    row = draft.flat(tensor, f"{name}.flat")
    chosen = draft.integers(f"{name}.index", flat)
    picked = Tensor(draft.node("Gather", f"{name}.picked", row.name, chosen, axis=draft.first), (flat.size,))
    return draft.reshaped(picked, index.shape, name)


def _pad(draft: Draft, tensor: Tensor, index: Index, name: str, fill: float) -> Tensor | None:
    """A block of entries with constants around it."""
    present = np.argwhere(index >= 0)
    if len(tensor.rest) != index.ndim or not present.size or not index.ndim:
        return None
    corner = present.min(0)
    first = np.unravel_index(int(index[tuple(corner)]), tensor.rest) if index[tuple(corner)] >= 0 else None
    if first is None:
        return None
    before = [int(c - f) for c, f in zip(corner, first, strict=True)]
    after = [int(m - n - b) for m, n, b in zip(index.shape, tensor.rest, before, strict=True)]
    grown = np.pad(
        np.arange(prod(tensor.rest)).reshape(tensor.rest),
        [(max(0, b), max(0, a)) for b, a in zip(before, after, strict=True)],
        constant_values=-1,
    )
    kept = tuple(slice(max(0, -b), n - max(0, -a)) for b, a, n in zip(before, after, grown.shape, strict=True))
    if not np.array_equal(grown[kept], index):
        return None
    return Tensor(draft.pad(tensor.name, name, before, after, fill), index.shape)


def _orders(axes: int) -> list[tuple[int, ...]]:
    return list(permutations(range(axes)))[1:] if axes <= _MOST_AXES else []


def _axes_of_the_source(draft: Draft, tensor: Tensor, index: Index, name: str) -> Tensor | None:
    """A transpose, then perhaps a reshape."""
    if index.size != prod(tensor.rest):
        return None
    long = _without_ones(tensor.rest)
    positions = np.arange(index.size).reshape(long)
    for order in _orders(len(long)):
        if (positions.transpose(order).ravel() == index.ravel()).all():
            return _transpose(draft, tensor, long, order, index.shape, name)
    return None


def _axes_of_the_result(draft: Draft, tensor: Tensor, index: Index, name: str) -> Tensor | None:
    """A reshape, then a transpose."""
    if index.size != prod(tensor.rest):
        return None
    long = _without_ones(index.shape)
    for order in _orders(len(long)):
        source = tuple(long[order.index(axis)] for axis in range(len(long)))
        if (np.arange(index.size).reshape(source).transpose(order).ravel() == index.ravel()).all():
            return _transpose(draft, tensor, source, order, index.shape, name)
    return None


def _transpose(
    draft: Draft, tensor: Tensor, source: Shape, order: tuple[int, ...], result: Shape, name: str
) -> Tensor:
    tensor = draft.reshaped(tensor, source, f"{name}.axes")
    moved = tuple(source[axis] for axis in order)
    perm = [*range(draft.first), *(draft.first + axis for axis in order)]
    label = name if moved == result else f"{name}.transposed"
    return draft.reshaped(Tensor(draft.node("Transpose", label, tensor.name, perm=perm), moved), result, name)


def _without_ones(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def _along_axes(draft: Draft, tensor: Tensor, index: Index, name: str) -> Tensor | None:
    """A selection of positions along each axis by itself: slices, repeats, permutations of channels."""
    if len(tensor.rest) != index.ndim or not index.size:
        return None
    coordinates = np.unravel_index(index, tensor.rest)
    chosen = []
    for axis, values in enumerate(coordinates):
        along = np.moveaxis(values, axis, 0).reshape(index.shape[axis], -1)
        if (along != along[:, :1]).any():
            return None
        chosen.append(along[:, 0])
    for axis, picks in enumerate(chosen):
        if np.array_equal(picks, np.arange(tensor.rest[axis])):
            continue
        rest = (*tensor.rest[:axis], len(picks), *tensor.rest[axis + 1 :])
        tensor = Tensor(_select(draft, tensor.name, draft.first + axis, picks, name), rest)
    return tensor


def _select(draft: Draft, tensor: str, axis: int, picks: Index, name: str) -> str:
    steps = np.diff(picks)
    step = int(steps[0]) if len(steps) else 1
    if step < 1 or (steps != step).any() or (draft.opset < 10 and step > 1):
        return draft.node("Gather", name, tensor, draft.integers(f"{name}.index", picks), axis=axis)
    start, end = int(picks[0]), int(picks[-1]) + 1
    if draft.opset < 10:
        return draft.node("Slice", name, tensor, starts=[start], ends=[end], axes=[axis])
    bounds = {"starts": start, "ends": end, "axes": axis, "steps": step}
    stored = [draft.integers(f"{name}.{key}", [value]) for key, value in bounds.items()]
    return draft.node("Slice", name, tensor, *stored)
