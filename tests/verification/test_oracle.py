"""Brute force on small inputs: no grid point contradicts a certificate, every falsification has a counterexample."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from small_models import ball_grid, command, evaluate, random_chain, save_chain

from certlip import api
from certlip.verification import Status


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("seed", "widths"), [(0, (2, 6, 3)), (1, (2, 8, 4, 2)), (2, (1, 5, 3)), (3, (2, 3))])
def test_a_grid_never_contradicts_a_verdict(tmp_path, seed, widths, norm):
    layers = random_chain(seed, widths)
    path = save_chain(tmp_path / "net.onnx", layers)
    draw = np.random.default_rng(seed)
    x = draw.uniform(-2, 2, (25, widths[0])).astype(np.float32)
    labels = evaluate(layers, x).argmax(1)
    labels[:3] = (labels[:3] + 1) % widths[-1]
    np.savez(tmp_path / "net.npz", x=x, y=labels)
    seen = set()
    for eps in ("0.05", "0.3", "1"):
        folder = tmp_path / f"certificates-{eps}"
        report = api.verify(path, eps, norm=norm, certificates=folder)
        for sample in report.samples:
            seen.add(sample.status)
            point = x[sample.index].astype(np.float64)
            scores = evaluate(layers, ball_grid(point, float(eps), norm))
            label = labels[sample.index]
            kept = (np.delete(scores, label, 1) < scores[:, [label]]).all()
            assert sample.status is not Status.CERTIFIED or kept
            if sample.status is Status.CERTIFIED:
                assert Fraction(sample.radius) >= Fraction(eps) * (1 - Fraction(1, 10**9))
            if sample.status is Status.FALSIFIED:
                other = sample.counterexample
                assert evaluate(layers, other.reshape(1, -1)).argmax() != label
                step = (other - point).reshape(-1)
                assert np.linalg.norm(step, 2 if norm == "l2" else np.inf) <= float(eps) * (1 + 1e-12)
            if sample.status is Status.MISCLASSIFIED:
                assert evaluate(layers, point[None]).argmax() != label
            if 0 < sample.radius < np.inf:
                inner = evaluate(layers, ball_grid(point, sample.radius * (1 - 1e-9), norm))
                assert (np.delete(inner, label, 1) < inner[:, [label]]).all()
        if any(folder.glob("*.json")):
            checked = command("check", folder)
            assert checked.code == 0, checked.out
    assert {Status.CERTIFIED, Status.FALSIFIED, Status.MISCLASSIFIED} <= seen


def test_printed_radii_are_below_and_printed_bounds_above_the_proved_ones(tmp_path):
    layers = random_chain(5, (2, 6, 3))
    path = save_chain(tmp_path / "net.onnx", layers)
    x = np.random.default_rng(5).uniform(-2, 2, (20, 2)).astype(np.float32)
    np.savez(tmp_path / "net.npz", x=x)
    report = api.verify(path, "0.1", method="spectral")
    ran = command("verify", path, "--eps", "0.1", "--method", "spectral", "--json")
    printed = json.loads(ran.out, parse_float=Decimal)
    for sample, entry in zip(report.samples, printed["samples"], strict=True):
        assert Fraction(entry["radius"]) <= Fraction(sample.radius)
        assert Fraction(entry["margin"]) <= Fraction(sample.margin)
        assert entry["status"] == sample.status
    values = {str(b.output): Fraction(b.value) for b in report.bounds}
    for entry in printed["bounds"]:
        assert Fraction(entry["value"]) >= values[entry["output"]]
    best = api.bound(path, method="spectral").best
    shown = json.loads(command("bound", path, "--method", "spectral", "--json").out, parse_float=Decimal)
    assert Fraction(shown["best"]["value"]) >= Fraction(best.value)
    text = command("bound", path, "--method", "spectral").out.split("moves at most ")[1].split()[0]
    assert Fraction(text) >= Fraction(best.value)
    words = repr(api.bound(path, method="spectral")).split("<= ")[1].split()[0]
    assert Fraction(words) >= Fraction(best.value)


def test_quantiles_and_table_of_radii_are_rounded_down(tmp_path):
    layers = random_chain(6, (2, 6, 3))
    path = save_chain(tmp_path / "net.onnx", layers)
    np.savez(tmp_path / "net.npz", x=np.random.default_rng(6).uniform(-2, 2, (9, 2)).astype(np.float32))
    report = api.radius(path, method="spectral")
    exact = sorted(Fraction(sample.radius) for sample in report.samples)
    printed = json.loads(command("radius", path, "--method", "spectral", "--json").out, parse_float=Decimal)
    assert Fraction(printed["quantiles"]["0"]) <= exact[0]
    assert Fraction(printed["quantiles"]["0.5"]) <= exact[4]
    assert Fraction(printed["quantiles"]["1"]) <= exact[8]
    rows = [line.split() for line in command("radius", path, "--method", "spectral").out.splitlines()]
    table = {int(row[0]): Fraction(row[5]) for row in rows if len(row) == 7 and row[0].isdigit()}
    assert set(table) == set(range(9))
    assert all(table[sample.index] <= Fraction(sample.radius) for sample in report.samples)
