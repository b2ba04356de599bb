"""Networks on which rounded arithmetic proves something false, each with a point where the real network violates.

The margin g = f_0 - f_1 is designed by hand; `why` says which rounding hides the violation, `fools` which of the
verifiers in `naive_verifiers` certify it. Nothing here is believed: the tests evaluate every claim in exact fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from small_models import save_model

Point = tuple[float | Fraction, ...]
Layer = tuple[Sequence[Sequence[float]], Sequence[float]]


@dataclass(frozen=True)
class Trap:
    """Sample `x` of class `label`; at `bad`, in both balls of radius `eps`, no other class scores lower.

    steep: two points whose slope of f_0 - f_1 no bound may be below. safe: a radius at which the class is kept, small
    enough that certlip proves it; None where binary64 cannot see it. layers: of a ReLU chain.
    """

    name: str
    why: str
    write: Callable[[Path], Path]
    x: Point
    eps: Fraction
    bad: Point
    steep: tuple[Point, Point]
    safe: Fraction | None
    fools: frozenset[str]
    dtype: type = np.float32
    layers: tuple[Layer, ...] = ()
    label: int = 0

    def save(self, folder: Path) -> Path:
        return self.write(folder / "trap.onnx")

    def model(self, folder: Path) -> onnx.ModelProto:
        return onnx.load(self.save(folder))


def save(path: Path, nodes, constants, inputs: int, dtype: type = np.float32) -> Path:
    """A network with two outputs whose constants have the type of the model."""
    kind = TensorProto.FLOAT if dtype is np.float32 else TensorProto.DOUBLE
    return save_model(path, nodes, inputs, 2, {name: dtype(value) for name, value in constants.items()}, kind)


def dense(source: str, target: str, number: int) -> onnx.NodeProto:
    return helper.make_node("Gemm", [source, f"W{number}", f"b{number}"], [target], transB=1)


def constants_of(layers: Sequence[Layer]) -> dict[str, object]:
    """Weights and biases under the names that `dense` gives them."""
    return {f"{kind}{i}": part for i, layer in enumerate(layers) for kind, part in zip("Wb", layer, strict=True)}


def save_layers(path: Path, layers: Sequence[Layer], dtype: type = np.float32) -> Path:
    """Dense layers with ReLU between them."""
    nodes, value = [], "x"
    for i in range(len(layers)):
        last = i == len(layers) - 1
        nodes.append(dense(value, "y" if last else f"v{i}", i))
        if not last:
            nodes.append(helper.make_node("Relu", [f"v{i}"], [f"z{i}"]))
            value = f"z{i}"
    return save(path, nodes, constants_of(layers), len(layers[0][0][0]), dtype)


def chain(name, why, layers, x, eps, bad, steep, safe, fools="", dtype=np.float32) -> Trap:
    """A ReLU chain; the last layer is given by the row of g."""
    *hidden, (row, bias) = layers
    full = (*hidden, ([row, [0.0] * len(row)], [bias, 0.0]))
    return graph(name, why, lambda path: save_layers(path, full, dtype), x, eps, bad, steep, safe, fools, dtype, full)


def graph(name, why, write, x, eps, bad, steep, safe, fools="", dtype=np.float32, layers=()) -> Trap:
    """Any network that `write` stores."""
    ends = tuple(steep[0]), tuple(steep[1])
    safe = None if safe is None else Fraction(safe)
    fooled = frozenset(fools.split())
    return Trap(name, why, write, tuple(x), Fraction(eps), tuple(bad), ends, safe, fooled, dtype, tuple(layers))
