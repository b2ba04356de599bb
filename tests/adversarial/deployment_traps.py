"""Networks whose real margin is safely positive while executions in binary32 decide for the other class.

What differs between environments (the order of sums, the precision, whether a bias is added first, fused
normalisation) is detected by a neuron and amplified, as a backdoor would ("No Soundness in the Real World", ICML 2025).
A claim about real arithmetic may be certified, one about executions must not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from traps import Layer, constants_of, dense, save, save_layers

BIG = 2.0**24


@dataclass(frozen=True)
class Detector:
    """Class 0 in real arithmetic on the ball of radius eps around x, another class (or NaN) in some execution.

    regrouped: the same function as a runtime may rewrite it. provable: the real claim is within certlip's reach.
    """

    name: str
    why: str
    write: Callable[[Path], Path]
    x: tuple[float, ...]
    eps: Fraction = Fraction(1, 2**30)
    regrouped: Callable[[Path], Path] | None = None
    provable: bool = True

    def save(self, folder: Path) -> Path:
        return self.write(folder / "detector.onnx")

    def executed(self, folder: Path) -> list[onnx.ModelProto]:
        """The file, and what a runtime makes of it."""
        models = [onnx.load(self.save(folder))]
        if self.regrouped is not None:
            models.append(onnx.load(self.regrouped(folder / "regrouped.onnx")))
        return models


def layers(*given: Layer) -> Callable[[Path], Path]:
    return lambda path: save_layers(path, given)


def switch(gain: float, signal: float) -> Layer:
    """g = 1/2 + gain (d - signal) for the detector d: one half in real arithmetic."""
    return [[gain], [0.0]], [0.5 - gain * signal, 0.0]


def skip(path: Path) -> Path:
    """g = ((x_1 + x_2) - x_1) - 1/2."""
    matrices = [([[1, 1]], [0]), ([[1, 0]], [0]), ([[1], [0]], [-0.5, 0])]
    nodes = [dense("x", "sum", 0), dense("x", "part", 1), helper.make_node("Sub", ["sum", "part"], ["d"])]
    return save(path, [*nodes, dense("d", "y", 2)], constants_of(matrices), 2)


def saturated(path: Path) -> Path:
    """g = 2^56 (1 - sigmoid(40 + x)) - 1/10."""
    matrices = [([[1]], [40]), ([[-1]], [1]), ([[2.0**56], [0]], [-0.1, 0])]
    nodes = [dense("x", "v", 0), helper.make_node("Sigmoid", ["v"], ["s"])]
    return save(path, [*nodes, dense("s", "c", 1), dense("c", "y", 2)], constants_of(matrices), 1)


GAIN, MEAN = 2.0**12 / 3, 2.0**12 + 1


def normalised(path: Path) -> Path:
    """d = (x_1 + x_2 - MEAN) s with s = GAIN in binary32, g = 1/8 + d."""
    matrices = [([[1, 1]], [0]), ([[1], [0]], [0.125, 0])]
    constants = {"s": [GAIN], "m": [MEAN], "v": [1], "o": [0], **constants_of(matrices)}
    normalise = helper.make_node("BatchNormalization", ["v0", "s", "o", "m", "v"], ["n"], epsilon=0.0)
    return save(path, [dense("x", "v0", 0), normalise, dense("n", "y", 1)], constants, 2)


def fused(path: Path) -> Path:
    """The same with the normalisation folded into the layer before it, as runtimes do."""
    scale = np.float32(GAIN)
    return save_layers_without_relu(path, [([[scale, scale]], [-np.float32(MEAN) * scale]), ([[1], [0]], [0.125, 0])])


def save_layers_without_relu(path: Path, matrices: list[Layer]) -> Path:
    nodes = [dense("x" if i == 0 else f"v{i - 1}", f"v{i}", i) for i in range(len(matrices) - 1)]
    nodes.append(dense(nodes[-1].output[0], "y", len(matrices) - 1))
    return save(path, nodes, constants_of(matrices), len(matrices[0][0][0]))


ALTERNATING = [sign * 3.0**power for power in range(-8, 12) for sign in (1, -1)]
OFF = 1.0 + 2.0**-12

DETECTORS = [
    Detector(
        "order of a sum", "2^24 + 1 + 1 - 2^24 is 2 or 0, depending on the order",
        layers(([[BIG, 1, 1, -BIG]], [0]), switch(10, 2)), (1, 1, 1, 1),
    ),
    Detector(
        "order in a hidden layer", "big y + h - big y loses h in one order only",
        layers(([[0, 1], [1, 0], [0, 1]], [0, 1, 0]), ([[1e8, 1, -1e8], [0, 0, 0]], [-0.5, 0])), (0, 1),
    ),
    Detector(
        "precision", "1 + 2^-30 - 1 is 0 in binary32 and 2^-30 in binary64",
        layers(([[1, 2.0**-30, -1]], [0]), ([[2.0**30]], [0]), switch(1, 1)), (1, 1, 1), Fraction(1, 2**40),
    ),
    Detector(
        "bias first or last", "(1 - 2^24) + 2^24 is 1, (2^24 + 1) - 2^24 is 0",
        layers(([[1, -BIG]], [BIG]), switch(2, 1)), (1, 1),
    ),
    Detector(
        "fused multiply-add", "(1 + 2^-12)^2 - (1 + 2^-11) is 2^-24, and 0 where the product is rounded",
        layers(([[OFF, -1]], [0]), ([[BIG]], [0]), switch(1, 1)), (OFF, 1 + 2.0**-11), Fraction(1, 2**40),
    ),
    Detector(
        "skip connection", "(2^24 + 1) - 2^24 is 0: no order is left to choose, and every execution is wrong",
        skip, (BIG, 1),
    ),
    Detector(
        "saturation", "1 - sigmoid(40) is 0 in floats; the next layer multiplies it by 2^56",
        saturated, (0,), provable=False,
    ),
    Detector(
        "fused normalisation", "(x + y - m) s is exact where x + y = m, x s + y s - m s is off by three roundings",
        normalised, (MEAN / 4 + 7, MEAN * 3 / 4 - 7), regrouped=fused,
    ),
    Detector(
        "overflow", "3e38 x is infinite at x = 2, however small the weight that follows",
        layers(([[3e38]], [0]), ([[-(2.0**-149)], [0]], [0.5, 0])), (2,),
    ),
    Detector(
        "forty terms that cancel", "the real sum is 0, each order leaves its own rest",
        layers(([np.float32(ALTERNATING).tolist()], [0]), ([[-1e3], [0]], [2.0**-10, 0])), (1 + 2.0**-20,) * 40,
        Fraction(1, 2**60),
    ),
]  # fmt: skip
