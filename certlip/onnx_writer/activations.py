"""How activations are written: an operator of the same name, or the products that exporters spell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from certlip.errors import ModelError
from certlip.onnx_writer.draft import Step, Tensor
from certlip.ops import Abs, Clip, Elu, Gelu, LeakyRelu, Relu, Sigmoid, Silu, Softplus, Tanh, TanhGelu
from certlip.rigor.rounding import Array

GELU_SINCE = 20
"""The operator set from which Gelu is an operator."""

_ERF_SINCE = 9
_CLIP_TAKES_INPUTS = 11


def _plain(operator: str) -> Callable[[Step], Tensor]:
    return lambda step: Tensor(step.draft.node(operator, step.name, step.tensor.name), step.tensor.rest)


def _leaky_relu(step: Step) -> Tensor:
    draft = step.draft
    slope = draft.compact(step.operator.slope.mid, step.shapes[0])
    if slope.size == 1 and float(np.float32(slope.reshape(()))) == float(slope.reshape(())):
        made = draft.node("LeakyRelu", step.name, step.tensor.name, alpha=float(slope.reshape(())))
    else:
        stored = draft.weight(step.weights[0], slope.reshape(slope.shape or (1,)))
        made = draft.node("PRelu", step.name, step.tensor.name, stored)
    return Tensor(made, step.tensor.rest)


def _clip(step: Step) -> Tensor:
    """Clip takes two numbers, Max and Min take arrays."""
    draft = step.draft
    low, high = (draft.compact(side, step.shapes[0]) for side in (step.operator.low, step.operator.high))
    if low.ndim or high.ndim:
        return Tensor(_between(step, low, high), step.tensor.rest)
    ends = {"min": float(low), "max": float(high)}
    known = {key: end for key, end in ends.items() if np.isfinite(end)}
    if draft.opset < _CLIP_TAKES_INPUTS:
        return Tensor(draft.node("Clip", step.name, step.tensor.name, **known), step.tensor.rest)
    stored = [draft.weight(f"{step.name}.{key}", np.asarray(end)) if key in known else "" for key, end in ends.items()]
    while stored and not stored[-1]:
        stored.pop()
    return Tensor(draft.node("Clip", step.name, step.tensor.name, *stored), step.tensor.rest)


def _between(step: Step, low: Array, high: Array) -> str:
    tensor = step.tensor.name
    for operator, bound in (("Max", low), ("Min", high)):
        if np.isfinite(bound).any():
            stored = step.draft.weight(f"{step.name}.{operator.lower()}", bound, infinite=True)
            tensor = step.draft.node(operator, f"{step.name}.{operator}", tensor, stored)
    return tensor


def _elu(step: Step) -> Tensor:
    draft, operator = step.draft, step.operator
    if operator.gamma == 1.0:
        made = draft.node("Elu", step.name, step.tensor.name, alpha=float(operator.alpha))
    else:
        numbers = {"alpha": float(operator.alpha), "gamma": float(operator.gamma)}
        made = draft.node("Selu", step.name, step.tensor.name, **numbers)
    return Tensor(made, step.tensor.rest)


def _gelu(step: Step) -> Tensor:
    """x (1 + erf(x / sqrt 2)) / 2 before Gelu was an operator."""
    draft, name, x = step.draft, step.name, step.tensor.name
    if draft.opset >= GELU_SINCE:
        return Tensor(draft.node("Gelu", name, x), step.tensor.rest)
    if draft.opset < _ERF_SINCE:
        raise ModelError(f"node '{name}' cannot be written in operator set {draft.opset}; export with a newer one")
    root, one, half = (
        draft.weight(f"{name}.{key}", np.asarray(value))
        for key, value in (("root", np.sqrt(2.0)), ("one", 1.0), ("half", 0.5))
    )
    gate = draft.node("Erf", f"{name}.erf", draft.node("Div", f"{name}.argument", x, root))
    product = draft.node("Mul", f"{name}.product", x, draft.node("Add", f"{name}.gate", gate, one))
    return Tensor(draft.node("Mul", name, product, half), step.tensor.rest)


def _tanh_gelu(step: Step) -> Tensor:
    return Tensor(step.draft.node("Gelu", step.name, step.tensor.name, approximate="tanh"), step.tensor.rest)


def _silu(step: Step) -> Tensor:
    draft, name, x = step.draft, step.name, step.tensor.name
    inner = x
    if step.operator.beta != 1.0:
        inner = draft.node("Mul", f"{name}.argument", x, draft.weight(f"{name}.beta", np.asarray(step.operator.beta)))
    gate = draft.node("Sigmoid", f"{name}.gate", inner)
    return Tensor(draft.node("Mul", name, x, gate), step.tensor.rest)


ACTIVATIONS: dict[type, Callable[[Step], Tensor]] = {
    Relu: _plain("Relu"),
    Abs: _plain("Abs"),
    LeakyRelu: _leaky_relu,
    Clip: _clip,
    Elu: _elu,
    Softplus: _plain("Softplus"),
    Sigmoid: _plain("Sigmoid"),
    Tanh: _plain("Tanh"),
    Gelu: _gelu,
    Silu: _silu,
    TanhGelu: _tanh_gelu,
}
