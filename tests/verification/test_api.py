"""The Python interface: paths, modules and arrays in, frozen and readable results out."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from small_models import ROOT, ZOO, command, random_chain, save_chain

import certlip
from certlip.errors import CertlipError, UsageError

X = np.float32([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))


@pytest.fixture(scope="module")
def loaded(module):
    return certlip.load(module, example=torch.zeros(1, 2))


def test_a_module_is_bounded_verified_and_checked(module, loaded, tmp_path):
    bound = certlip.bound(loaded)
    labels = module(torch.from_numpy(X)).argmax(1).numpy()
    report = certlip.verify(loaded, "0.001", data=(X, labels), certificates=tmp_path / "c")
    assert bound.best.proved and report.certified_accuracy == 1.0
    assert [path.suffix for path in sorted((tmp_path / "c").iterdir())].count(".onnx") == 1
    findings = certlip.check(tmp_path / "c")
    assert findings and all(finding.accepted for finding in findings)
    assert command("check", tmp_path / "c").code == 0
    radii = certlip.radius(loaded, data=X)
    assert all(sample.radius > 0 for sample in radii.samples)
    certlip.bound(loaded, certificate=tmp_path / "b" / "bound.json")
    assert certlip.check(tmp_path / "b" / "bound.json")[0].accepted


def test_a_module_can_be_falsified(module, loaded, tmp_path):
    labels = module(torch.from_numpy(X)).argmax(1).numpy()
    report = certlip.verify(loaded, 20, data=(X, labels), certificates=tmp_path / "c")
    assert any(sample.counterexample is not None for sample in report.samples)
    for sample in report.samples:
        if sample.counterexample is not None:
            other = torch.from_numpy(sample.counterexample.astype(np.float32)).reshape(1, 2)
            assert int(module(other).argmax()) != sample.label
    assert all(finding.accepted for finding in certlip.check(str(tmp_path / "c")))


def test_a_module_needs_an_example(module):
    with pytest.raises(UsageError, match="example"):
        certlip.bound(module)
    with pytest.raises(UsageError):
        certlip.verify(certlip.load(module, example=torch.zeros(1, 2)), "0.1")  # no samples beside a module


def test_paths_as_text_and_as_paths(tmp_path):
    path = save_chain(tmp_path / "m.onnx", random_chain(0, (2, 4, 3)))
    values = {certlip.bound(source, method="spectral").best.value for source in (path, str(path), certlip.load(path))}
    assert len(values) == 1


@pytest.mark.parametrize("eps", ["0.1", 0.1, Fraction(1, 10), np.float32(0.1), np.float64(0.1), 1, np.int64(1), True])
def test_radii_of_every_kind_of_number(loaded, eps):
    report = certlip.verify(loaded, eps, data=X)
    assert report.eps == (Fraction(eps) if isinstance(eps, (str, Fraction)) else Fraction(float(eps)))
    assert type(report.eps.numerator) is int  # arithmetic of numpy's integers wraps around


@pytest.mark.parametrize("eps", [np.nan, np.inf, -1, -0.1, None, "x", [1], 1j, 2**1024, Fraction(1, 7**2000)])
def test_radii_that_are_none(loaded, eps):
    with pytest.raises(UsageError):
        certlip.verify(loaded, eps, data=X)
    with pytest.raises(UsageError):
        certlip.verify(loaded, 1, data=X, tolerance=eps if eps is not None else "")


@pytest.mark.parametrize(
    "options", [{"norm": "l1"}, {"norm": None}, {"method": "magic"}, {"method": None}, {"timeout": float("nan")}]
)
def test_options_that_are_none(loaded, options):
    for call in (
        lambda: certlip.bound(loaded, **options),
        lambda: certlip.verify(loaded, 1, data=X, **options),
        lambda: certlip.radius(loaded, data=X, **options),
    ):
        with pytest.raises(CertlipError):
            call()


def test_outputs_that_do_not_exist(loaded):
    with pytest.raises(UsageError):
        certlip.bound(loaded, output=certlip.Output.logit(3))
    with pytest.raises(UsageError):
        certlip.Output.pair(1, 1)


def test_results_are_frozen_and_readable(loaded):
    bounds = certlip.bound(loaded)
    report = certlip.verify(loaded, "0.1", data=X)
    for result in (bounds, report, report.samples[0], bounds.best):
        with pytest.raises(AttributeError):
            result.model = None
        assert 10 < len(repr(result)) < 500
    assert "proved by" in repr(bounds) and "3 samples" in repr(report)
    assert bounds._repr_html_().startswith("<p>") and report._repr_html_().count("<tr>") == 4


def test_html_escapes_what_others_named(tmp_path):
    path = save_chain(tmp_path / "<img src=x>&.onnx", random_chain(0, (2, 4, 3)))
    for result in (certlip.bound(path), certlip.verify(path, 1, data=X), certlip.radius(path, data=X)):
        html = result._repr_html_()
        assert "<img" not in html and "&lt;img src=x&gt;&amp;.onnx" in html


def test_progress_and_results_come_one_by_one(loaded):
    said, seen = [], []
    certlip.verify(loaded, "0.1", data=X, progress=said.append, each=seen.append)
    assert said and [sample.index for sample in seen] == [0, 1, 2]


def test_a_model_that_changes_while_it_is_verified_is_noticed(tmp_path):
    path = save_chain(tmp_path / "m.onnx", random_chain(0, (2, 4, 3)))
    model = certlip.load(path)
    save_chain(path, random_chain(1, (2, 4, 3)))
    with pytest.raises(CertlipError, match="changed"):
        certlip.verify(model, 1, data=X)


FIRST = ["import certlip.verification", "certlip.bound(PATH)", "certlip.verify(PATH, 1, data=X)"]


@pytest.mark.parametrize("first", FIRST)
def test_the_functions_stay_functions_whatever_is_imported(tmp_path, first):
    """A package of the same name as a function takes its place in `certlip` as soon as it is imported."""
    path = save_chain(tmp_path / "m.onnx", random_chain(0, (2, 4, 3)))
    script = (
        f"import certlip; PATH = {str(path)!r}; X = [[1.0, 0.0]]; import numpy; X = numpy.array(X); {first}; "
        "certlip.verify(PATH, 1, data=X); certlip.verify(PATH, 1, data=X, certificates=PATH + '.c'); "
        "certlip.radius(PATH, data=X); certlip.bound(PATH, certificate=PATH + '.c/b.json'); "
        "print(certlip.check(PATH + '.c')); import certlip.check; certlip.check(PATH + '.c')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "accepted" in done.stdout


def test_the_zoo_default_data(tmp_path):
    assert len(certlip.verify(ZOO / "breast_cancer.onnx", "0.01", method="spectral", limit=4).samples) == 4
