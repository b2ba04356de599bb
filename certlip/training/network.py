"""A graph as a torch module with trainable weights, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from certlip.bounds.torch_graph import constants, function_of, weighted_function
from certlip.graph import Affine, Graph
from certlip.graph.kinds import Shape
from certlip.ops import Conv, ConvTranspose, Dense
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array

TRAINED = (Dense, Conv, ConvTranspose)
"""Operators whose weights are trained; all others stay as they are."""


class Layer(nn.Module):
    """`weight` and `bias` of one node. `weight` may be parametrised as in any module of torch."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)


class Network(nn.Module):
    """The function of a graph, x (N, *input_shape) to (N, *output_shape), with trainable weights of type `dtype`.

    layers: by the position of their node, as a string. A subclass may compute the weights otherwise (`weights`), say
    with gains or from parts that layers share; `graph` writes down whatever they are.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float32, device: str = "cpu"):
        super().__init__()
        self.template = graph
        constant = constants(dtype, device)
        self.layers = nn.ModuleDict()
        self._steps = []
        for position, node in enumerate(graph.nodes):
            operator = node.operator
            weighted = weighted_function(operator) if isinstance(operator, TRAINED) else None
            if weighted is not None and isinstance(operator, Affine):
                start = constant(operator.weight.mid), constant(trained_bias(operator))
                self.layers[str(position)] = Layer(*start)
            self._steps.append(weighted or function_of(operator, constant))

    @property
    def positions(self) -> list[int]:
        """Positions of the nodes that are trained."""
        return [int(key) for key in self.layers]

    def weights(self) -> dict[int, tuple[Tensor, Tensor]]:
        """(weight, bias) of each of these nodes, differentiable."""
        return {int(key): (layer.weight, layer.bias) for key, layer in self.layers.items()}

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights()
        values = [x]
        for position, (node, step) in enumerate(zip(self.template.nodes, self._steps, strict=True)):
            values.append(step(*(values[i] for i in node.inputs), *weights.get(position, ())))
        return values[-1]

    @torch.no_grad()
    def graph(self) -> Graph:
        """The graph with the present weights, exactly those numbers."""
        nodes = list(self.template.nodes)
        for position, tensors in self.weights().items():
            operator = nodes[position].operator
            if isinstance(operator, Affine):
                weight, bias = (tensor.detach().cpu().double().numpy() for tensor in tensors)
                nodes[position] = replace(nodes[position], operator=with_numbers(operator, weight, bias))
        return replace(self.template, nodes=tuple(nodes))


def with_numbers(operator: Affine, weight: Array, bias: Array) -> Affine:
    """The operator with these weights instead of its own, of the same shapes."""
    if isinstance(operator, ConvTranspose):
        operator = replace(operator, conv=replace(operator.conv, weight=Ball.exact(weight)))
    return replace(operator, weight=Ball.exact(weight), bias=Ball.exact(bias), bias_size=np.abs(bias))


def trained_bias(operator: Affine) -> Array:
    """The bias in a shape that can be trained: one number for each output or channel, more where it varies in space."""
    shape = operator.codomain
    channel = len(shape) - 1 if isinstance(operator, Dense) else 1
    full = np.broadcast_to(operator.bias.mid, shape)
    for axis in range(len(shape)):
        if axis != channel and (full == full.take([0], axis)).all():
            full = full.take([0], axis)
    return full.reshape(_without_leading_ones(full.shape)).copy()


def _without_leading_ones(shape: Shape) -> Shape:
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape
