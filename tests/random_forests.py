"""Trees of random splits, weights, multipliers and slopes: nothing that a search would make, all of it allowed."""

from __future__ import annotations

from fractions import Fraction
from math import prod

import numpy as np
from random_graphs import random_graph

from certlip.bounds.forest import GrowingTree
from certlip.graph import Pointwise
from certlip.proofs.query import Domain, Query, ball_domain, range_query
from certlip.proofs.relaxation.branches import Tree
from certlip.proofs.relaxation.cells import cells_of


def random_query(seed: int, reach: float) -> Query:
    """A random network whose outputs must stay within `reach` of what it computes at a random point, on a ball or box
    around that."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, pools=True)
    center = np.round(rng.standard_normal(graph.input_shape), 3)
    clip = [Fraction(-1), Fraction(1)] if rng.random() < 0.3 and np.abs(center).max() < 1 else None
    domain = ball_domain(center, Fraction(1, 5), str(rng.choice(["l2", "linf"])), clip)
    values = [Fraction(value) for value in graph(center[None]).ravel().tolist()]
    low, high = ([value + sign * Fraction(reach) for value in values] for sign in (-1, 1))
    return range_query(graph, low, high, domain)


def random_forest(rng: np.random.Generator, query: Query, number: int = 0) -> tuple[Tree, ...]:
    """One or two trees about all clauses of the query, in random order."""
    clauses = rng.permutation(len(query.clauses)).tolist()
    cut = int(rng.integers(1, len(clauses))) if len(clauses) > 1 and rng.random() < 0.5 else len(clauses)
    return tuple(_tree(rng, query, number, tuple(part)) for part in (clauses[:cut], clauses[cut:]) if part)


def _tree(rng: np.random.Generator, query: Query, number: int, clauses: tuple[int, ...]) -> Tree:
    tree = GrowingTree(number, clauses)
    frame = cells_of(query.graph, query.domain)
    shapes = query.graph.shapes
    bent = [i for i, node in enumerate(query.graph.nodes) if isinstance(node.operator, Pointwise)]
    places = [(i, entry) for i in bent for entry in range(prod(shapes[i + 1]))]
    chosen = rng.permutation(len(places))[: int(rng.integers(0, 5))]
    entries = np.array([places[k] for k in chosen], dtype=np.int64).reshape(-1, 2)
    open_nodes = [0]
    for _ in range(int(rng.integers(0, 6))):
        node = open_nodes.pop(int(rng.integers(len(open_nodes))))
        value = 0 if rng.random() < 0.4 else int(rng.integers(len(shapes)))
        entry = int(rng.integers(prod(shapes[value])))
        low, high = frame.low[value].ravel()[entry], frame.high[value].ravel()[entry]
        open_nodes += tree.split(node, value, entry, float(low + rng.random() * (high - low)))
    for node in open_nodes:
        inner = sum(split[0] != 0 for split in tree.path(node))
        weights = tuple(rng.random(len(query.clauses[clause])) + 0.1 for clause in clauses)
        multipliers = tuple(rng.random(inner) * (rng.random(inner) < 0.5) * 0.1 for _ in clauses)
        slopes = tuple(
            np.where(rng.random(len(entries)) < 0.2, np.nan, rng.random(len(entries)) * 1.5 - 0.2) for _ in clauses
        )
        tree.close(node, weights, multipliers, slopes)
    return tree.finished(entries)


def points_of(rng: np.random.Generator, domain: Domain, count: int) -> np.ndarray:
    """Random points of a domain, corners and border points of balls among them."""
    shape = domain.low.shape
    share = rng.random((count, *shape))
    share[::2] = np.round(share[::2])
    points = domain.low + share * (domain.high - domain.low)
    if domain.center is not None:
        step = points - domain.center
        length = np.linalg.norm(step.reshape(count, -1), axis=1).reshape(-1, *(1,) * len(shape))
        points = domain.center + step * np.minimum(1.0, domain.radius * (1 - 1e-12) / np.maximum(length, 1e-300))
    return np.clip(points, domain.low, domain.high)
