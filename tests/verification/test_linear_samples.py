"""Samples decided by linear bounds and cases: the verdicts are true, their certificates check, and time is kept."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from small_models import ZOO, ball_grid, command, evaluate, random_chain, save_chain

from certlip import api
from certlip.errors import UsageError
from certlip.proofs.query import ball_domain, label_query
from certlip.verification import Question, Status, Verifier
from certlip.verification.dataset import read_dataset
from certlip.verification.falsify import QUICK, find_unsafe

BY_TREES = ("crown", "input splits", "neuron splits")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    layers = random_chain(4, (2, 24, 24, 3))
    path = save_chain(tmp_path_factory.mktemp("linear") / "m.onnx", layers)
    return path, layers, np.float32(np.random.default_rng(0).standard_normal((25, 2)))


@pytest.mark.parametrize(("norm", "eps"), [("l2", "3/5"), ("linf", "2/5")])
def test_all_tiny_samples_are_decided_and_the_verdicts_are_true(tiny, norm, eps, tmp_path):
    path, layers, inputs = tiny
    report = api.verify(path, eps, data=(inputs, None), norm=norm, method="branch", timeout=20, certificates=tmp_path)
    assert report.count(Status.CERTIFIED) + report.count(Status.FALSIFIED) == len(inputs)
    assert {"crown", "input splits"} <= {result.method for result in report.samples}
    for result in report.samples:
        scores = evaluate(layers, ball_grid(inputs[result.index].astype(float), float(Fraction(eps)), norm, 81))
        if result.status is Status.CERTIFIED:
            assert (scores.argmax(1) == result.label).all()
            assert result.trees and not result.bounds and result.level in ("float", "deployed")
            assert Fraction(result.radius) <= Fraction(eps) < Fraction(result.radius) * (1 + Fraction(1, 10**9))
        else:
            assert evaluate(layers, result.counterexample.reshape(1, -1)).argmax() != result.label
    ran = command("check", tmp_path, "--model", path)
    assert ran.code == 0 and "0 rejected" in ran.out


@pytest.mark.parametrize("name", ["digits_mlp", "digits_tanh", "breast_cancer", "mnist_conv"])
@pytest.mark.parametrize(("norm", "eps"), [("l2", "1/10"), ("linf", "1/50")])
def test_what_is_certified_resists_the_strong_attack(name, norm, eps):
    model = api.load(ZOO / f"{name}.onnx")
    samples = read_dataset(ZOO / f"{name}.npz", model, 4)
    report = api.verify(model, eps, data=samples, norm=norm, method="crown")
    certified = [result for result in report.samples if result.status is Status.CERTIFIED]
    assert certified and {result.method for result in certified} == {"crown"}
    assert any(result.level == "deployed" for result in certified)
    for result in certified[:1]:
        domain = ball_domain(samples.inputs[result.index], Fraction(eps), norm)
        query = label_query(model.graph, result.label, domain)
        assert not list(find_unsafe(query, seed=1, deadline=time.monotonic() + 2, effort=QUICK))


def test_crown_decides_before_any_program_is_solved(monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("a program was solved")

    monkeypatch.setattr("certlip.lipschitz.lipsdp.propose", forbidden)
    monkeypatch.setattr("certlip.lipschitz.torus.propose", forbidden, raising=False)
    report = api.verify(ZOO / "mnist_conv.onnx", "0.1", limit=2)
    assert report.count(Status.CERTIFIED) == 2


def test_a_clip_helps(tiny):
    path, _, _ = tiny
    x = np.float32([[0.0, 0.0]])
    whole = api.verify(path, "3/5", data=(x, None), norm="linf", timeout=10, method="branch").samples[0]
    cut = api.verify(
        path, "3/5", data=(x, None), norm="linf", timeout=10, method="crown", clip=("-1/1000", "1/1000")
    ).samples[0]
    assert whole.status is Status.FALSIFIED and cut.status is Status.CERTIFIED
    empty = api.verify(path, "1/10", data=(x, None), norm="linf", method="crown", clip=(5, 6)).samples[0]
    assert empty.status is Status.UNKNOWN and not empty.trees  # a set without inputs is no proof


@pytest.mark.parametrize(("share", "status"), [("999/1000", Status.CERTIFIED), ("1001/1000", Status.FALSIFIED)])
@pytest.mark.parametrize("method", ["crown", "auto"])
def test_eps_beside_the_boundary(tmp_path, share, status, method):
    """f(x) = 2 x - 1 from x = 3/4: the distance to the other class is 1/4."""
    path = save_chain(tmp_path / "line.onnx", [([[2.0]], [-1.0])])
    data = (np.float32([[0.75]]), np.array([1]))
    (found,) = api.verify(path, Fraction(share) / 4, data=data, method=method).samples
    assert found.status is status
    (tie,) = api.verify(path, "1/4", data=data, method=method).samples
    assert tie.status is Status.UNKNOWN


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_tolerances_hold_around_the_sample(norm, tmp_path):
    """The move of the output over the ball, found by search, is just below and just above the tolerance."""
    layers = random_chain(7, (2, 16, 1))
    path = save_chain(tmp_path / "m.onnx", layers)
    x, eps = np.float32([[0.3, -0.2]]), 0.25
    around = evaluate(layers, ball_grid(x[0].astype(float), eps, norm, 201))
    largest = float(np.abs(around - evaluate(layers, x)).max())
    place = tmp_path / "c"
    loose = api.verify(path, eps, data=x, norm=norm, tolerance=largest * 1.05, method="branch", certificates=place)
    tight = api.verify(path, eps, data=x, norm=norm, tolerance=largest * 0.95, method="branch")
    assert loose.samples[0].status is Status.CERTIFIED and loose.samples[0].trees
    assert tight.samples[0].status is Status.FALSIFIED
    assert command("check", place, "--model", path).code == 0


def test_levels_of_proofs_by_cases(tiny, tmp_path):
    path, _, inputs = tiny
    asked = api.verify(
        path, "1/8", data=(inputs[:10], None), level="deployed", method="branch", timeout=20, certificates=tmp_path
    )
    certified = [result for result in asked.samples if result.status is Status.CERTIFIED]
    assert certified and all(result.level == "deployed" and result.grade.slack for result in certified)
    assert command("check", tmp_path, "--model", path, "--level", "deployed").code == 0


def test_without_a_class_of_executions_a_proof_is_about_real_numbers(tiny, monkeypatch):
    path, _, inputs = tiny
    monkeypatch.setattr("certlip.proofs.deployment.slack", lambda graph, region, precision: np.full(3, np.inf))
    options = {"data": (inputs[:3], None), "method": "crown"}
    for result in api.verify(path, "1/1000", **options).samples:
        assert result.status is Status.CERTIFIED and result.level == "float"
    for result in api.verify(path, "1/1000", level="deployed", **options).samples:
        assert result.status is Status.UNKNOWN


def test_time_is_kept():
    model = api.load(ZOO / "mnist_mlp.onnx")
    samples = read_dataset(ZOO / "mnist_mlp.npz", model, 6)
    began = time.monotonic()
    report = api.verify(model, "0.05", data=samples, norm="linf", method="branch", timeout=60, total_timeout=4)
    assert time.monotonic() - began < 30
    assert report.count(Status.ERROR) == 0 and report.samples[-1].status is not Status.UNKNOWN
    none = api.verify(model, "0.05", data=samples, norm="linf", method="crown", timeout=1e-9)
    assert none.count(Status.CERTIFIED) == none.count(Status.UNKNOWN) == 0


def test_later_bounds_do_not_replace_a_proof_by_trees(tiny):
    path, _, inputs = tiny
    verifier = Verifier(api.load(path), Question(Fraction(1, 20), "l2"), "branch")
    x = inputs[0].astype(float).reshape(1, 2)
    result = verifier.decide(0, x, None, time.monotonic() + 20)
    assert result.method in BY_TREES and verifier.refresh(result, x) is result


def test_linear_methods_know_no_radius(tiny):
    path, _, inputs = tiny
    for method in ("crown", "branch"):
        with pytest.raises(UsageError, match="radius"):
            api.radius(path, data=(inputs[:1], None), method=method)
    with pytest.raises(UsageError, match="crown"):
        api.verify(path, "1/10", data=(inputs[:1], None), method="krown")


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_clip_that_no_input_of_the_ball_meets_certifies_nothing(tiny, norm):
    """The sample (0, 0) is 1/2 away from every entry of the clip in l-infinity, sqrt(1/2) in l2."""
    path, _layers, _ = tiny
    x = np.float32([[0.0, 0.0]])
    for eps, known in (("0.49", False), ("0.72", True)):
        asked = {"data": (x, None), "norm": norm, "clip": ("1/2", "1"), "timeout": 10}
        (sample,) = api.verify(path, eps, **asked).samples
        assert ("no input of the ball" in sample.note) is not known
        assert known or sample.status is Status.UNKNOWN
