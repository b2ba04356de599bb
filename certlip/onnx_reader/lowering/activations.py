"""Pointwise nonlinearities, with ONNX's default parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from certlip.graph import Operator
from certlip.onnx_reader.builder import Call, NotLowered, Value
from certlip.onnx_reader.lowering.arithmetic import composed, largest_product, quotient
from certlip.onnx_reader.patterns import GELU, SILU, UNTAKEN
from certlip.ops import Abs, Clip, Elu, Gelu, LeakyRelu, Relu, Sigmoid, Silu, Softplus, Tanh, TanhGelu
from certlip.rigor.ball import Ball


def _plain(operator: Callable[[], Operator]) -> Callable[[Call], Value]:
    return lambda call: call.add(operator(), call.value())


def leaky_relu(call: Call) -> Value:
    return call.add(LeakyRelu(Ball.exact(call.attribute("alpha", np.float32(0.01)))), call.value())


def prelu(call: Call) -> Value:
    value, slope = call.value(), call.constant(1, "slope")
    if np.broadcast_shapes(value.shape, slope.shape) != value.shape:
        raise NotLowered("its slope is larger than its input")
    return call.add(LeakyRelu(Ball.exact(np.broadcast_to(slope, value.shape))), value)


def elu(call: Call) -> Value:
    return call.add(Elu(float(call.attribute("alpha", 1.0))), call.value())


def celu(call: Call) -> Value:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1)) = alpha elu(x / alpha)."""
    alpha = np.array(float(call.attribute("alpha", 1.0)))
    if not alpha > 0:
        raise NotLowered("its alpha is not positive")
    if alpha == 1.0:
        return call.add(Elu(), call.value())
    inner = call.add(Elu(), quotient(call, call.value(), alpha))
    return call.builder.scale(inner, alpha, name=call.name)


def selu(call: Call) -> Value:
    alpha = float(call.attribute("alpha", np.float32(1.67326319217681884765625)))
    gamma = float(call.attribute("gamma", np.float32(1.05070102214813232421875)))
    return call.add(Elu(alpha, gamma), call.value())


def clip(call: Call) -> Value:
    if call.opset < 11:
        given = [call.attribute(key) for key in ("min", "max")]
    else:
        given = [call.optional(i, "limit") for i in (1, 2)]
    low = np.asarray(-np.inf if given[0] is None else given[0], dtype=np.float64)
    high = np.asarray(np.inf if given[1] is None else given[1], dtype=np.float64)
    # ONNX defines Clip as min(high, max(low, x)): with low > high the result is the constant high.
    return call.add(Clip(np.minimum(low, high), high), call.value())


def hard_sigmoid(call: Call) -> Value:
    alpha = float(call.attribute("alpha", np.float32(0.2)))
    beta = float(call.attribute("beta", 0.5))
    line = call.builder.scale(call.value(), np.array(alpha), np.array(beta))
    return call.add(Clip(np.zeros(()), np.ones(())), line)


def gelu(call: Call) -> Value:
    approximate = call.attribute("approximate", b"none")
    return call.add(TanhGelu() if approximate == b"tanh" else Gelu(), call.value())


def swish(call: Call) -> Value:
    return _scaled(call, Silu(), Ball.exact(call.attribute("alpha", 1.0)), Ball.exact(1.0), (1.0, 0.0))


def fused_silu(call: Call) -> Value:
    """gain x sigmoid(c x) = (gain / c) silu(c x)."""
    return _scaled(call, Silu(), *_numbers(call))


def fused_gelu(call: Call) -> Value:
    """gain x (1 + erf(c x)) / 2 = (gain / s) gelu(s x) with s = sqrt(2) c."""
    scale, gain, parts = _numbers(call)
    return _scaled(call, Gelu(), scale * Ball.exact(2.0).sqrt(), gain, parts)


def untaken_choice(call: Call) -> Value:
    """The branch of a choice that is always taken, in the shape that the choice gives it."""
    shapes = [item.shape for item in call.items if item is not None]
    return call.builder.expand(call.value(0), np.broadcast_shapes(*shapes))


def _numbers(call: Call) -> tuple[Ball, Ball, tuple[float, float]]:
    """factor / divisor, gain, and the sizes of what executions compute on the way (`Scale.parts`, see `quotient`)."""
    factor, divisor, gain = (
        Ball.exact(float.fromhex(call.attribute(key).decode())) for key in ("factor", "divisor", "gain")
    )
    if divisor.mid == 1.0:
        return factor, gain, (largest_product(np.abs(factor.mid)), 0.0)
    inverse = Ball.exact(1.0) / divisor
    parts = largest_product(np.abs(factor.mid), 4.0 * inverse.magnitude()), largest_product(np.abs(divisor.mid))
    return factor / divisor, gain, parts


def _scaled(call: Call, operator: Operator, scale: Ball, gain: Ball, parts: tuple[float, float]) -> Value:
    """gain / scale times the operator at scale x. Executions multiply x itself by the gate and by the gain, in either
    order, so that gain x must not overflow, and what underflows before is multiplied by the gain alone."""
    if not np.all(scale.lower() > 0):
        raise NotLowered("its scale is not positive")
    zero, size = Ball.exact(0.0), gain.magnitude()
    if scale.is_exact and scale.mid == 1.0 and np.all(size <= 1.0):
        inner = call.add(operator, call.value())
        return inner if gain.mid == 1.0 else call.builder.scale(inner, gain)
    inner = call.add(operator, composed(call, call.value(), scale, zero, (largest_product(parts[0], size), parts[1])))
    outer = largest_product(size, (Ball.exact(1.0) / scale).magnitude())
    return composed(call, inner, gain / scale, zero, (outer, 0.0))


ACTIVATIONS = {
    "Abs": _plain(Abs),
    "Celu": celu,
    "Clip": clip,
    "Elu": elu,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Relu": _plain(Relu),
    "Selu": selu,
    "Sigmoid": _plain(Sigmoid),
    "Softplus": _plain(Softplus),
    "Swish": swish,
    "Tanh": _plain(Tanh),
    GELU: fused_gelu,
    SILU: fused_silu,
    UNTAKEN: untaken_choice,
}
