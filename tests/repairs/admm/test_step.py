import math
import time

import numpy as np
import pytest
from chains import oracle_squared_bound, random_chain

from certlip.repairs.admm.barrier import Distance
from certlip.repairs.admm.lmi import Lmi
from certlip.repairs.admm.step import Certified, distance, stepped


def at(chain, share, room=1.05):
    """Multipliers of the chain shrunk to a share of its bound, and the target: the chain itself."""
    rho, _ = chain.multipliers()
    small = chain.scaled(share / math.sqrt(room))
    least, T = small.multipliers()
    return Certified(small.weights, chain.wide_slopes, least, T).with_room(share**2 * rho), chain.weights


def by_clarabel(present, target, weight, mu=None):
    """The step with fixed multipliers, block by block, through a general conic solver."""
    import cvxpy as cp

    W = [cp.Variable(Z.shape) for Z in target]
    rho = cp.Variable() if mu is not None else present.rho
    sizes = [target[0].shape[1], *(len(Z) for Z in target)]
    blocks = [[np.zeros((m, n)) for n in sizes] for m in sizes]
    diagonal = [rho * np.eye(sizes[0]), *(np.diag(2 * t) for t in present.T), np.eye(sizes[-1])]
    for i, D in enumerate(diagonal):
        blocks[i][i] = D
    for i, V in enumerate(W):
        factor = np.diag(present.slopes[i][1] * present.T[i]) if i < len(present.T) else np.eye(len(target[i]))
        blocks[i + 1][i], blocks[i][i + 1] = -factor @ V, -V.T @ factor
    S = cp.bmat(blocks)
    cost = 0.5 * weight * sum(cp.sum_squares(V - Z) for V, Z in zip(W, target, strict=True))
    problem = cp.Problem(cp.Minimize(cost + (mu * rho if mu is not None else 0)), [(S + S.T) / 2 >> 0])
    problem.solve(solver="CLARABEL")
    return problem.value


@pytest.mark.parametrize("mu", [None, 0.05])
@pytest.mark.parametrize(
    ("sizes", "activation"),
    [((2, 6, 3), "relu"), ((7, 4, 3), "tanh"), ((2, 5, 5, 3), "sigmoid"), ((3, 2, 6), "relu")],
)
def test_equals_a_general_conic_solver(sizes, activation, mu):
    present, target = at(random_chain(3, sizes, activation), 0.4)
    found = stepped(present, target, 0.25, mu=mu, joint=False, gap=1e-6)
    value = 0.125 * distance(found.weights, target) + (mu or 0.0) * (found.rho if mu else 0.0)
    assert value == pytest.approx(by_clarabel(present, target, 0.25, mu), rel=1e-4)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "abs", "leaky"])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("sizes", [(2, 6, 3), (3, 5, 4, 2), (2, 4, 4, 3, 3)])
def test_is_inside_and_no_worse_than_staying(sizes, joint, activation):
    chain = random_chain(5, sizes, activation)
    present, target = at(chain, 0.3)
    found = stepped(present, target, 0.25, joint=joint)
    assert distance(found.weights, target) < distance(present.weights, target)
    assert found.rho == present.rho
    moved = chain.with_weights(found.weights)
    matrix = moved.program(found.slopes).matrix(found.rho, np.concatenate(found.T))
    assert np.linalg.eigvalsh(matrix)[0] > 0
    assert oracle_squared_bound(moved) <= found.rho * (1 + 1e-6)


@pytest.mark.parametrize("sizes", [(4, 12, 3), (5, 8, 8, 3)])
def test_the_joint_step_comes_closer_than_alternating_ones(sizes):
    chain = random_chain(8, sizes)
    present, target = at(chain, 0.3)
    rho, fixed = present.rho, present
    for _ in range(4):
        fixed = stepped(fixed, target, 0.25, joint=False, gap=1e-4)
        least, T = chain.with_weights(fixed.weights).multipliers()
        fixed = Certified(fixed.weights, fixed.slopes, least, T).with_room(rho)
    joint = stepped(present, target, 0.25, joint=True, gap=1e-4)
    assert distance(joint.weights, target) < 0.95 * distance(fixed.weights, target)


def test_one_neuron_is_projected_onto_the_hyperbola():
    """f(x) = u relu(w x): the bound is |u w|, the nearest point with |u w| <= c solves a quartic."""
    chain = random_chain(0, (1, 1, 1))
    chain = chain.with_weights((np.array([[3.0]]), np.array([[1.0]])))
    present, target = at(chain, 1 / 3)
    w = np.geomspace(0.1, 10, 200001)
    nearest = float(np.min((w - 3.0) ** 2 + (1.0 / w - 1.0) ** 2))
    found = stepped(present, target, 1.0, joint=True, gap=1e-6)
    assert distance(found.weights, target) == pytest.approx(nearest, rel=1e-3)


def test_a_price_of_the_bound_lowers_it():
    chain = random_chain(4, (2, 6, 6, 3), "tanh")
    rho, T = chain.multipliers()
    present = Certified(chain.weights, chain.wide_slopes, rho, T)
    before = rho
    for mu in (0.01, 0.1, 1.0):
        found = stepped(present, chain.weights, 0.25, mu=mu)
        after = chain.with_weights(found.weights).squared_bound()
        assert after <= found.rho * (1 + 1e-9)
        assert 0.125 * distance(found.weights, chain.weights) + mu * found.rho < mu * rho
        assert after < before
        before = after


def test_gradient_and_curvature_against_differences():
    rng = np.random.default_rng(2)
    chain = random_chain(6, (3, 4, 4, 2))
    rho, T = chain.multipliers()
    base = [W + rng.standard_normal(W.shape) for W in chain.weights]
    lmi = Lmi.of(base, chain.wide_slopes, rho, T, joint=True, free_rho=True)
    cost = Distance(lmi, 0.25, 0.3)
    x = lmi.joined(chain.weights) + 0.05 * rng.standard_normal(lmi.joined(chain.weights).size)
    v = rng.standard_normal(x.size)
    slope = (cost.value(x + 1e-5 * v) - cost.value(x - 1e-5 * v)) / 2e-5
    assert cost.gradient(x) @ v == pytest.approx(slope, rel=1e-6)

    def residuals(x):
        return np.concatenate([np.ravel(W - Z) for W, Z in zip(lmi.point(x)[0], base, strict=True)])

    moved = (residuals(x + 1e-5 * v) - residuals(x - 1e-5 * v)) / 2e-5
    product, diagonal = cost.curvature(x)
    assert v @ product(v) == pytest.approx(0.25 * moved @ moved, rel=1e-6)
    sizes = [(W.shape[0], W.shape[1]) for W in base] + [(1, b) for b, _ in (W.shape for W in base[:-1])]
    full = np.concatenate([np.tile(d, rows) for d, (rows, _) in zip(diagonal, sizes, strict=True)])
    for k in range(0, full.size, 5):
        assert product(np.eye(x.size)[k])[k] == pytest.approx(full[k], rel=1e-10)


def test_no_time_leaves_a_feasible_point():
    present, target = at(random_chain(1, (4, 20, 20, 3)), 0.3)
    began = time.monotonic()
    found = stepped(present, target, 0.25, deadline=began)
    assert time.monotonic() - began < 1.0
    assert distance(found.weights, target) <= distance(present.weights, target)
