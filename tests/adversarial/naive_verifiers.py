"""Verifiers as they are often written: right in real arithmetic, evaluated in the floats of the model.

They show that the traps are traps. Each returns True where it would print "certified".
"""

from __future__ import annotations

import numpy as np
from onnx_arithmetic import FORWARD, Arithmetic, margin
from traps import Trap


def runtime(trap: Trap, model) -> bool:
    """Execute the model at the sample and at the violating point: ties go to the first class, as argmax does."""
    return all(margin(model, point, trap.label, forward(trap)) >= 0 for point in (trap.x, trap.bad))


def forward(trap: Trap) -> Arithmetic:
    return FORWARD if trap.dtype is np.float32 else Arithmetic("binary64 forward", np.float64)


def norms(trap: Trap, model) -> bool:
    """Margin over the product of spectral norms by power iteration from the all-ones vector."""
    product = trap.dtype(np.sqrt(2.0))
    with np.errstate(all="ignore"):
        for weight, _ in _layers(trap):
            vector = np.ones(weight.shape[1], trap.dtype)
            for _ in range(20):
                image = weight.T @ (weight @ vector)
                vector = image / max(_length(image), np.finfo(trap.dtype).tiny)
            product = product * _length(weight @ vector)
    return bool(margin(model, trap.x, trap.label, forward(trap)) > product * trap.dtype(trap.eps))


def _length(vector: np.ndarray):
    return np.sqrt((vector * vector).sum())


def gradient(trap: Trap, model) -> bool:
    """Margin over the gradient that a framework returns at the sample."""
    value, slope = np.asarray(trap.x, trap.dtype), np.eye(len(trap.x), dtype=trap.dtype)
    for i, (weight, bias) in enumerate(_layers(trap)):
        if i:
            slope, value = slope * (value > 0)[:, None], np.maximum(value, 0)
        slope, value = weight @ slope, weight @ value + bias
    change = _length(slope[trap.label] - slope[1 - trap.label])
    return bool(value[trap.label] - value[1 - trap.label] > change * trap.dtype(trap.eps))


def interval(trap: Trap, model) -> bool:
    """Interval propagation, every sum from left to right; the last layer is that of the margin."""
    low, high = _box(trap)
    for last, weight, bias in _numbered(trap):
        plus, minus = np.maximum(weight, 0), np.minimum(weight, 0)
        terms = np.concatenate([plus * low + minus * high, bias[:, None]], 1)
        upper = np.concatenate([plus * high + minus * low, bias[:, None]], 1)
        low, high = (np.add.accumulate(part, 1)[:, -1] for part in (terms, upper))
        if not last:
            low, high = np.maximum(low, 0), np.maximum(high, 0)
    return bool(low[0] > 0)


def substitution(trap: Trap, model) -> bool:
    """Where every ReLU is known to be active the network is linear: multiply its layers and evaluate on the box."""
    matrix, offset = np.eye(len(trap.x), dtype=trap.dtype), np.zeros(len(trap.x), trap.dtype)
    low, high = _box(trap)
    for last, weight, bias in _numbered(trap):
        offset = np.add.accumulate(np.concatenate([weight * offset, bias[:, None]], 1), 1)[:, -1]
        matrix = np.add.accumulate(weight[:, :, None] * matrix, 1)[:, -1]
        ends = np.concatenate([np.where(matrix > 0, low, high) * matrix, offset[:, None]], 1)
        least = np.add.accumulate(ends, 1)[:, -1]
        if not last and not (least > 0).all():
            return False
    return bool(least[0] > 0)


def _layers(trap: Trap):
    return [(trap.dtype(weight), trap.dtype(bias)) for weight, bias in trap.layers]


def _numbered(trap: Trap):
    """(is it the last one, weight, bias); the last row is the margin."""
    layers = _layers(trap)
    for i, (weight, bias) in enumerate(layers):
        last = i == len(layers) - 1
        yield last, weight[:1] if last else weight, bias[:1] if last else bias


def _box(trap: Trap):
    center, eps = np.asarray(trap.x, trap.dtype), trap.dtype(trap.eps)
    return center - eps, center + eps


NAIVE = {"runtime": runtime, "norms": norms, "gradient": gradient, "interval": interval, "substitution": substitution}
