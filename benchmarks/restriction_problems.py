"""The problems of the convex restriction: trained starts with data, errors, attacks and proved bounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from certlip.lipschitz import LipSDP
from certlip.lipschitz.engine import run
from certlip.properties import Output
from certlip.repairs.convex import Shallow
from certlip.rigor.rounding import Array

PGD_STEPS = 40


@dataclass(frozen=True, eq=False)
class Problem:
    """A trained start with rows to train on and rows to test on."""

    net: Shallow
    train: tuple[Array, Array]
    test: tuple[Array, Array]
    loss: str
    penalty: float
    eps: float


@dataclass(frozen=True)
class Spec:
    """A group of rows: data, hidden neurons, seed of the start, rounds, penalty, radius; what R1 and R2 must reach."""

    data: str
    neurons: int
    seed: int
    rounds: int
    penalty: float
    eps: float
    reach: tuple[float, float] | None = None


SPECS = (
    Spec("diabetes", 10, 0, 3, 0.05, 0.25, (0.4208, 0.4097)),
    Spec("diabetes", 40, 2, 2, 0.05, 0.25, (0.3254, 0.2978)),
    Spec("friedman1", 20, 0, 3, 0.02, 0.25),
    Spec("breast cancer", 8, 0, 3, 0.02, 0.5),
    Spec("wine", 8, 0, 3, 0.02, 0.5),
)


@cache
def problem(spec: Spec) -> Problem:
    """The trained start of a row group."""
    from sklearn import datasets
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if spec.data == "friedman1":
        x, y = datasets.make_friedman1(500, noise=1.0, random_state=0)
    else:
        x, y = getattr(datasets, f"load_{spec.data.replace(' ', '_')}")(return_X_y=True)
    regression = spec.data in ("diabetes", "friedman1")
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = (y - y.mean()) / y.std() if regression else y
    order = np.random.default_rng(0).permutation(len(x))
    count = 120 if spec.data == "wine" else 300
    train, test = order[:count], order[count:]
    kind = MLPRegressor if regression else MLPClassifier
    options: dict[str, Any] = {"alpha": 1e-3, "max_iter": 2000, "learning_rate_init": 5e-3, "random_state": spec.seed}
    trained = kind(hidden_layer_sizes=(spec.neurons,), **options).fit(x[train], y[train])
    (first, second), (b1, b2) = trained.coefs_, trained.intercepts_
    loss = "square" if regression else "logistic" if second.shape[1] == 1 else "cross-entropy"
    net = Shallow(first.T, b1, second.T, b2)
    return Problem(net, (x[train], y[train]), (x[test], y[test]), loss, spec.penalty, spec.eps)


def error(net: Shallow, x: Array, y: Array) -> float:
    """Mean squared error, or the per cent of wrong classes."""
    f = net(x)
    if y.dtype.kind == "f":
        return float(np.mean((f[:, 0] - y) ** 2))
    return float(100.0 * np.mean((f[:, 0] > 0 if f.shape[1] == 1 else f.argmax(axis=1)) != y))


def attacked(net: Shallow, x: Array, y: Array, eps: float) -> Array:
    """Inputs within eps of x, by projected gradient ascent on the squared error or on the best rival's lead."""
    graph, rng = net.graph(), np.random.default_rng(0)
    best, worst = x.copy(), badness(net(x), y)
    for start in range(3):
        step = rng.standard_normal(x.shape) if start else np.zeros_like(x)
        moved = x + eps * step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-12)
        for _ in range(PGD_STEPS):
            f = net(moved)
            gradient = graph.gradient(moved, _ascent(f, y))
            moved = moved + 0.2 * eps * gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)
            away = np.linalg.norm(moved - x, axis=1, keepdims=True)
            moved = x + (moved - x) * np.minimum(1.0, eps / np.maximum(away, 1e-12))
            bad = badness(net(moved), y)
            found = bad > worst
            best[found], worst[found] = moved[found], bad[found]
    return best


def badness(f: Array, y: Array) -> Array:
    """The squared error, or by how much the best rival leads."""
    if y.dtype.kind == "f":
        return (f[:, 0] - y) ** 2
    if f.shape[1] == 1:
        return np.where(y > 0, -f[:, 0], f[:, 0])
    own = np.eye(f.shape[1])[y] > 0
    return np.where(own, -np.inf, f).max(axis=1) - f[own]


def _ascent(f: Array, y: Array) -> Array:
    """The gradient of `badness` with respect to f."""
    if y.dtype.kind == "f":
        return 2.0 * (f - y[:, None])
    if f.shape[1] == 1:
        return np.where(y[:, None] > 0, -1.0, 1.0)
    own = np.eye(f.shape[1])[y]
    return np.eye(f.shape[1])[np.where(own > 0, -np.inf, f).argmax(axis=1)] - own


def proved(net: Shallow) -> float:
    """certlip's proved bound of the network."""
    bound = run(LipSDP(), net.graph(), Output("all"), "l2", None)
    if not bound.proved:
        raise ArithmeticError(f"no bound was proved: {bound.note}")
    return bound.value
