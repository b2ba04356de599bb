"""Properties of networks that hide a counterexample: boxes around the planted point, never proved by any method."""

from __future__ import annotations

import csv
import os
import time
from fractions import Fraction
from pathlib import Path

import onnx
import pytest
from onnx_arithmetic import margin
from planted_networks import Family, Planted, planted
from small_models import ROOT
from test_planted import FAMILIES, hidden

from certlip import load
from certlip.properties.property import Case, Halfspace, Property
from certlip.properties.vnnlib import read_property
from certlip.verification import Status
from certlip.verification.decide import decide_property

LEADS = Halfspace((), ((0, Fraction(1)), (1, Fraction(-1))), Fraction(0))
"""Class 0 does not lead: f_0 - f_1 <= 0."""
STRICTLY = Halfspace((), LEADS.outputs, Fraction(0), strict=True)


def around(point, radius: Fraction, *clauses: tuple[Halfspace, ...]) -> Property:
    middle = [Fraction(float(entry)) for entry in point.ravel()]
    low, high = (tuple(entry + sign * radius for entry in middle) for sign in (-1, 1))
    return Property(len(middle), 2, tuple(Case(low, high, rows) for rows in clauses))


def distance(network: Planted) -> Fraction:
    pairs = zip(network.point.ravel().tolist(), network.x.ravel().tolist(), strict=True)
    return max(abs(Fraction(a) - Fraction(b)) for a, b in pairs)


def decided(model, claim: Property, method: str, seconds: float, seed: int = 0):
    return decide_property(model, claim, deadline=time.monotonic() + seconds, seed=seed, method=method)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_no_box_around_a_planted_point_is_proved(family, tmp_path):
    """The box reaches the point from the sample, or is a speck around it; a deadline of any length."""
    networks = hidden(family, tmp_path)
    assert len(networks) >= 6
    for number, (network, path) in enumerate(networks):
        model, seen = load(path, check=False), set()
        reach = distance(network)
        for claim in (around(network.x, reach, (STRICTLY,)), around(network.point, Fraction(1, 10**9), (STRICTLY,))):
            for method in ("crown", "branch", "auto"):
                seen.add(decided(model, claim, method, (0.0, 0.02, 0.1)[number % 3], number).status)
        assert Status.CERTIFIED not in seen
        found = decided(model, around(network.point, Fraction(0), (STRICTLY,)), "auto", 5.0)
        assert found.status is Status.FALSIFIED
        assert margin(onnx.load(path), found.counterexample.ravel().tolist(), 0) < 0


@pytest.mark.parametrize("family", FAMILIES[:4], ids=str)
def test_far_from_the_point_boxes_are_proved(family, tmp_path):
    """The suite has teeth: the same claims about small boxes around the sample, alone and beside a second case."""
    proved = 0
    for network, path in hidden(family, tmp_path)[:3]:
        model = load(path, check=False)
        safe = around(network.x, Fraction(1, 500), (LEADS,))
        unsafe = around(network.point, Fraction(1, 10**6), (LEADS,))
        both = Property(safe.inputs, 2, (*safe.cases, *unsafe.cases))
        proved += decided(model, safe, "branch", 5.0).status is Status.CERTIFIED
        assert decided(model, both, "branch", 0.3).status is not Status.CERTIFIED
        nowhere = Halfspace((), ((0, Fraction(1)), (1, Fraction(-1))), Fraction(-(10**6)))
        assert decided(model, around(network.point, Fraction(1, 100), (LEADS, nowhere)), "branch", 5.0).status is (
            Status.CERTIFIED
        )
    assert proved > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_no_box_of_many_networks_is_proved(family, seed, tmp_path):
    more = Family(family.widths, family.reach, 12, seed, family.image)
    assert len(planted(more)) == 12
    for network, path in hidden(more, tmp_path):
        model = load(path, check=False)
        reach = distance(network)
        for method in ("crown", "branch"):
            assert decided(model, around(network.x, reach, (STRICTLY,)), method, 2.0).status is not Status.CERTIFIED


SUITE = Path(os.environ.get("CERTLIP_REFERENCE_DATA", ROOT.parent / "shared" / "data")) / "vnncomp" / "instances.csv"


def violated() -> list[tuple[str, str]]:
    """(model, property) of the reference suite's instances that are known to be violated."""
    if not SUITE.is_file():
        return []
    with SUITE.open(newline="") as stream:
        return [(row["model"], row["property"]) for row in csv.DictReader(stream) if row["verdict"] == "sat"]


@pytest.mark.long
@pytest.mark.parametrize(("model", "claim"), violated(), ids=lambda name: Path(name).name)
def test_no_violated_instance_of_the_reference_suite_is_proved(model, claim):
    """Without an attack, as if it had missed."""
    found = decided(load(SUITE.parent / model, check=False), read_property(SUITE.parent / claim), "branch", 5.0)
    assert found.status is not Status.CERTIFIED
