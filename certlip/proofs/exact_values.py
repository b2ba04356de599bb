"""The exact network's outputs at a point, enclosed by integer arithmetic.

Every operator acts on balls of `certlip.rigor.exact_numbers`: affine maps by exact products of the stored weights,
kinks and maxima by comparing centres (they move by no more than their argument does), smooth functions by integer
series at the centre and a Lipschitz constant for the radius. Widths are about 2^-180 for smooth networks, 2^-250
relative for others, and what the weights leave open where they are balls themselves (normalisation by a factor that is
no float).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from certlip.graph import Affine, Graph, Node, Pointwise
from certlip.ops import (
    Abs,
    Add,
    Clip,
    Concat,
    Elu,
    Gelu,
    LeakyRelu,
    MaxPool,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
    TanhGelu,
)
from certlip.rigor import exact_functions as functions
from certlip.rigor.exact_numbers import WIDTH, Exact, NotExact, bilinear, concatenate, maximum
from certlip.rigor.rounding import Array

_UNIT = -functions.BITS // WIDTH
_REACH = 1 << 20 + functions.BITS


def exact_output_ball(graph: Graph, x: Array) -> tuple[list[Fraction], list[Fraction]]:
    """(low, high): low_i <= f_i(x) <= high_i for the exact network at the floats x of shape (*input_shape,), flattened.

    Holds for every network in the balls of the graph's weights. Raises NotExact for an operator without an exact form
    or numbers out of range, and ValueError for a point of another shape.
    """
    if np.shape(x) != graph.input_shape:
        raise ValueError(f"the point has shape {np.shape(x)}, the input {graph.input_shape}")
    return graph.fold(Exact.of(np.asarray(x, dtype=np.float64)[None]), _step)[-1].ends()


def _step(node: Node, values: Sequence[Exact]) -> Exact:
    operator, x = node.operator, values[0]
    if isinstance(operator, Affine):
        return linear_image(operator, x) + Exact.of(operator.bias)
    if isinstance(operator, Pointwise):
        return _activation(operator, x)
    if isinstance(operator, Add):
        return sum(values[1:], x)
    if isinstance(operator, Concat):
        return concatenate(list(values), operator.axis + 1)
    if isinstance(operator, MaxPool):
        return largest(operator, x)
    raise NotExact(f"node '{node.name}' is a {type(operator).__name__}, which has no exact evaluation")


def linear_image(operator: Affine, x: Exact) -> Exact:
    """W x for a batch: the operator's own program, run on integers."""
    return bilinear(operator.forward, Exact.of(operator.weight), x, operator.terms)


def _activation(operator: Pointwise, x: Exact) -> Exact:
    if isinstance(operator, Relu):
        return Exact(x.where(x.sign() > 0, Exact({}, {}, x.shape)).mid, x.rad, x.shape)
    if isinstance(operator, Abs):
        return x.where(x.sign() > 0, -x)
    if isinstance(operator, LeakyRelu):
        # its Lipschitz constant is max(1, |s|); the product's radius has |s| r and what the slope's own radius adds
        below = Exact.of(operator.slope) * x
        return Exact(x.where(x.sign() > 0, below).mid, x.rad, x.shape).widened(below.rad)
    if isinstance(operator, Clip):
        for bound, side in ((operator.low, 1.0), (operator.high, -1.0)):
            finite = np.isfinite(bound)
            limit = Exact.of(np.where(finite, side * bound, 0.0))
            signed = x if side > 0 else -x
            signed = maximum(signed, limit).where(np.broadcast_to(finite, x.shape), signed)
            x = signed if side > 0 else -signed
        return x
    function, lipschitz = _smooth(operator)
    mid, rad = x.integers(_UNIT)
    if (abs(mid) > _REACH).any():
        raise NotExact("the argument of a smooth activation exceeds 2^20")
    values = np.frompyfunc(function, 1, 1)(mid)
    return Exact.of_integers(values, _UNIT, lipschitz * rad + functions.ERROR)


def _smooth(operator: Pointwise) -> tuple[Callable[[int], int], int]:
    """The function on integers, and an integer that is at least its Lipschitz constant."""
    if isinstance(operator, Sigmoid):
        return functions.sigmoid, 1
    if isinstance(operator, Tanh):
        return functions.tanh, 1
    if isinstance(operator, Softplus):
        return functions.softplus, 1
    if isinstance(operator, Gelu):
        return functions.gelu, 2
    if isinstance(operator, TanhGelu):
        return functions.tanh_gelu, 2
    if isinstance(operator, Silu):
        beta = Fraction(float(operator.beta))
        return lambda x: functions.silu(x, beta), 2
    if isinstance(operator, Elu):
        alpha, gamma = Fraction(float(operator.alpha)), Fraction(float(operator.gamma))
        steepest = max(gamma, abs(alpha * gamma))
        if steepest < 1 << 50:
            return lambda x: functions.elu(x, alpha, gamma), -(-steepest.numerator // steepest.denominator)
    raise NotExact(f"{type(operator).__name__} has no exact evaluation")


def largest(pool: MaxPool, x: Exact) -> Exact:
    """The maxima of each window."""
    flat = x.map(lambda array: array.reshape(len(array), -1))
    used = pool.index >= 0
    start = np.take_along_axis(pool.index, used.argmax(-1)[..., None], -1)[..., 0]
    best = flat[:, start]
    for j in range(pool.index.shape[-1]):
        best = maximum(best, flat[:, np.where(used[..., j], pool.index[..., j], start)])
    return best
