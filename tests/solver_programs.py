"""LipSDP programs of small networks, and what every proposal for one must satisfy."""

from itertools import pairwise

import numpy as np

from certlip.solvers import LipSDP, Proposal


def chain(*weights, a=0.0, b=1.0, norm="l2"):
    n0, sizes = weights[0].shape[1], [W.shape[0] for W in weights[:-1]]
    V, C = np.zeros((sum(sizes), n0 + sum(sizes))), np.zeros((weights[-1].shape[0], n0 + sum(sizes)))
    row = column = 0
    for W in weights[:-1]:
        V[row : row + W.shape[0], column : column + W.shape[1]] = W
        row, column = row + W.shape[0], column + W.shape[1]
    C[:, column:] = weights[-1]
    return LipSDP(V, C, n0, a, b, tuple(sizes), norm)


def random_chain(seed, sizes, **options):
    rng = np.random.default_rng(seed)
    return chain(*(rng.standard_normal((o, i)) / np.sqrt(i) for i, o in pairwise(sizes)), **options)


def residual(seed, width, depth, a=0.0, b=1.0, norm="l2"):
    """``y <- y + G phi(W y)``, ``depth`` times, then one linear row: every layer sees all earlier ones."""
    rng = np.random.default_rng(seed)
    n = width * (depth + 1)
    V, state = np.zeros((width * depth, n)), np.eye(width, n)
    for k in range(depth):
        rows = slice(width * k, width * (k + 1))
        V[rows] = rng.standard_normal((width, width)) / np.sqrt(width) @ state
        state[:, width * (k + 1) : width * (k + 2)] += 0.5 * rng.standard_normal((width, width))
    return LipSDP(V, rng.standard_normal((2, width)) @ state, width, a, b, (width,) * depth, norm)


def smallest_relative_eigenvalue(problem: LipSDP, metric, T):
    M = problem.matrix(metric, T)
    scale = 1 / np.sqrt(np.diag(M))
    return np.linalg.eigvalsh(M * np.outer(scale, scale))[0]


def holds(problem: LipSDP, proposal: Proposal):
    """The proposal is strictly feasible, its numbers are about itself, and it cannot be below the optimum."""
    assert np.all(proposal.metric >= 0) and np.all(proposal.multipliers >= 0)
    assert proposal.metric.shape == (problem.inputs,) and proposal.multipliers.shape == (problem.neurons,)
    assert smallest_relative_eigenvalue(problem, proposal.metric, proposal.multipliers) > 0
    assert proposal.objective == problem.objective(proposal.metric)
    assert proposal.objective >= proposal.lower * (1 - 1e-9)
    return True
