"""Sums, differences, products and quotients with constants; sums, concatenations and maxima of branches."""

from __future__ import annotations

import numpy as np

from certlip.onnx_reader.builder import Call, NotLowered, Value
from certlip.ops import Add, Clip, Concat, MaxPool, Scale
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import up


def add(call: Call) -> Value:
    return _sum(call, +1.0)


def subtract(call: Call) -> Value:
    return _sum(call, -1.0)


def _sum(call: Call, sign: float) -> Value:
    left, right = call.item(0), call.item(1)
    if isinstance(left, Value) and isinstance(right, Value):
        shape = np.broadcast_shapes(left.shape, right.shape)
        if sign < 0:
            right = call.builder.scale(right, sign, name=call.name)
        return call.add(Add(), call.builder.expand(left, shape), call.builder.expand(right, shape))
    if isinstance(left, Value):
        return call.builder.scale(left, shift=sign * call.constant(1, "second term"), name=call.name)
    return call.builder.scale(call.value(1), sign, call.constant(0, "first term"), name=call.name)


def total(call: Call) -> Value:
    """ONNX Sum: any number of branches and constants, added in any order."""
    items = call.operands()
    shape = np.broadcast_shapes(*(item.shape for item in items))
    anchor = next(item for item in items if isinstance(item, Value))
    branches = [item if isinstance(item, Value) else constant_value(call, anchor, item) for item in items]
    flat = [call.builder.expand(branch, shape) for branch in branches]
    return flat[0] if len(flat) == 1 else call.add(Add(), *flat)


def average(call: Call) -> Value:
    """ONNX Mean: the sum over the number of terms."""
    return call.builder.scale(total(call), reciprocal(np.array(float(len(call.items)))), name=call.name)


def multiply(call: Call) -> Value:
    left, right = call.item(0), call.item(1)
    if isinstance(left, Value) and isinstance(right, Value):
        raise NotLowered("a product of two activations has no global Lipschitz constant; replace it by a sum")
    place = 0 if isinstance(left, Value) else 1
    return call.builder.scale(call.value(place), call.constant(1 - place, "factor"), name=call.name)


def divide(call: Call) -> Value:
    if not isinstance(call.item(1), np.ndarray):
        raise NotLowered("division by an activation has no global Lipschitz constant; divide by a constant")
    divisor = call.constant(1, "divisor")
    if not np.all(divisor):
        raise NotLowered("its divisor contains zero")
    return quotient(call, call.value(0), divisor)


def quotient(call: Call, value: Value, divisor: np.ndarray) -> Value:
    """value / divisor. The divisor must be normal in the format, as it is where 8 / divisor is finite, and finite."""
    inverse = reciprocal(divisor)
    parts = largest_product(4.0 * inverse.magnitude()), largest_product(np.abs(divisor))
    return composed(call, value, inverse, Ball.exact(0.0), parts)


def composed(
    call: Call,
    value: Value,
    factor: Ball,
    shift: Ball,
    parts: tuple[float, float],
    bias_size: np.ndarray | None = None,
    operations: int = 1,
) -> Value:
    """`Builder.scale` by numbers that executions make from other constants: `parts` as in Scale."""
    shape = np.broadcast_shapes(value.shape, factor.shape, shift.shape)
    operator = Scale.of(shape, factor, shift, bias_size, operations, parts)
    return call.add(operator, call.builder.expand(value, shape))


@np.errstate(over="ignore")
def largest_product(*sizes: np.ndarray | float) -> float:
    """Upper bound on the products of some of these factors, entry by entry: each counts as 1 where smaller."""
    product = np.ones(())
    for size in sizes:
        product = np.asarray(up(product * np.maximum(1.0, size)))
    return float(product.max(initial=1.0))


def reciprocal(divisor: np.ndarray) -> Ball:
    """Ball around 1 / divisor, exact where the divisor is a power of two."""
    if np.all(np.abs(np.frexp(divisor)[0]) == 0.5):
        return Ball.exact(1.0 / divisor)
    return Ball.exact(np.ones(())) / Ball.exact(divisor)


def negate(call: Call) -> Value:
    return call.builder.scale(call.value(), -1.0, name=call.name)


def batch_normalization(call: Call) -> Value:
    """s (x - mean) + B with s = scale / sqrt(var + epsilon), the constants of inference.

    Executions may divide by the root before or after they multiply by `scale`, and flush a subnormal variance: below
    2^-96 that may be a large part of it, and nothing is known about them.
    """
    if call.attribute("training_mode", 0) or call.attribute("is_test", 1) == 0:
        raise NotLowered("it is in training mode; export the model for inference")
    names = ("scale", "bias", "mean", "variance")
    scale, bias, mean, variance = (call.constant(i, name) for i, name in enumerate(names, 1))
    if not (variance + call.attribute("epsilon", 1e-5) > 0).all():
        raise NotLowered("its variance plus epsilon is not positive")
    value = call.value()
    column = (-1, *(1,) * (len(value.shape) - 2))
    epsilon = Ball.exact(call.attribute("epsilon", 1e-5))  # the binary32 attribute, exactly
    power = Ball.exact(variance) + epsilon
    factor = (Ball.exact(scale) / power.sqrt()).reshape(*column)
    centre, offset = Ball.exact(mean.reshape(column)), Ball.exact(bias.reshape(column))
    moved = factor * centre
    # Runtimes may compute s (3 roundings) and bias - s mean first: what cancels between these two terms still rounds.
    size = np.abs(offset.mid) + moved.magnitude()
    sizes = np.abs(scale), (Ball.exact(1.0) / power.sqrt()).magnitude()
    steepest = largest_product(*sizes) if (power.lower() >= 2.0**-96).all() else np.inf
    shifted = float(up(largest_product(*sizes, np.abs(mean)) + np.abs(bias).max(initial=0.0)))
    return composed(call, value, factor, offset - moved, (steepest, shifted), size, operations=4)


def concatenate(call: Call) -> Value:
    items = call.operands()
    axis = int(call.attribute("axis", 1))
    axis += len(items[0].shape) if axis < 0 else 0
    anchor = next(item for item in items if isinstance(item, Value))
    branches = [item if isinstance(item, Value) else constant_value(call, anchor, item) for item in items]
    return branches[0] if len(branches) == 1 else call.add(Concat(axis), *branches)


def constant_value(call: Call, anchor: Value, constant: np.ndarray) -> Value:
    """A constant as a value: zero times the network's input, padded to shape, plus the constant."""
    empty = call.builder.move(anchor, lambda array: np.full(constant.shape, -1, dtype=np.int64))
    return call.builder.scale(empty, shift=constant)


def maximum(call: Call) -> Value:
    return _extremum(call, 1.0)


def minimum(call: Call) -> Value:
    return _extremum(call, -1.0)


def _extremum(call: Call, sign: float) -> Value:
    """max of branches and constants; the minimum is minus the maximum of the negatives."""
    items = call.operands()
    shape = np.broadcast_shapes(*(item.shape for item in items))
    values = [item for item in items if isinstance(item, Value)]
    constants = [item for item in items if isinstance(item, np.ndarray)]
    result = call.builder.expand(values[0], shape)
    if len(values) > 1:
        flat = [call.builder.expand(value, shape) for value in values]
        if sign < 0:
            flat = [call.builder.scale(value, -1.0) for value in flat]
        stacked = [call.builder.reshape(value, (1, *shape)) for value in flat]
        joined = call.add(Concat(0), *stacked)
        entries = np.arange(len(values) * int(np.prod(shape))).reshape(joined.shape)
        result = call.add(MaxPool(np.moveaxis(entries, 0, -1), joined.shape), joined)
        result = call.builder.scale(result, -1.0) if sign < 0 else result
    for constant in constants:
        infinite = np.full((), np.inf)
        low, high = (constant, infinite) if sign > 0 else (-infinite, constant)
        result = call.add(Clip(low, high), result)
    return result


ARITHMETIC = {
    "Add": add,
    "BatchNormalization": batch_normalization,
    "Concat": concatenate,
    "Div": divide,
    "Max": maximum,
    "Mean": average,
    "Min": minimum,
    "Mul": multiply,
    "Neg": negate,
    "Sub": subtract,
    "Sum": total,
}
