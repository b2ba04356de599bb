"""Executions of graphs in short floating-point formats, every intermediate result rounded, sums in a chosen order.

Nothing is shared with the library but the operators' exact meaning: W comes from `matrix()`, activations from `value`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from certlip.graph import Affine, Graph, Pointwise
from certlip.ops import Add, Concat, Elu, MaxPool, Reindex, Sigmoid, Softplus, Tanh
from certlip.ops.smooth import Gated
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import BFLOAT16, BINARY16, BINARY32, REAL, Array, Precision


def rounder(precision: Precision) -> Callable[[Array], Array]:
    """Round to nearest, ties to even, of binary64 numbers. One operation in binary64 before it is innocuous: 53 bits
    are more than twice those of the format and two more."""
    if precision is BINARY32:
        return lambda x: np.asarray(x).astype(np.float32).astype(np.float64)
    if precision is BINARY16:
        return lambda x: np.asarray(x).astype(np.float16).astype(np.float64)
    assert precision is BFLOAT16

    def to_bfloat16(x):
        bits = np.asarray(x).astype(np.float32).view(np.uint32).astype(np.uint64)
        kept = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32)
        return kept.view(np.float32).astype(np.float64)

    return to_bfloat16


@dataclass
class Execution:
    """One execution: `order` is forward, reversed, random, pairwise or bias first; fma fuses products with sums, fold
    multiplies neighbouring affine operators out beforehand, in the format."""

    precision: Precision
    order: str
    rng: np.random.Generator
    fma: bool = False
    fold: bool = False

    def __post_init__(self) -> None:
        self.round = rounder(self.precision)

    def run(self, graph: Graph, x: Array) -> Array:
        """The outputs (N, outputs) computed for inputs (N, *shape)."""
        shapes = graph.shapes
        values = [self.round(x)]
        pending: dict[int, tuple[Array, Array, int]] = {}  # value -> (W, b, source) with value = W source + b
        readers = np.bincount([i for node in graph.nodes for i in node.inputs], minlength=len(shapes))
        for position, node in enumerate(graph.nodes, 1):
            given = [values[i] for i in node.inputs]
            if isinstance(node.operator, Affine) and not isinstance(node.operator, Reindex):
                weight, bias = self._constants(node.operator)
                source = node.inputs[0]
                if self.fold and source in pending and readers[source] == 1:
                    first, shift, source = pending[source]
                    bias = self._sums(weight, shift[None], bias)[0]
                    weight = self._sums(weight, first.T, np.zeros(len(bias))).T
                pending[position] = weight, bias, source
                flat = values[source].reshape(len(x), -1)
                values.append(self._sums(weight, flat, bias).reshape(len(x), *shapes[position]))
            else:
                values.append(self._other(node.operator, given))
        return values[-1].reshape(len(x), -1)

    def _constants(self, operator: Affine) -> tuple[Array, Array]:
        bias = np.broadcast_to(operator.bias.mid, operator.codomain).ravel()
        return self.round(operator.matrix().mid), self.round(bias)

    def _sums(self, weight: Array, x: Array, bias: Array) -> Array:
        """W x + b for each row of x, term by term."""
        terms = weight[None] * x[:, None, :]
        count = terms.shape[-1]
        order = self.rng.permutation(count) if self.order == "random" else np.arange(count)
        order = order[::-1] if self.order == "reversed" else order
        products = terms if self.fma else self.round(terms)
        if self.order == "pairwise":
            products = self.round(products)
            while products.shape[-1] > 1:
                rest = products[..., products.shape[-1] // 2 * 2 :]
                products = np.concatenate([self.round(products[..., :-1:2] + products[..., 1::2]), rest], -1)
            return self.round(products.sum(-1) + bias)
        place = {"bias first": 0, "random": int(self.rng.integers(count + 1))}.get(self.order, count)
        total = np.zeros(terms.shape[:-1])
        for step in range(count + 1):
            if step == place:
                total = self.round(total + bias)
            if step < count:
                total = self.round(total + products[..., order[step]])
        return total

    def _other(self, operator, given: list[Array]) -> Array:
        if isinstance(operator, Add):
            given = [given[i] for i in self.rng.permutation(len(given))]
            total = given[0]
            for value in given[1:]:
                total = self.round(total + value)
            return total
        if isinstance(operator, (Concat, MaxPool, Reindex)):
            return self.round(operator.value(*given))
        return self._pointwise(operator, given[0])

    def _pointwise(self, operator: Pointwise, x: Array) -> Array:
        """Library functions are as wrong as they may be."""
        wrong = self.precision.library_units * self.precision.unit * self.rng.choice([-1.0, 1.0], x.shape)
        if isinstance(operator, (Tanh, Sigmoid, Softplus)):
            value = operator.value(x)
            return value + wrong * (1 + np.abs(value))
        if isinstance(operator, Gated):
            return self.round(x * (operator.gate(x) + wrong * (1 + operator.gate(x))))
        if isinstance(operator, Elu):
            power = np.exp(np.minimum(x, 0.0))
            below = self.round(self.round(operator.alpha) * self.round(power + wrong * (1 + power) - 1.0))
            return self.round(self.round(operator.gamma) * np.where(x > 0, x, below))
        return self.round(operator.value(x))


ORDERS = ("forward", "reversed", "random", "pairwise", "bias first")


def exact_outputs(graph: Graph, x: Array) -> Ball:
    """Enclosures (N, outputs) of the exact outputs."""
    return graph.enclose(Ball.exact(x), REAL).reshape(len(x), -1)


def deviations(graph: Graph, x: Array, computed: Array) -> Array:
    """Lower bounds on |computed - exact|, (N, outputs)."""
    exact = exact_outputs(graph, x)
    return np.abs(computed.reshape(len(x), -1) - exact.mid) - exact.rad


def points_of(center: Array, radius: float, norm: str, rng: np.random.Generator, count: int) -> Array:
    """Points of a region, the center and some of its boundary included; rounded inwards."""
    steps = rng.standard_normal((count, *center.shape))
    if norm == "linf":
        steps = rng.choice([-1.0, 1.0], steps.shape)
    else:
        steps /= np.maximum(np.sqrt((steps**2).reshape(count, -1).sum(1)), 1e-30).reshape(-1, *(1,) * center.ndim)
    lengths = rng.random((count, *(1,) * center.ndim)) * (1 - 1e-9)
    lengths[: count // 2], lengths[0] = 1 - 1e-9, 0.0
    return center + radius * lengths * steps
