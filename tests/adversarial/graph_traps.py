"""Traps with other operators: saturating activations, skip connections, normalisation."""

from __future__ import annotations

import numpy as np
from onnx import helper
from traps import Trap, constants_of, dense, graph, save

GRAPHS: list[Trap] = []


def add(*arguments) -> None:
    GRAPHS.append(graph(*arguments))


def saturated(path, dtype=np.float32):
    """g = 1/2 - 2^56 (1 - sigmoid(40 + x))."""
    layers = [([[1]], [40]), ([[-1]], [1]), ([[-(2.0**56)], [0]], [0.5, 0])]
    nodes = [dense("x", "v", 0), helper.make_node("Sigmoid", ["v"], ["s"]), dense("s", "c", 1), dense("c", "y", 2)]
    return save(path, nodes, constants_of(layers), 1, dtype)


for dtype in (np.float32, np.float64):
    add(
        f"saturated sigmoid, {dtype.__name__}",
        "1 - sigmoid(40 + x) is 0 in binary32 and in binary64, and stays 0 when the next layer multiplies it by 2^56",
        lambda path, dtype=dtype: saturated(path, dtype),
        (0,), 1, (-1,), [(-1,), (0,)], None, "runtime", dtype,
    )  # fmt: skip


def opposed(path):
    """g = tanh(20 + x) - tanh(20 - x)."""
    nodes = [dense("x", "v", 0), helper.make_node("Tanh", ["v"], ["y"])]
    return save(path, nodes, constants_of([([[1], [-1]], [20, 20])]), 1)


add(
    "saturated tanh", "both outputs are 1 in floats; the real difference changes its sign at 0",
    opposed, (0.5,), 1, (-0.5,), [(-1,), (1,)], None, "runtime",
)  # fmt: skip


def skip(path):
    """g = 1/2 - relu((x_1 + x_2) - x_1)."""
    layers = [([[1, 1]], [0]), ([[1, 0]], [0]), ([[-1], [0]], [0.5, 0])]
    nodes = [
        dense("x", "sum", 0), dense("x", "part", 1), helper.make_node("Sub", ["sum", "part"], ["rest"]),
        helper.make_node("Relu", ["rest"], ["z"]), dense("z", "y", 2),
    ]  # fmt: skip
    return save(path, nodes, constants_of(layers), 2)


add(
    "skip connection that cancels", "(2^27 + x) - 2^27 is 0 in binary32",
    skip, (2.0**27, 0), "4/5", (2.0**27, 0.75), [(0, 0), (0, 1)], "1/4", "runtime",
)  # fmt: skip


def residual(path):
    """g = 1/2 + (x - relu(2 x - 2^28)) - x."""
    layers = [([[2]], [-(2.0**28)]), ([[1], [0]], [0.5, 0])]
    nodes = [
        dense("x", "v", 0), helper.make_node("Relu", ["v"], ["z"]), helper.make_node("Sub", ["x", "z"], ["block"]),
        helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Add", ["block", "minus"], ["rest"]),
        dense("rest", "y", 1),
    ]  # fmt: skip
    return save(path, nodes, constants_of(layers), 1)


add(
    "residual block minus its input", "x - x must vanish, and nothing else: the slope is 2, but 2^27 swallows it",
    residual, (2.0**27,), "1/2", (2**27 + 0.5,), [(2**27,), (2**27 + 1,)], "1/8", "runtime",
)  # fmt: skip


def normalised(path):
    """g = 1/2 + (x - 2^14) 2^20 / 3, by a batch normalisation of variance 0 and epsilon 2^-40."""
    constants = {"s": [1 / 3], "m": [2.0**14], "v": [0], "o": [0], **constants_of([([[1], [0]], [0.5, 0])])}
    nodes = [
        helper.make_node("BatchNormalization", ["x", "s", "o", "m", "v"], ["n"], epsilon=2.0**-40), dense("n", "y", 0),
    ]  # fmt: skip
    return save(path, nodes, constants, 1)


add(
    "batch normalisation without variance", "the slope is 2^20 / 3, and the ball lies within one unit of its center",
    normalised, (2.0**14,), "1/4096", (2.0**14 - 2.0**-12,), [(0,), (1,)], 2.0**-20, "runtime",
)  # fmt: skip
