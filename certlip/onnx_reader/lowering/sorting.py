"""Sorting along an axis: a network of comparators, each of which hands on the larger and the smaller of two entries."""

from __future__ import annotations

import numpy as np

from certlip.onnx_reader.builder import Call, NotLowered, Value
from certlip.ops import Concat, MaxPool

MAX_SORTED = 256
"""Largest number of entries that are sorted."""


def largest_first(call: Call) -> Value:
    """TopK without its indices: the first k entries of the axis in descending (`largest`) or ascending order."""
    if len(call.proto.output) > 1 and call.proto.output[1]:
        raise NotLowered("its indices are used; certlip needs the sorted values alone")
    if not call.attribute("sorted", 1):
        raise NotLowered("the order of its outputs is not defined; export with sorted=1")
    value = call.value()
    rank = len(value.shape)
    if not rank:
        raise NotLowered("its input has no axis to sort along")
    axis = int(call.attribute("axis", -1)) % rank
    entries = value.shape[axis]
    wanted = int(call.attribute("k", 0) if call.opset < 10 else call.constant(1, "number of entries").reshape(()))
    if not 1 <= wanted <= entries:
        raise NotLowered(f"it takes {wanted} of {entries} entries")
    if entries > MAX_SORTED:
        raise NotLowered(f"it sorts {entries} entries, more than the {MAX_SORTED} that certlip writes out")
    rows = call.builder.move(value, lambda array: np.moveaxis(array, axis, -1), call.name)
    for layer in sorting_network(entries):
        rows = _compare(call, rows, layer)
    order = np.arange(entries)[::-1] if call.attribute("largest", 1) else np.arange(entries)
    return call.builder.move(rows, lambda array: np.moveaxis(array[..., order[:wanted]], -1, axis), call.name)


def _compare(call: Call, rows: Value, pairs: list[tuple[int, int]]) -> Value:
    """The smaller of entries i and j in place i and the larger in place j, for each pair along the last axis."""
    positions = np.arange(np.prod(rows.shape, dtype=int)).reshape(rows.shape)
    index = positions[..., np.array(pairs)]
    larger = call.add(MaxPool(index, rows.shape), rows)
    turned = call.add(MaxPool(index, rows.shape), call.builder.scale(rows, -1.0, name=call.name))
    smaller = call.builder.scale(turned, -1.0, name=call.name)
    last = len(rows.shape) - 1
    joined = call.add(Concat(last), rows, smaller, larger)
    places = np.arange(rows.shape[last])
    for p, (i, j) in enumerate(pairs):
        places[i], places[j] = len(places) + p, len(places) + len(pairs) + p
    return call.builder.move(joined, lambda array: array[..., places], call.name)


def sorting_network(entries: int) -> list[list[tuple[int, int]]]:
    """Layers of disjoint comparators (i, j), i < j, that sort in ascending order: Batcher's merge exchange (1968)."""
    layers = []
    top = 1 << max(0, entries - 1).bit_length() >> 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            layers.append([(i, i + d) for i in range(entries - d) if i & p == r])
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return [layer for layer in layers if layer]


SORTING = {"TopK": largest_first}
