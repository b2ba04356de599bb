"""CROWN in plain torch, for comparison: the bound that certlip computes, without its rounding errors and its proof."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from certlip.graph import Graph
from certlip.ops import Conv, Dense, Reindex, Relu, Scale
from certlip.rigor.rounding import Array

_ENTRIES = 2**21  # coefficients of one value at a time: larger parts no longer fit the caches

Bound = Callable[[Array, Array, Array], Array]
"""(low, high, margins) of shapes (boxes, *input shape) twice and (boxes, m, outputs) to lower bounds (boxes, m)."""


def sequential(graph: Graph) -> nn.Sequential:
    """A chain of layers as torch modules, constant factors and shifts folded into the layers before them."""
    layers: list[nn.Module] = []
    shift: Array
    for node in graph.nodes:
        operator = node.operator
        if isinstance(operator, Conv):
            out, per_group = operator.weight.shape[:2]
            sizes = per_group * operator.groups, out, operator.window
            steps = operator.strides, _even(operator.pads), operator.dilations, operator.groups
            layers.append(nn.Conv2d(*sizes, *steps))
            shift = np.broadcast_to(operator.bias.mid, operator.codomain)[0, :, 0, 0]
            _set(layers[-1], operator.weight.mid, shift)
        elif isinstance(operator, Dense):
            layers.append(nn.Linear(*operator.weight.shape[::-1]))
            _set(layers[-1], operator.weight.mid, np.broadcast_to(operator.bias.mid, operator.codomain).ravel())
        elif isinstance(operator, Scale) and isinstance(last := layers[-1], nn.Linear):
            factor, shift = (
                np.broadcast_to(ball.mid, operator.codomain).ravel() for ball in (operator.weight, operator.bias)
            )
            weight, bias = (part.detach().numpy() for part in (last.weight, last.bias))
            _set(last, weight * factor[:, None], bias * factor + shift)
        elif isinstance(operator, Relu):
            layers.append(nn.ReLU())
        elif isinstance(operator, Reindex):
            layers.append(nn.Flatten())
        else:
            raise TypeError(f"{type(operator).__name__} is no layer of a plain chain")
    model = nn.Sequential(*layers)
    x = np.random.default_rng(0).standard_normal((2, *graph.input_shape))
    with torch.no_grad():
        y = model(torch.from_numpy(x).reshape(2, *_image(graph))).numpy()
    if not np.allclose(y, graph(x).reshape(y.shape)):
        raise ValueError("the chain of torch modules computes something else than the graph")
    return model


def _image(graph: Graph) -> tuple[int, ...]:
    """The shape that torch gives to one input."""
    return graph.input_shape[1:] if len(graph.input_shape) == 4 else graph.input_shape


def _even(pads: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    if any(before != after for before, after in pads):
        raise TypeError("uneven padding")
    return tuple(before for before, _ in pads)


def _set(layer: nn.Module, weight: Array, bias: Array) -> None:
    layer.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64), requires_grad=False)
    layer.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float64), requires_grad=False)


def plain(graph: Graph, dtype: str, few: bool = False) -> Bound:
    """CROWN of all boxes at once. few: intermediate bounds only of neurons that intervals leave open in some box."""
    kind = getattr(torch, dtype)
    layers = list(sequential(graph).to(kind))
    image = _image(graph)

    @torch.inference_mode()
    def bound(low: Array, high: Array, margins: Array) -> Array:
        lows, highs = ([torch.tensor(end, dtype=kind).reshape(-1, *image)] for end in (low, high))
        crown = _Crown(layers, lows, highs)
        for position, layer in enumerate(layers):
            ends = _interval(layer, lows[-1], highs[-1])
            bent = position + 1 < len(layers) and isinstance(layers[position + 1], nn.ReLU)
            if bent and any(isinstance(before, nn.ReLU) for before in layers[:position]):
                ends = crown.tightened(position, *ends, few)
            lows.append(ends[0])
            highs.append(ends[1])
        return crown.lower(len(layers), torch.tensor(margins, dtype=kind)).numpy()

    return bound


def _interval(layer: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(layer, nn.ReLU | nn.Flatten):
        return layer(low), layer(high)
    middle, radius = layer((low + high) / 2), (high - low) / 2
    if isinstance(layer, nn.Linear):
        around = radius @ layer.weight.abs().T
    else:
        around = nn.functional.conv2d(
            radius, layer.weight.abs(), None, layer.stride, layer.padding, layer.dilation, layer.groups
        )
    return middle - around, middle + around


class _Crown:
    """lows, highs: of all values so far, (boxes, *shape). Coefficients are (boxes or 1, rows, *shape)."""

    def __init__(self, layers: list[nn.Module], lows: list[Tensor], highs: list[Tensor]):
        self._layers, self._lows, self._highs = layers, lows, highs

    def tightened(self, position: int, low: Tensor, high: Tensor, few: bool) -> tuple[Tensor, Tensor]:
        """Bounds on the neurons after a layer, those of all of them by intervals being known."""
        size, shape = low[0].numel(), low.shape
        low, high = low.flatten(1), high.flatten(1)
        wanted = ((low < 0) & (high > 0)).any(0).nonzero()[:, 0] if few else torch.arange(size)
        widest = max(size, *(end[0].numel() for end in self._lows))
        for some in wanted.split(max(1, _ENTRIES // (widest * len(low)))):
            rows = low.new_zeros(1, len(some), size)
            rows[0, torch.arange(len(some)), some] = 1
            rows = rows.reshape(1, len(some), *shape[1:])
            low[:, some] = torch.maximum(low[:, some], self.lower(position + 1, rows))
            high[:, some] = torch.minimum(high[:, some], -self.lower(position + 1, -rows))
        return low.reshape(shape), high.reshape(shape)

    def lower(self, value: int, c: Tensor) -> Tensor:
        """Lower bounds (boxes, rows) on <c, v>."""
        total = c.new_zeros(())
        for position in range(value - 1, -1, -1):
            layer, shape = self._layers[position], self._lows[position].shape[1:]
            if isinstance(layer, nn.ReLU):
                low, high = self._lows[position][:, None], self._highs[position][:, None]
                slope = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, high / (high - low)))
                least = torch.where((low >= 0) | ((high > 0) & (high > -low)), torch.ones_like(low), 0.0)
                above, below = c.clamp(min=0), c.clamp(max=0)
                offset = torch.where((low < 0) & (high > 0), -slope * low, 0.0)
                total = total + (below.flatten(2) @ offset.flatten(2).mT)[..., 0]
                c = above * least + below * slope
            elif isinstance(layer, nn.Linear):
                total = total + c @ layer.bias
                c = c @ layer.weight
            elif isinstance(layer, nn.Conv2d):
                total = total + c.sum((3, 4)) @ layer.bias
                c = _conv_back(layer, c, shape)
            else:
                c = c.reshape(*c.shape[:2], *shape)
        middle, radius = (self._highs[0] + self._lows[0]) / 2, (self._highs[0] - self._lows[0]) / 2
        c = c.flatten(2)
        return total + (c @ middle.flatten(1)[..., None])[..., 0] - (c.abs() @ radius.flatten(1)[..., None])[..., 0]


def _conv_back(layer: nn.Conv2d, c: Tensor, shape: torch.Size) -> Tensor:
    rest = [
        n - ((m - 1) * stride - 2 * pad + dilation * (k - 1) + 1)
        for n, m, stride, pad, dilation, k in zip(
            shape[1:], c.shape[3:], layer.stride, layer.padding, layer.dilation, layer.kernel_size, strict=True
        )
    ]
    flat = nn.functional.conv_transpose2d(
        c.flatten(0, 1), layer.weight, None, layer.stride, layer.padding, rest, layer.groups, layer.dilation
    )
    return flat.reshape(*c.shape[:2], *shape)


def auto_lirpa(graph: Graph, checkout: Path) -> Bound:
    """The same by auto_LiRPA in float32, from a checkout of its repository."""
    sys.path.insert(0, str(checkout))
    from auto_LiRPA import BoundedModule, BoundedTensor
    from auto_LiRPA.perturbations import PerturbationLpNorm

    image = _image(graph)
    bounded = BoundedModule(sequential(graph).float(), torch.zeros(1, *image), device="cpu")

    @torch.no_grad()
    def bound(low: Array, high: Array, margins: Array) -> Array:
        least, most = (torch.tensor(end, dtype=torch.float32).reshape(-1, *image) for end in (low, high))
        x = BoundedTensor((least + most) / 2, PerturbationLpNorm(norm=np.inf, x_L=least, x_U=most))
        c = torch.tensor(margins, dtype=torch.float32)
        return bounded.compute_bounds(x=(x,), C=c, method="backward", bound_upper=False)[0].numpy()

    return bound
