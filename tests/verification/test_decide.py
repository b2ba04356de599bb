"""The verdict on one property: every status, every method, and what is exactly at the edge."""

from __future__ import annotations

import time
from fractions import Fraction as F

import numpy as np
import pytest
from small_models import random_chain, save_chain

from certlip import load
from certlip.errors import UsageError
from certlip.proofs.query import property_queries
from certlip.proofs.relaxation.branches import refutes
from certlip.properties.property import Case, Halfspace, Property
from certlip.verification import Status
from certlip.verification.decide import METHODS, PropertyResult, decide_property

PROVERS = ("crown", "branch", "auto")


@pytest.fixture
def model(tmp_path):
    """y = (relu(x0) + relu(-x0), x1), so y_0 = |x0|."""
    layers = [([[1, 0], [-1, 0], [0, 1], [0, -1]], [0] * 4), ([[1, 1, 0, 0], [0, 0, 1, -1]], [0, 0])]
    return load(save_chain(tmp_path / "model.onnx", layers))


def row(bound, *outputs, inputs=(), strict=False) -> Halfspace:
    terms = [tuple((i, F(factor)) for i, factor in enumerate(side) if factor) for side in (inputs, outputs)]
    return Halfspace(*terms, F(bound), strict)


def case(low, high, *rows: Halfspace) -> Case:
    return Case(tuple(map(F, low)), tuple(map(F, high)), rows)


def decide(model, *cases: Case, method: str = "auto", seconds: float | None = 10.0) -> PropertyResult:
    claim = Property(2, 2, cases)
    deadline = None if seconds is None else time.monotonic() + seconds
    result = decide_property(model, claim, deadline=deadline, method=method)
    if result.status is Status.CERTIFIED and result.method != "vacuous":
        queries = property_queries(model.graph, claim)
        assert all(refutes(queries[tree.query], tree).all() for tree in result.proofs)
        proved = sorted((tree.query, clause) for tree in result.proofs for clause in tree.clauses)
        assert proved == [(q, c) for q, query in enumerate(queries) for c in range(len(query.clauses))]
    return result


UNIT = [-1, -1], [1, 1]


@pytest.mark.parametrize("method", METHODS)
def test_boxes_without_a_point_hold(model, method):
    result = decide(model, case([1, 0], [0, 1]), case([0, 3], [1, 2], row(0, 1)), method=method)
    assert result.status is Status.CERTIFIED and result.method == "vacuous" and "no input" in result.note


@pytest.mark.parametrize("method", PROVERS)
def test_a_true_claim_is_certified(model, method):
    result = decide(model, case(*UNIT, row(F(-1, 10**6), 1)), method=method)
    assert result.status is Status.CERTIFIED and result.level == "float" and result.counterexample is None


def test_methods_are_named(model):
    simple = case(*UNIT, row(-1, 1))
    assert decide(model, simple).method == "crown"
    assert decide(model, case(*UNIT, row(0, 0, 1)), method="attack").method == "attack"
    with pytest.raises(UsageError, match="unknown method 'magic'"):
        decide(model, simple, method="magic")
    with pytest.raises(UsageError, match="the model has 2 and 2"):
        decide_property(model, Property(3, 2, (Case((F(0),) * 3, (F(1),) * 3, ()),)), deadline=None)


def test_a_claim_that_needs_cases(tmp_path):
    """y_0 = relu(x0) - relu(x0 - 1/2) is at least 0; lines alone prove -1/4."""
    layers = [([[1, 0], [1, 0]], [0, -0.5]), ([[1, -1], [0, 0]], [0, 0])]
    model = load(save_chain(tmp_path / "cases.onnx", layers))
    claim = case(*UNIT, row(F(-1, 10), 1))
    assert decide(model, claim, method="crown").status is Status.UNKNOWN
    result = decide(model, claim, method="branch")
    assert result.status is Status.CERTIFIED and result.method == "input splits" and result.visited > 1
    assert decide(model, case(*UNIT, row(F(1, 10), 1))).status is Status.FALSIFIED


@pytest.mark.parametrize("method", ("attack", "auto"))
def test_a_violated_claim_is_falsified(model, method):
    result = decide(model, case(*UNIT, row(F(1, 4), 1), row(F(-1, 2), 0, 1)), method=method)
    x = result.counterexample.ravel()
    assert result.status is Status.FALSIFIED and result.level == "float" and not result.proofs
    assert abs(x[0]) <= 0.25 and x[1] <= -0.5 and (np.abs(x) <= 1).all()
    np.testing.assert_allclose(np.ravel(result.outputs), [abs(x[0]), x[1]])


@pytest.mark.parametrize("method", PROVERS)
def test_violated_claims_are_never_certified(model, method):
    for rows in ((row(F(1, 4), 1),), (), (row(0, 1),), (row(1, -1), row(F(-9, 10), 0, 1)), (row(0),)):
        assert decide(model, case(*UNIT, *rows), method=method, seconds=0.3).status is not Status.CERTIFIED


def test_a_case_without_constraints_is_violated_by_every_input(model):
    result = decide(model, case(*UNIT))
    assert result.status is Status.FALSIFIED
    assert decide(model, case(*UNIT), method="crown").status is Status.UNKNOWN
    assert decide(model, case(*UNIT), case(*UNIT, row(-1, 1)), method="branch", seconds=1).status is Status.UNKNOWN


@pytest.mark.parametrize("method", PROVERS)
def test_ties(model, method):
    """y_0 <= 0 happens at x0 = 0 alone; y_0 < 0 never does, but is taken for y_0 <= 0 by proofs."""
    assert decide(model, case(*UNIT, row(0, 1)), method=method, seconds=0.5).status is not Status.CERTIFIED
    assert decide(model, case(*UNIT, row(0, 1, strict=True)), method=method, seconds=0.5).status not in (
        Status.FALSIFIED, Status.CERTIFIED,
    )  # fmt: skip
    for strict in (False, True):  # one point, in which y_0 is 1/2
        point = case([F(1, 2), 0], [F(1, 2), 0], row(F(1, 2), 1, strict=strict))
        found = decide(model, point, method=method, seconds=0.2).status
        assert found not in ((Status.FALSIFIED,) if strict else (Status.CERTIFIED,))


def test_constraints_on_inputs(model):
    """y_0 <= 1/4 and x0 >= 1/2 exclude each other; y_0 <= 1/4 and x0 >= 1/8 do not."""
    wide = row(F(1, 4), 1)
    assert decide(model, case(*UNIT, wide, row(F(-1, 2), inputs=(-1, 0))), method="branch").status is Status.CERTIFIED
    found = decide(model, case(*UNIT, wide, row(F(-1, 8), inputs=(-1, 0))))
    assert found.status is Status.FALSIFIED and 0.125 <= found.counterexample.ravel()[0] <= 0.25
    assert decide(model, case(*UNIT, row(-2, inputs=(1, 0)))).status is Status.CERTIFIED


def test_several_boxes_are_all_proved(model):
    safe, far = case([1, 0], [2, 1], row(F(1, 2), 1)), case([-3, 0], [-2, 1], row(1, 1))
    result = decide(model, safe, far, case([1, 0], [2, 1], row(-1, 0, 1)))
    assert result.status is Status.CERTIFIED and {tree.query for tree in result.proofs} == {0, 1}
    unsafe = case([-1, 0], [0, 1], row(F(1, 2), 1))
    for cases in ((safe, far, unsafe), (unsafe, safe, far), (safe, case([1, 0], [0, 1]), unsafe)):
        assert decide(model, *cases).status is Status.FALSIFIED
        for method in ("crown", "branch"):
            assert decide(model, *cases, method=method, seconds=0.5).status is not Status.CERTIFIED


@pytest.mark.parametrize("method", METHODS)
def test_time_ends_every_method(tmp_path, method):
    """A tie on a wide network: nothing decides it."""
    layers = random_chain(0, (2, 40, 40, 2))
    layers[-1] = (layers[-1][0] * [[1], [0]], layers[-1][1])  # y_1 is constant
    model = load(save_chain(tmp_path / "wide.onnx", layers))
    claim = case(*UNIT, row(F(float(np.float32(layers[-1][1][1]))), 0, 1, strict=True))
    assert decide(model, claim, method=method, seconds=0.0).status is Status.TIMEOUT
    began = time.process_time()
    assert decide(model, claim, method=method, seconds=0.5).status in (Status.TIMEOUT, Status.UNKNOWN)
    assert time.process_time() - began < 10
