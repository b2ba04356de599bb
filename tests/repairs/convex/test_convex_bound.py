"""The LMIs against LipSDP: at fixed weights their smallest L is the value that the project's solvers find."""

import cvxpy as cp
import numpy as np
import pytest
from convex_cases import data, moved, network

from certlip.errors import UsageError
from certlip.lipschitz import Gershgorin, LipSDP
from certlip.lipschitz.engine import run
from certlip.properties import Output
from certlip.repairs.convex import Shallow, lipschitz, shallow
from certlip.repairs.convex.improve import restricted
from certlip.repairs.convex.shallow import multipliers
from certlip.solvers import LipSDP as Program
from certlip.solvers import conic

CASES = [(seed, d, m, o) for seed, (d, m, o) in enumerate([(3, 4, 1), (6, 4, 2), (2, 5, 3), (1, 1, 1), (9, 3, 5)])]


def least(program, net):
    """The smallest L of a restriction whose network is held at `net`."""
    program.place(net)
    weights = [v for v in (program._W1, program._W2) if isinstance(v, cp.Variable)] if hasattr(program, "_W1") else []
    weights = weights or [program._W2]
    fixed = [v == v.value for v in weights]
    problem = cp.Problem(cp.Minimize(program.lipschitz), [*program.constraints, *fixed])
    problem.solve(solver="CLARABEL")
    return problem.value


@pytest.mark.parametrize("stage", ["R2", "last layer"])
@pytest.mark.parametrize("seed, d, m, o", CASES)
def test_the_joint_lmi_is_lipsdp_anywhere(stage, seed, d, m, o):
    start = network(seed, d, m, o)
    other = moved(start, seed + 100, 0.5)
    other = (
        Shallow(other.W1, other.b1, start.W2, other.b2)
        if stage == "R2"
        else Shallow(start.W1, start.b1, other.W2, other.b2)
    )
    x, _ = data(seed, "square", 5, d)
    assert least(restricted(stage, start, x), other) == pytest.approx(lipschitz(other), rel=2e-6)


@pytest.mark.parametrize("seed, d, m, o", CASES)
def test_lipschitz_is_what_a_general_solver_finds(seed, d, m, o):
    net = network(seed, d, m, o)
    V = np.concatenate((net.W1, np.zeros((m, m))), axis=1)
    C = np.concatenate((np.zeros((o, d)), net.W2), axis=1)
    reference = conic.solve(Program(V, C, d, np.zeros(m), np.ones(m), (m,)))
    assert lipschitz(net) == pytest.approx(np.sqrt(reference.objective), rel=1e-5)


@pytest.mark.parametrize("seed, d, m, o", CASES)
def test_the_closed_form_of_given_multipliers(seed, d, m, o):
    """With Lam = L / T the bound is |[Lam^-1/2 W1, Lam^1/2 W2']|_2^2 / 2: no other positive Lam has a smaller one."""
    net = network(seed, d, m, o)
    found = multipliers(net)
    rng = np.random.default_rng(seed)

    def value(Lam):
        return (
            0.5
            * np.linalg.norm(np.concatenate((net.W1 / np.sqrt(Lam)[:, None], net.W2.T * np.sqrt(Lam)[:, None]), 1), 2)
            ** 2
        )

    best = found.lipschitz / found.T
    assert value(best) == pytest.approx(found.lipschitz, rel=1e-4)
    assert min(value(best * np.exp(0.3 * rng.standard_normal(m))) for _ in range(50)) >= found.lipschitz * (1 - 1e-6)


def test_the_bound_holds_and_the_proof_agrees():
    net = network(3, 4, 12, 3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5000, 4))
    y = x + 1e-3 * rng.standard_normal(x.shape)
    slopes = np.linalg.norm(net(x) - net(y), axis=1) / np.linalg.norm(x - y, axis=1)
    proved = run(LipSDP(), net.graph(), Output("all"), "l2", None)
    assert slopes.max() <= lipschitz(net) and proved.proved
    assert proved.value == pytest.approx(lipschitz(net), rel=1e-5)
    assert lipschitz(net) < run(Gershgorin(), net.graph(), Output("all"), "l2", None).value


def test_many_neurons_take_another_engine(monkeypatch):
    net = network(0, 4, 20, 3)
    few = multipliers(net)
    monkeypatch.setattr(shallow, "_INTERIOR", 10)
    many = multipliers(net)
    assert many.T.shape == (20,) and many.T.min() > 0 and (many.T != few.T).any()
    assert many.lipschitz == pytest.approx(few.lipschitz, rel=1e-5)


def test_the_graph_is_the_network():
    net = network(0, 3, 4, 2)
    x, _ = data(0, "square")
    np.testing.assert_allclose(net.graph()(x), net(x), atol=1e-14)
    assert lipschitz(net.scaled(0.25)) == pytest.approx(0.25 * lipschitz(net), rel=1e-7)
    np.testing.assert_allclose(net.scaled(0.25)(x) - net.b2, 0.25 * (net(x) - net.b2), atol=1e-14)


@pytest.mark.parametrize(
    "weights",
    [(np.ones((2, 3)), np.ones(3), np.ones((1, 2)), np.ones(1)), (np.ones(3), np.ones(1), np.ones((1, 1)), np.ones(1))],
)
def test_arrays_that_are_no_network_are_refused(weights):
    with pytest.raises(UsageError, match="one hidden layer"):
        Shallow(*weights)


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(UsageError, match="finite"):
        Shallow(np.full((2, 3), np.inf), np.ones(2), np.ones((1, 2)), np.ones(1))
