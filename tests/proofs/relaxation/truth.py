"""What the exact network does at points of a domain, and queries about random networks, some of wild scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from random_graphs import random_graph

from certlip.graph import Graph
from certlip.ops import Dense
from certlip.proofs.exact_values import _step
from certlip.proofs.query import Domain, Query, ball_domain, range_query
from certlip.rigor.ball import Ball
from certlip.rigor.exact_numbers import Exact

Ends = tuple[list[Fraction], list[Fraction]]

SCALES = (1.0, 1e8, 1e-8, 3e5, 1e-30, 1e30, 2.0**-149, 1e-160)


def exact_values(graph: Graph, x: np.ndarray) -> list[Ends]:
    """Ends of every value at the floats x, in flat order."""
    return [value.ends() for value in graph.fold(Exact.of(np.asarray(x, dtype=np.float64)[None]), _step)]


def combined(weights: Sequence[float], value: Ends) -> tuple[Fraction, Fraction]:
    """Ends of <weights, value>."""
    low = high = Fraction(0)
    for weight, a, b in zip(map(Fraction, weights), *value, strict=True):
        low, high = low + min(weight * a, weight * b), high + max(weight * a, weight * b)
    return low, high


def points_in(domain: Domain, rng: np.random.Generator, count: int) -> np.ndarray:
    """Corners and inner points of the box; with a center those in the ball, exactly, some near its boundary."""
    shape, wide = domain.low.shape, (count, *(1,) * domain.low.ndim)
    share = rng.random((count, *shape))
    share = np.where((rng.random(wide) < 0.5) | (rng.random((count, *shape)) < 0.3), share.round(), share)
    x = np.clip(domain.low + (domain.high - domain.low) * share, domain.low, domain.high)
    if domain.center is None:
        return x
    step = rng.standard_normal((count, *shape))
    step /= np.sqrt((step**2).reshape(count, -1).sum(1)).reshape(wide)
    edge = domain.center + step * domain.radius * rng.choice([1.0, 0.5], wide)
    x = np.concatenate([np.clip(edge, domain.low, domain.high), x])
    return np.array([each for each in x if is_in_ball(domain, each)]).reshape(-1, *shape)


def is_in_ball(domain: Domain, x: np.ndarray) -> bool:
    steps = (Fraction(a) - Fraction(b) for a, b in zip(x.ravel().tolist(), domain.center.ravel().tolist(), strict=True))
    return sum((step * step for step in steps), Fraction(0)) <= domain.eps**2


def wild(graph: Graph, rng: np.random.Generator) -> Graph:
    """Some matrices scaled by far too much or too little, some known only up to a radius."""
    nodes = []
    for node in graph.nodes:
        operator = node.operator
        if isinstance(operator, Dense) and rng.random() < 0.5:
            weight = operator.weight.mid * rng.choice(SCALES)
            bias = np.broadcast_to(operator.bias.mid, operator.codomain) * rng.choice(SCALES[:4])
            rad = np.abs(weight) * 1e-9 if rng.random() < 0.2 else np.zeros(())
            operator = replace(operator, weight=Ball(weight, rad), bias=Ball.exact(bias), bias_size=np.abs(bias))
        nodes.append(replace(node, operator=operator))
    return replace(graph, nodes=tuple(nodes))


def random_domain(shape: tuple[int, ...], rng: np.random.Generator) -> Domain:
    """A box or a Euclidean ball, sometimes a point, sometimes clipped so that the center lies outside."""
    center = rng.standard_normal(shape) * rng.choice([0.0, 1.0, 1.0, 10.0, 1e6])
    eps = Fraction(float(rng.choice([0.0, 1e-12, 1e-3, 0.1, 1.0, 10.0]))) + Fraction(int(rng.integers(2)), 3000)
    clip = (Fraction(0), Fraction(1)) if rng.random() < 0.2 else None
    domain = ball_domain(center, eps, str(rng.choice(["linf", "l2"])), clip)
    return domain if (domain.low <= domain.high).all() else random_domain(shape, rng)


def random_query(rng: np.random.Generator) -> Query:
    """g are the outputs less numbers, and numbers less the outputs."""
    graph = random_graph(int(rng.integers(2**32)), pools=rng.random() < 0.2)
    graph = wild(graph, rng) if rng.random() < 0.5 else graph
    low, high = ([Fraction(float(end)) for end in rng.standard_normal(graph.output_size)] for _ in range(2))
    return range_query(graph, low, high, random_domain(graph.input_shape, rng))
