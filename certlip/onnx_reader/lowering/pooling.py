"""Pooling windows and reductions over fixed axes. Averages are convolutions or rows of a matrix, maxima are merges."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod

import numpy as np

from certlip.graph.kinds import Shape
from certlip.onnx_reader.builder import Call, NotLowered, Value
from certlip.onnx_reader.lowering.arithmetic import reciprocal
from certlip.onnx_reader.lowering.windows import Pads, Windows
from certlip.ops import Conv, Dense, MaxPool
from certlip.rigor.ball import Ball


def average_pool(call: Call) -> Value:
    """A depthwise convolution with ones, divided by the number of cells in each window that count."""
    value, windows, pads = _pooling(call)
    channels, image = value.shape[1], value.shape[2:]
    ones = np.ones((channels, 1, *windows.window))
    conv = Conv(
        Ball.exact(ones),
        Ball.exact(0.0),
        np.zeros(()),
        value.shape[1:],
        windows.strides,
        pads,
        windows.dilations,
        channels,
    )
    if call.attribute("count_include_pad", 0):
        inner = windows.pads  # cells beyond the declared padding, reached by rounding up, never count
        cells = np.pad(np.ones(image), inner, constant_values=1.0)
        outer = [(0, total[1] - pad[1]) for total, pad in zip(pads, inner, strict=True)]
        cells = np.pad(cells, outer)
    else:
        cells = np.pad(np.ones(image), pads)
    single = Conv(
        Ball.exact(ones[:1]),
        Ball.exact(0.0),
        np.zeros(()),
        (1, *cells.shape),
        windows.strides,
        ((0, 0),) * len(image),
        windows.dilations,
        1,
    )
    counts = single.forward(ones[:1], cells[None, None])[0]
    if not counts.all():
        raise NotLowered("one of its windows lies entirely in the padding")
    return call.builder.scale(call.add(conv, value), reciprocal(counts), name=call.name)


def max_pool(call: Call) -> Value:
    if len(call.proto.output) > 1 and call.proto.output[1]:
        raise NotLowered("its indices are used as an output; certlip needs the maxima alone")
    value, windows, pads = _pooling(call)
    positions = np.arange(prod(value.shape)).reshape(value.shape[1:])
    padded = np.pad(positions, ((0, 0), *pads), constant_values=-1)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(windows.dilations, windows.window, strict=True))
    axes = tuple(range(1, padded.ndim))
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
    steps = tuple(slice(None, None, s) for s in windows.strides)
    inner = tuple(slice(None, None, d) for d in windows.dilations)
    picked = views[(slice(None), *steps, *inner)]
    index = picked.reshape(*picked.shape[: padded.ndim], -1)
    return call.add(MaxPool(index[None], value.shape), value)


def _pooling(call: Call) -> tuple[Value, Windows, Pads]:
    """Value, windows, and pads grown where rounding up (ceil_mode) reaches beyond the declared padding."""
    value = call.value()
    if len(value.shape) < 3 or value.shape[0] != 1:
        raise NotLowered(
            f"its input of shape {value.shape} is not one image; export the model with a batch of one"
        )
    windows = Windows.of(call, call.attribute("kernel_shape"), value.shape[2:])
    leaps = any(s > k for s, k in zip(windows.strides, windows.window, strict=True))
    if windows.is_same and (leaps or max(windows.dilations) > 1 or call.attribute("ceil_mode", 0)):
        raise NotLowered("with this auto_pad runtimes do not agree on where its windows are; export explicit pads")
    if not call.attribute("ceil_mode", 0):
        return value, windows, windows.pads
    pads = []
    axes = zip(windows.image, windows.window, windows.strides, windows.dilations, windows.pads, strict=True)
    for n, k, s, d, (before, after) in axes:
        reach = d * (k - 1) + 1
        count = ceil((n + before + after - reach) / s) + 1
        if (count - 1) * s >= n + before:  # a window must start in the image or the left padding
            count -= 1
        pads.append((before, max(after, (count - 1) * s + reach - n - before)))
    return value, windows, tuple(pads)


def global_average(call: Call) -> Value:
    rank = len(call.value().shape)
    return _reduce_linear(call, tuple(range(2, rank)), True, mean=True)


def global_maximum(call: Call) -> Value:
    return _largest(call, call.value(), tuple(range(2, len(call.value().shape))), True)


def reduce_mean(call: Call) -> Value:
    return _reduce_linear(call, _axes(call), bool(call.attribute("keepdims", 1)), mean=True)


def reduce_sum(call: Call) -> Value:
    return _reduce_linear(call, _axes(call), bool(call.attribute("keepdims", 1)), mean=False)


def reduce_max(call: Call) -> Value:
    return _largest(call, call.value(), _axes(call), bool(call.attribute("keepdims", 1)))


def reduce_min(call: Call) -> Value:
    """The least entry is minus the largest of the negatives."""
    value = call.value()
    negative = call.builder.scale(value, -1.0)
    largest = _largest(call, negative, _axes(call), bool(call.attribute("keepdims", 1)))
    return call.builder.scale(largest, -1.0, name=call.name)


def _axes(call: Call) -> tuple[int, ...]:
    rank = len(call.value().shape)
    given = call.attribute("axes", None)
    if given is None:
        array = call.optional(1, "axes")
        given = None if array is None else array.ravel()
    if given is None or not len(given):
        return () if call.attribute("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(int(axis) % rank for axis in given))


def _flatten_axes(shape: Shape, axes: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """A rearrangement that brings the reduced axes last and flattens them."""
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    return lambda array: array.transpose(*kept, *axes).reshape(*(shape[axis] for axis in kept), -1)


def _result_shape(shape: Shape, axes: tuple[int, ...], keep: bool) -> Shape:
    return tuple(1 if axis in axes else n for axis, n in enumerate(shape) if keep or axis not in axes)


def _reduce_linear(call: Call, axes: tuple[int, ...], keep: bool, mean: bool) -> Value:
    value = call.value()
    if not axes:
        return value
    rows = call.builder.move(value, _flatten_axes(value.shape, axes))
    count = rows.shape[-1]
    total = call.add(Dense.of(np.ones((1, count)), lead=rows.shape[:-1]), rows)
    if mean:
        total = call.builder.scale(total, reciprocal(np.array(float(count))))
    return call.builder.reshape(total, _result_shape(value.shape, axes, keep))


def _largest(call: Call, value: Value, axes: tuple[int, ...], keep: bool) -> Value:
    if not axes:
        return value
    index = _flatten_axes(value.shape, axes)(np.arange(prod(value.shape)).reshape(value.shape))
    pooled = call.add(MaxPool(index, value.shape), value)
    return call.builder.reshape(pooled, _result_shape(value.shape, axes, keep))


POOLING = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_maximum,
    "MaxPool": max_pool,
    "ReduceMax": reduce_max,
    "ReduceMin": reduce_min,
    "ReduceMean": reduce_mean,
    "ReduceSum": reduce_sum,
}
