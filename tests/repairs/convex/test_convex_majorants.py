"""Majorants are never below the network, wherever its weights go, and equal to it at the start; so are programs."""

import cvxpy as cp
import numpy as np
import pytest
from convex_cases import data, moved, network
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.repairs.convex import Shallow, lipschitz
from certlip.repairs.convex.conic import solve, stated
from certlip.repairs.convex.hidden import FrozenPatterns
from certlip.repairs.convex.improve import restricted
from certlip.repairs.convex.objective import Objective

STAGES = ("R1", "R2", "R3", "last layer")


def allowed(stage: str, start: Shallow, net: Shallow) -> Shallow:
    """The network with what the program holds fixed as it was at the start."""
    if stage in ("R1", "R2"):
        return Shallow(net.W1, net.b1, start.W2, net.b2)
    if stage == "last layer":
        return Shallow(start.W1, start.b1, net.W2, net.b2)
    return Shallow(net.W1, net.b1, np.sign(start.W2) * np.abs(net.W2), net.b2)


@given(st.integers(0, 10**6), st.sampled_from(STAGES), st.sampled_from([1, 3]), st.sampled_from([0.01, 0.3, 3.0]))
@settings(max_examples=40, deadline=None)
def test_majorants(seed, stage, outputs, size):
    start = network(seed, o=outputs)
    x, _ = data(seed, "square", 12)
    program = restricted(stage, start, x)
    K = np.random.default_rng(seed).standard_normal((2, outputs))
    rows = np.array([0, 3, 4, 9, 11])
    expression = program.majorant(rows, K)
    program.place(start)
    np.testing.assert_allclose(expression.value, start(x[rows]) @ K.T, atol=1e-9)
    net = allowed(stage, start, moved(start, seed + 1, size))
    program.place(net)
    holds = np.ones(len(rows), dtype=bool)
    if stage == "R1":  # the cone of patterns is a constraint
        signs = (start.pre_activations(x) > 0) == (net.pre_activations(x) > 0)
        holds = signs[rows].all(axis=1)
    difference = expression.value - net(x[rows]) @ K.T
    assert (difference[holds] >= -1e-9).all()
    if stage in ("R1", "last layer"):
        np.testing.assert_allclose(difference[holds], 0.0, atol=1e-9)
    assert stage == "R1" or expression.is_convex()


@pytest.mark.parametrize("stage", STAGES)
def test_majorants_are_not_trivial(stage):
    """A moved network is majorised by something finite that depends on where it went."""
    start = network(0, o=2)
    x, _ = data(0, "square", 12)
    program = restricted(stage, start, x)
    expression = program.majorant(np.arange(12), np.eye(2))
    values = []
    for seed in (1, 2):
        program.place(allowed(stage, start, moved(start, seed, 0.1)))
        values.append(expression.value)
    assert np.abs(values[0] - values[1]).max() > 1e-3


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_optima_are_ordered(outputs):
    """opt(R2) <= opt(R1) <= start, and opt(R3) <= start, each objective majorising the truth of its solution."""
    for seed in range(2):
        net = network(seed, o=outputs)
        x, y = data(seed, "square", o=outputs)
        objective = Objective.of(net, x, y, "square", 0.1, None, 0.0)
        truth = objective.value(net).objective
        optimum = {}
        for stage in ("R1", "R2", "R3", "last layer"):
            program = restricted(stage, net, x)
            problem = cp.Problem(*stated(program, objective))
            problem.solve(solver="CLARABEL")
            optimum[stage] = problem.value
            assert problem.value <= truth * (1 + 1e-6)
            assert objective.value(program.solution()).objective <= problem.value * (1 + 1e-6)
            assert lipschitz(program.solution()) <= float(program.lipschitz.value) * (1 + 1e-5)
        assert optimum["R2"] <= optimum["R1"] * (1 + 1e-6)


def test_one_neuron_against_a_grid():
    """Of one input and one neuron with w >= 0 the constant is w, and the best network is found by brute force."""
    net = Shallow([[2.0]], [0.0], [[1.0]], [0.0])
    x, y = np.array([[1.0], [-1.0]]), np.array([1.0, 0.0])
    ((found, status),) = solve(restricted("R2", net, x), Objective.of(net, x, y, "square", 0.5, None, 0.0))
    w, b, c = np.meshgrid(np.linspace(0, 2, 81), np.linspace(-1, 1, 41), np.linspace(-1, 1, 41))
    loss = (np.maximum(w + b, 0) + c - 1) ** 2 / 2 + (np.maximum(b - w, 0) + c) ** 2 / 2
    reached = np.mean((found(x)[:, 0] - y) ** 2) + 0.5 * abs(found.W1[0, 0])
    assert status == "solved" and reached == pytest.approx((loss + 0.5 * w).min(), abs=2e-3)


def test_crossed_patterns():
    """R1 goes on beyond the boundary on which it ended, where the same patterns would hold it."""
    net = network(2, m=6)
    x, y = data(2, "square", 30)
    objective = Objective.of(net, x, y, "square", 0.05, None, 0.0)
    first = FrozenPatterns(net, x)
    ((middle, _),) = solve(first, objective)
    ((again, _),) = solve(FrozenPatterns(middle, x), objective)
    ((crossed, _),) = solve(FrozenPatterns(middle, x, first), objective)
    reached = [objective.value(n).objective for n in (middle, again, crossed)]
    assert reached[2] < reached[1] - 1e-4 and reached[1] <= reached[0] + 1e-6
