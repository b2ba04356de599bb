"""The first-order solver against Clarabel, and what it promises by itself."""

import time

import numpy as np
import pytest
import torch
from convex_cases import data, network

from certlip.repairs.convex import Shallow, first_order, improve, lipschitz
from certlip.repairs.convex.conic import solve
from certlip.repairs.convex.improve import restricted
from certlip.repairs.convex.objective import Objective

CASES = [
    ("huber", 2, "R2", None, 0.7), ("hinge", 1, "R2", 0.05, None), ("square", 3, "last layer", 0.05, None),
    *(pytest.param(*case, marks=pytest.mark.long) for case in (
        ("square", 1, "R2", 0.05, None), ("cross-entropy", 3, "R2", 0.05, None), ("absolute", 1, "R2", 0.05, None),
        ("hinge", 3, "last layer", None, 0.7), ("cross-entropy", 1, "R2", None, 0.7),
    )),
]  # fmt: skip


def majorised(stage, net, objective, other):
    """The majorised objective of `other`, evaluated by the conic program's expressions."""
    program = restricted(stage, net, objective.x)
    program.place(other)
    total = 0.0
    for scores in objective.scores:
        g = program.majorant(scores.rows, scores.K).value + scores.offset
        total += objective.loss.values(g).sum()
    return total / objective.count + objective.penalty * lipschitz(other)


@pytest.mark.parametrize("loss, outputs, stage, penalty, share", CASES)
def test_the_same_optimum_as_clarabel(loss, outputs, stage, penalty, share):
    """To 2 % of what there is to gain, in a few hundred gradients."""
    net = network(4, m=6, o=outputs)
    x, y = data(4, loss, 60, o=outputs)
    limit = None if share is None else share * lipschitz(net)
    net = net if share is None else net.scaled(share)
    objective = Objective.of(net, x, y, loss, penalty, limit, 0.0)
    ((exact, _),) = solve(restricted(stage, net, x), objective)
    (*_, (found, _)) = first_order.solve(net, objective, stage)
    start, best, reached = (majorised(stage, net, objective, other) for other in (net, exact, found))
    assert best < start and abs(reached - best) <= 0.02 * (start - best)
    assert limit is None or lipschitz(found) <= limit * (1 + 1e-6)


@pytest.mark.parametrize("stage", ["R2", "last layer"])
def test_gradients_and_blocks(stage, monkeypatch):
    net = network(0, m=5, o=3)
    x, y = data(0, "cross-entropy", 30, o=3)
    objective = Objective.of(net, x, y, "cross-entropy", 0.1, None, 0.2)
    search = first_order._Search(net, objective, stage, "cpu")
    function, point = search.function(0.01, 0.1), search.start()
    value, gradient = function(point)
    step = torch.as_tensor(np.random.default_rng(0).standard_normal(len(point))) * 1e-6
    numerical = (function(point + step)[0] - function(point - step)[0]) / 2
    assert float(numerical) == pytest.approx(float(gradient @ step), rel=1e-5)
    monkeypatch.setattr(first_order, "_ENTRIES", 20)
    split = first_order._Search(net, objective, stage, "cpu").function(0.01, 0.1)(point)
    assert float(split[0]) == pytest.approx(float(value), rel=1e-12)
    torch.testing.assert_close(split[1], gradient)


def test_outside_the_barrier_is_infinite():
    net = network(0)
    x, y = data(0, "square")
    search = first_order._Search(net, Objective.of(net, x, y, "square", 0.1, None, 0.0), "R2", "cpu")
    point = search.start()
    assert np.isfinite(float(search.function(0.01, 0.1)(point)[0]))
    no_bound, large, no_multipliers = point.clone(), point.clone(), point.clone()
    no_bound[-1], large[: net.W1.size], no_multipliers[-5:-1] = -0.1, 30.0 * large[: net.W1.size], 1e-9
    for wrong in (no_bound, large, no_multipliers):
        assert float(search.function(0.01, 0.1)(wrong)[0]) == float("inf")


def test_rounds_never_get_worse():
    outputs, loss = 2, "logistic"
    net = network(2, m=4, o=outputs)
    x, y = data(2, loss, 20, o=outputs)
    objective = Objective.of(net, x, y, loss, 0.05, None, 0.0)
    last = objective.value(net).objective
    steps = list(improve(net, x, y, loss=loss, penalty=0.05, solver="first-order", rounds=1))
    for step in steps:
        assert objective.value(step.net).objective == step.objective < last
        last = step.objective
    assert {step.program for step in steps} >= {"R2"}


def test_size_chooses_and_the_clock_is_kept():
    rng = np.random.default_rng(0)
    net = Shallow(rng.standard_normal((120, 10)) / 3, np.zeros(120), rng.standard_normal((1, 120)) / 5, np.zeros(1))
    x, y = data(0, "square", 3000, 10)
    began = time.monotonic()
    steps = list(improve(net, x, y, loss="square", penalty=0.05, rounds=1, deadline=began + 1.5))
    assert time.monotonic() - began < 4
    assert steps and {step.solver for step in steps} == {"first-order"} and steps[-1].status != "solved"
