"""Networks trained to hide a counterexample inside the ball: no method certifies any of them, attacked or not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import pytest
from forgery import accepted, accepts, records, with_eps
from onnx_arithmetic import distance_squared, margin
from planted_networks import RADIUS, Family, Planted, planted

from certlip import api, load
from certlip.lipschitz import certifiers
from certlip.verification import Status
from certlip.verification.attack_stage import Attacks

FAMILIES = [
    Family((2, 8, 2), 0.8), Family((2, 16, 2), 0.6), Family((2, 32, 2), 0.9), Family((3, 16, 2), 0.9),
    Family((4, 24, 2), 0.9), Family((5, 12, 12, 2), 0.9), Family((6, 32, 2), 0.9), Family((8, 16, 16, 2), 0.95),
    Family((8, 2, 2), 0.9, image=(2, 4)),
]  # fmt: skip
MORE = [Family(family.widths, family.reach, 12, seed, family.image) for family in FAMILIES for seed in (1, 2, 3)]
AT_LEAST = 6
"""Of the networks of each family, so many must have learned their counterexample."""
NORMS = ("l2", "linf")


def hidden(family: Family, tmp_path) -> list[tuple[Planted, object]]:
    """The networks of a family whose planted point violates in exact arithmetic, each with its file."""
    found = []
    for number, network in enumerate(planted(family)):
        path = network.save(tmp_path / f"planted{number}.onnx")
        model = onnx.load(path)
        kept, lost = (margin(model, point.tolist(), 0) for point in (network.x, network.point))
        if kept > 0 > lost and 0 < distance_squared(network.x, network.point) <= Fraction(RADIUS) ** 2:
            found.append((network, path))
    return found


def verdict(network: Planted, model, norm: str, eps=RADIUS, timeout=20, **options):
    report = api.verify(model, eps, data=(network.x[None], np.array([0])), norm=norm, timeout=timeout, **options)
    (sample,) = report.samples
    assert sample.status is not Status.ERROR, sample.note
    assert Fraction(sample.radius) ** 2 <= distance_squared(network.x, network.point, norm)
    return sample


def is_counterexample(network: Planted, path, point, norm: str) -> bool:
    near = distance_squared(network.x.astype(float), point, norm) <= Fraction(RADIUS) ** 2
    return near and margin(onnx.load(path), point.ravel().tolist(), 0) < 0


def test_there_are_at_least_fifty():
    assert AT_LEAST * len(FAMILIES) >= 50


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_none_is_certified(family, tmp_path, monkeypatch):
    """Attacked with one seed or another; then by every method without an attack, as if it had missed."""
    networks = hidden(family, tmp_path)
    assert len(networks) >= AT_LEAST
    refuted = 0
    for number, (network, path) in enumerate(networks):
        model = load(path)
        for norm in NORMS:
            attacked = verdict(network, model, norm, seed=number)
            assert attacked.status is not Status.CERTIFIED
            if attacked.status is Status.FALSIFIED:
                refuted += 1
                assert is_counterexample(network, path, attacked.counterexample, norm)
            with monkeypatch.context() as patch:
                patch.setattr(Attacks, "accepted", lambda *arguments: None)
                assert verdict(network, model, norm, timeout=0.5, method="all").status is not Status.CERTIFIED
    assert refuted > 0


@pytest.mark.parametrize("norm", NORMS)
def test_small_balls_are_certified_and_the_claims_do_not_stretch(norm, tmp_path):
    """The suite has teeth: away from the counterexample the same networks do get certificates."""
    certified = 0
    for number, (network, path) in enumerate(hidden(FAMILIES[0], tmp_path)):
        folder = tmp_path / f"claims{number}"
        if verdict(network, path, norm, RADIUS / 64, certificates=folder).status is Status.CERTIFIED:
            certified += 1
            (claim,) = records(folder, "robustness")
            assert accepted(claim, path)
            assert not accepts(claim, path, with_eps(Fraction(RADIUS)))
    assert certified > 0


@pytest.mark.long
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("family", MORE, ids=str)
def test_none_is_certified_by_any_single_method(family, norm, tmp_path, monkeypatch):
    networks = hidden(family, tmp_path)
    assert len(networks) >= AT_LEAST
    monkeypatch.setattr(Attacks, "accepted", lambda *arguments: None)
    for network, path in networks:
        model = load(path)
        for method in ("crown", "branch", *certifiers()):
            assert verdict(network, model, norm, timeout=5, method=method).status is not Status.CERTIFIED
