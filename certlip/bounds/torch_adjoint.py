"""The transposes of affine operators as batched torch functions. They guide searches; nothing is proved with them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.bounds.torch_graph import function_of
from certlip.graph import Affine
from certlip.ops import Conv, ConvTranspose, Dense, Reindex, Scale
from certlip.rigor.ball import Ball

if TYPE_CHECKING:
    import torch

Function = Callable[["torch.Tensor"], "torch.Tensor"]


def adjoint(operator: Affine, constant: Callable[[Any], torch.Tensor]) -> Function:
    """y to W' y on batches. constant: an array as a tensor."""
    if isinstance(operator, Dense):
        weight = constant(operator.weight.mid)
        return lambda y: y @ weight
    if isinstance(operator, Scale):
        factor = constant(operator.weight.mid)
        return lambda y: y * factor
    if isinstance(operator, Conv):
        transposed = ConvTranspose.of(operator, Ball.exact(0.0))
        return function_of(transposed, constant)
    if isinstance(operator, ConvTranspose):
        return function_of(operator.conv.with_bias(Ball.exact(0.0), np.zeros(())), constant)
    if isinstance(operator, Reindex):
        return _reindex(operator, constant)
    raise TypeError(f"{type(operator).__name__} has no transpose in torch")


def _reindex(operator: Reindex, constant: Callable[[Any], torch.Tensor]) -> Function:
    shape, size = operator.source, prod(operator.source)
    if operator.is_identity:
        return lambda y: y.reshape(len(y), *shape)
    used = constant(np.flatnonzero(operator.index.ravel() >= 0))
    target = constant(operator.index.ravel()[operator.index.ravel() >= 0])

    def scatter(y: torch.Tensor) -> torch.Tensor:
        flat = y.reshape(len(y), -1).index_select(1, used)
        return y.new_zeros(len(y), size).index_add(1, target, flat).reshape(len(y), *shape)

    return scatter
