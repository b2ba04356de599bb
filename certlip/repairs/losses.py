"""The mean loss of outputs on samples, by the loss's name: what candidates are compared by."""

from __future__ import annotations

import numpy as np

from certlip.repairs.convex.losses import LOSSES, Classification, Regression, loss_named
from certlip.rigor.rounding import Array

REGRESSION = tuple(name for name, loss in LOSSES.items() if isinstance(loss, Regression))
CLASSIFICATION = tuple(name for name, loss in LOSSES.items() if isinstance(loss, Classification))


def mean_loss(name: str, outputs: Array, y: np.ndarray, margin: float = 0.0) -> float:
    """Mean over the samples; outputs (N, o), y (N,) classes or (N, o) targets.

    square (f - y)^2, absolute |f - y|, huber (half the square within 1 of the target, then linear): means over the
    outputs, too. Classes, with d_k = f_k + margin - f_y for every rival k (one output: margin - f for class 1,
    margin + f for class 0): hinge max(0, 1 + max d_k), cross-entropy, also called logistic, log(1 + sum exp d_k).
    Raises UsageError for another name.
    """
    loss = loss_named(name)
    count = outputs.shape[1]
    return loss.mean(loss.scores(y, count, margin), outputs, loss.count(y, count))
