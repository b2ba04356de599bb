"""Matrix products and convolutions."""

from __future__ import annotations

from math import prod

import numpy as np

from certlip.graph.kinds import Shape
from certlip.onnx_reader.builder import Call, NotLowered, Value
from certlip.onnx_reader.lowering.arithmetic import composed, largest_product
from certlip.onnx_reader.lowering.windows import Windows
from certlip.ops import Add, Conv, ConvTranspose, Dense
from certlip.rigor.ball import Ball


def matmul(call: Call) -> Value:
    left, right = call.item(0), call.item(1)
    if isinstance(left, Value) and isinstance(right, Value):
        raise NotLowered("a product of two activations (attention) has no global Lipschitz constant")
    if isinstance(left, Value):
        return _times_matrix(call, left, call.constant(1, "matrix"))
    matrix, value = call.constant(0, "matrix"), call.value(1)
    if len(value.shape) == 1:
        if matrix.ndim > 2:
            raise NotLowered("a stack of matrices times an activation is not supported; use one matrix")
        return (
            call.add(Dense.of(np.atleast_2d(matrix)), value)
            if matrix.ndim == 2
            else _dot(call, value, matrix)
        )
    swapped = call.builder.move(value, lambda array: np.swapaxes(array, -1, -2))
    result = _times_matrix(call, swapped, np.swapaxes(matrix, -1, -2) if matrix.ndim > 1 else matrix)
    if matrix.ndim == 1:
        return result
    return call.builder.move(result, lambda array: np.swapaxes(array, -1, -2))


def _times_matrix(call: Call, value: Value, matrix: np.ndarray) -> Value:
    """value @ matrix for a matrix, a vector, or a stack of one matrix."""
    if matrix.ndim == 1:
        return _dot(call, value, matrix)
    if prod(matrix.shape[:-2]) != 1:
        raise NotLowered("a stack of matrices times an activation is not supported; use one matrix")
    lead = (1,) * (matrix.ndim - max(2, len(value.shape))) + value.shape[:-1]  # a vector stays a vector
    value = call.builder.reshape(value, (*lead, value.shape[-1]))
    return call.add(Dense.of(matrix.reshape(matrix.shape[-2:]).T, lead=lead), value)


def _dot(call: Call, value: Value, vector: np.ndarray) -> Value:
    result = call.add(Dense.of(vector.reshape(1, -1), lead=value.shape[:-1]), value)
    return call.builder.reshape(result, value.shape[:-1])


def gemm(call: Call) -> Value:
    """alpha A B + beta C. The product and alpha are two operators: what underflows in the one, the other scales up."""
    alpha, beta = (Ball.exact(call.attribute(key, 1.0)) for key in ("alpha", "beta"))
    left, right = call.item(0), call.item(1)
    if isinstance(left, Value) and isinstance(right, Value):
        raise NotLowered("a product of two activations has no global Lipschitz constant")
    flips = bool(call.attribute("transA", 0)), bool(call.attribute("transB", 0))
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        left, right = left.T if flips[0] else left, right.T if flips[1] else right
        return _onto_constant(call, Ball.exact(left), Ball.exact(right))
    if isinstance(left, Value):
        value = call.builder.move(left, np.transpose) if flips[0] else left
        matrix = call.constant(1, "matrix")
        product = _dense(call, value, matrix if flips[1] else matrix.T)
    else:  # (M x)' = x' M'
        value = call.value(1) if flips[1] else call.builder.move(call.value(1), np.transpose)
        matrix = call.constant(0, "matrix")
        product = call.builder.move(_dense(call, value, matrix.T if flips[0] else matrix), np.transpose)
    third = call.item(2)
    if alpha.mid != 1.0 and not isinstance(third, np.ndarray):
        product = call.builder.scale(product, alpha, name=call.name)
    if third is None:
        return product
    if isinstance(third, Value):
        third = call.builder.expand(
            third if beta.mid == 1.0 else call.builder.scale(third, beta), product.shape
        )
        return call.add(Add(), product, third)
    shift = Ball.exact(third) if beta.mid == 1.0 else Ball.exact(third) * beta
    return composed(call, product, alpha, shift, (1.0, largest_product(np.abs(third), np.abs(beta.mid))))


def _onto_constant(call: Call, left: Ball, right: Ball) -> Value:
    """alpha left right + beta x, where x alone depends on the input; the product is rounded once per term."""
    alpha, beta = (Ball.exact(call.attribute(key, 1.0)) for key in ("alpha", "beta"))
    shift = (left @ right) * alpha
    size = np.abs(left.mid) @ np.abs(right.mid) * np.abs(alpha.mid)
    operations = left.shape[-1] + 2
    value = call.builder.expand(call.value(2), shift.shape)
    sizes = (np.abs(item.mid).max(initial=0.0) for item in (left, right, alpha))
    parts = 1.0, largest_product(float(operations), *sizes)
    result = composed(call, value, beta, shift, parts, size, operations)
    if result.shape != shift.shape:
        raise NotLowered(f"its third input of shape {call.value(2).shape} does not fit {shift.shape}")
    return result


def _dense(call: Call, value: Value, weight: np.ndarray) -> Value:
    return call.add(Dense.of(weight, lead=value.shape[:-1]), value)


def convolution(call: Call) -> Value:
    kernel, shape = call.constant(1, "kernel"), call.value().shape
    _require_single(shape)
    windows = Windows.of(call, kernel.shape[2:], shape[2:])
    bias = call.optional(2, "bias")
    return call.add(_conv(call, kernel, shape[1:], windows, bias), call.value())


def transposed_convolution(call: Call) -> Value:
    """The transpose of the convolution that maps the declared output to this input."""
    kernel, shape = call.constant(1, "kernel"), call.value().shape
    _require_single(shape)
    groups = int(call.attribute("group", 1))
    windows = Windows.transposed(call, kernel.shape[2:], shape[2:])
    conv = _conv(call, kernel, (kernel.shape[1] * groups, *windows.image), windows, None)
    bias = call.optional(2, "bias")
    shift = Ball.exact(np.zeros(()) if bias is None else bias.reshape(-1, *(1,) * (len(shape) - 2)))
    return call.add(ConvTranspose.of(conv, shift), call.value())


def _conv(call: Call, kernel: np.ndarray, size: Shape, windows: Windows, bias: np.ndarray | None) -> Conv:
    column = np.zeros(()) if bias is None else bias.reshape(-1, *(1,) * (kernel.ndim - 2))
    return Conv(
        Ball.exact(kernel),
        Ball.exact(column),
        np.abs(column),
        tuple(size),
        windows.strides,
        windows.pads,
        windows.dilations,
        int(call.attribute("group", 1)),
    )


def _require_single(shape: Shape) -> None:
    if len(shape) < 3 or shape[0] != 1:
        raise NotLowered(f"its input of shape {shape} is not one image; export the model with a batch of one")


LINEAR = {"Conv": convolution, "ConvTranspose": transposed_convolution, "Gemm": gemm, "MatMul": matmul}
