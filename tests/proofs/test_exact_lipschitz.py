"""Bounds of the exact level: never below the truth or above the float level, and true to the condition in rationals."""

import time
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from exact_proofs import exact_lipschitz
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, steepest_secant
from small_models import ZOO

from certlip.graph import Affine, Graph, Node
from certlip.lipschitz import bound_output
from certlip.onnx_reader import read_file, read_graph
from certlip.ops import Abs, Add, Concat, Conv, Dense, LeakyRelu, Reindex, Relu, Scale, Tanh
from certlip.proofs.exact import prove_exactly
from certlip.proofs.exact_form import dense_maps, torus_maps
from certlip.proofs.form import Form
from certlip.proofs.neuron_form import dense_matrices, neuron_form
from certlip.proofs.ranges import Region
from certlip.proofs.torus_form import torus_obstacle, torus_stages
from certlip.properties import Output, select
from certlip.rigor.ball import Ball
from certlip.rigor.exact_numbers import Exact, NotExact

METHODS = ("spectral", "gershgorin", "lipsdp", "lipsdp-torus")


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,), f"node {i}") for i, operator in enumerate(operators)))


def dense_chain(seed: int, widths, activation) -> Graph:
    rng = np.random.default_rng(seed)
    operators: list = []
    for n, m in pairwise(widths):
        operators += [Dense.of(rng.standard_normal((m, n)) / np.sqrt(n)), activation]
    return chain((widths[0],), *operators[:-1])


def conv(rng, out, size, window=3, stride=1, pad=1, dilation=1, groups=1) -> Conv:
    axes = len(size) - 1
    kernel = rng.standard_normal((out, size[0] // groups, *(window,) * axes)) / window**axes
    return Conv(Ball.exact(kernel), Ball.exact(0.0), np.zeros(()), tuple(size), (stride,) * axes, ((pad, pad),) * axes,
                (dilation,) * axes, groups)  # fmt: skip


def images(seed: int) -> dict[str, Graph]:
    """Convolutional networks with strides, dilations, groups, skips, concatenations and unmerged linear maps."""
    rng = np.random.default_rng(seed)
    first = conv(rng, 2, (2, 5, 5))
    skip = [
        Node(first, (0,), "a"), Node(Relu(), (1,), "b"), Node(conv(rng, 2, (2, 5, 5)), (2,), "c"),
        Node(Add(), (1, 3), "d"), Node(Relu(), (4,), "e"), Node(Concat(1), (2, 5), "f"),
        Node(conv(rng, 2, (4, 5, 5), window=1, pad=0), (6,), "g"),
    ]  # fmt: skip
    return {
        "strides": chain((1, 2, 6, 6), conv(rng, 4, (2, 6, 6), stride=2), Relu(), conv(rng, 2, (4, 3, 3), stride=3),
                         Abs()),
        "one axis": chain((1, 2, 8), conv(rng, 2, (2, 8), stride=2), Tanh(), conv(rng, 3, (2, 4), dilation=2, pad=2)),
        "groups": chain((1, 4, 4, 4), conv(rng, 4, (4, 4, 4), groups=2), LeakyRelu(0.1), conv(rng, 2, (4, 4, 4))),
        "linear": chain((1, 2, 5), conv(rng, 2, (2, 5), pad=2), conv(rng, 3, (2, 7), window=1, pad=0), Relu(),
                        Scale.of((1, 3, 7), rng.standard_normal((3, 1))), conv(rng, 2, (3, 7), pad=0)),
        "head": chain((1, 1, 4, 4), conv(rng, 2, (1, 4, 4)), Relu(), Reindex.through((1, 2, 4, 4), np.ravel),
                      Dense.of(rng.standard_normal((6, 32))), Relu(), Dense.of(rng.standard_normal((2, 6)))),
        "skip": Graph((1, 2, 5, 5), tuple(skip)),
    }  # fmt: skip


IMAGES = sorted(images(0))


def witness(graph: Graph, method: str, norm: str = "l2"):
    (bound,) = bound_output(graph, Output("all"), norm, method, deadline=time.monotonic() + 20)
    assert bound.proved, bound.note
    return bound


# Against the condition written out in rationals


def is_semidefinite(matrix) -> bool:
    """Elimination in rationals: no negative pivot, and nothing beside a zero one."""
    rest = [list(row) for row in matrix]
    for k in range(len(rest)):
        pivot = rest[k][k]
        if pivot < 0 or (pivot == 0 and any(rest[k][k:])):
            return False
        for i in range(k + 1, len(rest)) if pivot else ():
            share = rest[i][k] / pivot
            rest[i] = [x - share * y for x, y in zip(rest[i], rest[k], strict=True)]
    return True


def condition(form: Form, metric: np.ndarray, multipliers: np.ndarray) -> bool:
    """diag(P, 0) - C'C + sum_j T_j (2 z_j^2 - 2 (a_j + b_j) z_j v_j + 2 a_j b_j v_j^2) >= 0, decided exactly."""
    V, C = (np.vectorize(Fraction, otypes=[object])(matrix) for matrix in dense_matrices(form))
    n, M = form.sizes[0], -(C.T @ C)
    for i in range(n):
        M[i, i] += Fraction(float(metric[i]))
    slopes = zip(np.concatenate(form.low).tolist(), np.concatenate(form.high).tolist(), strict=True)
    for j, (a, b) in enumerate(slopes):
        z = np.array([Fraction(int(k == n + j)) for k in range(len(M))], dtype=object)
        below, above = z - Fraction(a) * V[j], Fraction(b) * V[j] - z
        M -= Fraction(float(multipliers[j])) * (np.outer(below, above) + np.outer(above, below))
    return is_semidefinite(M)


@pytest.mark.parametrize("activation", [Relu(), Abs(), LeakyRelu(-0.4), LeakyRelu(0.3), LeakyRelu(1.5)])
@pytest.mark.parametrize("seed", range(3))
def test_the_verdict_is_that_of_rational_elimination(seed, activation):
    """The least metric that is feasible, bisected in rationals: refused just below it, accepted just above."""
    graph = dense_chain(seed, (2, 3, 2, 1), activation)
    form = neuron_form(graph)
    start = witness(graph, "lipsdp").witness
    T = np.maximum(start["multipliers"], 1e-3)
    low, high = 0.0, 4.0 * float(start["metric"].max()) + 1.0
    while not condition(form, np.full(2, high), T):
        high *= 2
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if condition(form, np.full(2, middle), T) else (middle, high)
    proves = [
        exact_lipschitz(graph, "l2", "lipsdp", {"metric": np.full(2, edge), "multipliers": T}) is not None
        for edge in (low * (1 - 2.0**-50), low, high * (1 + 2.0**-30))
    ]
    assert proves == [False, False, True]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_whatever_is_proved_fulfils_the_condition(seed):
    rng = np.random.default_rng(seed)
    activation = [Relu(), Abs(), LeakyRelu(-0.4), LeakyRelu(0.3)][seed % 4]
    graph = dense_chain(seed, (2, *rng.integers(1, 4, 2), 2), activation)
    form = neuron_form(graph)
    arrays = {"metric": 10.0 ** rng.uniform(-2, 3, 2), "multipliers": 10.0 ** rng.uniform(-2, 2, form.neurons)}
    if rng.random() < 0.3:
        arrays["multipliers"][rng.integers(form.neurons)] = 0.0
    proved = exact_lipschitz(graph, "l2", "lipsdp", arrays)
    holds = condition(form, arrays["metric"], arrays["multipliers"])
    assert (proved is not None) <= holds
    if proved is not None:
        assert proved**2 >= Fraction(float(arrays["metric"].max()))


# Against the float level


def zoo() -> list:
    paths = sorted(ZOO.glob("*.onnx"))
    return [pytest.param(p, id=p.stem, marks=[pytest.mark.long] if p.stem.startswith("mnist") else []) for p in paths]


@pytest.mark.parametrize("path", zoo())
def test_zoo(path):
    """What the float level proves, the exact one does, from the merged graph and from the file's own layers."""
    graph = read_graph(read_file(path))
    for norm in ("l2", "linf"):
        for method in METHODS:
            if method == "lipsdp-torus" and torus_obstacle(graph):
                continue
            bound = witness(graph, method, norm)
            for given_graph in (graph, select(graph, Output("all"))):
                exact = prove_exactly(given_graph, norm, method, bound.witness)
                least = Fraction(bound.value) * (1 - Fraction(1, 10**8))
                assert least <= exact <= Fraction(bound.value), (method, norm)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("seed", range(2))
def test_convolutional_networks(name, seed):
    graph = images(seed)[name]
    bound = witness(graph, "lipsdp-torus")
    exact = prove_exactly(graph, "l2", "lipsdp-torus", bound.witness)
    steepest = steepest_secant(graph, "l2", np.random.default_rng(seed), points=6)
    assert Fraction(steepest) * (1 - Fraction(1, 10**9)) <= exact <= Fraction(bound.value)
    # a lower metric, and multipliers at which the condition fails, prove nothing
    for arrays in ({"metric": bound.witness["metric"] * (1 - 1e-3)}, {"multipliers": bound.witness["multipliers"] * 3}):
        assert exact_lipschitz(graph, "l2", "lipsdp-torus", {**bound.witness, **arrays}) is None


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_random_graphs(seed, pools):
    graph = random_graph(seed, pools)
    rng = np.random.default_rng(seed)
    for norm in ("l2", "linf"):
        steepest = steepest_secant(graph, norm, rng, points=4)
        for method in METHODS[:3]:
            (bound,) = bound_output(graph, Output("all"), norm, method)
            chosen = select(graph, Output("all"))
            layers = [node.operator for node in chosen.nodes if isinstance(node.operator, Affine)]
            if any(operator.weight.rad.any() and not operator.weight.mid.any() for operator in layers):
                continue  # a layer that is nothing but radius has a norm that radii of two limbs do not confirm
            if bound.proved:
                exact = exact_lipschitz(chosen, norm, method, bound.witness)
                assert exact is not None and exact <= Fraction(bound.value), (method, norm)
                assert steepest * (1 - 1e-9) - 1e-290 <= float(exact), (method, norm)


@pytest.mark.parametrize("name", ["spectral", "gershgorin"])
def test_operator_norms_are_confirmed_not_believed(name, monkeypatch):
    rng = np.random.default_rng(0)
    for operator in (Dense.of(rng.standard_normal((3, 5))), conv(rng, 3, (2, 5, 5), stride=2), conv(rng, 2, (2, 40))):
        truth = np.linalg.norm(operator.matrix().mid, 2)
        field = {"spectral": "l2_norm", "gershgorin": "dominance_norm"}[name]
        graph = chain(operator.domain, operator)
        assert truth * (1 - 1e-12) <= prove_exactly(graph, "l2", name, {})
        vars(operator)[field] = float(truth * (1 - 1e-12))
        assert exact_lipschitz(graph, "l2", name, {}) is None


def test_a_large_convolution_is_confirmed_over_frequencies(monkeypatch):
    monkeypatch.setattr("certlip.ops.conv._DENSE_SIDE", 0)
    rng = np.random.default_rng(1)
    for operator in (conv(rng, 3, (2, 7, 6), stride=2), conv(rng, 2, (2, 9), stride=3, dilation=2, pad=2)):
        exact = prove_exactly(chain(operator.domain, operator), "l2", "spectral", {})
        assert np.linalg.norm(operator.matrix().mid, 2) * (1 - 1e-12) <= exact == Fraction(operator.l2_norm)
        vars(operator)["l2_norm"] = operator.l2_norm * (1 - 1e-6)
        assert exact_lipschitz(chain(operator.domain, operator), "l2", "spectral", {}) is None


@pytest.mark.parametrize("size", [1e-290, 1e-170, 1e-30, 1e30, 1e170, 1e290])
def test_layers_of_any_size(size):
    matrix = np.random.default_rng(2).standard_normal((4, 3))
    graph = chain((3,), Dense.of(size * matrix))
    for method in METHODS[:2]:
        exact = prove_exactly(graph, "l2", method, {})
        assert exact >= Fraction(size) * Fraction(np.linalg.norm(matrix, 2)) * (1 - Fraction(1, 10**12))
        assert exact <= Fraction(witness(graph, method).value)


def test_a_wide_range_of_weights():
    """Tiny weights before a large layer: a norm product of 1."""
    graph = chain((2,), Dense.of(np.eye(2) * 2.0**-90), Relu(), Dense.of(np.eye(2) * 2.0**90))
    for method in METHODS[:3]:
        exact = prove_exactly(graph, "l2", method, witness(graph, method).witness)
        assert 1 <= exact <= 1 + Fraction(1, 10**5)


# Maps


@pytest.mark.parametrize("name", IMAGES)
def test_torus_maps_are_those_of_the_form(name):
    graph = images(3)[name]
    form = torus_stages(graph)[0]
    for exact, rough in zip(torus_maps(graph), form.maps, strict=True):
        assert exact.keys() == rough.keys()
        for s, block in rough.items():
            mid, rad = exact[s].integers(-5)
            assert exact[s].shape == block.shape and rad.max() <= 2**10
            assert (np.abs(mid.astype(float) * 2.0**-100 - block.mid) <= block.rad + 1e-25).all()


def test_a_transfer_function_to_many_digits():
    rng = np.random.default_rng(5)
    graph = chain((1, 1, 6), conv(rng, 1, (1, 6), stride=2), Relu())
    kernel, form = graph.nodes[0].operator.weight.mid[0, 0], torus_stages(graph)[0]
    n = 8  # the least multiple of 2 that is at least 6 + 1
    block = torus_maps(graph)[0][0]
    mid, rad = block.integers(-10)
    with mpmath.workprec(300):
        for f, row in enumerate(form.folds[1, 0]):
            for p, g in enumerate(row):
                w = [w for w in range(n) if (w % 4) <= (-w % 4)][g]
                waves = [mpmath.expjpi(mpmath.mpf(2 * w * (t - 1)) / n) for t in range(len(kernel))]
                value = mpmath.fdot(kernel.tolist(), waves) / mpmath.sqrt(2)
                for (i, j), part in (((0, 0), value.real), ((0, 1), -value.imag), ((1, 0), value.imag)):
                    assert abs(mpmath.mpf(int(mid[f, i, p, j])) - part * mpmath.mpf(2) ** 200) <= int(rad[f, i, p, j])
    assert rad.max() <= 2**100


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_dense_maps_lie_in_those_of_the_form(seed):
    graph = random_graph(seed, pools=True)
    form, exact = neuron_form(graph), dense_maps(graph)
    for own, rough in zip(exact, form.maps, strict=True):
        for s, block in rough.items():
            held = own.get(s, Exact({}, {}, block.shape))  # what the float level only cannot tell from zero
            low, high = (np.array(side, dtype=object).reshape(block.shape) for side in held.ends())
            rational = np.vectorize(Fraction, otypes=[object])
            mid, rad = rational(block.mid), rational(np.broadcast_to(block.rad, block.shape))
            assert (low <= mid + rad).all() and (mid - rad <= high).all()  # both hold the truth
            assert (high - low <= 2 * rad + rad.max() / 2**16 + Fraction(1, 2**70)).all()


# Refusals


HOSTILE = [-1.0, np.nan, np.inf, -np.inf, 1e300, 1e-300, -1e-300, 5e-324, 1.7e308]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", ["metric", "multipliers", "cut"])
@pytest.mark.parametrize("method", ["lipsdp", "lipsdp-torus"])
def test_hostile_numbers_prove_nothing_false(value, name, method):
    graph = images(0)["head"]
    bound = witness(graph, method)
    truth = steepest_secant(graph, "l2", np.random.default_rng(0), points=4)
    for everywhere in (True, False):
        arrays = {key: array.copy() for key, array in bound.witness.items()}
        if name not in arrays:
            return
        arrays[name][: None if everywhere else 1] = value
        proved = exact_lipschitz(graph, "l2", method, arrays)
        assert proved is None or (value > 0 and float(proved) >= truth * (1 - 1e-9))
        if not value > 0 or not np.isfinite(value):
            assert proved is None


@pytest.mark.parametrize("method", ["lipsdp", "lipsdp-torus"])
def test_arrays_that_do_not_fit_are_refused(method):
    graph = images(0)["head"]
    good = dict(witness(graph, method).witness)
    assert exact_lipschitz(graph, "l2", method, good) is not None
    for name, array in good.items():
        forms = [array[:-1], np.append(array, 1.0), array[:, None], array.astype(np.float32), array.astype(object), 1.0]
        forms += [array.astype(complex), array.tolist()]
        for wrong in forms:
            assert exact_lipschitz(graph, "l2", method, {**good, name: wrong}) is None, name
        assert exact_lipschitz(graph, "l2", method, {key: good[key] for key in good if key != name}) is None
    assert exact_lipschitz(graph, "l2", method, {**good, "other": np.ones(3)}) is None
    assert exact_lipschitz(graph, "l1", method, good) is None
    assert exact_lipschitz(graph, "l2", "coupled", good) is None


def test_the_coupled_multipliers_cannot_be_said():
    """relu(x) - relu(x + 1): the truth is 1, and no diagonal multipliers prove less."""
    graph = chain((1,), Dense.of(np.ones((2, 1)), np.array([0.0, 1.0])), Relu(), Dense.of(np.array([[1.0, -1.0]])))
    assert prove_exactly(graph, "l2", "lipsdp", witness(graph, "lipsdp").witness) >= 1
    for t in 10.0 ** np.arange(-3, 4.0):
        arrays = {"metric": np.array([0.99]), "multipliers": np.full(2, t)}
        assert exact_lipschitz(graph, "l2", "lipsdp", arrays) is None


def test_regions_have_no_exact_proof():
    graph = dense_chain(0, (2, 3, 1), Relu())
    arrays = witness(graph, "lipsdp").witness
    with pytest.raises(NotExact, match="region"):
        prove_exactly(graph, "l2", "lipsdp", arrays, Region(np.zeros(2), Fraction(1), "l2"))


def test_size_is_refused_before_it_is_taken():
    graph = chain((10,), Dense.of(np.broadcast_to(np.float64(0.5), (7000, 10))), Relu(), Dense.of(np.ones((1, 7000))))
    with pytest.raises(NotExact, match="exceed the limit"):
        prove_exactly(graph, "l2", "lipsdp", {"metric": np.ones(10), "multipliers": np.ones(7000)})


def test_degenerate_networks():
    constant = chain((2,), Dense.of(np.ones((3, 2))), Relu(), Dense.of(np.zeros((1, 3)), np.ones(1)))
    assert prove_exactly(constant, "l2", "lipsdp", {"metric": np.zeros(2), "multipliers": np.zeros(3)}) == 0
    linear = chain((2,), Dense.of(np.array([[3.0, 4.0]])))
    for method in METHODS[:3]:
        exact = prove_exactly(linear, "l2", method, witness(linear, method).witness)
        assert 5 <= exact <= 5 + Fraction(1, 10**5)
    dead = chain((2,), Dense.of(np.diag([1.0, 0.0])), Relu(), Dense.of(np.array([[1.0, 0.0]])))
    arrays = {"metric": np.array([1.001, 0.0]), "multipliers": np.array([1.0, 0.0])}
    assert prove_exactly(dead, "l2", "lipsdp", arrays) ** 2 >= Fraction(1.001)
