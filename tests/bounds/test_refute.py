"""Searches by cases: what they prove is true and accepted by the proof, deadlines hold, stopped runs continue."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from random_graphs import random_graph

from certlip.bounds import refute as module
from certlip.bounds.input_split import InputSplit
from certlip.bounds.neuron_split import NeuronSplit
from certlip.bounds.refute import Branching, refute, refute_at_once
from certlip.graph import Graph, Node
from certlip.ops import Dense, Relu, Scale
from certlip.proofs.query import Domain, Query, ball_domain
from certlip.proofs.relaxation.branches import refutes

SEARCHES = {"input splits": 10**6, "neuron splits": -1}
"""By name, how many inputs count as few."""


@pytest.fixture(params=SEARCHES)
def search(request, monkeypatch) -> str:
    monkeypatch.setattr(module, "FEW_INPUTS", SEARCHES[request.param])
    return request.param


def chain(rng: np.random.Generator, *sizes: int, first: bool = False) -> Graph:
    """Dense layers with ReLU between them; `first`: one reads the input as well."""
    operators = [Relu()] if first else []
    for n, m in pairwise(sizes):
        operators += [Dense.of(rng.standard_normal((m, n)) / n**0.5, 0.2 * rng.standard_normal(m)), Relu()]
    return Graph((sizes[0],), tuple(Node(operator, (i,)) for i, operator in enumerate(operators[:-1])))


def shifted(graph: Graph, domain: Domain, share: float, clauses=((0,),)) -> tuple[Query, float]:
    """g = f - bound, the bound at a share of the way from the sampled minimum down to what lines prove at once; and the
    sampled minimum of g."""
    plain = Query(graph, domain, clauses)
    rows = np.eye(graph.output_size).reshape(-1, *graph.output_shape)
    frame = refute_at_once(plain).frame
    known = module.lower_bounds(frame, len(graph.nodes), rows).least.min()
    x = np.random.default_rng(0).uniform(domain.low, domain.high, (4000, *graph.input_shape))
    if domain.center is not None:
        inside = np.square(x - domain.center).reshape(len(x), -1).sum(1) <= float(domain.eps) ** 2 * (1 - 1e-9)
        x = np.concatenate([x[inside], domain.center[None]])
    seen = graph(x).min()
    bound = seen - share * (seen - known)
    g = graph.append(Scale.of(graph.output_shape, 1.0, -bound))
    return replace(plain, graph=g), float(seen - bound)


def is_proved(query: Query, seconds: float = 20.0) -> bool:
    outcome = refute(query, deadline=time.monotonic() + seconds)
    assert all(refutes(query, tree).all() for tree in outcome.trees)
    covered = sorted(clause for tree in outcome.trees for clause in tree.clauses)
    assert not outcome.is_proof or covered == list(range(len(query.clauses)))
    return outcome.is_proof


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("first", [False, True])
def test_true_claims_are_proved_and_false_ones_are_not(search, norm, seed, first):
    rng = np.random.default_rng(seed)
    graph = chain(rng, 2, 8, 6, 1, first=first)
    domain = ball_domain(0.2 * rng.standard_normal(2), Fraction(1, 2), norm)
    query, _ = shifted(graph, domain, 0.6)
    if norm == "linf" or search == "input splits":
        assert is_proved(query)
    query, least = shifted(graph, domain, -1e-6)
    assert least <= 0 and not is_proved(query, 0.2)


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_of_all_operators(search, seed):
    """No false claim is proved; every tree that is returned is accepted."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed)
    domain = ball_domain(rng.standard_normal(graph.input_shape), Fraction(1, 3), "linf")
    clauses = tuple((k,) for k in range(graph.output_size))
    query, least = shifted(graph, domain, 0.5, clauses)
    is_proved(query, 0.2)
    query, least = shifted(graph, domain, -1e-3, clauses)
    assert least > 0 or not is_proved(query, 0.2)


def test_two_constraints_that_are_safe_only_together(search):
    """g = (relu(x) - 1/4, 1/4 - relu(x) + 1/8): neither is positive everywhere, at every x one of them is."""
    layers = Dense.of([[1.0]]), Relu(), Dense.of([[1.0], [-1.0]], [-0.25, 0.375])
    graph = Graph((1,), tuple(Node(operator, (i,)) for i, operator in enumerate(layers)))
    query = Query(graph, Domain(-np.ones(1), np.ones(1)), ((0, 1),))
    assert is_proved(query)
    closer = graph.append(Scale.of((2,), 1.0, [0.0, -0.125]))  # both are zero at x = 1/4
    assert not is_proved(replace(query, graph=closer), 0.2)


def test_a_network_that_is_linear_on_its_domain(search):
    """Nothing to split: a false claim is left, without an error, and a tie too."""
    layers = Dense.of([[1.0, 2.0]], [5.0]), Relu(), Dense.of([[1.0]], [-4.0])
    graph = Graph((2,), tuple(Node(operator, (i,)) for i, operator in enumerate(layers)))
    for high, expected in ((0.1, True), (1.0, False), (1 / 3, False)):
        query = Query(graph, Domain(-high * np.ones(2), np.ones(2)), ((0,),))
        assert is_proved(query, 0.3) == expected


def test_a_run_that_was_stopped_continues(search):
    rng = np.random.default_rng(5)
    query, _ = shifted(chain(rng, 3, 16, 12, 1), ball_domain(np.zeros(3), Fraction(1), "linf"), 0.35)
    branching, runs = Branching(query, refute_at_once(query)), 0
    outcome = branching.run(time.monotonic())
    assert not outcome.is_proof and not outcome.complete
    while not outcome.is_proof and runs < 400:
        outcome, runs = branching.run(time.monotonic() + 0.02), runs + 1
    assert outcome.is_proof and runs > 0
    assert all(refutes(query, tree).all() for tree in outcome.trees)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.4])
def test_deadlines_are_kept(search, seconds):
    rng = np.random.default_rng(1)
    query, _ = shifted(chain(rng, 6, 40, 40, 1), ball_domain(np.zeros(6), Fraction(1), "linf"), -1e-6)
    NeuronSplit(query, 0, (0,), np.zeros(1), refute_at_once(query).frame)  # torch is imported before the clock runs
    began = time.process_time()
    assert not refute(query, deadline=time.monotonic() + seconds).is_proof
    assert time.process_time() - began < 2 * seconds + 2.0


def test_points_that_are_accepted_end_a_search():
    query = Query(chain(np.random.default_rng(0), 2, 4, 1), Domain(-np.ones(2), np.ones(2)), ((0,),))
    lowered = replace(query, graph=query.graph.append(Scale.of((1,), 1.0, -50.0)))
    given = []
    search = InputSplit(lowered, 0, (0,), np.zeros(1), point=lambda x: not given.append(x))
    assert not search.run(None) and search.falsified and len(given) == 1
    assert lowered.graph(given[0][None])[0, 0] <= 0 and (np.abs(given[0]) <= 1).all()


def test_slack_has_to_be_exceeded(search):
    graph = Graph((1,), (Node(Dense.of([[1.0]]), (0,)), Node(Relu(), (1,)), Node(Dense.of([[1.0]], [0.5]), (2,))))
    query = Query(graph, Domain(-np.ones(1), np.ones(1)), ((0,),))
    for slack, expected in ((0.49, True), (0.5, False), (0.6, False)):
        outcome = refute(query, slack=np.array([slack]), deadline=time.monotonic() + 0.3)
        assert outcome.is_proof == expected
        assert all(refutes(query, tree, np.array([slack])).all() for tree in outcome.trees)
