"""Rounds: never worse than the start, whatever the solver does, and within the target."""

import time
from itertools import product

import numpy as np
import pytest
from convex_cases import CLASSIFICATION, data, network

from certlip.errors import UsageError
from certlip.lipschitz import LipSDP
from certlip.lipschitz.engine import run
from certlip.properties import Output
from certlip.repairs.convex import LOSSES, PROGRAMS, Shallow, improve, lipschitz
from certlip.repairs.convex import conic as programs
from certlip.repairs.convex.objective import Objective
from certlip.solvers import conic


def truth(net, x, y, loss, penalty=None, limit=None, margin=0.0):
    return Objective.of(net, x, y, loss, penalty, limit, margin).value(net)


def proved(net):
    found = run(LipSDP(), net.graph(), Output("all"), "l2", None)
    assert found.proved
    return found.value


@pytest.mark.parametrize("loss, outputs, program", list(product(LOSSES, (1, 3), PROGRAMS)))
def test_never_worse(loss, outputs, program):
    seed = sum(map(ord, loss + program)) + outputs
    net = network(seed, o=outputs)
    x, y = data(seed, loss, o=outputs)
    margin = 0.5 if loss in CLASSIFICATION else 0.0
    last = truth(net, x, y, loss, 0.1, margin=margin).objective
    found = list(improve(net, x, y, loss=loss, penalty=0.1, program=program, margin=margin, rounds=1))
    for step in found:
        value = truth(step.net, x, y, loss, 0.1, margin=margin)
        assert (value.objective, value.loss, value.lipschitz) == (step.objective, step.loss, step.lipschitz)
        assert value.objective < last
        last = value.objective
    assert found  # a network drawn at random can be improved


@pytest.mark.parametrize("loss, outputs, program", [("square", 1, "R1"), ("hinge", 3, "R2"), ("huber", 2, "R3")])
def test_within_the_target(loss, outputs, program):
    net = network(7, m=6, o=outputs)
    x, y = data(7, loss, 30, o=outputs)
    target = lipschitz(net)
    before = truth(net, x, y, loss, limit=target).loss
    steps = list(improve(net, x, y, loss=loss, target=target, program=program, rounds=2))
    assert steps
    for step in steps:
        assert step.loss == step.objective < before
        stored = Shallow(*(np.float32(w) for w in (step.net.W1, step.net.b1, step.net.W2, step.net.b2)))
        assert proved(step.net) <= target and proved(stored) <= target
        before = step.loss


def test_rounds_go_on_and_end():
    net = network(1, m=6)
    x, y = data(1, "square", 30)
    steps = list(improve(net, x, y, loss="square", penalty=0.1, rounds=4))
    values = [step.objective for step in steps]
    assert len(steps) == 4 and values == sorted(values, reverse=True)
    assert [step.number for step in steps] == [1, 2, 3, 4] and {step.status for step in steps} == {"solved"}
    assert not list(improve(net, x, y, loss="square", penalty=0.1, rounds=0))


def test_a_broken_solver_makes_nothing_worse(monkeypatch):
    """Whatever comes back is evaluated: worse networks, and networks beyond the target."""
    net = network(1, m=6)
    x, y = data(1, "square", 30)
    target = lipschitz(net)
    answers = [net.scaled(-3.0), Shallow(100 * net.W1, net.b1, net.W2, net.b2), net]
    for answer in answers:
        monkeypatch.setattr(programs, "solve", lambda *_, answer=answer: [(answer, "failed")])
        assert not list(improve(net, x, y, loss="square", penalty=0.1))
        for step in improve(net, x, y, loss="square", target=target):
            assert proved(step.net) <= target and step.loss < truth(net, x, y, "square", 0.0).loss


@pytest.mark.parametrize("factor", [1.001, 0.9])
def test_candidates_are_scaled_to_the_target(monkeypatch, factor):
    """A solution slightly beyond the target counts after it has been shrunk, one below it is stretched."""
    net = network(1, m=6).scaled(0.3)
    x, y = data(1, "square", 30)
    target = lipschitz(net)
    better = list(improve(net, x, y, loss="square", target=target, rounds=1))[-1].net
    monkeypatch.setattr(programs, "solve", lambda *_: [(better.scaled(factor), "inaccurate")])
    (step,) = improve(net, x, y, loss="square", target=target, rounds=1)
    assert proved(step.net) <= target and step.lipschitz > (1 - 1e-4) * target


def test_time():
    net = network(1, m=6)
    x, y = data(1, "square", 30)
    assert not list(improve(net, x, y, loss="square", penalty=0.1, deadline=time.monotonic() - 1))
    began = time.monotonic()
    steps = list(improve(net, x, y, loss="square", penalty=0.01, rounds=10**6, deadline=began + 0.5))
    assert steps and time.monotonic() - began < 5


def test_inputs_that_data_do_not_span_and_neurons_without_output():
    """Weights off the data vanish, neurons that reach no output stay, and sizes are kept."""
    rng = np.random.default_rng(0)
    net = network(3, d=8, m=5)
    net = Shallow(net.W1, net.b1, net.W2 * np.array([1, 1, 0, 1, 1]), net.b2)
    x = rng.standard_normal((20, 3)) @ rng.standard_normal((3, 8))
    y = rng.standard_normal(20)
    step = list(improve(net, x, y, loss="square", penalty=0.1, rounds=1))[-1]
    assert step.net.W1.shape == (5, 8) and step.net.W2.shape == (1, 5)
    assert (step.net.W1[2] == net.W1[2]).all() and step.net.W2[0, 2] == 0
    null = np.linalg.svd(x)[2][3:]
    assert np.abs(step.net.W1[[0, 1, 3, 4]] @ null.T).max() < 1e-10
    np.testing.assert_allclose(step.net.W2, net.W2, rtol=1e-12)  # scalar output: the first layer moves alone


def test_a_constant_network_is_left_alone():
    net = Shallow(np.ones((2, 3)), np.zeros(2), np.zeros((1, 2)), np.zeros(1))
    x, y = data(0, "square")
    assert not list(improve(net, x, y, loss="square", penalty=0.1))


def test_a_margin_moves_classes_apart():
    net = network(5, m=6)
    x = np.random.default_rng(5).standard_normal((40, 3))
    y = (x[:, 0] + 0.3 * x[:, 1] ** 2 > 0).astype(int)
    target = lipschitz(net)

    def margins(margin):
        last = list(improve(net, x, y, loss="hinge", target=target, margin=margin, rounds=3))[-1].net
        return np.sort((2 * y - 1) * last(x)[:, 0])

    assert margins(2.0)[10:].mean() > margins(0.0)[10:].mean() + 0.1


@pytest.mark.parametrize(
    "options, words",
    [
        ({"loss": "square"}, "penalty on L or a target"),
        ({"loss": "square", "penalty": 0.1, "target": 1.0}, "not both"),
        ({"loss": "square", "penalty": -0.1}, "penalty"),
        ({"loss": "square", "target": 0.0}, "positive"),
        ({"loss": "square", "target": 1e-3}, "scale the start first"),
        ({"loss": "square", "penalty": 0.1, "program": "R4"}, "choose one of R1, R2, R3"),
        ({"loss": "square", "penalty": 0.1, "solver": "scs"}, "choose one of auto, clarabel"),
        ({"loss": "square", "penalty": 0.1, "solver": "first-order", "program": "R1"}, "R2 only"),
        ({"loss": "hinge", "penalty": 0.1}, "integer labels"),
        ({"loss": "square", "penalty": 0.1, "margin": float("nan")}, "margin"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options, words):
    x, y = data(0, "square")
    with pytest.raises(UsageError, match=words):
        improve(network(0), x, y, **options)


@pytest.mark.parametrize(
    "x, y, words",
    [
        (np.zeros((5, 2)), np.zeros(5), "do not fit 3 inputs"),
        (np.zeros((5, 3)), np.zeros(4), "do not fit 3 inputs"),
        (np.zeros((0, 3)), np.zeros(0), "do not fit 3 inputs"),
        (np.full((5, 3), np.nan), np.zeros(5), "not finite"),
    ],
)
def test_data_that_do_not_fit_are_refused(x, y, words):
    with pytest.raises(UsageError, match=words):
        improve(network(0), x, y, loss="square", penalty=0.1)


@pytest.mark.parametrize("options", [{"program": "R1"}, {"program": "R3"}, {"solver": "clarabel"}])
def test_programs_that_memory_cannot_hold_are_refused(options):
    x, y = data(0, "square", 1000)
    wide = Shallow(np.ones((600, 3)), np.zeros(600), np.ones((1, 600)), np.zeros(1))
    with pytest.raises(UsageError, match="choose R2 with the first-order solver"):
        improve(wide, x, y, loss="square", penalty=0.1, **options)


def test_a_solver_without_a_licence_is_refused(monkeypatch):
    monkeypatch.setattr(conic, "available", lambda: [("MOSEK", False, "no licence.")])
    x, y = data(0, "square")
    with pytest.raises(UsageError, match=r"mosek cannot be used: no licence\."):
        improve(network(0), x, y, loss="square", penalty=0.1, solver="mosek")
