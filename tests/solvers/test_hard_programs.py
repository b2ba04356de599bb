"""Programs at the edge: near-linear slopes, extreme scales, redundancy, depth; a valid proposal or a clear status."""

import warnings

import numpy as np
import pytest
from solver_programs import chain, holds, smallest_relative_eigenvalue

from certlip.solvers import conic, feasible_start, interior_point

SLOPES = {
    "relu": (0.0, 1.0),
    "abs": (-1.0, 1.0),
    "leaky": (0.1, 1.0),
    "falling": (-1.0, -0.3),
    "near": (0.5, 0.5 + 1e-6),
    "nearer": (0.5, 0.5 + 1e-10),
    "linear": (0.7, 0.7),
}


def networks():
    rng = np.random.default_rng(0)

    def g(*shape):
        return rng.standard_normal(shape)

    def sparse(rows, columns, share):
        return g(rows, columns) * (rng.random((rows, columns)) < share)

    block = g(3, 4)
    return {
        "one neuron": [g(1, 1), g(1, 1)],
        "rank one": [g(5, 1) @ g(1, 4), g(6, 1) @ g(1, 5), g(2, 1) @ g(1, 6)],
        "zero rows": [np.vstack((g(3, 4), np.zeros((2, 4)))), g(4, 5), g(2, 4)],
        "duplicated": [np.repeat(g(3, 4), 2, 0), np.repeat(g(4, 6), 2, 0), g(2, 8)],
        "duplicated, scaled": [np.vstack((block, 1e-6 * block)), g(4, 6), g(2, 4)],
        "small layers": [1e-8 * g(5, 4), 1e-8 * g(5, 5), 1e-8 * g(2, 5)],
        "large layers": [1e8 * g(5, 4), 1e8 * g(5, 5), 1e8 * g(2, 5)],
        "mixed layers": [1e8 * g(5, 4), 1e-8 * g(5, 5), 1e8 * g(5, 5), g(2, 5)],
        "mixed rows": [
            g(6, 4) * 10.0 ** rng.uniform(-8, 8, (6, 1)),
            g(5, 6) * 10.0 ** rng.uniform(-8, 8, (5, 1)),
            g(2, 5),
        ],
        "deep": [g(2, 2) for _ in range(25)],
        "isometries": [np.linalg.qr(g(6, 6))[0] for _ in range(4)],
        "sparse": [sparse(9, 6, 0.2), sparse(9, 9, 0.2), sparse(3, 9, 0.3)],
        "tiny": [1e-120 * g(3, 3), g(3, 3), g(2, 3)],
    }


def sampled_slope(weights, a, b, norm, rng):
    """The largest ``|f(x') - f(x)|/|x' - x|`` met; ``phi`` has the extreme slopes, ``b`` above zero and ``a`` below."""
    x, step = rng.standard_normal((2, 200, weights[0].shape[1]))
    step *= 10.0 ** rng.uniform(-3, 0, (200, 1))
    values = []
    for z in (x, x + step):
        for W in weights[:-1]:
            z = z @ W.T
            z = np.where(z > 0, b * z, a * z)
        values.append(z @ weights[-1].T)
    length = np.linalg.norm(step, axis=1) if norm == "l2" else np.abs(step).max(axis=1)
    return float((np.linalg.norm(values[1] - values[0], axis=1) / length).max())


@pytest.mark.parametrize("mode", ["neuron", "layer"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("slopes", SLOPES.values(), ids=SLOPES)
@pytest.mark.parametrize("name", networks())
def test_a_valid_proposal_without_warnings(name, slopes, norm, mode):
    weights = networks()[name]
    problem = chain(*weights, a=slopes[0], b=slopes[1], norm=norm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proposal = interior_point.solve(problem, mode=mode)
    if proposal.objective == 0:
        assert not np.any(np.linalg.multi_dot(weights))
        return
    assert np.isfinite(proposal.objective) and holds(problem, proposal)
    assert proposal.status in ("solved", "stalled")
    slope = sampled_slope(weights, *slopes, norm, np.random.default_rng(1))
    assert slope <= np.sqrt(proposal.objective) * (1 + 1e-6)  # the differences cancel digits
    assert proposal.objective <= problem.objective(feasible_start(problem, mode=mode)[0])
    if slopes[1] - slopes[0] >= 0.5 and name != "tiny":
        assert proposal.gap < (2e-3 if name == "duplicated, scaled" else 1e-5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("slopes", [(0.5, 0.6), (-0.6, -0.5), (-0.2, 0.7), (0.2, 0.25)])
def test_slopes_of_any_sign_equal_a_general_conic_solver(slopes, norm):
    rng = np.random.default_rng(2)
    problem = chain(
        *(rng.standard_normal(shape) for shape in ((4, 3), (4, 4), (2, 4))), a=slopes[0], b=slopes[1], norm=norm
    )
    ours, theirs = interior_point.solve(problem), conic.solve(problem)
    assert ours.lower <= theirs.objective
    assert ours.objective == pytest.approx(theirs.lower, rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["neuron", "layer"])
@pytest.mark.parametrize(("factor", "slopes"), [(1.0, (0, 1)), (0.3, (0, 1)), (1.0, (-1, 1)), (1.0, (0.5, 1))])
def test_two_hundred_layers(factor, slopes, mode):
    rng = np.random.default_rng(0)
    problem = chain(*(factor * rng.standard_normal((2, 2)) for _ in range(200)), a=slopes[0], b=slopes[1])
    proposal = interior_point.solve(problem, mode=mode)
    assert proposal.gap < 1e-5 and holds(problem, proposal)


def test_a_bound_that_underflows_is_still_a_bound():
    problem = chain(*(1e-3 * np.eye(2) for _ in range(60)))
    proposal = interior_point.solve(problem)
    assert 0 < proposal.objective < 1e-200
    assert smallest_relative_eigenvalue(problem, proposal.metric, proposal.multipliers) > 0


def test_a_bound_that_overflows_is_infinite():
    proposal = interior_point.solve(chain(*(1e3 * np.eye(2) for _ in range(200))))
    assert proposal.objective == np.inf and proposal.status == "stalled" and proposal.gap == 1.0
