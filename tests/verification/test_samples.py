"""One run over many samples: time limits, failures of single samples, limits, certificates kept consistent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_models import command, random_chain, save_chain

from certlip import api
from certlip.errors import UsageError
from certlip.lipschitz.engine import run
from certlip.verification import Status, Verifier


@pytest.fixture
def net(tmp_path):
    path = save_chain(tmp_path / "net.onnx", random_chain(0, (2, 6, 3)))
    x = np.random.default_rng(0).uniform(-2, 2, (8, 2)).astype(np.float32)
    np.savez(tmp_path / "net.npz", x=x)
    return path


@pytest.mark.parametrize("limits", [{"timeout": 1e-9}, {"total_timeout": 1e-9}, {"timeout": 0}])
def test_without_time_every_sample_is_a_timeout(net, limits):
    report = api.verify(net, "0.01", **limits)
    assert {sample.status for sample in report.samples} == {Status.TIMEOUT}
    assert {sample.status for sample in api.radius(net, **limits).samples} == {Status.TIMEOUT}


def test_a_failing_sample_is_an_error_and_the_rest_go_on(net, monkeypatch):
    resolve = Verifier._resolve

    def fragile(self, blank, *rest):
        if blank.index == 2:
            raise RuntimeError("broken\nhere")
        return resolve(self, blank, *rest)

    monkeypatch.setattr(Verifier, "_resolve", fragile)
    ran = command("verify", net, "--eps", "0.0001")
    assert ran.code == 70
    assert "RuntimeError: broken\\nhere" in ran.out and "1 error" in ran.out and "7 certified" in ran.out
    data = json.loads(command("verify", net, "--eps", "0.0001", "--json").out)
    assert data["samples"][2]["status"] == "error" and data["samples"][2]["predicted"] is None
    assert sum(data["summary"][status] for status in map(str, Status)) == data["summary"]["samples"] == 8


@pytest.mark.parametrize(
    "options",
    [{"limit": 0}, {"limit": -1}, {"timeout": -1}, {"timeout": float("nan")}, {"timeout": "x"}, {"total_timeout": -2}],
)
def test_senseless_limits_are_usage_errors(net, options):
    with pytest.raises(UsageError):
        api.verify(net, "0.1", **options)


def test_limit_counts_for_every_kind_of_data(net):
    x = np.zeros((5, 2), np.float32)
    beside = net.with_suffix(".npz")
    for data in (None, x, (x, None), api.dataset_of(api.load(net), x, None), beside, str(beside)):
        assert len(api.verify(net, "0.1", data=data, limit=2).samples) == 2


def test_bounds_of_earlier_certificates_stay_when_they_are_found_again(net, tmp_path, monkeypatch):
    """A search cut short and repeated for a later sample makes another bound; both must stay in the folder."""
    from dataclasses import replace

    def restless(*arguments, **options):
        bound = run(*arguments, **options)
        restless.count += 1
        return replace(bound, value=bound.value * (1 + 1e-9 / restless.count), details={"status": "deadline"})

    restless.count = 0
    monkeypatch.setattr("certlip.verification.bounds.run", restless)
    folder = tmp_path / "certificates"
    report = api.verify(net, "0.0001", certificates=folder, method="spectral")
    assert report.count(Status.CERTIFIED) == 8
    ran = command("check", folder)
    assert ran.code == 0, ran.out


def test_a_second_run_into_the_same_folder_leaves_a_folder_that_checks(net, tmp_path):
    folder = tmp_path / "certificates"
    for eps, norm, method in (("0.001", "l2", "auto"), ("0.01", "l2", "spectral"), ("0.5", "linf", "auto")):
        api.verify(net, eps, norm=norm, method=method, certificates=folder)
        ran = command("check", folder)
        assert ran.code == 0, ran.out
    assert not [path for path in folder.iterdir() if path.suffix not in (".json", ".npy")]


def test_results_are_frozen_and_readable(net):
    report = api.verify(net, "0.1")
    with pytest.raises(AttributeError):
        report.eps = 2
    with pytest.raises(AttributeError):
        report.samples[0].status = Status.CERTIFIED
    assert repr(report).startswith("8 samples of net.onnx at l2 eps 0.1: ")
    assert repr(report.samples[0]).startswith("sample 0: ") and len(repr(report.samples[0])) < 200
