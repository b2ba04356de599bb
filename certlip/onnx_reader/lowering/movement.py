"""Operators that only move entries. ONNX's reference operators move positions; that is the whole lowering."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx

from certlip.onnx_reader.builder import Call, NotLowered, Value
from certlip.onnx_reader.constants import MAX_ENTRIES, run
from certlip.ops import Reindex


def move(call: Call) -> Value | list[Value]:
    """Run the operator on an array of positions: what comes out says where each entry came from."""
    value = call.value(0)
    rest = [call.optional(i, "shape or index") for i in range(1, len(call.items))]
    _refuse_growth(call, rest)
    positions = np.arange(prod(value.shape), dtype=np.int64).reshape(value.shape)
    try:
        results = run(call.proto, call.opset, [positions, *rest])
    except Exception as error:  # reported as an unsupported node with its cause
        raise NotLowered(f"it cannot be applied to shape {value.shape} ({error})") from error
    moved = [call.builder.place(value, result, name=call.name) for result in results]
    return moved if len(moved) > 1 else moved[0]


def pad(call: Call) -> Value | list[Value]:
    mode = call.attribute("mode", b"constant")
    if mode != b"constant":
        return move(call)
    value = call.value(0)
    if call.opset < 11:
        fill = float(call.attribute("value", 0.0))
        amounts = np.array(call.attribute("pads", call.attribute("paddings")), dtype=np.int64)
        axes = None
    else:
        amounts = call.constant(1, "amounts")
        given, axes = call.optional(2, "fill value"), call.optional(3, "axes")
        fill = 0.0 if given is None else float(given.reshape(()))
    axes = np.arange(len(value.shape)) if axes is None else axes
    widths = [(0, 0)] * len(value.shape)
    half = len(amounts) // 2
    for axis, before, after in zip(axes, amounts[:half], amounts[half:], strict=True):
        widths[int(axis)] = (int(before), int(after))
    if prod(n + max(0, a) + max(0, b) for n, (a, b) in zip(value.shape, widths, strict=True)) > MAX_ENTRIES:
        raise NotLowered(f"it pads to more than {MAX_ENTRIES} entries")
    positions = np.arange(prod(value.shape), dtype=np.int64).reshape(value.shape)
    grown = np.pad(positions, [(max(0, a), max(0, b)) for a, b in widths], constant_values=-1)
    kept = tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(widths, grown.shape, strict=True))
    return call.add(Reindex.of(value.shape, grown[kept], fill), value)


def dropout(call: Call) -> Value:
    training = call.item(2)
    if isinstance(training, Value) or (training is not None and bool(np.any(training))):
        raise NotLowered("it is in training mode; export the model for inference")
    return call.value(0)


def identity(call: Call) -> Value:
    return call.value(0)


def cast(call: Call) -> Value:
    """Between the float types that a network computes in: over the reals nothing, in an execution one rounding."""
    if call.attribute("to") not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        raise NotLowered("a cast of activations to integers or to 16 bits is not a continuous function")
    return call.builder.scale(call.value(0), name=call.name)


def _refuse_growth(call: Call, rest: Sequence[np.ndarray | None]) -> None:
    if call.proto.op_type not in ("Expand", "Tile"):
        return
    amounts = [abs(int(n)) for array in rest if array is not None for n in array.ravel()]
    if prod(max(1, n) for n in amounts) * prod(call.value(0).shape) > MAX_ENTRIES:
        raise NotLowered(f"it grows to more than {MAX_ENTRIES} entries")


MOVES = (
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)

MOVEMENT = {**dict.fromkeys(MOVES, move), "Cast": cast, "Dropout": dropout, "Identity": identity, "Pad": pad}
