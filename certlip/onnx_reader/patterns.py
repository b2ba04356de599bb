"""Activations that exporters spell as products: x sigmoid(c x) and x (1 + erf(s x)) become one node each.

The fused node keeps the constants of the file, so it is the same function over the reals: with c = factor / divisor,
Silu is gain * x sigmoid(c x) and Gelu is gain * x (1 + erf(c x)) / 2. A choice that no finite input makes is dropped,
and so are indices (of sorted entries, of maxima) that are named and never read.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

DOMAIN_PREFIX = "certlip."
SILU = DOMAIN_PREFIX + "Silu"
GELU = DOMAIN_PREFIX + "Gelu"
UNTAKEN = DOMAIN_PREFIX + "UntakenChoice"

_DEEPEST = 16  # products nested deeper are nobody's spelling of an activation


def fuse_activations(nodes: list[onnx.NodeProto], constants: Mapping[str, object]) -> list[onnx.NodeProto]:
    """Replace each outermost product that matches by one node; the parts become unreachable and are dropped."""
    finder = _Finder(nodes, constants)
    nodes = forget_unread_indices(nodes)
    fused = []
    inner: set[str] = set()
    for node in reversed(nodes):  # outermost products first
        if not is_standard(node):
            fused.append(node)
            continue
        if node.op_type == "Where":
            fused.append(finder.without_choice(node) or node)
            continue
        match = None if node.op_type != "Mul" or node.output[0] in inner else finder.match(node)
        if match is None:
            fused.append(node)
            continue
        kind, source, (factor, divisor), gain, products = match
        inner.update(products)
        numbers = {
            "factor": factor.hex(),
            "divisor": divisor.hex(),
            "gain": gain.hex(),
        }  # attributes are binary32
        fused.append(helper.make_node(kind, [source], list(node.output), name=node.name, **numbers))
    return fused[::-1]


def forget_unread_indices(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Exporters name the second output of TopK and MaxPool even where only the first is used: unread, it loses its
    name, so that a lowering sees which indices matter."""
    read = {name for node in nodes for name in node.input}
    result = []
    for node in nodes:
        if is_standard(node) and node.op_type in ("MaxPool", "TopK") and not read.intersection(node.output[1:]):
            kept, node = node, onnx.NodeProto()
            node.CopyFrom(kept)
            del node.output[1:]
        result.append(node)
    return result


class _Finder:
    def __init__(self, nodes: list[onnx.NodeProto], constants: Mapping[str, object]):
        self.producers = {name: node for node in nodes if is_standard(node) for name in node.output}
        self.scalars: dict[str, float] = {}
        for name, array in constants.items():
            self._remember(name, array)
        for node in nodes:
            for attribute in node.attribute:
                if node.op_type == "Constant" and is_standard(node) and attribute.name == "value":
                    self._remember(node.output[0], onnx.numpy_helper.to_array(attribute.t))

    def _remember(self, name: str, array: object) -> None:
        # A constant of more axes than its partner would broadcast it: it is no plain factor.
        if isinstance(array, np.ndarray) and array.shape in ((), (1,)) and array.dtype.kind == "f":
            self.scalars[name] = float(array.reshape(()))

    def match(self, node: onnx.NodeProto) -> tuple[str, str, tuple[float, float], float, list[str]] | None:
        """(operator, x, (factor, divisor), gain, inner product names) or None."""
        leaves: list[str] = []
        products: list[str] = []
        gain = self._flatten(node.output[0], leaves, products)
        if gain is None or len(leaves) != 2:
            return None
        for x, gate in (leaves, leaves[::-1]):
            producer = self.producers.get(gate)
            if producer is None:
                continue
            if producer.op_type == "Sigmoid":
                scale = self._multiple_of(producer.input[0], x)
                if scale is not None:
                    return SILU, x, scale, gain, products
            scale = self._one_plus_erf(producer, x)
            if scale is not None:
                return GELU, x, scale, 2.0 * gain, products
        return None

    def without_choice(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Where(t > inf, a, b) is b: so torch writes softplus, T being where it takes the argument instead.

        A finite threshold T makes the function jump by log(1 + exp(-T)): it has no Lipschitz constant and is refused.
        """
        condition = self.producers.get(node.input[0])
        if condition is None or condition.op_type != "Greater":
            return None
        if self.scalars.get(condition.input[1]) != float("inf"):
            return None
        inputs = [node.input[2], node.input[1], *condition.input]  # all of them give the result its shape
        return helper.make_node(UNTAKEN, inputs, list(node.output), name=node.name)

    def _flatten(self, name: str, leaves: list[str], products: list[str]) -> float | None:
        """Constant factor of a product tree; its other factors are appended to `leaves`.

        Only an exact factor is accepted: a product of constants that rounds is left for nobody to guess.
        """
        node = self.producers.get(name)
        if name in self.scalars:
            return self.scalars[name]
        if node is None or node.op_type not in ("Mul", "Div") or len(leaves) > 2 or len(products) > _DEEPEST:
            leaves.append(name)
            return 1.0
        if node.op_type == "Div":
            divisor = self.scalars.get(node.input[1])
            if divisor is None or not (_is_power_of_two(divisor) and 2.0**-8 <= abs(divisor) <= 2.0**8):
                leaves.append(name)
                return 1.0
            products.append(name)
            inner = self._flatten(node.input[0], leaves, products)
            return None if inner is None else _exactly(inner, 1.0 / divisor)
        products.append(name)
        left = self._flatten(node.input[0], leaves, products)
        right = self._flatten(node.input[1], leaves, products)
        return None if left is None or right is None else _exactly(left, right)

    def _multiple_of(self, name: str, x: str) -> tuple[float, float] | None:
        """(factor, divisor), both positive, where the value `name` is x * factor / divisor."""
        if name == x:
            return 1.0, 1.0
        node = self.producers.get(name)
        if node is None or node.op_type not in ("Mul", "Div"):
            return None
        if node.op_type == "Div":
            divisor = self.scalars.get(node.input[1], 0.0)
            return (1.0, divisor) if node.input[0] == x and divisor > 0 else None
        for a, b in (node.input, list(node.input)[::-1]):
            if a == x and self.scalars.get(b, 0.0) > 0:
                return self.scalars[b], 1.0
        return None

    def _one_plus_erf(self, node: onnx.NodeProto, x: str) -> tuple[float, float] | None:
        if node.op_type != "Add":
            return None
        for a, b in (node.input, list(node.input)[::-1]):
            erf = self.producers.get(b)
            if self.scalars.get(a) == 1.0 and erf is not None and erf.op_type == "Erf":
                return self._multiple_of(erf.input[0], x)
        return None


def is_standard(node: onnx.NodeProto) -> bool:
    """True for an operator of ONNX itself; another domain may give the same name to anything."""
    return node.domain in ("", "ai.onnx")


def _exactly(left: float, right: float) -> float | None:
    """The product of two floats if it is one: a factor is a power of two and nothing under- or overflows. None too
    where one factor scales up what underflows in the other: executions may lose it in between."""
    product, sizes = left * right, (abs(left), abs(right))
    is_normal = 2.0**-1000 < abs(product) < 2.0**1000
    is_plain = max(sizes) <= 1.0 or min(sizes) >= 1.0
    return product if is_normal and is_plain and (_is_power_of_two(left) or _is_power_of_two(right)) else None


def _is_power_of_two(value: float) -> bool:
    return value != 0 and np.frexp(abs(value))[0] == 0.5
