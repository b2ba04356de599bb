"""The LipSDP theorem with forged witnesses: what it refuses, and what it must never prove."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from random_graphs import steepest_secant
from witnesses import closed_form, dense_form, lmi, optimum

from certlip.graph import Graph, Node
from certlip.ops import Abs, Clip, Dense, Elu, LeakyRelu, Relu, Sigmoid, Tanh
from certlip.proofs.form import Form
from certlip.proofs.lipsdp import is_feasible, prove_form, prove_lipsdp
from certlip.proofs.neuron_form import neuron_form
from certlip.rigor.ball import Ball
from certlip.rigor.definite import is_positive_semidefinite


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))


COUPLED = chain((1,), Dense.of([[1.0], [1.0]], [0.0, 1.0]), Relu(), Dense.of([[1.0, -1.0]]))
"""relu(x) - relu(x + 1): the true constant is 1; the coupled multipliers of the literature certify 0."""


def witness_of(graph: Graph, norm: str) -> dict[str, np.ndarray]:
    metric, multipliers = optimum(neuron_form(graph), norm)
    return {"metric": metric, "multipliers": multipliers}


def random_form(rng, inputs=3, layers=(4, 3), outputs=2, direct=False) -> Form:
    """A chain; with `direct`, every layer and the output read everything before. Slopes of all signs."""
    neurons, ends = sum(layers), np.cumsum((0, *layers))
    V = np.zeros((neurons, inputs + neurons))
    for k, size in enumerate(layers):
        stop = inputs + ends[k]
        first = 0 if direct or k == 0 else inputs + ends[k - 1]
        V[ends[k] : ends[k + 1], first:stop] = rng.standard_normal((size, stop - first))
    C = np.zeros((outputs, inputs + neurons))
    C[:, inputs + ends[-2] :] = rng.standard_normal((outputs, layers[-1]))
    if direct:
        C[:, :inputs] = rng.standard_normal((outputs, inputs))
    choice = rng.integers(0, 4, neurons)
    a, b = np.choose(choice, [0.0, -1.0, 0.1, 0.0]), np.choose(choice, [1.0, 1.0, 1.0, 0.25])
    return dense_form(V, C, a, b, inputs, layers)


@pytest.mark.parametrize("direct", [False, True])
def test_feasible_witnesses_have_a_semidefinite_matrix(direct):
    """Against the definition, for chains and skips, more or fewer outputs than neurons, slopes of all signs."""
    rng = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        layers = tuple(rng.integers(1, 5, rng.integers(1, 4)))
        form = random_form(rng, int(rng.integers(1, 7)), layers, int(rng.integers(1, 8)), direct)
        metric = rng.random(form.sizes[0]) * 10.0 ** rng.uniform(0, 6)
        multipliers = rng.random(form.neurons) * 10.0 ** rng.uniform(-1, 3)
        smallest = np.linalg.eigvalsh(lmi(form, metric, multipliers))[0]
        answer = is_feasible(form, metric, multipliers)
        outcomes[answer] += 1
        if answer:
            assert smallest >= -1e-9 * max(metric.max(), 1.0)
        else:
            assert smallest <= 1e-6 * max(metric.max(), 1.0), "a clearly feasible witness was refused"
    assert min(outcomes.values()) > 20


def folded_form(rng, cut=False, curved=True) -> Form:
    """Random frequencies that fold in random order, shared multipliers, and skips over levels."""
    depth = int(rng.integers(1, 4))
    frequencies, owners = [int(rng.choice([2, 4, 6]))], [None]
    for _ in range(depth + 1):
        before = frequencies[-1]
        frequencies.append(int(rng.choice([n for n in range(1, before + 1) if before % n == 0])))
        owners.append(rng.permutation(np.arange(before) % frequencies[-1]))
    sizes = tuple(int(n) for n in rng.integers(1, 4, depth + 2))
    maps, folds = [], {}
    for k in range(1, depth + 2):
        blocks = {}
        for s in range(k):
            if s == k - 1 or rng.random() < 0.4:
                owner = np.arange(frequencies[s])
                for j in range(s + 1, k + 1):
                    owner = owners[j][owner]
                fold = np.stack([rng.permutation(np.flatnonzero(owner == f)) for f in range(frequencies[k])])
                folds[k, s] = fold
                blocks[s] = Ball.exact(rng.standard_normal((frequencies[k], sizes[k], fold.shape[1], sizes[s])))
        maps.append(blocks)
    variables, count = [], 0
    for size in sizes[1:-1]:
        variables.append(count + rng.integers(0, size, size))
        count += size
    variables[-1][-1] = count - 1  # the length of the multipliers is known
    low = tuple(-np.ones(n) * rng.integers(0, 2, n) * curved for n in sizes[1:-1])
    index = rng.integers(0, 2, sizes[-1])
    index[0] = 1
    return Form(
        sizes, tuple(frequencies), tuple(maps), folds, low, tuple(np.ones(n) for n in sizes[1:-1]), tuple(variables),
        np.arange(sizes[0]) // 2, np.full((sizes[0] + 1) // 2, 3.0), index if cut else None,
    )  # fmt: skip


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_forms_with_several_frequencies(cut, curved):
    rng = np.random.default_rng(1)
    outcomes = {True: 0, False: 0}
    for _ in range(250):
        form = folded_form(rng, cut, curved)
        metric = (0.2 + rng.random(len(form.metric_count))) * 10.0 ** rng.uniform(1, 6)
        multipliers = (0.1 + rng.random(form.neurons)) * 10.0 ** rng.uniform(-1, 3)
        weights = rng.integers(0, 3, 2) / 2.0 if cut else None
        smallest = np.linalg.eigvalsh(lmi(form, metric, multipliers, weights))[0]
        answer = is_feasible(form, metric, multipliers, weights)
        outcomes[answer] += 1
        assert not answer or smallest >= -1e-9 * metric.max()
        assert answer or smallest <= 1e-6 * metric.max()
        weighed = not cut or weights[form.output_index].any()
        if weighed:
            value = prove_form(form, "l2", metric, multipliers, weights)
            assert np.isclose(value, np.sqrt(metric.max()), rtol=1e-12) if answer else value == np.inf
            sup = prove_form(form, "linf", metric, multipliers, weights)
            assert np.isclose(sup, np.sqrt(3.0 * metric.sum()), rtol=1e-12) if answer else sup == np.inf
        else:
            assert prove_form(form, "l2", metric, multipliers, weights) == 0.0
    assert min(outcomes.values()) > 20, outcomes


def test_positive_curvature_needs_one_phase():
    """Slopes [1/2, 1]: proved where every group reads one frequency, refused where it folds two."""
    for folded in (False, True):
        fold = np.array([[1, 0]]) if folded else np.array([[1], [0]])
        count, phases = fold.shape
        form = Form(
            (1, 1, 1), (2, count, count),
            ({0: Ball.exact(np.full((count, 1, phases, 1), 0.7))}, {1: Ball.exact(np.ones((count, 1, 1, 1)))}),
            {(1, 0): fold, (2, 1): np.arange(count)[:, None]},
            (np.array([0.5]),), (np.array([1.0]),), (np.zeros(1, dtype=int),), np.zeros(1, dtype=int), np.ones(1),
        )  # fmt: skip
        metric, multipliers = np.array([100.0]), np.array([10.0])
        assert np.linalg.eigvalsh(lmi(form, metric, multipliers))[0] > 1.0
        assert is_feasible(form, metric, multipliers) == (not folded)
        gentle = replace(form, low=(np.zeros(1),))
        assert is_feasible(gentle, metric, multipliers)


def test_curvature_at_other_frequencies_than_the_coupling_is_refused():
    """Group 2 pairs frequency f of groups 0 and 1, but group 1 reads frequency 1 - f of group 0."""
    straight, crossed = np.array([[0], [1]]), np.array([[1], [0]])
    ones = Ball.exact(np.full((2, 1, 1, 1), 0.1))

    def feasible(first):
        form = Form(
            (1, 1, 1, 1), (2, 2, 2, 2), ({0: ones}, {0: ones, 1: ones}, {2: ones}),
            {(1, 0): first, (2, 0): straight, (2, 1): straight, (3, 2): straight}, (np.array([0.2]),) * 2,
            (np.ones(1),) * 2, (np.array([0]), np.array([1])), np.zeros(1, dtype=int), np.ones(1),
        )  # fmt: skip
        return is_feasible(form, np.ones(1), np.ones(2))

    assert feasible(straight)
    with pytest.raises(ValueError, match="frequencies"):
        feasible(crossed)


def test_cuts_that_do_not_belong_prove_nothing():
    rng = np.random.default_rng(2)
    form = dense_form([[1.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]], [0.0], [1.0], 1, (1,))
    metric, multipliers = np.array([100.0]), np.array([20.0])
    assert np.isfinite(prove_form(form, "l2", metric, multipliers))
    assert prove_form(form, "l2", metric, multipliers, np.ones(2)) == np.inf
    indexed = replace(form, output_index=np.array([1, 0]))
    assert np.isfinite(prove_form(indexed, "l2", metric, multipliers, np.ones(2)))
    assert prove_form(indexed, "l2", metric, multipliers) == np.inf
    for bad in (np.ones(1), np.ones(3), np.ones((2, 1)), np.array([1.0, -1.0]), np.array([np.nan, 1.0])):
        assert prove_form(indexed, "l2", metric, multipliers, bad) == np.inf
    # 100 >= d_1 * 1 + d_0 * 4 is what this chain of ReLU needs, with its best multiplier
    for d in rng.uniform(0, 40, (50, 2)):
        best = d[1] + 4 * d[0]
        value = prove_form(indexed, "l2", np.array([best * (1 + 1e-9)]), np.array([best]), d)
        assert np.isclose(value, np.sqrt(best))
        assert prove_form(indexed, "l2", np.array([best * (1 - 1e-9)]), np.array([best]), d) == np.inf
    assert prove_form(form, "l1", metric, multipliers) == np.inf


def test_as_tight_as_the_dense_proof():
    """The smallest inflation of a tight witness that the dense proof of the whole M accepts is enough here."""
    rng = np.random.default_rng(3)
    for trial in range(8):
        form = random_form(rng, 4, (7, 6, 5), 3, direct=bool(trial % 2))
        metric, multipliers = ((1 - 1e-6) * weights for weights in optimum(form, "l2"))
        safe = closed_form(form)
        for step in 10.0 ** np.arange(-12.0, 0.0, 0.25):
            P, T = metric + step * (safe[0] - metric), multipliers + step * (safe[1] - multipliers)
            M = lmi(form, P, T)
            if is_positive_semidefinite(Ball(M, 1e-15 * np.abs(M))):
                break
        P, T = metric + 1.01 * step * (safe[0] - metric), multipliers + 1.01 * step * (safe[1] - multipliers)
        assert step < 1e-3
        value = prove_form(form, "l2", P, T)
        assert np.isclose(value, np.sqrt(P.max()), rtol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_difference_of_shifted_neurons_is_at_least_one(norm):
    assert 1.0 <= prove_lipsdp(COUPLED, norm, witness_of(COUPLED, norm)) < 1.5
    rng = np.random.default_rng(1)
    for _ in range(800):
        forged = {"metric": np.array([rng.uniform(0, 0.9999)]), "multipliers": 10.0 ** rng.uniform(-6, 6, 2)}
        assert prove_lipsdp(COUPLED, norm, forged) == np.inf


def test_coupled_multipliers_cannot_be_expressed():
    """The rank-one coupling (e1 - e2)(e1 - e2)' needs a matrix or negative entries; neither passes."""
    for multipliers in (
        np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([1.0, -1.0, -1.0, 1.0]), np.array([1.0, -1.0]),
        np.array([-1.0, 1.0]),
    ):  # fmt: skip
        for metric in (np.array([0.5]), np.array([1e-9]), np.array([100.0])):
            assert prove_lipsdp(COUPLED, "l2", {"metric": metric, "multipliers": multipliers}) == np.inf


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_malformed_witnesses_prove_nothing(norm):
    good = witness_of(COUPLED, norm)
    assert np.isfinite(prove_lipsdp(COUPLED, norm, good))
    for name in ("metric", "multipliers"):
        array = good[name]
        for bad in (
            array[:, None], array[None], array[:0], np.append(array, 1.0), array.sum(), np.zeros_like(array), -array,
            np.full_like(array, np.nan), np.full_like(array, np.inf), np.full_like(array, -np.inf), array * 0.5,
            array * 1e-300, np.full_like(array, 1e308), np.full_like(array, 5e-324), -np.zeros_like(array),
        ):  # fmt: skip
            value = prove_lipsdp(COUPLED, norm, {**good, name: np.asarray(bad)})
            assert value == np.inf or value >= 1.0, (name, bad)
            if np.shape(bad) != array.shape or not np.isfinite(bad).all() or (np.asarray(bad) < 0).any():
                assert value == np.inf


@pytest.mark.parametrize("activation", [Relu, Abs, Tanh, lambda: LeakyRelu(0.3), lambda: LeakyRelu(-0.5)])
def test_lowering_one_entry_below_the_optimum_is_refused(activation):
    """The optimum leaves no room: a metric lower by a thousandth proves nothing."""
    rng = np.random.default_rng(2)
    graph = chain((3,), Dense.of(rng.standard_normal((5, 3))), activation(), Dense.of(rng.standard_normal((2, 5))))
    witness = witness_of(graph, "l2")
    value = prove_lipsdp(graph, "l2", witness)
    assert steepest_secant(graph, "l2", rng, points=8) <= value < np.inf
    for share in (1e-3, 1e-2, 0.1, 0.5):
        lowered = {name: array * (1 - share) for name, array in witness.items()}
        assert prove_lipsdp(graph, "l2", lowered) == np.inf
        assert prove_lipsdp(graph, "l2", {**witness, "metric": witness["metric"] * (1 - share)}) == np.inf
    assert prove_lipsdp(graph, "l2", {**witness, "metric": witness["metric"] * 4}) <= 2 * value * (1 + 1e-12)


def test_wider_slopes_refuse_and_narrower_ones_accept():
    """A witness for ReLU is none for |x|, and serves for slopes inside [0, 1]."""
    rng = np.random.default_rng(3)
    first, last = Dense.of(rng.standard_normal((6, 3))), Dense.of(rng.standard_normal((2, 6)))
    relu = chain((3,), first, Relu(), last)
    witness = witness_of(relu, "l2")
    value = prove_lipsdp(relu, "l2", witness)
    for wider in (Abs(), LeakyRelu(-0.1), LeakyRelu(1.2), Elu(1.6), Elu(1.0, 1.1)):
        assert prove_lipsdp(chain((3,), first, wider, last), "l2", witness) == np.inf
    # z (v - z) - t (z - a v)(b v - z) is a square for b = 1, t = 1 / (1 - a) and for a = 0, t = 1 / b
    for inside, t in (
        (LeakyRelu(0.1), 1 / 0.9),
        (LeakyRelu(0.5), 2.0),
        (Sigmoid(), 4.0),
        (Tanh(), 1.0),
        (Clip(-1, 1), 1.0),
    ):
        inner = {"metric": witness["metric"] * (1 + 1e-9), "multipliers": witness["multipliers"] * t}
        assert prove_lipsdp(chain((3,), first, inside, last), "l2", inner) <= value * (1 + 1e-8)


def test_slopes_whose_product_underflows_still_count():
    """Slopes [-1e-170, 1e-170]: a b is not a float, yet 2 V'(a b T)V is of the size of the metric here."""
    tiny = 1e-170
    form = dense_form([[1e20, 0.0]], [[0.0, 1e150]], [-tiny], [tiny], 1, (1,))
    wide = dense_form([[1e20, 0.0, 0.0]], [[0.0, 0.0, 1e150]], [-tiny], [tiny], 2, (1,))  # its square has a group
    # the true constant is 1e20 * 1e-170 * 1e150 = 1
    with np.errstate(all="ignore"):
        for metric in (1e-30, 1e-3, 0.5, 0.99):
            for multiplier in 10.0 ** np.arange(290.0, 308.0):
                for network in (form, wide):
                    weights = np.full(network.sizes[0], metric)
                    assert prove_form(network, "l2", weights, np.array([multiplier])) == np.inf


def test_uncertain_weights_are_bounded_at_their_worst():
    """A witness must not prove its bound for a ball that holds steeper networks."""
    rng = np.random.default_rng(4)
    for _ in range(5):
        A, C = rng.standard_normal((4, 2)), rng.standard_normal((1, 4))
        rad = 0.05
        graph = chain((2,), Dense.of(Ball(A, np.full(A.shape, rad))), Relu(), Dense.of(C))
        form = neuron_form(graph)
        claims = [prove_form(form, "l2", *closed_form(form, slack)) for slack in (1.01, 1.05, 1.1, 1.2, 1.5, 2.0, 4.0)]
        assert np.isfinite(claims[-1])
        assert prove_form(form, "l2", *optimum(form, "l2")) == np.inf
        for _ in range(10):
            member = A + rad * rng.choice([-1, 1], A.shape)
            active = rng.random(4) < 0.5  # one linear piece of the member
            assert np.linalg.norm(C @ (member * active[:, None])) <= min(claims) * (1 + 1e-12)


def test_constant_networks():
    constant = chain((2,), Dense.of(np.ones((3, 2))), Relu(), Dense.of(np.zeros((1, 3)), [5.0]))
    zeros = {"metric": np.zeros(2), "multipliers": np.zeros(3)}
    assert prove_lipsdp(constant, "l2", zeros) == 0.0
    assert prove_lipsdp(constant, "l2", {"metric": np.zeros(1), "multipliers": np.zeros(3)}) == np.inf
    fuzzy = chain((2,), Dense.of(np.ones((3, 2))), Relu(), Dense.of(Ball(np.zeros((1, 3)), np.full((1, 3), 0.1))))
    assert prove_lipsdp(fuzzy, "l2", zeros) == np.inf


def test_dead_neurons_and_unused_inputs_need_no_weight():
    """Rows of zeros: an input that nothing reads, a neuron that reads and feeds nothing."""
    form = dense_form(
        [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], [[0.0, 0.0, 2.0, 0.0]], np.zeros(2), np.ones(2), 2, (2,)
    )
    value = prove_form(form, "linf", np.array([4.0, 0.0]) * (1 + 1e-12), np.array([4.0, 0.0]))
    assert 2.0 <= value <= 2.0 * (1 + 1e-9)
    for metric, multipliers in (([0.0, 4.0], [4.0, 0.0]), ([4.1, 0.0], [0.0, 4.0])):
        assert prove_form(form, "linf", np.array(metric), np.array(multipliers)) == np.inf
    block = form.maps[0][0]
    fuzzy = Ball(block.mid, np.where(block.mid == 0, 0.1, 0.0))  # the second input may be read, and the second neuron
    uncertain = replace(form, maps=({0: fuzzy}, form.maps[1]))
    assert prove_form(uncertain, "linf", np.array([8.0, 0.0]), np.array([8.0, 0.0])) == np.inf
    assert np.isfinite(prove_form(uncertain, "linf", np.array([8.0, 1.0]), np.array([8.0, 0.0])))


def test_negative_entries_are_refused():
    """M >= 0 implies it: at xi = e_j with all later neurons at the middle of their slopes, xi'M xi <= 2 T_j."""
    rng = np.random.default_rng(6)
    for _ in range(1000):
        form = random_form(rng, layers=tuple(rng.integers(1, 4, rng.integers(1, 4))), direct=bool(rng.integers(2)))
        metric, multipliers = 10.0 ** rng.uniform(0, 4, form.sizes[0]), 10.0 ** rng.uniform(-2, 4, form.neurons)
        target = metric if rng.random() < 0.3 else multipliers
        target[rng.integers(target.size)] *= -(10.0 ** rng.uniform(-12, 0))
        assert not is_feasible(form, metric, multipliers)
        assert prove_form(form, "l2", metric, multipliers) == np.inf


@pytest.mark.parametrize("bad", [(0.5, 0.4), (np.nan, 1.0), (0.0, np.inf), (-np.inf, 1.0)])
def test_slopes_that_are_no_interval_prove_nothing(bad):
    form = dense_form([[1.0, 0.0]], [[0.0, 1.0]], [0.0], [1.0], 1, (1,))
    assert np.isfinite(prove_form(form, "l2", np.array([4.0]), np.array([2.0])))
    wrong = replace(form, low=(np.array([bad[0]]),), high=(np.array([bad[1]]),))
    assert prove_form(wrong, "l2", np.array([4.0]), np.array([2.0])) == np.inf


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("activation", [Relu(), LeakyRelu(0.2), LeakyRelu(-0.5)])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_uncertainty_of_every_layer_counts(layer, activation, norm):
    """f = 3 phi(2 phi(1.5 x)): a witness for the centre proves nothing for a ball that holds a steeper member."""
    weights, rad = (1.5, 2.0, 3.0), 1e-3

    def network(radii):
        dense = [Dense.of(Ball(np.array([[w]]), np.array([[r]]))) for w, r in zip(weights, radii, strict=True)]
        return chain((1,), dense[0], activation, dense[1], activation, dense[2])

    exact = network((0.0, 0.0, 0.0))
    witness = witness_of(exact, norm)
    assert 9.0 <= prove_lipsdp(exact, norm, witness) <= 9.0 * (1 + 1e-5)
    fuzzy = network(tuple(rad if i == layer else 0.0 for i in range(3)))
    steepest = 9.0 * (1 + rad / weights[layer])
    assert prove_lipsdp(fuzzy, norm, witness) == np.inf
    wider = {name: array * (1 + 10 * rad) for name, array in witness.items()}
    assert prove_lipsdp(fuzzy, norm, wider) >= steepest


def recursion(form: Form) -> tuple[float, np.ndarray]:
    """The square of ECLipsE-Fast's bound on a chain of ReLU, and multipliers that attain it up to a millionth."""
    X, T = np.eye(form.sizes[0]), []
    for k in range(1, form.hidden + 1):
        W = form.maps[k - 1][k - 1].mid[0, :, 0]
        K = W @ np.linalg.solve(X, W.T)
        t = 2 * (1 - 1e-6) / np.linalg.eigvalsh(K)[-1]
        T.append(np.full(len(W), t))
        X = t * np.eye(len(W)) - t * t / 4 * K
    W = form.maps[-1][form.hidden].mid[0, :, 0]
    square = np.linalg.eigvalsh(W @ np.linalg.solve(X, W.T))[-1]
    return square, np.concatenate(T) * square / 2


@pytest.mark.parametrize("widths", [(40, 30, 20, 5), (8,) * 60, (3, 200, 200, 4)])
def test_chains_of_any_depth_are_proved_closely(widths):
    rng = np.random.default_rng(7)
    operators = []
    for before, after in pairwise(widths):
        operators += [Dense.of(rng.standard_normal((after, before)) / np.sqrt(before)), Relu()]
    form = neuron_form(chain((widths[0],), *operators[:-1]))
    square, T = recursion(form)
    metric = np.full(widths[0], square)
    assert np.isfinite(prove_form(form, "l2", metric * (1 + 1e-9), T * (1 + 1e-9)))
    assert prove_form(form, "l2", metric * (1 - 1e-9), T) == np.inf
