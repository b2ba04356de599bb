"""Mean losses of outputs on samples, in numpy: what candidates are compared by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from certlip.errors import UsageError
from certlip.rigor.rounding import Array

REGRESSION = ("square", "absolute", "huber")
CLASSIFICATION = ("cross-entropy", "hinge", "logistic")


def mean_loss(name: str, outputs: Array, y: np.ndarray, margin: float = 0.0) -> float:
    """Mean over the samples; outputs (N, o), y (N,) classes or (N, o) targets.

    square (f - y)^2, absolute |f - y|, huber (half the square within 1 of the target, then linear): means over the
    outputs, too. Classes, with d_k = f_k + margin - f_y for every rival k (one output: margin - f for class 1,
    margin + f for class 0): hinge max(0, 1 + max d_k), cross-entropy log(1 + sum exp d_k), logistic sum of
    log(1 + exp d_k).
    """
    if name in REGRESSION:
        return float(np.mean(_REGRESSION[name](outputs - y.reshape(outputs.shape))))
    if name not in CLASSIFICATION:
        raise UsageError(f"unknown loss '{name}'; choose one of {', '.join((*REGRESSION, *CLASSIFICATION))}")
    d = lead_of_rivals(outputs, y) + margin
    return float(np.mean(_CLASSIFICATION[name](d)))


def lead_of_rivals(outputs: Array, y: np.ndarray) -> Array:
    """f_k - f_y for every rival k, (N, o - 1); for one output -f for class 1 and f for class 0."""
    if outputs.shape[1] == 1:
        return np.where(y[:, None] == 1, -outputs, outputs)
    own = outputs[np.arange(len(y)), y][:, None]
    rivals = np.ones(outputs.shape, dtype=bool)
    rivals[np.arange(len(y)), y] = False
    return outputs[rivals].reshape(len(y), -1) - own


def _huber(r: Array) -> Array:
    return np.where(np.abs(r) <= 1.0, 0.5 * r * r, np.abs(r) - 0.5)


_REGRESSION: dict[str, Callable[[Array], Array]] = {"square": np.square, "absolute": np.abs, "huber": _huber}
_CLASSIFICATION: dict[str, Callable[[Array], Array]] = {
    "cross-entropy": lambda d: logsumexp(np.concatenate([np.zeros((len(d), 1)), d], axis=1), axis=1),
    "hinge": lambda d: np.maximum(0.0, 1.0 + d.max(axis=1)),
    "logistic": lambda d: np.logaddexp(0.0, d).sum(axis=1),
}
