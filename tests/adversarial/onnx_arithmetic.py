"""A second reader of ONNX files: runs them in any arithmetic, exactly or in one order of rounded sums.

It shares nothing with certlip, so it is the oracle of this folder. Arrays hold `Fraction` objects for the real network,
or numpy floats whose sums are made term by term in a chosen order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import mpmath
import numpy as np
import onnx
from onnx import numpy_helper

DIGITS = 4000
"""Bits of what is no rational: values of sigmoid and tanh. Far more than any comparison of this folder needs."""


@dataclass(frozen=True)
class Arithmetic:
    """dtype: object for exact fractions, else the float type of every operation. order: of n terms of a sum; the bias
    is the last of them where `bias_last`, else the first."""

    name: str
    dtype: type
    order: Callable[[int], Sequence[int]] = range
    bias_last: bool = True

    def constant(self, values) -> np.ndarray:
        if self.dtype is not object:
            return np.asarray(values).astype(self.dtype)
        values = np.asarray(values)
        result = np.empty(values.size, object)
        result[:] = [v if isinstance(v, Fraction) else Fraction(v) for v in values.ravel().tolist()]
        return result.reshape(values.shape)

    def total(self, terms: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """Sum over the last axis, one term after another."""
        parts = [terms[..., i] for i in self.order(terms.shape[-1])]
        if bias is not None:
            parts = [*parts, bias] if self.bias_last else [bias, *parts]
        result = parts[0]
        for part in parts[1:]:
            result = result + part
        return result

    def function(self, name: str, x: np.ndarray) -> np.ndarray:
        """A transcendental function, entry by entry."""
        if self.dtype is not object:
            one = self.dtype(1)
            return np.tanh(x) if name == "Tanh" else one / (one + np.exp(-x))
        with mpmath.workprec(DIGITS):
            return np.vectorize(lambda v: _transcendental(name, v), otypes=[object])(x)


def _transcendental(name: str, value: Fraction) -> Fraction:
    argument = mpmath.mpf(value.numerator) / value.denominator
    result = mpmath.tanh(argument) if name == "Tanh" else 1 / (1 + mpmath.exp(-argument))
    mantissa, exponent = result.man_exp
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def shuffled(seed: int) -> Callable[[int], Sequence[int]]:
    return lambda n: np.random.default_rng(seed).permutation(n).tolist()


EXACT = Arithmetic("exact", object)
FORWARD = Arithmetic("binary32 forward", np.float32)
EXECUTIONS = (
    FORWARD,
    Arithmetic("binary32 bias first", np.float32, bias_last=False),
    Arithmetic("binary32 backward", np.float32, lambda n: range(n)[::-1]),
    Arithmetic("binary32 backward, bias first", np.float32, lambda n: range(n)[::-1], False),
    *(Arithmetic(f"binary32 shuffled {seed}", np.float32, shuffled(seed), bool(seed % 2)) for seed in range(12)),
)
"""Executions that the class of binary32 in any order of summation holds."""


def run(model: onnx.ModelProto, x, arithmetic: Arithmetic = EXACT) -> np.ndarray:
    """The outputs at one input, flat."""
    graph = model.graph
    shape = [d.dim_value or 1 for d in graph.input[0].type.tensor_type.shape.dim]
    values = {t.name: arithmetic.constant(numpy_helper.to_array(t)) for t in graph.initializer}
    values[graph.input[0].name] = arithmetic.constant(np.asarray(x)).reshape(shape)
    with np.errstate(all="ignore"):
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            operation = OPERATIONS[node.op_type]
            values[node.output[0]] = operation(arithmetic, attributes, *(values[name] for name in node.input))
    return values[graph.output[0].name].reshape(-1)


def margin(model: onnx.ModelProto, x, label: int, arithmetic: Arithmetic = EXACT):
    """f_label - max of the others, or the signed output where there is one."""
    scores = run(model, x, arithmetic)
    if len(scores) == 1:
        return scores[0] if label == 1 else -scores[0]
    return scores[label] - max(scores[k] for k in range(len(scores)) if k != label)


def distance_squared(x, y, norm: str = "l2") -> Fraction:
    """|x - y|^2, exactly."""
    x, y = (point.ravel().tolist() if isinstance(point, np.ndarray) else point for point in (x, y))
    steps = [abs(Fraction(a) - Fraction(b)) for a, b in zip(x, y, strict=True)]
    return sum(step * step for step in steps) if norm == "l2" else max(steps) ** 2


def slope_squared(model, norm: str, p, q) -> Fraction:
    """|g(p) - g(q)|^2 / |p - q|^2 for the difference of the two outputs, exactly."""
    (a, b), (c, d) = run(model, p), run(model, q)
    return ((a - b) - (c - d)) ** 2 / distance_squared(p, q, norm)


def _gemm(arithmetic, attributes, x, weight, bias=None):
    weight = weight if attributes.get("transB", 0) else weight.T
    return arithmetic.total(x[..., None, :] * weight, bias)


def _matmul(arithmetic, attributes, x, weight):
    return arithmetic.total(x[..., None, :] * weight.T)


def _conv(arithmetic, attributes, x, kernel, bias):
    """Two-dimensional, stride 1, no groups."""
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    zero = arithmetic.constant(0)[()]
    x = np.pad(x[0], ((0, 0), (top, bottom), (left, right)), constant_values=zero)
    height, width = (x.shape[i + 1] - kernel.shape[i + 2] + 1 for i in (0, 1))
    rows = [
        x[:, i : i + kernel.shape[2], j : j + kernel.shape[3]].ravel() * kernel.reshape(len(kernel), -1)
        for i in range(height)
        for j in range(width)
    ]
    return np.stack([arithmetic.total(row, bias) for row in rows], -1).reshape(1, len(kernel), height, width)


def _batch_normalization(arithmetic, attributes, x, scale, bias, mean, variance):
    """Exact only where the root is rational, which the networks of this folder see to."""
    epsilon = arithmetic.constant(np.float32(attributes["epsilon"]))
    spread = variance + epsilon
    root = np.sqrt(spread) if arithmetic.dtype is not object else np.vectorize(_root, otypes=[object])(spread)
    return (x - mean) / root * scale + bias


def _root(value: Fraction) -> Fraction:
    result = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if result * result != value:
        raise ValueError(f"{value} has no rational root")
    return result


def _leaky(arithmetic, attributes, x):
    return np.where(x > 0, x, arithmetic.constant(np.float32(attributes.get("alpha", 0.01))) * x)


OPERATIONS = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "BatchNormalization": _batch_normalization,
    "LeakyRelu": _leaky,
    "Relu": lambda arithmetic, attributes, x: np.where(x > 0, x, arithmetic.constant(0)),
    "Abs": lambda arithmetic, attributes, x: abs(x),
    "Neg": lambda arithmetic, attributes, x: -x,
    "Add": lambda arithmetic, attributes, x, y: x + y,
    "Sub": lambda arithmetic, attributes, x, y: x - y,
    "Mul": lambda arithmetic, attributes, x, y: x * y,
    "Identity": lambda arithmetic, attributes, x: x,
    "Flatten": lambda arithmetic, attributes, x: x.reshape(1, -1),
    "Concat": lambda arithmetic, attributes, *xs: np.concatenate(xs, attributes["axis"]),
    "Sigmoid": lambda arithmetic, attributes, x: arithmetic.function("Sigmoid", x),
    "Tanh": lambda arithmetic, attributes, x: arithmetic.function("Tanh", x),
}
