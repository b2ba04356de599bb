"""The interior-point method against oracles without shared code: cvxpy, published optima, closed forms."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from solver_programs import chain, holds, random_chain, residual, smallest_relative_eigenvalue

from certlip.solvers import LipSDP, conic, feasible_start, interior_point
from certlip.solvers.cone import ConeProgram
from certlip.solvers.reduction import reduce

DATA = Path(os.environ.get("CERTLIP_REFERENCE_DATA", Path(__file__).parents[2] / "../shared/data"))
SLOPES = {"relu": (0.0, 1.0), "abs": (-1.0, 1.0), "leaky": (0.1, 1.0), "sigmoid": (0.0, 0.25)}


def reference(name):
    path = DATA / "lipschitz" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent: set CERTLIP_REFERENCE_DATA to the folder of reference networks")
    with np.load(path) as arrays:
        count = sum(key.startswith("W") for key in arrays.files)
        return [arrays[f"W{k}"].astype(np.float64) for k in range(count)]


@pytest.mark.parametrize("mode", ["neuron", "layer"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("slopes", SLOPES.values(), ids=SLOPES)
@pytest.mark.parametrize(
    "build",
    [
        lambda a, b, norm: random_chain(1, (5, 6, 4, 3), a=a, b=b, norm=norm),
        lambda a, b, norm: random_chain(2, (2, 9, 2), a=a, b=b, norm=norm),
        lambda a, b, norm: residual(3, 4, 3, a, b, norm),
    ],
    ids=["chain", "wide", "residual"],
)
def test_optimum_equals_a_general_conic_solver(build, slopes, norm, mode):
    problem = build(*slopes, norm)
    ours = interior_point.solve(problem, mode=mode)
    theirs = conic.solve(problem, mode=mode)
    assert ours.status == "solved" and ours.gap < 1e-6 and holds(problem, ours)
    # Its dual value is the optimum to its tolerance; its objective paid for a strictly feasible witness.
    assert ours.objective == pytest.approx(theirs.lower, rel=1e-6)
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-5)


def test_vector_slopes_equal_a_general_conic_solver():
    rng = np.random.default_rng(8)
    a = rng.uniform(-1, 0.5, 12)
    problem = residual(9, 4, 3, a, a + rng.uniform(0.1, 1, 12))
    ours = interior_point.solve(problem)
    assert holds(problem, ours)
    assert ours.objective == pytest.approx(conic.solve(problem).lower, rel=1e-6)


@pytest.mark.parametrize(("name", "mode", "value"), [
    ("lipsdp_random", "neuron", 36.48223),
    ("lipsdp_random", "layer", 39.83862),
    ("lipsdp_mnist", "neuron", 24.36635),
    ("lipsdp_mnist", "layer", 26.25597),
])  # fmt: skip
def test_published_optima(name, mode, value):
    problem = chain(*reference(name))
    proposal = interior_point.solve(problem, mode=mode)
    assert np.sqrt(proposal.objective) == pytest.approx(value, rel=1e-6)
    assert proposal.gap < 1e-6 and holds(problem, proposal)


def test_published_optimum_of_one_logit():
    *hidden, last = reference("digits_fnn2_seed0")
    proposal = interior_point.solve(chain(*hidden, last[7:8]))
    assert np.sqrt(proposal.objective) == pytest.approx(5.109714769, rel=1e-7)


def test_coupled_multipliers_stay_out():
    """``relu(x) - relu(x + 1)`` has constant 1; multipliers that couple the two neurons would "prove" 0."""
    problem = LipSDP([[1, 0, 0], [1, 0, 0]], [[0, 1, -1]], 1, 0.0, 1.0, (2,))
    for mode in ("neuron", "layer"):
        assert interior_point.solve(problem, mode=mode).objective >= 1 - 1e-9


@pytest.mark.parametrize(("slopes", "norm"), [((0, 1), "l2"), ((-1, 1), "l2"), ((0.3, 0.5), "linf")])
def test_one_neuron_has_a_closed_form(slopes, norm):
    """``f = c phi(v'x)`` has the constant ``|c| max|slope| |v|``, in the dual norm."""
    v, c = np.array([[3.0, -4.0]]), np.array([[2.0]])
    proposal = interior_point.solve(chain(v, c, a=slopes[0], b=slopes[1], norm=norm))
    dual = 5.0 if norm == "l2" else 7.0
    assert np.sqrt(proposal.objective) == pytest.approx(2 * max(map(abs, slopes)) * dual, rel=1e-7)


@pytest.mark.parametrize("mode", ["neuron", "layer"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_neurons_at_all(norm, mode):
    C = np.random.default_rng(0).standard_normal((1, 4))
    proposal = interior_point.solve(LipSDP(np.zeros((0, 4)), C, 4, 0, 1, (), norm), mode=mode)
    dual = np.linalg.norm(C) if norm == "l2" else np.abs(C).sum()
    assert np.sqrt(proposal.objective) == pytest.approx(dual, rel=1e-7)


@pytest.mark.parametrize("mode", ["neuron", "layer"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("zero", range(3))
def test_zero_layers_make_a_constant_network(zero, norm, mode):
    weights = [np.ones((3, 2)), np.ones((4, 3)), np.ones((2, 4))]
    weights[zero] *= 0.0
    problem = chain(*weights, norm=norm)
    proposal = interior_point.solve(problem, mode=mode)
    assert proposal.objective == proposal.lower == 0.0
    assert np.linalg.eigvalsh(problem.matrix(proposal.metric, proposal.multipliers))[0] >= -1e-12


def test_dead_neurons_change_nothing():
    """Neurons that read nothing, read only such neurons, or feed nothing, and one input that nobody reads."""
    rng = np.random.default_rng(4)
    W1, W2, W3 = (rng.standard_normal(shape) for shape in ((4, 3), (5, 4), (2, 5)))
    plain = interior_point.solve(chain(W1, W2, W3)).objective
    big1, big2, big3 = np.zeros((6, 4)), np.zeros((8, 6)), rng.standard_normal((2, 8))
    big1[:4, :3], big1[5, :3] = W1, 1.0  # row 4 reads nothing; neuron 5 feeds nothing
    big2[:5, :4], big2[6, 4] = W2, 1.0  # row 5 reads nothing, row 6 a dead neuron, row 7 nothing
    big3[:, :5] = W3
    problem = chain(big1, big2, big3)
    proposal = interior_point.solve(problem)
    assert holds(problem, proposal)
    assert proposal.objective == pytest.approx(plain, rel=1e-6)


def test_linear_neurons_are_substituted():
    """Slopes ``[1/2, 1/2]`` in the second layer: the network is a chain with one layer less."""
    rng = np.random.default_rng(5)
    W1, W2, W3 = (rng.standard_normal(shape) for shape in ((5, 3), (4, 5), (2, 4)))
    merged = interior_point.solve(chain(W1, W3 @ W2 / 2)).objective
    a, b = np.repeat([0.0, 0.5], [5, 4]), np.repeat([1.0, 0.5], [5, 4])
    for mode, expected in (
        ("neuron", merged),
        ("layer", interior_point.solve(chain(W1, W3 @ W2 / 2), mode="layer").objective),
    ):
        problem = chain(W1, W2, W3, a=a, b=b)
        proposal = interior_point.solve(problem, mode=mode)
        assert holds(problem, proposal)
        assert proposal.objective == pytest.approx(expected, rel=1e-4)


def test_layer_mode_shares_its_multipliers():
    proposal = interior_point.solve(random_chain(6, (3, 5, 4, 2)), mode="layer")
    for block in (slice(0, 5), slice(5, 9)):
        assert np.ptp(proposal.multipliers[block]) <= 1e-12 * proposal.multipliers[block].max()


@pytest.mark.parametrize("powers", [(8, 8, 8), (-8, -8, -8), (8, -8, 0), (-8, 8, 3)])
def test_scales_of_layers_multiply(powers):
    weights = [np.random.default_rng(7).standard_normal(shape) for shape in ((4, 3), (5, 4), (2, 5))]
    plain = interior_point.solve(chain(*weights)).objective
    scaled = interior_point.solve(chain(*(W * 10.0**p for W, p in zip(weights, powers, strict=True))))
    assert scaled.objective == pytest.approx(plain * 100.0 ** sum(powers), rel=1e-7)


def test_deep_chain():
    problem = random_chain(10, (20,) * 17)
    proposal = interior_point.solve(problem)
    assert proposal.status == "solved" and proposal.gap < 1e-6 and holds(problem, proposal)
    assert proposal.objective < interior_point.solve(problem, mode="layer").objective


def test_a_deadline_in_the_past_still_gives_a_bound():
    problem = random_chain(11, (6, 8, 8, 3))
    best = interior_point.solve(problem)
    early = interior_point.solve(problem, deadline=time.monotonic() - 1)
    assert early.status == "deadline" and early.iterations == 0 and holds(problem, early)
    assert 0 < early.lower <= best.lower and early.objective >= best.objective
    start = (best.metric, best.multipliers)
    late = interior_point.solve(problem, deadline=time.monotonic() - 1, start=start)
    assert late.objective == pytest.approx(best.objective, rel=1e-6)


def test_a_start_does_not_move_the_optimum():
    problem = random_chain(12, (6, 8, 8, 3), norm="linf")
    best = interior_point.solve(problem)
    for start in (
        (best.metric, best.multipliers),
        (0.5 * best.metric, best.multipliers),
        (best.metric, 0 * best.multipliers),
    ):
        assert interior_point.solve(problem, start=start).objective == pytest.approx(best.objective, rel=1e-7)


def test_a_good_start_saves_iterations_and_is_not_made_worse():
    problem = random_chain(10, (12,) * 21)
    fresh = interior_point.solve(problem)
    rough = interior_point.solve(problem, tolerance=1e-2)
    warm = interior_point.solve(problem, start=(rough.metric, rough.multipliers))
    assert warm.iterations <= 0.8 * fresh.iterations
    assert warm.objective == pytest.approx(fresh.objective, rel=1e-6) and holds(problem, warm)


def test_a_deadline_is_kept_within_an_iteration():
    problem = random_chain(17, (10, 400, 400, 5))
    begun = time.monotonic()
    interior_point.solve(problem, deadline=begun)
    least = time.monotonic() - begun  # reductions, closed form and the last step inwards
    for allowed in (0.3, 0.6):
        begun = time.monotonic()
        proposal = interior_point.solve(problem, deadline=begun + allowed)
        assert time.monotonic() - begun < allowed + 3 * least + 0.5
        assert proposal.status == "deadline" and holds(problem, proposal)


def test_redundant_inputs_are_removed():
    """The first layer has rank two, and in a residual network all layers see the input through it."""
    rng = np.random.default_rng(18)
    problem = residual(19, 6, 3)
    low = rng.standard_normal((6, 2)) @ np.linalg.qr(rng.standard_normal((40, 2)))[0].T
    wide = LipSDP(
        np.concatenate((problem.V[:, :6] @ low, problem.V[:, 6:]), axis=1),
        np.concatenate((problem.C[:, :6] @ low, problem.C[:, 6:]), axis=1),
        40, 0, 1, problem.layers,
    )  # fmt: skip
    reduction = reduce(wide, "neuron")
    assert reduction.reduced.inputs == 2
    proposal = interior_point.solve(wide)
    assert holds(wide, proposal)
    assert proposal.objective == pytest.approx(conic.solve(wide).lower, rel=1e-5)


def test_bounds_sampled_slopes():
    problem = residual(13, 3, 2, *SLOPES["abs"])
    rng = np.random.default_rng(0)

    def run(x):
        z = np.zeros(problem.neurons)
        for block in problem.blocks:
            z[block] = np.abs(problem.V[block] @ np.concatenate((x, z)))
        return problem.C @ np.concatenate((x, z))

    for norm, order in (("l2", 2), ("linf", np.inf)):
        proved = interior_point.solve(LipSDP(problem.V, problem.C, 3, -1, 1, problem.layers, norm)).objective
        for _ in range(300):
            x, step = rng.standard_normal(3), 1e-3 * rng.standard_normal(3)
            change = np.linalg.norm(run(x + step) - run(x))
            assert change <= np.sqrt(proved) * np.linalg.norm(step, order) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_closed_form_start_is_strictly_feasible(seed):
    rng = np.random.default_rng(seed)
    n0, sizes = int(rng.integers(1, 7)), tuple(int(k) for k in rng.integers(1, 7, size=rng.integers(0, 5)))
    N = sum(sizes)
    V, C = np.zeros((N, n0 + N)), rng.standard_normal((int(rng.integers(1, 9)), n0 + N))
    end = 0
    for size in sizes:
        V[end : end + size, : n0 + end] = rng.standard_normal((size, n0 + end)) * 10.0 ** rng.uniform(-8, 8)
        end += size
    V[rng.random(N) < 0.2] = 0.0
    V *= rng.random(V.shape) < rng.choice([0.3, 1.0])
    C *= rng.random(C.shape) < rng.choice([0.3, 1.0])
    a = rng.choice([0.0, -1.0, 0.1, 0.5], N)
    problem = LipSDP(V, C, n0, a, a + rng.choice([0.0, 0.25, 1.0], N), sizes, str(rng.choice(["l2", "linf"])))
    for mode in ("neuron", "layer"):
        metric, T = feasible_start(problem, mode=mode)
        assert np.all(T > 0) and np.all(metric > 0)
        assert smallest_relative_eigenvalue(problem, metric, T) > 0
        proposal = interior_point.solve(problem, mode=mode, deadline=time.monotonic())
        if proposal.objective > 0:
            holds(problem, proposal)


def test_closed_form_start_is_not_worse_than_the_product_of_norms():
    weights = [np.random.default_rng(14).standard_normal((7, 7)) for _ in range(6)]
    product = np.prod([np.linalg.norm(W, 2) for W in weights])
    problem = chain(*weights)
    assert np.sqrt(problem.objective(feasible_start(problem)[0])) < product


def test_malformed_problems_are_refused():
    with pytest.raises(ValueError, match="earlier layers"):
        LipSDP(np.ones((2, 3)), np.ones((1, 3)), 1, 0, 1, (2,))
    with pytest.raises(ValueError, match="do not fit"):
        LipSDP(np.ones((2, 4)), np.ones((1, 3)), 1, 0, 1, (2,))
    with pytest.raises(ValueError, match="empty"):
        LipSDP(np.array([[1.0, 0.0]]), np.ones((1, 2)), 1, 1, 0, (1,))
    with pytest.raises(ValueError, match="finite"):
        LipSDP(np.array([[np.nan, 0.0]]), np.ones((1, 2)), 1, 0, 1, (1,))
    with pytest.raises(ValueError, match="norm"):
        LipSDP(np.array([[1.0, 0.0]]), np.ones((1, 2)), 1, 0, 1, (1,), "l1")


@pytest.mark.parametrize("mode", ["neuron", "layer"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_schur_complement_equals_dense_traces(norm, mode):
    rng = np.random.default_rng(15)
    a = rng.uniform(-1, 0.5, 9)
    problem = residual(16, 3, 3, a, a + rng.uniform(0.1, 1, 9), norm)
    cone = ConeProgram.scaled(problem, mode, *feasible_start(problem, mode=mode))
    X, Z = (half @ half.T for half in rng.standard_normal((2, problem.size, problem.size)))
    A = [cone.combination(unit) for unit in np.eye(cone.cost.size)]
    dense = [[np.trace(Aj @ X @ Ak @ Z) for Ak in A] for Aj in A]
    B = cone.schur(X, cone.times(X), Z, cone.times(Z))
    np.testing.assert_allclose(B, dense, rtol=1e-10, atol=1e-12 * np.abs(dense).max())
    y = rng.standard_normal(len(A))
    np.testing.assert_allclose(cone.adjoint(X, cone.times(X)), [np.vdot(Ak, X) for Ak in A], rtol=1e-10)
    P = rng.standard_normal(X.shape)
    found = cone.adjoint_of_product(P, Z, cone.times(Z))
    np.testing.assert_allclose(found, [np.vdot(Ak, P @ Z) for Ak in A], rtol=1e-8, atol=1e-10 * np.abs(found).max())
    product = cone.combination_times(y, X, cone.times(X))
    np.testing.assert_allclose(product, cone.combination(y) @ X, rtol=1e-8, atol=1e-10)
