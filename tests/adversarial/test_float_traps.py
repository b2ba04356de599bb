"""Networks that fool float verifiers: certlip certifies none of the false claims, and no bound is below the truth."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import pytest
from chain_traps import CHAINS
from deployment_traps import DETECTORS
from forgery import accepted, accepts, just_below, records, with_eps, with_label, with_value
from graph_traps import GRAPHS
from naive_verifiers import NAIVE
from onnx_arithmetic import distance_squared, margin, slope_squared
from small_models import ROOT
from traps import Trap, save_layers

from certlip import Output, api, load
from certlip.lipschitz import bound_output, certifiers
from certlip.lipschitz.local import local_bound
from certlip.proofs.ranges import Region
from certlip.verification import Status
from certlip.verification.attack_stage import Attacks

TRAPS = [*CHAINS, *GRAPHS]
NAMES = [trap.name for trap in TRAPS]
FRUITLESS = 0.5  # seconds for a proof of what is false
METHODS = [name for name, certifier in certifiers().items() if not certifier.is_reference]
NORMS = ("l2", "linf")
SAFE = [trap for trap in TRAPS if trap.safe is not None]
each_trap = pytest.mark.parametrize("trap", TRAPS, ids=NAMES)
each_norm = pytest.mark.parametrize("norm", NORMS)


def sample_of(trap: Trap):
    return np.array([[float(value) for value in trap.x]]), np.array([trap.label])


def verdict(trap: Trap, path, eps, timeout=20, **options):
    report = api.verify(path, eps, data=sample_of(trap), timeout=timeout, **options)
    (sample,) = report.samples
    assert sample.status is not Status.ERROR, sample.note
    return sample


@each_trap
def test_the_traps_are_traps(trap, tmp_path):
    """The violation is real, a smaller ball is not violated there, and rounded arithmetic misses it."""
    model = trap.model(tmp_path)
    assert margin(model, trap.bad, trap.label) <= 0
    assert distance_squared(trap.x, trap.bad) <= trap.eps**2
    assert all(Fraction(value) == Fraction(float(trap.dtype(value))) for value in trap.x)
    if trap.safe is not None:
        assert margin(model, trap.x, trap.label) > 0
        assert trap.safe**2 < distance_squared(trap.x, trap.bad)
    assert trap.fools
    assert {name for name in trap.fools if not NAIVE[name](trap, model)} == set()


def test_every_naive_verifier_is_fooled_by_something():
    assert set().union(*(trap.fools for trap in TRAPS)) == set(NAIVE)
    assert len(TRAPS) >= 25


@each_norm
@each_trap
def test_no_method_certifies_a_violated_ball(trap, norm, tmp_path, monkeypatch):
    """With the attack, and without it, so that every method has its say."""
    path = trap.save(tmp_path)
    model = trap.model(tmp_path)
    with_attack = verdict(trap, path, trap.eps, norm=norm)
    if with_attack.status is Status.FALSIFIED:
        assert margin(model, with_attack.counterexample.ravel(), trap.label) < 0
    monkeypatch.setattr(Attacks, "accepted", lambda *arguments: None)
    for method in ("all", "crown", "branch", *METHODS):
        folder = tmp_path / method
        sample = verdict(trap, path, trap.eps, FRUITLESS, norm=norm, method=method, certificates=folder)
        assert sample.status is not Status.CERTIFIED
        assert Fraction(sample.radius) ** 2 <= distance_squared(trap.x, trap.bad, norm)
        assert not list(folder.glob("sample*"))
    assert with_attack.status is not Status.CERTIFIED


@each_norm
@pytest.mark.parametrize("trap", SAFE, ids=[trap.name for trap in SAFE])
def test_the_truth_is_certified_and_no_more(trap, norm, tmp_path):
    path, folder = trap.save(tmp_path), tmp_path / "claims"
    assert verdict(trap, path, trap.safe, norm=norm, certificates=folder).status is Status.CERTIFIED
    (claim,) = records(folder, "robustness")
    assert accepted(claim, path)
    assert accepts(claim, path, with_eps(trap.safe / 2))
    for lie in (with_eps(trap.eps), with_eps(10 * trap.eps + 10**300), with_label(1 - trap.label), with_label(2)):
        assert not accepts(claim, path, lie)


@each_norm
@each_trap
def test_no_bound_is_below_the_exact_slope(trap, norm, tmp_path):
    """Global bounds against the steepest pair, bounds on the ball against the pair that the violation makes."""
    path = trap.save(tmp_path)
    model, graph = trap.model(tmp_path), load(path).graph
    truth = slope_squared(model, norm, *trap.steep)
    assert truth > 0 or trap.name == "tie of equal rows"
    for method in METHODS:
        (bound,) = bound_output(graph, Output.pair(0, 1), norm, method)
        assert bound.note if not bound.proved else Fraction(bound.value) ** 2 >= truth, method
    if trap.bad != trap.x:
        region = Region(sample_of(trap)[0], trap.eps, norm)
        bound = local_bound(graph, Output.pair(0, 1), region, norm)
        inside = slope_squared(model, norm, trap.x, trap.bad)
        assert bound.note if not bound.proved else Fraction(bound.value) ** 2 >= inside


@each_norm
@each_trap
def test_certificates_of_bounds_pass_and_forged_ones_do_not(trap, norm, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "_SAMPLING", 0.01)
    path, claim = trap.save(tmp_path), tmp_path / "claims" / "bound.json"
    report = api.bound(path, norm=norm, output=Output.pair(0, 1), certificate=claim)
    if report.best is None:
        assert all(bound.note for bound in report.bounds) and not claim.exists()
        return
    truth = slope_squared(trap.model(tmp_path), norm, *trap.steep)
    assert accepted(claim, path)
    assert accepts(claim, path, with_value(2 * Fraction(report.best.value)))
    for lie in (just_below(truth), just_below(truth) / 2, Fraction(0)) if truth else ():
        assert not accepts(claim, path, with_value(lie))


@each_norm
def test_a_sample_that_the_model_cannot_take_is_rounded_first(norm, tmp_path):
    """0.1 is no binary32 number; the model reads the one above it, and there the class is another one."""
    above = float(np.float32(0.1))
    assert above > 0.1
    row = [2.0**60, -(2.0**60)]  # g = 2^60 (y - x) with y the number that 0.1 is rounded to
    path = save_layers(tmp_path / "model.onnx", [([row, [0, 0]], [0, 0])])
    x, folder = np.array([[above, 0.1]]), tmp_path / "claims"
    report = api.verify(path, 0, data=(x, np.array([0])), norm=norm, certificates=folder)
    assert report.samples[0].status is not Status.CERTIFIED  # after rounding, both logits are equal
    assert margin(onnx.load(path), (above, 0.1), 0) > 0 == margin(onnx.load(path), np.float32(x[0]).tolist(), 0)
    assert not list(folder.glob("sample*"))


def test_the_documentation_names_every_network():
    page = (ROOT / "docs" / "soundness.md").read_text()
    rows = [f"| {trap.name} | {trap.why} | {', '.join(sorted(trap.fools))} |" for trap in TRAPS]
    rows += [f"| {trap.name} | {trap.why} |" for trap in DETECTORS]
    assert [row for row in rows if row not in page] == []
