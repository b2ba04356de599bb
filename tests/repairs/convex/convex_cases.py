"""Small random networks and data for tests of convex restrictions."""

from __future__ import annotations

import numpy as np

from certlip.repairs.convex import Shallow

REGRESSION = ("square", "absolute", "huber")
CLASSIFICATION = ("cross-entropy", "logistic", "hinge")


def network(seed: int, d: int = 3, m: int = 4, o: int = 1) -> Shallow:
    rng = np.random.default_rng(seed)
    return Shallow(
        rng.standard_normal((m, d)), 0.5 * rng.standard_normal(m), rng.standard_normal((o, m)), rng.standard_normal(o)
    )


def data(seed: int, loss: str, n: int = 20, d: int = 3, o: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    if loss in REGRESSION:
        return x, rng.standard_normal((n, o)) if o > 1 else rng.standard_normal(n)
    return x, rng.integers(0, max(o, 2), n)


def moved(net: Shallow, seed: int, size: float) -> Shallow:
    """The network with every weight moved at random."""
    rng = np.random.default_rng(seed)
    return Shallow(*(w + size * rng.standard_normal(w.shape) for w in (net.W1, net.b1, net.W2, net.b2)))
