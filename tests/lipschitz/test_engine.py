"""Which methods run, what they report, and that nothing but a proof makes a number."""

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from random_graphs import steepest_secant

from certlip.errors import UsageError
from certlip.graph import Graph, Node
from certlip.lipschitz import EclipseFast, LipSDP, Spectral, best, bound_output, certifiers
from certlip.lipschitz.certifier import Certifier, Witness
from certlip.lipschitz.engine import methods, run
from certlip.lipschitz.shared import SharedMultipliers
from certlip.ops import Dense, MaxPool, Relu
from certlip.proofs import LIPSCHITZ_PROOFS
from certlip.proofs.neuron_form import neuron_form
from certlip.properties import Output, select
from certlip.verification.bounds import BoundTable

ALL = Output("all")


def network(seed=0, widths=(3, 6, 5, 3)) -> Graph:
    rng = np.random.default_rng(seed)
    operators = []
    for before, after in pairwise(widths):
        operators += [Dense.of(rng.standard_normal((after, before)), rng.standard_normal(after)), Relu()]
    return Graph((widths[0],), tuple(Node(operator, (i,)) for i, operator in enumerate(operators[:-1])))


def test_methods_are_ordered_by_cost_and_prove_by_a_known_theorem():
    costs = [certifier.cost for certifier in certifiers().values()]
    assert costs == sorted(costs) and {"spectral", "gershgorin", "lipsdp"} <= set(certifiers())
    for name, certifier in certifiers().items():
        assert certifier.name == name and certifier.summary and certifier.theorem in LIPSCHITZ_PROOFS
    assert {type(c) for c in methods("auto")} <= {type(c) for c in methods("all")}
    assert [c.name for c in methods("lipsdp")] == ["lipsdp"]


@pytest.mark.parametrize(("norm", "method"), [("l2", "nothing"), ("l1", "auto"), ("", "lipsdp")])
def test_unknown_names_are_refused(norm, method):
    with pytest.raises(UsageError, match="choose"):
        bound_output(network(), ALL, norm, method)


@pytest.mark.parametrize("output", [Output.logit(3), Output.pair(0, 3), Output("decision")])
def test_outputs_that_do_not_exist_are_refused(output):
    with pytest.raises(UsageError):
        bound_output(network(), output)


def test_malformed_outputs_are_refused():
    for kind, indices in (
        ("all", (1,)),
        ("logit", ()),
        ("pair", (1, 1)),
        ("pair", (1,)),
        ("nothing", ()),
        ("decision", (0,)),
    ):
        with pytest.raises(UsageError, match="no output"):
            Output(kind, indices)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_best_bound_is_the_smallest_proved(norm):
    bounds = bound_output(network(), ALL, norm)
    assert all(bound.proved == (bound.level == "float") for bound in bounds)
    chosen = best(bounds)
    assert chosen.value == min(bound.value for bound in bounds if bound.proved)
    assert best([bound for bound in bounds if not bound.proved]) is None
    assert "proved by" in repr(chosen)


def test_where_the_closed_form_is_long_the_search_that_begins_with_it_stands_for_both(monkeypatch):
    ran = lambda: [bound.method for bound in bound_output(network(), ALL)]  # noqa: E731
    assert ran() == ["spectral", "eclipse-fast", "lipsdp-torus", "lipsdp"]
    for method in (EclipseFast, LipSDP):
        monkeypatch.setattr(method, "first_seconds", lambda self, graph, norm: 11.0)
    assert ran() == ["spectral", "lipsdp-torus", "lipsdp"]
    table = BoundTable(network(), "l2", "auto")
    assert list(table.refine(ALL, None))[-1].method == "lipsdp" and table.is_complete(ALL)
    monkeypatch.setattr(LipSDP, "propose", Fails(ValueError("no")).propose)
    assert ran() == ["spectral", "lipsdp-torus", "lipsdp", "eclipse-fast"]


def test_an_unsupported_graph_is_reported_not_bounded():
    graph = network().append(MaxPool(np.array([[0, 1] * 40]), (3,)))
    bounds = {bound.method: bound for bound in bound_output(graph, ALL, "l2", "all")}
    assert not bounds["lipsdp"].proved and "maximum of 80" in bounds["lipsdp"].note and bounds["lipsdp"].value == np.inf
    assert bounds["spectral"].proved and "no bound by lipsdp" in repr(bounds["lipsdp"])


def test_a_spent_budget_is_reported():
    (bound,) = bound_output(network(), ALL, "l2", "lipsdp", deadline=time.monotonic() - 1.0)
    assert not bound.proved and "time" in bound.note
    assert bound_output(network(), ALL, "l2", "spectral", deadline=time.monotonic() - 1.0)[0].proved


def test_a_deadline_during_the_search_leaves_a_valid_bound():
    graph = network(1, (10, 40, 40, 5))
    optimum = bound_output(graph, ALL, "l2", "lipsdp")[0].value
    (early,) = bound_output(graph, ALL, "l2", "lipsdp", deadline=time.monotonic() + 0.02)
    assert not early.proved or early.value >= optimum * (1 - 1e-6)


@dataclass(frozen=True)
class Liar(LipSDP):
    """Proposes a metric that is a thousandth too small; unnamed, so that it is not registered."""

    name: ClassVar[str] = ""
    theorem: ClassVar[str] = "lipsdp"

    def propose(self, graph, norm, deadline):
        arrays = super().propose(graph, norm, deadline).arrays
        return Witness({**arrays, "metric": arrays["metric"] * (1 - 1e-3)})


@dataclass(frozen=True)
class Fails(Certifier):
    """A search that breaks off."""

    name: ClassVar[str] = ""
    theorem: ClassVar[str] = "spectral"
    error: Exception | None = None

    def propose(self, graph, norm, deadline):
        raise self.error


def test_a_lying_search_proves_nothing():
    graph = select(network(), ALL)
    bound = run(Liar(), graph, ALL, "l2", None)
    assert not bound.proved and bound.value == np.inf and bound.level == "none"


@pytest.mark.parametrize("error", [ValueError("no"), np.linalg.LinAlgError("singular"), OverflowError("big")])
def test_a_search_that_breaks_off_is_reported(error):
    bound = run(Fails(error), select(network(), ALL), ALL, "l2", None)
    assert not bound.proved and str(error) in bound.note
    assert "" not in certifiers()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_shared_multipliers_serve_every_pair(norm):
    raw = network(2)
    whole = select(raw, ALL)
    shared = SharedMultipliers((neuron_form(whole),), LipSDP().propose(whole, norm, None).arrays)
    rng = np.random.default_rng(0)
    for output in (Output.pair(0, 1), Output.pair(1, 2), Output.logit(0)):
        graph = select(raw, output)
        row = np.zeros(3)
        row[list(output.indices)] = (1.0, -1.0)[: len(output.indices)]
        value = LipSDP().prove(graph, norm, shared.witness(row, (neuron_form(graph),), norm))
        own = LipSDP().prove(graph, norm, LipSDP().propose(graph, norm, None))
        assert own * (1 - 1e-6) <= value < np.inf
        assert steepest_secant(graph, norm, rng, points=8) <= value * (1 + 1e-9)


def test_layer_mode_is_between_neuron_mode_and_the_norm_product():
    graph = select(network(3), ALL)
    values = [c.prove(graph, "l2", c.propose(graph, "l2", None)) for c in (LipSDP(), LipSDP(mode="layer"), Spectral())]
    assert values[0] <= values[1] * (1 + 1e-6) and values[1] <= values[2] * (1 + 1e-6)


def test_pairs_are_bounded_by_the_difference_of_their_logits():
    raw = network(4)
    rng = np.random.default_rng(1)
    for i, j in ((0, 1), (2, 0)):
        chosen = select(raw, Output.pair(i, j))
        x = rng.standard_normal((5, 3))
        assert np.allclose(chosen(x).ravel(), raw(x)[:, i] - raw(x)[:, j], atol=1e-12)
        assert np.allclose(select(raw, Output.logit(i))(x).ravel(), raw(x)[:, i], atol=1e-12)
        both = [best(bound_output(raw, Output.pair(a, b))).value for a, b in ((i, j), (j, i))]
        assert both[0] == pytest.approx(both[1], rel=1e-6)


def test_the_reference_solver_says_that_mosek_was_passed_over(monkeypatch):
    from certlip.solvers import conic

    solvers = [("CLARABEL", True, ""), ("MOSEK", False, "No licence was found.")]
    monkeypatch.setattr(conic, "available", lambda: solvers)
    graph = Graph((2,), (Node(Dense.of(np.eye(2)), (0,)), Node(Relu(), (1,)), Node(Dense.of([[1.0, -1.0]]), (2,))))
    (bound,) = bound_output(graph, ALL, "l2", "lipsdp-conic")
    assert bound.proved and bound.note == "MOSEK was passed over: No licence was found."
