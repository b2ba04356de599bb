"""Samples that global bounds leave open are certified on their own ball, and their certificates check."""

import json
import time
from fractions import Fraction

import numpy as np
import pytest
from small_models import ZOO, ball_grid, command, evaluate, random_chain, save_chain
from stored import read_certificate

from certlip import api
from certlip.certificate import Certificate
from certlip.errors import UsageError
from certlip.verification import Question, Status, Verifier
from certlip.verification.dataset import read_dataset, read_sample
from certlip.verification.margins import is_certified


def local_results(report):
    return [result for result in report.samples if result.method == "lipsdp local"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small network of two inputs, whose balls can be searched, at a radius where global bounds fail for many."""
    folder = tmp_path_factory.mktemp("local")
    layers = random_chain(4, (2, 24, 24, 3))
    path = save_chain(folder / "m.onnx", layers)
    inputs = np.float32(np.random.default_rng(0).standard_normal((60, 2)))
    return path, layers, inputs


@pytest.mark.parametrize("norm, eps", [("l2", "1/10"), ("linf", "1/12")])
def test_more_is_certified_and_all_of_it_is_true(run, norm, eps, tmp_path):
    path, layers, inputs = run
    report = api.verify(path, eps, data=(inputs, None), norm=norm, method="lipsdp", certificates=tmp_path / "c")
    found = local_results(report)
    assert len(found) >= 3 and all(result.status is Status.CERTIFIED for result in found)
    for result in report.samples:
        if result.status is not Status.CERTIFIED:
            continue
        scores = evaluate(layers, ball_grid(inputs[result.index].astype(float), float(Fraction(eps)), norm, 61))
        assert (scores.argmax(1) == result.label).all()
    for result in found:
        assert Fraction(result.radius) <= Fraction(eps) < Fraction(result.radius) * (1 + Fraction(1, 10**9))
        used = [bound for bound in result.bounds if bound.region is not None]
        assert used and all(bound.region.eps == Fraction(eps) and bound.region.norm == norm for bound in used)
    ran = command("check", tmp_path / "c", "--model", path)
    assert ran.code == 0 and "0 rejected" in ran.out and f"within {norm} distance {eps} of a point" in ran.out
    only = api.verify(path, eps, data=(inputs, None), norm=norm, method="spectral")
    assert not local_results(only)


def test_claims_from_local_bounds_cannot_be_stretched(run, tmp_path):
    path, _, inputs = run
    report = api.verify(path, "1/10", data=(inputs, None), method="lipsdp", certificates=tmp_path)
    index = local_results(report)[0].index
    file = tmp_path / f"sample-{index:06d}.json"
    assert command("check", file, "--model", path).code == 0
    honest = read_certificate(file)
    other = read_certificate(next(f for f in sorted(tmp_path.glob("sample-*.json")) if f != file))
    for change in ({"eps": "10001/100000"}, {"center": other.statement["set"]["center"]}, {"norm": "linf"}):
        statement = {**honest.statement, "set": {**honest.statement["set"], **change}}
        lie = Certificate(honest.model, statement, honest.witness, honest.semantics)
        file.write_text(lie.to_json())
        ran = command("check", file, "--model", path)
        assert ran.code == 5 and "REJECTED" in ran.out


def test_the_margin_is_held_against_the_bound_that_is_named(run):
    path, _, inputs = run
    verifier = Verifier(api.load(path), Question(Fraction(1, 10), "l2"), "lipsdp")
    for index, x in enumerate(inputs.astype(float).reshape(-1, 1, 2)):
        result = verifier.decide(index, x, None, None)
        if result.method == "lipsdp local":
            _, margins, rivals = verifier._open(index, x, result.label)
            for (k, output), bound in zip(rivals, result.bounds, strict=True):
                assert bound.output == output
                assert is_certified(float(margins[k]), bound.value, Fraction(1, 10))
            assert verifier.refresh(result, x) is result
            return
    pytest.fail("no sample needed a local bound")


def test_no_time_no_local_bound(run):
    path, _, inputs = run
    began = time.process_time()
    report = api.verify(path, "1/10", data=(inputs[:5], None), timeout=1e-9)
    assert time.process_time() - began < 5
    assert not local_results(report) and report.count(Status.UNKNOWN) == 0


def test_tolerances_are_about_all_inputs():
    """A local bound must not decide them."""
    report = api.verify(ZOO / "diabetes.onnx", "1/10", tolerance="1/1000", limit=3)
    assert not local_results(report) and report.count(Status.CERTIFIED) == 0


@pytest.mark.long
@pytest.mark.parametrize("norm, eps, more", [("l2", "0.3", 9), ("linf", "0.02", 4)])
def test_the_gain_on_digits(norm, eps, more, tmp_path):
    """Of 360 samples so many are certified by local bounds alone."""
    report = api.verify(ZOO / "digits_mlp.onnx", eps, norm=norm, method="lipsdp", certificates=tmp_path)
    assert len(local_results(report)) >= more
    assert command("check", tmp_path, "--model", ZOO).code == 0


def test_samples_by_number(run, tmp_path):
    path, _, inputs = run
    model = api.load(path)
    np.savez(tmp_path / "s.npz", x=inputs)
    np.savez(tmp_path / "odd:3", x=inputs[:1])
    place = str(tmp_path / "s.npz")
    assert np.array_equal(read_sample(place, model)[0].ravel(), inputs[0])
    x, index = read_sample(f"{place}:7", model)
    assert index == 7 and np.array_equal(x, read_dataset(tmp_path / "s.npz", model).inputs[7])
    for text, word in ((f"{place}:60", "60 samples"), (f"{place}:-1", "no data file"), (":3", "no data file")):
        with pytest.raises(UsageError, match=word):
            read_sample(text, model)
    (tmp_path / "odd:3.npz").rename(tmp_path / "odd:3")
    assert np.array_equal(read_sample(str(tmp_path / "odd:3"), model)[0].ravel(), inputs[0])


def test_bounds_around_a_point_of_python(run, tmp_path):
    path, layers, inputs = run
    whole = api.bound(path)
    assert whole.local is None
    report = api.bound(path, around=inputs[3], eps="1/20", certificate=tmp_path / "b.json")
    assert report.local.proved and report.local.value < report.best.value
    assert repr(report.local) in repr(report) and "ball of radius 1/20" in repr(report)
    assert json.loads((tmp_path / "b.json").read_text())["statement"]["set"]["eps"] == "1/20"
    assert command("check", tmp_path / "b.json", "--model", path).code == 0
    points = ball_grid(inputs[3].astype(float), 0.05, "l2", 21)
    values = evaluate(layers, points)
    gaps = np.linalg.norm(values[:, None] - values[None], axis=-1)
    steps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert (gaps <= report.local.value * steps + 1e-12).all()
    refused = api.bound(path, around=inputs[3], eps=100, certificate=tmp_path / "none.json")
    assert not refused.local.proved and "too large" in refused.local.note and refused.best is not None
    assert not (tmp_path / "none.json").exists()
    for options in ({"around": inputs[0]}, {"eps": 1}, {"around": inputs[:2], "eps": 1}, {"around": [1.0], "eps": 1}):
        with pytest.raises(UsageError):
            api.bound(path, **options)
