"""Projected gradient attacks on the graph. They only propose: a hit counts once `counterexample` has proved it."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np

from certlip.graph import Graph
from certlip.rigor.rounding import Array

_STEPS = 40
_RESTARTS = 6
_FAR = Fraction(10**30)  # points further away overflow the types that models take
_INSIDE = (1.0, 1.0 - 1e-7, 1.0 - 1e-5, 1.0 - 1e-3)


def attack_label(
    graph: Graph,
    x: Array,
    label: int,
    norm: str,
    eps: Fraction,
    seed: int,
    deadline: float | None,
    clip: tuple[Fraction, Fraction] | None = None,
) -> list[Array]:
    """Points of the ball where another class scores high, best first; x of shape (*input_shape,). Entries stay in the
    clip, up to rounding.

    Each restart climbs f_k - f_label towards one of the nearest classes k; the one output of a two-class network climbs
    towards the other sign.
    """
    scores = graph(x[None]).reshape(-1)
    if scores.size == 1:
        directions = np.full((_RESTARTS, 1), -1.0 if label == 1 else 1.0)
    else:
        rivals = [k for k in np.argsort(-scores) if k != label]
        directions = np.zeros((_RESTARTS, scores.size))
        directions[:, label] = -1.0
        for row in range(_RESTARTS):
            directions[row, rivals[row % min(3, len(rivals))]] = 1.0
    return _climb(graph, x, directions, norm, _reach(eps), seed, deadline, clip)


def attack_tolerance(
    graph: Graph,
    x: Array,
    norm: str,
    eps: Fraction,
    seed: int,
    deadline: float | None,
    clip: tuple[Fraction, Fraction] | None = None,
) -> list[Array]:
    """Points of the ball where some output moves far, up or down, best first."""
    size = graph.output_size
    directions = np.zeros((max(_RESTARTS, 2), size))
    for row in range(len(directions)):
        directions[row, (row // 2) % size] = 1.0 if row % 2 else -1.0
    return _climb(graph, x, directions, norm, _reach(eps), seed, deadline, clip)


def _climb(
    graph: Graph,
    x: Array,
    directions: Array,
    norm: str,
    eps: float,
    seed: int,
    deadline: float | None,
    clip: tuple[Fraction, Fraction] | None,
) -> list[Array]:
    """Maximise <direction, f> over the ball from the centre and from random points."""
    rng = np.random.default_rng(seed)
    ends = (-np.inf, np.inf) if clip is None else (float(clip[0]), float(clip[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        return _ascend(graph, x, directions, norm, eps, rng, deadline, ends)


def _ascend(
    graph: Graph,
    x: Array,
    directions: Array,
    norm: str,
    eps: float,
    rng: np.random.Generator,
    deadline: float | None,
    clip: tuple[float, float],
) -> list[Array]:
    shape = (len(directions), *graph.output_shape)
    direction = directions.reshape(shape)
    points = np.clip(x + _project(rng.standard_normal((len(directions), *x.shape)) * eps, norm, eps), *clip)
    points[0] = x
    best = points.copy()
    height = _heights(graph, points, direction)
    for step in range(_STEPS):
        if deadline is not None and time.monotonic() > deadline:
            break
        slope = graph.gradient(points, direction)
        size = 2.5 * eps * (1.0 - step / _STEPS) ** 2 / 4.0 + eps / _STEPS
        points = np.clip(x + _project(points - x + size * _ascent(slope, norm), norm, eps), *clip)
        now = _heights(graph, points, direction)
        better = now > height
        best[better], height[better] = points[better], now[better]
    return [best[i] for i in np.argsort(-height)]


def _reach(eps: Fraction) -> float:
    return float(min(eps, _FAR))


def _heights(graph: Graph, points: Array, direction: Array) -> Array:
    return (graph(points) * direction).reshape(len(points), -1).sum(1)


def _ascent(slope: Array, norm: str) -> Array:
    if norm == "linf":
        return np.sign(slope)
    return slope / np.maximum(_lengths(slope), 1e-300)


def _project(step: Array, norm: str, eps: float) -> Array:
    if norm == "linf":
        return np.clip(step, -eps, eps)
    return step * np.minimum(1.0, eps / np.maximum(_lengths(step), 1e-300))


def _lengths(batch: Array) -> Array:
    return np.sqrt((batch * batch).reshape(len(batch), -1).sum(1)).reshape(-1, *(1,) * (batch.ndim - 1))


def representable(x: Array, point: Array, dtype: np.dtype) -> list[Array]:
    """The point rounded to the model's input type, and the same a little closer to x in case rounding left the ball."""
    with np.errstate(over="ignore"):
        return [(x + share * (point - x)).astype(dtype).astype(np.float64) for share in _INSIDE]
