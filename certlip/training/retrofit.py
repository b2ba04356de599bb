"""A network whose Lipschitz constant is bounded by construction: each weight is a gain times a 1-Lipschitz member.

|layer l| <= g_l, and the bound of the whole is a fold over the graph: products along chains, sums at additions, square
roots of sums of squares at concatenations, known constants for all other operators. The last layer that everything
passes gets what makes it at most `product`, or a trained share of that; the other gains are trained freely. It is a
bound up to rounding and proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from certlip.graph import Graph, Node
from certlip.layers import family
from certlip.layers.residual import RESIDUAL_CONV2D, RESIDUAL_DENSE, Residual, ResidualConv2d, ResidualDense
from certlip.ops import Add, Concat, Conv, ConvTranspose, Dense
from certlip.training.branches import Branch
from certlip.training.network import TRAINED, Layer, Network

_SMALL = 1e-30
_FULL = 0.98
"""The share of the product at the start: at 1 a sigmoid has no gradient."""


class Retrofit(Network):
    """Starts with the directions of the graph's weights, as near as the family comes, and its constant at `product`.

    Inner gains make gain times member the nearest to the graph's weight, so with members that are multiples of the
    weights the start is the graph's function times a constant. norm: "l2", or "linf" with the family "spectral".
    branches: residual ones that the family replaces as a whole, at a gain of 1. The graph must have a layer that
    everything passes (`bottleneck`).
    """

    def __init__(
        self,
        graph: Graph,
        name: str,
        norm: str = "l2",
        product: float = 1.0,
        branches: Sequence[Branch] = (),
        device: str = "cpu",
    ):
        super().__init__(graph, device=device)
        last = bottleneck(graph, branches)
        if last is None:
            raise ValueError("no layer is passed by everything")
        self.last, self.norm, self.product = last, norm, product
        self.branches = {branch.sum: branch for branch in branches}
        self._inside = {position for branch in branches for position in (branch.up, branch.down)}
        self.log_gains = nn.ParameterDict()
        self.share = nn.Parameter(torch.tensor(_logit(_FULL), device=device))
        self._others = {
            i: node.operator.gain(norm, 1.0)
            for i, node in enumerate(graph.nodes)
            if not isinstance(node.operator, (*TRAINED, Add, Concat))
        }
        with torch.random.fork_rng(devices=[]):  # constructors draw first weights, which are replaced
            self.residuals = nn.ModuleDict({str(b.sum): _residual(graph, b, name).to(device) for b in branches})
            self._reparametrise(name)

    @torch.no_grad()
    def _reparametrise(self, name: str) -> None:
        for position in self.positions:
            layer = self._layer(position)
            if position in self._inside:
                layer.weight.requires_grad_(False)
                continue
            weight = layer.weight.detach().clone()
            size = self._size(position, weight)
            layer.weight.copy_(weight / size)
            parametrize.register_parametrization(layer, "weight", self._family(position, name).to(weight.device))
            member = layer.weight
            nearest = float((member * weight).sum() / (member * member).sum().clamp_min(_SMALL))
            gain = nearest if nearest > 0 else size
            self.log_gains[str(position)] = nn.Parameter(torch.tensor(gain, device=weight.device).log())
        for branch in self.branches.values():
            self._layer(branch.up).bias.requires_grad_(False)
        nearest = self.log_gains.pop(str(self.last)).exp()
        self._layer(self.last).bias.mul_(float(self.gains()[self.last] / nearest))

    def _layer(self, position: int) -> Layer:
        layer = self.layers[str(position)]
        if not isinstance(layer, Layer):
            raise TypeError(f"position {position} holds no layer")
        return layer

    def _size(self, position: int, weight: Tensor) -> float:
        """A norm of the weight, positive; a start is divided by it."""
        operator = self.template.nodes[position].operator
        norm = getattr(operator, "l2_norm" if self.norm == "l2" else "linf_norm")
        return norm if norm > 0 else 1.0

    def _family(self, position: int, name: str) -> nn.Module:
        operator = self.template.nodes[position].operator
        if self.norm == "linf":
            return RowSums(isinstance(operator, ConvTranspose))
        if isinstance(operator, Dense):
            return family(name, operator.weight.shape)
        conv = operator.conv if isinstance(operator, ConvTranspose) else operator
        if not isinstance(conv, Conv):
            raise TypeError(f"{type(operator).__name__} has no weights of a family")
        return family(
            name, conv.weight.shape, stride=conv.strides, dilation=conv.dilations, groups=conv.groups
        )

    def gains(self) -> dict[int, Tensor]:
        """The bound of each layer; their fold over the graph is below `product`."""
        gains = {int(key): log.exp() for key, log in self.log_gains.items()}
        whole = self._fold(gains | {self.last: torch.ones_like(self.share)})
        return gains | {self.last: self.product * self.share.sigmoid() / whole}

    def _fold(self, gains: dict[int, Tensor]) -> Tensor:
        def step(position: int, node: Node, inputs: list[Tensor]) -> Tensor:
            if position in gains:
                return inputs[0] * gains[position]
            if position in self.branches:
                return values[self.branches[position].start]
            if isinstance(node.operator, Add):
                return torch.stack(inputs).sum()
            if isinstance(node.operator, Concat):
                return torch.stack(inputs).norm() if self.norm == "l2" else torch.stack(inputs).max()
            return inputs[0] * self._others.get(position, 1.0)  # layers inside a branch: read by its sum alone

        values = [torch.ones_like(self.share)]
        for position, node in enumerate(self.template.nodes):
            values.append(step(position, node, [values[i] for i in node.inputs]))
        return values[-1]

    def weights(self) -> dict[int, tuple[Tensor, Tensor]]:
        gains, found = self.gains(), {}
        for position in self.positions:
            if position not in self._inside:
                layer = self._layer(position)
                found[position] = gains[position] * layer.weight, layer.bias
        for key, residual in self.residuals.items():
            branch = self.branches[int(key)]
            up, down = _tied(residual)
            found[branch.up] = up, residual.bias.reshape(-1, *(1,) * (up.dim() - 2))
            found[branch.down] = down, self._layer(branch.down).bias
        return found

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """The network times a factor, its bound as well."""
        self.product *= factor
        self._layer(self.last).bias.mul_(factor)

    @torch.no_grad()
    def allow(self, factor: float) -> None:
        """A bound larger by a factor above 1, for the same network."""
        self.product *= factor
        self.share.copy_(torch.tensor(_logit(float(self.share.sigmoid()) / factor)))


class RowSums(nn.Module):
    """Weights whose rows have absolute sums of at most 1: 1-Lipschitz in l-infinity. `forward(raw)` = raw over the
    largest sum where that exceeds 1. A convolution's row is a kernel of an output channel, whatever the padding; the
    transpose of one (`transposed`) has rows of at most the kernel entries of one of its output channels."""

    def __init__(self, transposed: bool = False):
        super().__init__()
        self.transposed = transposed

    def forward(self, raw: Tensor) -> Tensor:
        rows = raw.abs().flatten(2).sum(-1).sum(0) if self.transposed else raw.abs().flatten(1).sum(1)
        return raw / rows.max().clamp_min(1.0)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def bottleneck(graph: Graph, branches: Sequence[Branch] = ()) -> int | None:
    """The last node with weights, outside of the branches, that every path from the input to the output passes."""
    inside = {position for branch in branches for position in (branch.up, branch.down)}
    passed: list[frozenset[int]] = [frozenset()]
    for position, node in enumerate(graph.nodes):
        common = frozenset.intersection(*(passed[i] for i in node.inputs))
        passed.append(common | {position})
    trained = [i for i in passed[-1] if isinstance(graph.nodes[i].operator, TRAINED) and i not in inside]
    return max(trained, default=None)


def _residual(graph: Graph, branch: Branch, name: str) -> Residual:
    """The family's member near the branch. Its activation is the graph's; that of the module is never used."""
    up, down = graph.nodes[branch.up].operator, graph.nodes[branch.down].operator
    weights = [torch.tensor(op.weight.mid, dtype=torch.float32) for op in (up, down) if isinstance(op, (Dense, Conv))]
    if isinstance(up, Conv):
        hidden, width, window, _ = up.weight.shape
        residual: Residual = RESIDUAL_CONV2D[name](
            width, hidden, window, padding=up.pads[0][0], dilation=up.dilations[0], tight=False
        )
        bias = torch.tensor(up.bias.mid, dtype=torch.float32).expand(up.codomain)
        return residual.approach(weights[0], bias[0].flatten(1).mean(1), weights[1].transpose(0, 1).flip(2, 3))
    if not isinstance(up, Dense):
        raise TypeError("a branch begins with a dense layer or a convolution")
    bias = torch.tensor(up.bias.mid, dtype=torch.float32).expand(up.codomain).reshape(-1, up.codomain[-1]).mean(0)
    dense: Residual = RESIDUAL_DENSE[name](up.weight.shape[1], up.weight.shape[0], tight=False)
    return dense.approach(weights[0], bias, weights[1].T)


def _tied(residual: nn.Module) -> tuple[Tensor, Tensor]:
    """The weights S V and -2 V' S^-1 of the two layers, as nodes of a graph have them."""
    if not isinstance(residual, (ResidualDense, ResidualConv2d)):
        raise TypeError("no residual layer")
    member = residual.weight
    column = residual.log_scale.exp().reshape(-1, *(1,) * (member.dim() - 1))
    up, down = column * member, -2.0 / column * member
    if member.dim() == 2:
        return up, down.T
    return up, down.transpose(0, 1).flip(2, 3)


def _logit(share: float) -> float:
    return math.log(share / (1.0 - share))
