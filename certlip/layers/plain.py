"""A trained network as plain torch: Linear, Conv2d, activations and additions with stored weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from certlip.errors import UsageError
from certlip.layers.feedforward import UnitRows
from certlip.layers.residual import Residual, ResidualConv2d
from certlip.layers.weight import Weight

SHRINK = 2.0**-18
"""Relative amount by which each weight is made smaller, more than its rounding to float32 adds to its norm."""

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Branch(nn.Module):
    """x + down(activation(up(x)))."""

    def __init__(self, up: nn.Module, activation: nn.Module, down: nn.Module) -> None:
        super().__init__()
        self.up, self.activation, self.down = up, activation, down

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.activation(self.up(x)))


def plain(module: nn.Module, shrink: float = SHRINK) -> nn.Module:
    """A copy in evaluation mode without parametrisations, for `certlip.load(..., input_shape=...)` and torch.onnx.

    Weights are computed in float64, multiplied by 1 - shrink and rounded once to the type of the module, which is left
    as it is. Real arithmetic promises a norm of at most 1, the rounding of n entries to float32 costs up to about
    sqrt(n) 2^-24 of it, and `shrink` pays for that, so that the bound which `certlip.bound` proves of a chain of
    1-Lipschitz layers is at most 1. Residual layers shrink in V: their largest slope is 1 all the same (in directions
    that V does not see), and a network of nothing else is proved up to a few millionths above 1. Raises UsageError for
    a parametrised layer that is neither linear nor a zero-padded convolution.
    """
    return _converted(copy.deepcopy(module).eval(), 1.0 - shrink, {})


def _converted(module: nn.Module, factor: float, done: dict[int, nn.Module]) -> nn.Module:
    """Layers that are used twice stay one."""
    if id(module) not in done:
        done[id(module)] = result = _layer(module, factor)
        for name, child in module._modules.items() if result is module else ():  # `named_children` shows each once
            if child is not None:
                setattr(result, name, _converted(child, factor, done))
    return done[id(module)]


@torch.no_grad()
def _layer(module: nn.Module, factor: float) -> nn.Module:
    if isinstance(module, Residual):
        return _branch(module, factor)
    if not is_parametrized(module, "weight"):
        return module
    parametrizations = list(module.parametrizations.weight)
    if not all(isinstance(part, Weight | UnitRows) for part in parametrizations):
        return module
    dtype = module.weight.dtype
    weight = copy.deepcopy(module).double().weight
    if isinstance(parametrizations[-1], Weight):
        weight = factor * weight
    weight = weight.to(dtype)
    if isinstance(module, nn.Linear):
        return _linear(weight, module.bias)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.padding_mode == "zeros":
        return _conv(weight, module.bias, module.stride, module.padding, module.dilation, module.groups)
    raise UsageError(f"the weight of {module} belongs to no linear layer or zero-padded convolution; use one of these")


@torch.no_grad()
def _branch(layer: Residual, factor: float) -> Branch:
    dtype = layer.bias.dtype
    exact = copy.deepcopy(layer).double()
    # |V| (1 - shrink): both weights of the branch, so that -2 V'V shrinks by its square
    up, bias, down = exact.branch()
    up, bias, down = (entries.to(dtype) for entries in (factor * up, bias, factor * down))
    if isinstance(layer, ResidualConv2d):
        # the transposed convolution of stride 1 is one with the taps reversed, and as much padding as is left
        reach = layer.dilation * (down.shape[-1] - 1)
        down = down.flip(2, 3).transpose(0, 1)
        back = _conv(down, None, 1, reach - layer.padding, layer.dilation)
        return Branch(_conv(up, bias, 1, layer.padding, layer.dilation), layer.activation, back)
    return Branch(_linear(up, bias), layer.activation, _linear(down.T, None))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight, bias)


def _conv(weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int = 1) -> nn.Module:
    kind = _CONVOLUTIONS[weight.dim() - 2]
    inputs, outputs, window = weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:])
    layer = kind(inputs, outputs, window, stride, padding, dilation, groups, bias is not None)
    return _filled(layer, weight, bias)


def _filled(layer: Any, weight: Tensor, bias: Tensor | None) -> Any:
    layer = layer.to(weight.device, weight.dtype)
    layer.weight = nn.Parameter(weight.detach().clone().contiguous())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer.eval()
