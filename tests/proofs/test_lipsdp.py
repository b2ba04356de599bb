"""The LipSDP theorem with forged witnesses: what it refuses, and what it must never prove."""

import numpy as np
import pytest

from certlip.graph import Graph, Node
from certlip.lipschitz import LipSDP
from certlip.ops import Abs, Add, Clip, Dense, Elu, LeakyRelu, MaxPool, Relu, Sigmoid, Tanh
from certlip.proofs.lipsdp import is_feasible, prove_form, prove_lipsdp
from certlip.proofs.neuron_form import MAX_SIZE, NeuronForm, NoNeuronForm, neuron_form, obstacle
from certlip.rigor.ball import Ball


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))


COUPLED = chain((1,), Dense.of([[1.0], [1.0]], [0.0, 1.0]), Relu(), Dense.of([[1.0, -1.0]]))
"""relu(x) - relu(x + 1): the true constant is 1; the coupled multipliers of the literature certify 0."""


def lmi(form: NeuronForm, metric, multipliers) -> np.ndarray:
    """M from its definition, in floats, for a form without radii."""
    n, m = form.inputs, len(form.a)
    V, C, T = form.V.mid, form.C.mid, np.diag(multipliers)
    E = np.hstack([np.zeros((m, n)), np.eye(m)])
    M = -C.T @ C + 2 * E.T @ T @ E + 2 * V.T @ np.diag(form.a * form.b) @ T @ V
    coupling = E.T @ T @ np.diag(form.a + form.b) @ V
    M -= coupling + coupling.T
    M[:n, :n] += np.diag(metric)
    return M


def random_form(rng, inputs=3, layers=(4, 3), outputs=2, direct=False) -> NeuronForm:
    neurons, ends = sum(layers), np.cumsum((0, *layers))
    V = np.zeros((neurons, inputs + neurons))
    for k in range(len(layers)):
        rows = slice(ends[k], ends[k + 1])
        reach = inputs + ends[k] if direct else inputs * (k == 0) + ends[k]
        first = 0 if direct or k == 0 else inputs + ends[k - 1]
        V[rows, first : max(reach, first + (inputs if k == 0 else layers[k - 1]))] = rng.standard_normal(
            (layers[k], max(reach, first + (inputs if k == 0 else layers[k - 1])) - first)
        )
    C = np.zeros((outputs, inputs + neurons))
    C[:, inputs + ends[-2] :] = rng.standard_normal((outputs, layers[-1]))
    if direct:
        C[:, :inputs] = rng.standard_normal((outputs, inputs))
    choice = rng.integers(0, 4, neurons)
    a = np.choose(choice, [0.0, -1.0, 0.1, 0.0])
    b = np.choose(choice, [1.0, 1.0, 1.0, 0.25])
    return NeuronForm(Ball.exact(V), Ball.exact(C), a, b, inputs, layers)


@pytest.mark.parametrize("direct", [False, True])
def test_feasible_witnesses_have_a_semidefinite_matrix(direct):
    """Both routes (whole matrix, Schur complement) against the definition: `True` only where M >= 0 in floats."""
    rng = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for _ in range(300):
        form = random_form(rng, layers=tuple(rng.integers(1, 5, rng.integers(1, 4))), direct=direct)
        metric = rng.random(form.inputs) * 10.0 ** rng.uniform(0, 6)
        multipliers = rng.random(len(form.a)) * 10.0 ** rng.uniform(-1, 3)
        smallest = np.linalg.eigvalsh(lmi(form, metric, multipliers))[0]
        answer = is_feasible(form, metric, multipliers)
        outcomes[answer] += 1
        if answer:
            assert smallest >= -1e-9 * max(metric.max(), 1.0)
        elif smallest > 1e-6 * max(metric.max(), 1.0):
            raise AssertionError(f"a clearly feasible witness was refused: {smallest}")
    assert min(outcomes.values()) > 20


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_difference_of_shifted_neurons_is_at_least_one(norm):
    witness = LipSDP().propose(COUPLED, norm, None).arrays
    assert 1.0 <= prove_lipsdp(COUPLED, norm, witness) < 1.5
    rng = np.random.default_rng(1)
    for _ in range(2000):
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
    good = LipSDP().propose(COUPLED, norm, None).arrays
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
            if bad is not None and (
                np.shape(bad) != array.shape or not np.isfinite(bad).all() or (np.asarray(bad) < 0).any()
            ):
                assert value == np.inf


def test_lowering_one_entry_below_the_optimum_is_refused():
    """The optimum leaves no room: a metric lower by a millionth proves nothing or at least no less than the truth."""
    rng = np.random.default_rng(2)
    for activation in (Relu, Abs, Tanh, lambda: LeakyRelu(0.3)):
        operators = [Dense.of(rng.standard_normal((5, 3))), activation(), Dense.of(rng.standard_normal((2, 5)))]
        graph = chain((3,), *operators)
        witness = LipSDP().propose(graph, "l2", None).arrays
        value = prove_lipsdp(graph, "l2", witness)
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
    witness = LipSDP().propose(relu, "l2", None).arrays
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
    form = NeuronForm(
        Ball.exact([[1e20, 0.0]]), Ball.exact([[0.0, 1e150]]), np.array([-tiny]), np.array([tiny]), 1, (1,)
    )  # the true constant is 1e20 * 1e-170 * 1e150 = 1
    with np.errstate(all="ignore"):
        for metric in (1e-30, 1e-3, 0.5, 0.99):
            for multiplier in 10.0 ** np.arange(290.0, 308.0):
                assert (
                    prove_form(form, "l2", {"metric": np.array([metric]), "multipliers": np.array([multiplier])})
                    == np.inf
                )


def test_uncertain_weights_are_bounded_at_their_worst():
    """The witness for the centre must not prove its bound for a ball that holds steeper networks."""
    rng = np.random.default_rng(4)
    for _ in range(10):
        A, C = rng.standard_normal((4, 2)), rng.standard_normal((1, 4))
        rad = 0.05
        graph = chain((2,), Dense.of(Ball(A, np.full(A.shape, rad))), Relu(), Dense.of(C))
        witness = LipSDP().propose(graph, "l2", None)
        value = prove_lipsdp(graph, "l2", witness.arrays)
        for _ in range(10):
            member = A + rad * rng.choice([-1, 1], A.shape)
            active = rng.random(4) < 0.5  # one linear piece of the member
            assert np.linalg.norm(C @ (member * active[:, None])) <= value * (1 + 1e-12)


def test_constant_networks():
    constant = chain((2,), Dense.of(np.ones((3, 2))), Relu(), Dense.of(np.zeros((1, 3)), [5.0]))
    zeros = {"metric": np.zeros(2), "multipliers": np.zeros(3)}
    assert prove_lipsdp(constant, "l2", zeros) == 0.0
    assert prove_lipsdp(constant, "l2", {"metric": np.zeros(1), "multipliers": np.zeros(3)}) == np.inf
    fuzzy = chain((2,), Dense.of(np.ones((3, 2))), Relu(), Dense.of(Ball(np.zeros((1, 3)), np.full((1, 3), 0.1))))
    assert prove_lipsdp(fuzzy, "l2", zeros) == np.inf


def test_neuron_form_writes_the_network_out():
    """v = V (x, z) + const and f = C (x, z) + const: differences of two evaluations obey both exactly."""
    rng = np.random.default_rng(5)
    n = rng.standard_normal
    graph = Graph(
        (3,),
        (
            Node(Dense.of(n((4, 3)), n(4)), (0,)), Node(Tanh(), (1,)), Node(Dense.of(n((3, 4)), n(3)), (2,)),
            Node(Add(), (0, 3)), Node(Relu(), (4,)), Node(Add(), (5, 5, 3)), Node(Dense.of(n((2, 3))), (6,)),
        ),
    )  # fmt: skip
    form = neuron_form(graph)
    assert form.inputs == 3 and form.layers == (4, 3)
    x = n((2, 3))
    values = graph.values(x)
    xi = np.hstack([x, values[2], values[5]])
    step = xi[1] - xi[0]
    v = np.hstack([values[1], values[4]])
    assert np.allclose(form.V.mid @ step, v[1] - v[0], atol=1e-12)
    assert np.allclose(form.C.mid @ step, values[-1][1] - values[-1][0], atol=1e-12)
    assert not form.V.mid[:, 3:][np.triu_indices(7)].any()


def test_obstacles():
    pool = chain((2,), MaxPool(np.array([[0, 1]]), (2,)))
    assert "maximum" in obstacle(pool)
    with pytest.raises(NoNeuronForm):
        neuron_form(pool)
    large = chain((MAX_SIZE // 2 + 1,), Relu())
    assert "exceed" in obstacle(large) and obstacle(COUPLED) is None


def test_negative_entries_are_refused():
    """M >= 0 implies it: at xi = e_j with all later neurons at the middle of their slopes, xi'M xi <= 2 T_j."""
    rng = np.random.default_rng(6)
    for _ in range(1000):
        form = random_form(rng, layers=tuple(rng.integers(1, 4, rng.integers(1, 4))), direct=bool(rng.integers(2)))
        metric, multipliers = 10.0 ** rng.uniform(0, 4, form.inputs), 10.0 ** rng.uniform(-2, 4, len(form.a))
        target = metric if rng.random() < 0.3 else multipliers
        target[rng.integers(target.size)] *= -(10.0 ** rng.uniform(-12, 0))
        assert not is_feasible(form, metric, multipliers)
        assert prove_form(form, "l2", {"metric": metric, "multipliers": multipliers}) == np.inf


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
    witness = LipSDP().propose(exact, norm, None).arrays
    assert 9.0 <= prove_lipsdp(exact, norm, witness) <= 9.0 * (1 + 1e-6)
    fuzzy = network(tuple(rad if i == layer else 0.0 for i in range(3)))
    steepest = 9.0 * (1 + rad / weights[layer])
    assert prove_lipsdp(fuzzy, norm, witness) == np.inf
    wider = {name: array * (1 + 10 * rad) for name, array in witness.items()}
    assert prove_lipsdp(fuzzy, norm, wider) >= steepest
