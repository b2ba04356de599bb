import numpy as np
import pytest
from chains import ACTIVATIONS, random_chain

from certlip.repairs.admm.lmi import Lmi


def written_out(chain, weights, rho, T):
    """The LMI in the coordinates (x, z), the last layer not yet taken apart, from the slopes' quadratic forms."""
    moved = chain.with_weights(weights)
    return moved.program(chain.wide_slopes).matrix(rho, np.concatenate(T))


def setting(activation, joint, free_rho, sizes=(3, 4, 5, 2), seed=0):
    chain = random_chain(seed, sizes, activation)
    rng = np.random.default_rng(seed + 1)
    rho, T = chain.multipliers()
    T = tuple(t * rng.uniform(0.5, 2.0, t.shape) for t in T)
    base = tuple(W + 0.3 * rng.standard_normal(W.shape) for W in chain.weights)
    return chain, rng, rho, T, Lmi.of(base, chain.wide_slopes, rho, T, joint=joint, free_rho=free_rho)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("joint", [False, True])
def test_positive_exactly_where_the_lipsdp_matrix_is(activation, joint):
    chain, rng, rho, T, lmi = setting(activation, joint, True)
    seen = set()
    for _ in range(60):
        factors = [np.exp(0.5 * rng.standard_normal(len(t))) if joint else np.ones(len(t)) for t in T]
        share = float(np.exp(rng.standard_normal()))
        weights = [float(rng.choice([0.3, 0.8, 1.1])) * W for W in chain.weights]
        divisors = [np.ones(weights[0].shape[1]), *factors]
        E = [(W - Z) * s for W, Z, s in zip(weights, lmi.base, divisors, strict=True)]
        x = np.concatenate([*map(np.ravel, E), *(factors if joint else ()), [share]])
        np.testing.assert_allclose(lmi.point(x)[0][1], weights[1], atol=1e-12)
        reference = written_out(chain, weights, share * rho, [t / s for t, s in zip(T, factors, strict=True)])
        ours, theirs = (np.linalg.eigvalsh(matrix)[0] for matrix in (lmi.matrix(x), reference))
        if min(abs(ours), abs(theirs)) > 1e-9:
            assert (ours > 0) == (theirs > 0)
            seen.add(ours > 0)
    assert seen == {True, False}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("free_rho", [False, True])
def test_the_adjoint_is_one(activation, joint, free_rho):
    chain, rng, _, _, lmi = setting(activation, joint, free_rho)
    x = rng.standard_normal(lmi.joined(chain.weights).size)
    Q = rng.standard_normal((lmi.order, lmi.order))
    Q = Q + Q.T
    assert np.vdot(lmi.change(x), Q) == pytest.approx(x @ lmi.adjoint(Q), rel=1e-10)
    np.testing.assert_allclose(lmi.matrix(x) - lmi.matrix(0 * x), lmi.change(x), atol=1e-12)


def test_smaller_weights_stay_inside():
    chain, _, rho, _, _ = setting("gelu", False, False)
    rho, T = chain.multipliers()
    lmi = Lmi.of(chain.weights, chain.wide_slopes, rho, T)
    for share in np.linspace(0, 1, 11):
        assert np.linalg.eigvalsh(lmi.matrix(lmi.joined([share * W for W in chain.weights])))[0] > 0


@pytest.mark.parametrize("joint", [False, True])
def test_the_preconditioner_inverts_its_own_part(joint):
    """Without couplings, at the zero network, it is the inverse of D + tau A*(A .)."""
    chain, rng, rho, T, _ = setting("relu", joint, True)
    zero = [np.zeros(W.shape) for W in chain.weights]
    lmi = Lmi.of(zero, chain.wide_slopes, rho, T, joint=joint, free_rho=True)
    v = rng.standard_normal(lmi.joined(zero).size)
    diagonal = [rng.uniform(0.5, 2.0, W.shape[1]) for W in zero] + [rng.uniform(0.5, 2.0, len(t)) for t in T if joint]
    parts = [np.broadcast_to(d, W.shape) for d, W in zip(diagonal, zero, strict=False)] + diagonal[len(zero) :]
    D = np.concatenate([*map(np.ravel, parts), [0.0]])
    solve = lmi.preconditioner(np.eye(lmi.order), diagonal, 0.7)
    np.testing.assert_allclose(solve(D * v + 0.7 * lmi.adjoint(lmi.change(v))), v, atol=1e-9)
