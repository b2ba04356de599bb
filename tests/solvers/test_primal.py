"""The lower bound of a proposal: exactly feasible factors, evaluated here from the definition."""

import numpy as np
import pytest
from solver_programs import chain, random_chain, residual

from certlip.solvers import LipSDP, conic, interior_point
from certlip.solvers.primal import feasible_factor, thin_factor

SLOPES = {"relu": (0.0, 1.0), "abs": (-1.0, 1.0), "leaky": (0.1, 1.0), "falling": (-1.0, -0.25)}


def value_of(problem: LipSDP, F, mode):
    """``<C'C, F F'>`` after checking ``<A_k, F F'> <= cost_k`` entry by entry."""
    X = F @ F.T
    x = np.diag(X)[: problem.inputs]
    assert (x.sum() if problem.norm == "l2" else x.max()) <= 1.0
    axes = np.eye(problem.size)[problem.inputs :]
    slacks = []
    for j in range(problem.neurons):
        g, h = axes[j] - problem.a[j] * problem.V[j], axes[j] - problem.b[j] * problem.V[j]
        slacks.append(-2.0 * g @ X @ h)
    if mode == "layer":
        slacks = [sum(slacks[block]) for block in problem.blocks]
    assert min(slacks, default=0.0) >= -1e-15 * np.abs(X).max()
    return float(np.sum((problem.C @ F) ** 2))


@pytest.mark.parametrize("mode", ["neuron", "layer"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("slopes", SLOPES.values(), ids=SLOPES)
def test_the_primal_point_is_feasible_and_has_the_value(slopes, norm, mode):
    for problem in (
        random_chain(1, (9, 4, 5, 2), a=slopes[0], b=slopes[1], norm=norm),
        residual(2, 3, 3, *slopes, norm),
    ):
        proposal = interior_point.solve(problem, mode=mode, want_primal=True)
        value = value_of(problem, proposal.primal, mode)
        assert proposal.lower * (1 - 1e-8) <= value <= proposal.lower * (1 + 1e-12)
        assert proposal.objective * (1 - 1e-6) <= value <= proposal.objective


@pytest.mark.parametrize("mode", ["neuron", "layer"])
def test_any_factor_becomes_feasible_and_stays_below_the_optimum(mode):
    rng = np.random.default_rng(3)
    for norm in ("l2", "linf"):
        problem = random_chain(4, (3, 5, 4, 2), a=-0.5, norm=norm)
        best = conic.solve(problem, mode=mode).objective
        for columns in (1, 4, 12):
            F = rng.standard_normal((problem.size, columns)) * 10.0 ** rng.uniform(-3, 3)
            assert value_of(problem, feasible_factor(problem, mode, F), mode) <= best


def test_a_feasible_factor_is_hardly_changed():
    problem = random_chain(5, (4, 6, 6, 3))
    F = interior_point.solve(problem, want_primal=True).primal
    np.testing.assert_allclose(feasible_factor(problem, "neuron", F), F, atol=1e-10)


def test_few_columns_are_enough():
    rng = np.random.default_rng(6)
    F = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 30)) * 10.0 ** rng.uniform(-6, 6, (30, 1))
    thin = thin_factor(F)
    assert thin.shape == (30, 4)
    lengths = np.linalg.norm(F, axis=1)
    np.testing.assert_allclose(
        (thin @ thin.T) / np.outer(lengths, lengths), (F @ F.T) / np.outer(lengths, lengths), atol=1e-8
    )


def test_linear_and_dead_neurons_and_redundant_inputs_are_lifted():
    rng = np.random.default_rng(7)
    W1, W2, W3 = rng.standard_normal((6, 2)) @ rng.standard_normal((2, 9)), rng.standard_normal((4, 6)), np.ones((2, 4))
    W1[3] = 0.0
    b = np.repeat([1.0, 0.5], [6, 4])
    problem = chain(W1, W2, W3, a=np.repeat([0.0, 0.5], [6, 4]), b=b)
    proposal = interior_point.solve(problem, want_primal=True)
    assert proposal.primal.shape[1] <= 8
    assert value_of(problem, proposal.primal, "neuron") == pytest.approx(proposal.objective, rel=1e-3)


def test_stopped_at_any_time_the_lower_bound_holds():
    problem = random_chain(8, (6, 8, 8, 3))
    best = interior_point.solve(problem).objective
    limit = {"left": 0}

    def pause():
        limit["left"] -= 1
        if limit["left"] < 0:
            raise interior_point.OutOfTime

    lowers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interior_point, "_pause", lambda deadline: pause)
        for allowed in range(0, 60, 3):
            limit["left"] = allowed
            proposal = interior_point.solve(problem, want_primal=True)
            assert 0 < proposal.lower <= best <= proposal.objective * (1 + 1e-12)
            assert value_of(problem, proposal.primal, "neuron") <= best
            lowers.append(proposal.lower)
            assert proposal.status == "deadline"
    assert lowers[-1] > 0.9 * best
