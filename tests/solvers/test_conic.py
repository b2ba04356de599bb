"""The bridge to general conic solvers."""

import subprocess
import sys
import time

import numpy as np
import pytest

from certlip.errors import UsageError
from certlip.solvers import LipSDP, conic

NORMS = ["l2", "linf"]


def shallow(norm="l2"):
    rng = np.random.default_rng(0)
    V = np.concatenate((rng.standard_normal((4, 3)), np.zeros((4, 4))), axis=1)
    C = np.concatenate((np.zeros((2, 3)), rng.standard_normal((2, 4))), axis=1)
    return LipSDP(V, C, 3, 0.0, 1.0, (4,), norm)


def test_the_matrix_is_the_stated_one():
    """``M`` against its definition, one rank-two term at a time."""
    rng = np.random.default_rng(1)
    V = np.tril(rng.standard_normal((5, 7)), 1)
    a = rng.uniform(-1, 0, 5)
    problem = LipSDP(V, rng.standard_normal((2, 7)), 2, a, a + 1, (1,) * 5)
    P, T = rng.random(2), rng.random(5)
    M = np.diag(np.concatenate((P, np.zeros(5)))) - problem.C.T @ problem.C
    for j in range(5):
        e = np.eye(7)[2 + j]
        g, h = e - problem.a[j] * V[j], e - problem.b[j] * V[j]
        M += T[j] * (np.outer(g, h) + np.outer(h, g))
    np.testing.assert_allclose(problem.matrix(P, T), M, atol=1e-13)


@pytest.mark.parametrize("mode", ["neuron", "layer"])
@pytest.mark.parametrize("norm", NORMS)
def test_returns_a_feasible_point_with_its_gap(norm, mode):
    problem = shallow(norm)
    proposal = conic.solve(problem, mode=mode)
    assert proposal.status == "solved" and abs(proposal.gap) < 1e-6
    assert np.linalg.eigvalsh(problem.matrix(proposal.metric, proposal.multipliers))[0] > 0
    assert proposal.objective == problem.objective(proposal.metric)
    if mode == "layer":
        assert np.ptp(proposal.multipliers) < 1e-12 * proposal.multipliers.max()


@pytest.mark.parametrize("norm", NORMS)
def test_linear_network(norm):
    C = np.array([[3.0, -4.0]])
    proposal = conic.solve(LipSDP(np.zeros((0, 2)), C, 2, 0, 1, (), norm))
    assert np.sqrt(proposal.objective) == pytest.approx(5.0 if norm == "l2" else 7.0, rel=1e-6)


def test_no_time_leaves_the_closed_form():
    problem = shallow()
    proposal = conic.solve(problem, deadline=time.monotonic() - 1)
    assert proposal.status == "deadline" and proposal.iterations == 0
    assert np.linalg.eigvalsh(problem.matrix(proposal.metric, proposal.multipliers))[0] > 0


def test_a_second_solver_agrees():
    if "SCS" not in {name for name, usable, _ in conic.available() if usable}:
        pytest.skip("SCS is not installed")
    problem = shallow()
    assert conic.solve(problem, solver="SCS").objective == pytest.approx(
        conic.solve(problem).objective, rel=1e-2
    )


def test_available_solvers_carry_a_reason():
    listed = conic.available()
    assert [name for name, _, _ in listed] == ["CLARABEL", "SCS", "MOSEK"]
    assert all(reason.endswith((".", "?")) for _, _, reason in listed)
    assert listed[0][1], listed[0][2]


def test_an_unusable_solver_is_refused_with_its_reason(monkeypatch):
    import cvxpy

    with pytest.raises(UsageError, match="choose one of"):
        conic.solve(shallow(), solver="NOBODY")
    monkeypatch.setattr(cvxpy, "installed_solvers", lambda: ["CLARABEL"])
    with pytest.raises(UsageError, match="not installed"):
        conic.solve(shallow(), solver="SCS")


def test_mosek_without_a_licence_is_unusable_although_listed(monkeypatch):
    import cvxpy

    def unlicensed(*_args, **_options):
        raise RuntimeError("no licence")

    monkeypatch.setattr(cvxpy, "installed_solvers", lambda: ["CLARABEL", "MOSEK"])
    monkeypatch.setattr(cvxpy.Problem, "solve", unlicensed)
    name, usable, reason = conic.available()[-1]
    assert (name, usable) == ("MOSEK", False) and "licence" in reason


def test_cvxpy_is_imported_only_when_called():
    script = "import sys, certlip.solvers; sys.exit('cvxpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
