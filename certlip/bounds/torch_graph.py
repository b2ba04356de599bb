"""A graph as a batched torch function with automatic derivatives, in float32 or float64, on a CPU or a GPU.

It guides searches and proves nothing: weights are rounded to the type, sums are taken in any order. An operator that
the tables below do not know runs through its own `value` and `pullback`, in numpy, so that every graph works.
Operators with weights also come as functions of these (`weighted_function`), for training.

Importing torch takes seconds, so it happens at the first call of `torch_graph`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.graph import Affine, Graph, Operator
from certlip.ops import (
    Abs,
    Add,
    Clip,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Elu,
    Gelu,
    LeakyRelu,
    MaxPool,
    Reindex,
    Relu,
    Scale,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
    TanhGelu,
)

if TYPE_CHECKING:
    import torch

Function = Callable[..., "torch.Tensor"]
"""Tensors with the batch as first axis to a tensor with it."""

Constant = Callable[[Any], "torch.Tensor"]
"""An array as a tensor of the chosen type and device; integers stay integers."""

Weighted = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""(x, weight, bias) to W x + b: shapes of weight and bias as in the operator, x with the batch as first axis."""


def torch_graph(graph: Graph, dtype: str = "float32", device: str = "cpu") -> Function:
    """A function from tensors (N, *input_shape) to (N, *output_shape), `dtype` "float32" or "float64"."""
    import torch

    constant = constants(getattr(torch, dtype), device)
    steps = [(function_of(node.operator, constant), node.inputs) for node in graph.nodes]
    last = {i: position for position, (_, inputs) in enumerate(steps) for i in inputs}

    def evaluate(x: torch.Tensor) -> torch.Tensor:
        values: list[torch.Tensor | None] = [x]
        for position, (step, inputs) in enumerate(steps):
            values.append(step(*(values[i] for i in inputs)))
            for i in inputs:
                if last[i] == position:  # nothing reads it again
                    values[i] = None
        return values[-1]  # type: ignore[return-value]

    return evaluate


def constants(dtype: torch.dtype, device: str | torch.device) -> Constant:
    """Arrays to tensors of this type on this device."""
    import torch

    def constant(array: Any) -> torch.Tensor:
        array = np.ascontiguousarray(array)
        return torch.tensor(array, dtype=torch.int64 if array.dtype.kind == "i" else dtype, device=device)

    return constant


def function_of(operator: Operator, constant: Constant) -> Function:
    """The operator as a function of tensors, with its own weights."""
    weighted = weighted_function(operator)
    if weighted is not None and isinstance(operator, Affine):
        weight, bias = constant(operator.weight.mid), constant(operator.bias.mid)
        return lambda x: weighted(x, weight, bias)
    make = _TABLE.get(type(operator), _through_numpy)
    return make(operator, constant)


def weighted_function(operator: Operator) -> Weighted | None:
    """How an operator with weights acts, for any weights of their shapes; None for one that torch cannot compute."""
    make = _WEIGHTED.get(type(operator))
    return None if make is None else make(operator)


def _dense(operator: Dense) -> Weighted:
    from torch.nn.functional import linear

    return lambda x, weight, bias: linear(x, weight) + bias


def _scale(operator: Scale) -> Weighted:
    return lambda x, weight, bias: x * weight + bias


def _conv(operator: Conv) -> Weighted | None:
    dimensions = len(operator.window)
    if dimensions > 3:
        return None
    from torch.nn import functional

    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[dimensions - 1]
    before, after = zip(*operator.pads, strict=True)
    even = before == after and min(before) >= 0
    padding = before if even else 0
    around = [side for pad in reversed(operator.pads) for side in pad]

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        image = x.reshape(len(x), *operator.size)
        image = image if even else functional.pad(image, around)
        y = convolve(
            image, weight, stride=operator.strides, padding=padding, dilation=operator.dilations, groups=operator.groups
        )
        return y.reshape(len(x), *operator.codomain) + bias

    return forward


def _conv_transpose(operator: ConvTranspose) -> Weighted | None:
    conv = operator.conv
    dimensions = len(conv.window)
    if dimensions > 3:
        return None
    from torch.nn import functional

    scatter = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[dimensions - 1]
    reached = [
        (n - 1) * stride + dilation * (k - 1) + 1
        for n, stride, dilation, k in zip(conv.space, conv.strides, conv.dilations, conv.window, strict=True)
    ]
    # entries of the padded image beyond the last window get nothing; the padding itself is cut off
    ends = [(-a, n + a - r) for n, (a, _), r in zip(conv.size[1:], conv.pads, reached, strict=True)]
    around = [side for end in reversed(ends) for side in end]

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        y = scatter(
            x.reshape(len(x), *conv.codomain[1:]),
            weight,
            stride=conv.strides,
            dilation=conv.dilations,
            groups=conv.groups,
        )
        return functional.pad(y, around).reshape(len(x), *operator.codomain) + bias

    return forward


def _reindex(operator: Reindex, constant: Constant) -> Function:
    shape = operator.index.shape
    if operator.is_identity:
        return lambda x: x.reshape(len(x), *shape)
    index, padded = operator.index.ravel(), operator.index < 0
    source, bias = constant(np.maximum(index, 0)), constant(operator.bias.mid)
    if not padded.any():
        return lambda x: x.reshape(len(x), -1).index_select(1, source).reshape(len(x), *shape) + bias
    kept = constant((~padded).astype(np.float64))
    if not np.prod(operator.source):
        return lambda x: bias.expand(len(x), *shape)
    return lambda x: x.reshape(len(x), -1).index_select(1, source).reshape(len(x), *shape) * kept + bias


def _max_pool(operator: MaxPool, constant: Constant) -> Function:
    index = operator.index
    source = constant(np.maximum(index, 0).ravel())
    floor = constant(np.where(index < 0, -np.inf, 0.0)) if (index < 0).any() else None

    def forward(x: torch.Tensor) -> torch.Tensor:
        windows = x.reshape(len(x), -1).index_select(1, source).reshape(len(x), *index.shape)
        return (windows if floor is None else windows + floor).max(-1).values

    return forward


def _add(operator: Add, constant: Constant) -> Function:
    return lambda *branches: sum(branches[1:], branches[0])


def _concat(operator: Concat, constant: Constant) -> Function:
    import torch

    return lambda *branches: torch.cat(branches, operator.axis + 1)


def _leaky_relu(operator: LeakyRelu, constant: Constant) -> Function:
    import torch

    slope = constant(operator.slope.mid)
    return lambda x: torch.where(x > 0, x, slope * x)


def _clip(operator: Clip, constant: Constant) -> Function:
    import torch

    low, high = constant(operator.low), constant(operator.high)
    return lambda x: torch.minimum(torch.maximum(x, low), high)


def _elu(operator: Elu, constant: Constant) -> Function:
    import torch

    alpha, gamma = float(operator.alpha), float(operator.gamma)
    return lambda x: gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0.0)))


def _silu(operator: Silu, constant: Constant) -> Function:
    import torch

    beta = float(operator.beta)
    return lambda x: x * torch.sigmoid(beta * x)


def _named(name: str, **options: Any) -> Callable[[Any, Constant], Function]:
    """One of torch's own activations."""

    def make(operator: Operator, constant: Constant) -> Function:
        import torch

        function = getattr(torch.nn.functional, name, None) or getattr(torch, name)
        return lambda x: function(x, **options)

    return make


def _through_numpy(operator: Operator, constant: Constant) -> Function:
    """The operator's own evaluation and derivative."""
    import torch

    class Foreign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*inputs)
            return constant(operator.value(*(_array(x) for x in inputs)))

        @staticmethod
        def backward(ctx, output):
            parts = operator.pullback(_array(output), *(_array(x) for x in ctx.saved_tensors))
            return tuple(constant(part) for part in parts)

    return Foreign.apply


def _array(x: torch.Tensor) -> np.ndarray:
    return x.detach().cpu().numpy().astype(np.float64)


_WEIGHTED: dict[type, Callable[[Any], Weighted | None]] = {
    Dense: _dense,
    Scale: _scale,
    Conv: _conv,
    ConvTranspose: _conv_transpose,
}

_TABLE: dict[type, Callable[[Any, Constant], Function]] = {
    Reindex: _reindex,
    MaxPool: _max_pool,
    Add: _add,
    Concat: _concat,
    Relu: _named("relu"),
    Abs: _named("abs"),
    LeakyRelu: _leaky_relu,
    Clip: _clip,
    Elu: _elu,
    Softplus: _named("softplus", threshold=50.0),
    Sigmoid: _named("sigmoid"),
    Tanh: _named("tanh"),
    Gelu: _named("gelu"),
    Silu: _silu,
    TanhGelu: _named("gelu", approximate="tanh"),
}
