"""Merge neighbouring affine operators, so that bounds see one matrix where the file has several nodes.

Exact over the reals: every rule replaces two affine maps by their composition, whose weights are balls around the exact
products. A rule applies only where nothing else reads the value in between and no product overflows. Rules:

    scale, scale         -> scale
    reindex, reindex     -> reindex
    scale, reindex       -> reindex, scale        (so that normalisation reaches the first matrix)
    scale, dense         -> dense                 (columns scaled)
    dense, scale         -> dense                 (rows scaled)
    scale, conv          -> conv                  (input channels scaled; a shift becomes a border-dependent bias)
    conv, scale          -> conv                  (output channels scaled: batch normalisation)
    conv^T, shift        -> conv^T
    dense, dense         -> dense                 (where the product is no larger than the factors)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from certlip.graph import Affine, Graph, Node
from certlip.ops import Conv, ConvTranspose, Dense, Reindex, Scale
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import REAL, inflate


def normal_form(graph: Graph) -> Graph:
    """Apply the rules until none does. The result computes the same function over the reals."""
    while True:
        merged = _one_sweep(graph)
        if merged is None:
            return graph
        graph = merged


def _one_sweep(graph: Graph) -> Graph | None:
    """Merge every disjoint pair of neighbours that a rule covers; None when there is no such pair."""
    readers = Counter(i for node in graph.nodes for i in node.inputs)
    position_of: dict[int, int] = {0: 0}  # old value -> new value
    nodes: list[Node] = []
    fresh: set[int] = set()  # new values made by a merge in this sweep are left for the next one
    changed = False
    for position, node in enumerate(graph.nodes, 1):
        inputs = tuple(position_of[i] for i in node.inputs)
        source = inputs[0]
        alone = len(inputs) == 1 and source == len(nodes) and source > 0 and readers[node.inputs[0]] == 1
        pair = None
        if alone and source not in fresh:
            pair = compose(nodes[-1].operator, node.operator)
        if pair is None:
            nodes.append(Node(node.operator, inputs, node.name))
        else:
            changed = True
            before = nodes.pop()
            value = before.inputs
            for operator in pair:
                nodes.append(Node(operator, value, before.name or node.name))
                value = (len(nodes),)
            fresh.add(len(nodes))
        position_of[position] = len(nodes)
    return replace(graph, nodes=tuple(nodes)) if changed else None


def compose(first, second) -> tuple[Affine, ...] | None:
    """The affine operators that replace `second` after `first`, or None where no rule applies."""
    if not (isinstance(first, Affine) and isinstance(second, Affine)):
        return None
    for kinds, rule in _RULES:
        if isinstance(first, kinds[0]) and isinstance(second, kinds[1]):
            merged = rule(first, second)
            if merged is not None:
                operators = merged if isinstance(merged, tuple) else (merged,)
                return operators if all(_is_finite(operator) for operator in operators) else None
    return None


def _is_finite(operator: Affine) -> bool:
    """False where a product of weights overflowed: the factors say more than their composition."""
    balls = (operator.weight, operator.bias)
    return all(np.isfinite(ball.mid).all() and np.isfinite(ball.rad).all() for ball in balls)


def _composed_bias(first: Affine, second: Affine) -> tuple[Ball, np.ndarray]:
    """second.W first.b + second.b as a ball, and the size of the terms it is made of."""
    if not first.bias.mid.any() and first.bias.is_exact and not first.bias_size.any():
        return second.bias, second.bias_size
    start, rad, size = (
        np.broadcast_to(array, (1, *first.codomain)) for array in (first.bias.mid, first.bias.rad, first.bias_size)
    )
    bias = second.linear_image(Ball(start, rad), REAL)[0] + second.bias
    return bias, inflate(second.spread(size)[0] + second.bias_size, 2)


def _along(ball: Ball, shape: tuple[int, ...], axis: int) -> Ball | None:
    """The ball as a vector along one axis of `shape` if it is constant along all others, else None."""
    if ball.mid.size == 1:
        return Ball(np.full(shape[axis], ball.mid.reshape(())), np.full(shape[axis], np.max(ball.rad)))
    lifted = ball.mid.reshape((1,) * (len(shape) - ball.mid.ndim) + ball.mid.shape)
    others = tuple(i for i in range(len(shape)) if i != axis)
    if any(lifted.shape[i] != 1 for i in others):
        return None
    rad = np.broadcast_to(ball.rad, ball.mid.shape)
    return Ball(np.broadcast_to(ball.mid.reshape(-1), shape[axis]), np.broadcast_to(rad.reshape(-1), shape[axis]))


def _scale_scale(first: Scale, second: Scale):
    bias, size = _composed_bias(first, second)
    return Scale(_product(second.weight, first.weight), bias, size, first.size)


def _product(left: Ball, right: Ball) -> Ball:
    """Product, exact where one side is exactly one (or minus one)."""
    for one, other in ((left, right), (right, left)):
        if one.mid.size == 1 and one.is_exact and abs(float(one.mid.reshape(()))) == 1.0:
            return Ball(one.mid.reshape(()) * other.mid, other.rad)
    return left * right


def _reindex_reindex(first: Reindex, second: Reindex):
    if (first.index < 0).any() and first.bias.mid.any():
        return None
    flat = first.index.ravel()
    index = np.where(second.index >= 0, flat[np.maximum(second.index, 0)], -1) if flat.size else second.index
    return Reindex(second.weight, second.bias, second.bias_size, index, first.source)


def _scale_reindex(first: Scale, second: Reindex):
    if (second.index < 0).any() or second.multiplicity > 1 or second.index.size != prod(second.source):
        return None
    source = first.size

    def carry(ball: Ball) -> Ball:
        if ball.mid.size == 1:
            return ball.map(lambda array: array.reshape(()))
        full = Ball(np.broadcast_to(ball.mid, source), np.broadcast_to(ball.rad, source))
        return full.map(lambda array: array.ravel()[second.index])

    size = np.broadcast_to(first.bias_size, source).ravel()[second.index]
    return second, Scale(carry(first.weight), carry(first.bias), size, second.codomain)


def _scale_dense(first: Scale, second: Dense):
    columns = _along(first.weight, first.size, len(first.size) - 1)
    if columns is None:
        return None
    bias, size = _composed_bias(first, second)
    return Dense(_product_rows(second.weight, columns.reshape(1, -1)), bias, size, second.lead)


def _dense_scale(first: Dense, second: Scale):
    rows = _along(second.weight, second.size, len(second.size) - 1)
    if rows is None:
        return None
    bias, size = _composed_bias(first, second)
    return Dense(_product_rows(first.weight, rows.reshape(-1, 1)), bias, size, first.lead)


def _product_rows(weight: Ball, factors: Ball) -> Ball:
    if factors.is_exact and (np.abs(factors.mid) == 1.0).all():
        return Ball(weight.mid * factors.mid, weight.rad)
    return weight * factors


def _conv_scale(first: Conv, second: Scale):
    channels = _along(second.weight, second.size, 1)
    if channels is None:
        return None
    bias, size = _composed_bias(first, second)
    weight = _product_rows(first.weight, channels.reshape(-1, *(1,) * (first.weight.mid.ndim - 1)))
    return replace(first, weight=weight, bias=bias, bias_size=size)


def _scale_conv(first: Scale, second: Conv):
    channels = _along(first.weight, first.size, 1)
    if channels is None:
        return None
    out, per_group = second.weight.shape[:2]
    shape = (out, per_group, *(1,) * len(second.window))
    factors = channels.map(
        lambda array: np.repeat(array.reshape(second.groups, per_group), out // second.groups, axis=0).reshape(shape)
    )
    bias, size = _composed_bias(first, second)
    return replace(second, weight=_product_rows(second.weight, factors), bias=bias, bias_size=size)


def _transposed_scale(first: ConvTranspose, second: Scale):
    if not (second.weight.is_exact and (second.weight.mid == 1.0).all()):
        return None
    bias, size = _composed_bias(first, second)
    return first.with_bias(bias, size)


def _dense_dense(first: Dense, second: Dense):
    rows, inner, columns = second.weight.shape[0], first.weight.shape[0], first.weight.shape[1]
    if rows * columns > inner * (rows + columns):
        return None
    bias, size = _composed_bias(first, second)
    return Dense(second.weight @ first.weight, bias, size, second.lead)


_RULES: tuple[tuple[tuple[type, type], Callable[[Any, Any], Any]], ...] = (
    ((Scale, Scale), _scale_scale),
    ((Reindex, Reindex), _reindex_reindex),
    ((Scale, Reindex), _scale_reindex),
    ((Scale, Dense), _scale_dense),
    ((Dense, Scale), _dense_scale),
    ((Scale, Conv), _scale_conv),
    ((Conv, Scale), _conv_scale),
    ((ConvTranspose, Scale), _transposed_scale),
    ((Dense, Dense), _dense_dense),
)
