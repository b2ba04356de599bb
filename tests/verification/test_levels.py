"""Levels of verdicts: what is graded "deployed" is so by the inequality, and real executions agree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from small_models import ZOO, ball_grid, random_chain, save_chain

from certlip import api
from certlip.errors import UsageError
from certlip.proofs.deployment import class_slack
from certlip.proofs.ranges import Region
from certlip.rigor.rounding import BINARY32
from certlip.verification import Status


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = save_chain(tmp_path_factory.mktemp("levels") / "m.onnx", random_chain(3, (2, 12, 8, 3)))
    inputs = np.random.default_rng(3).uniform(-2, 2, (20, 2)).astype(np.float32)
    return path, inputs


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deployed_verdicts_hold_in_executions(network, norm):
    """onnxruntime keeps the class on a grid of the ball, the boundary included, rounded to its own type."""
    path, inputs = network
    eps = Fraction(1, 100)
    report = api.verify(path, eps, data=(inputs, None), norm=norm, level="deployed", method="spectral")
    certified = [sample for sample in report.samples if sample.status is Status.CERTIFIED]
    assert certified and all(sample.level == "deployed" for sample in certified)
    session = onnxruntime.InferenceSession(path)
    for sample in certified:
        grid = ball_grid(inputs[sample.index].astype(float), float(eps), norm).astype(np.float32)
        (scores,) = session.run(None, {"x": grid})
        assert (scores.argmax(1) == sample.label).all()
    for sample in report.samples:
        expected = {"certified": "deployed", "falsified": "deployed", "misclassified": "estimate"}
        assert sample.level == expected.get(str(sample.status), "none")


def test_the_grade_is_the_inequality(network):
    """m > L eps + slack: with eps at the edge of what real arithmetic allows it fails, a little below it holds."""
    path, inputs = network
    model = api.load(path)
    radii = api.radius(model, data=(inputs, None), method="spectral")
    sample = next(sample for sample in radii.samples if sample.radius > 0.01)
    data = (inputs[sample.index : sample.index + 1], None)
    x = inputs[sample.index].reshape(model.graph.input_shape).astype(float)
    slack = class_slack(model.graph, Region(x, Fraction(sample.radius), "l2"), BINARY32)
    for share, level in ((1 - 1e-9, "float"), (1 - 1e-2, "deployed")):
        (found,) = api.verify(model, Fraction(sample.radius * share), data=data, method="spectral").samples
        assert (found.status, found.level) == (Status.CERTIFIED, level)
        (asked,) = api.verify(
            model, Fraction(sample.radius * share), data=data, method="spectral", level="deployed"
        ).samples
        assert asked.status is (Status.CERTIFIED if level == "deployed" else Status.UNKNOWN)
        assert ("real arithmetic only" in asked.note) == (level == "float")
    assert found.grade.share >= 2 * slack.min() / found.margin * (1 - 1e-9)
    assert found.grade.semantics == {"arithmetic": "binary32", "library_units": 16}


def test_a_deployed_radius_is_the_largest_that_the_slack_leaves(network):
    path, inputs = network
    real = api.radius(path, data=(inputs, None), method="spectral").samples
    deployed = api.radius(path, data=(inputs, None), method="spectral", level="deployed").samples
    model = api.load(path)
    for first, second in zip(real, deployed, strict=True):
        assert second.radius <= first.radius and first.level == "float" and second.level == "deployed"
        x = inputs[second.index].reshape(model.graph.input_shape).astype(float)
        slack = class_slack(model.graph, Region(x, Fraction(first.radius), "l2"), BINARY32)
        steepest = min(bound.value for bound in first.bounds)
        assert first.radius - second.radius <= 2 * slack.max() / steepest * (1 + 1e-9)


@pytest.mark.parametrize("level", ["float", "deployed"])
def test_no_radius_beside_deployed_is_larger_than_what_executions_allow(level):
    """The slack of the ball that was asked about says nothing about a radius beyond it."""
    model, options = api.load(ZOO / "digits_tanh.onnx"), {"limit": 3, "method": "spectral"}
    proved = api.radius(model, level="deployed", **options).samples
    real = api.radius(model, **options).samples
    seen = set()
    for eps in ("0.01", "1"):
        for sample, most, free in zip(
            api.verify(model, eps, level=level, **options).samples, proved, real, strict=True
        ):
            if sample.level == "deployed" or level == "deployed":
                assert sample.radius <= most.radius < free.radius
                seen.add(str(sample.status))
    assert seen == {"certified", "falsified"} and proved[0].radius < 0.11943 < real[0].radius


def test_a_certified_eps_is_a_radius_even_where_the_slack_of_a_larger_ball_proves_less(network):
    path, inputs = network
    model, data = api.load(path), (inputs[:3], None)
    for index, most in enumerate(api.radius(model, data=data, method="spectral", level="deployed").samples):
        near = Fraction(most.radius)
        (sample,) = api.verify(model, near, data=(inputs[index : index + 1], None), method="spectral").samples
        if sample.level == "deployed":
            assert sample.radius >= near
        (below,) = api.verify(model, near / 2, data=(inputs[index : index + 1], None), method="spectral").samples
        assert below.level == "deployed" and below.radius == most.radius


def test_tolerances_have_levels(tmp_path):
    path = save_chain(tmp_path / "m.onnx", [(np.float32([[1.0, 1.0]]), np.zeros(1, np.float32))])
    x = np.float32([[1.0, 2.0]])
    (loose,) = api.verify(path, "1/10", data=x, tolerance="1/2").samples
    bound = Fraction(loose.bounds[0].value)
    assert loose.level == "deployed"
    (tight,) = api.verify(path, "1/10", data=x, tolerance=bound / 10).samples
    assert tight.status is Status.CERTIFIED and tight.level == "float"
    (asked,) = api.verify(path, "1/10", data=x, tolerance=bound / 10, level="deployed").samples
    assert asked.status is Status.UNKNOWN and "real arithmetic only" in asked.note


def test_models_without_a_class_stay_at_the_level_float(tmp_path, monkeypatch):
    path = save_chain(tmp_path / "m.onnx", random_chain(0, (2, 4, 3)))
    x = np.float32([[1.0, 0.0]])
    monkeypatch.setattr("certlip.proofs.deployment.slack", lambda graph, region, precision: np.full(3, np.inf))
    (found,) = api.verify(path, "1/1000", data=x).samples
    assert found.status is Status.CERTIFIED and found.level == "float"
    (asked,) = api.verify(path, "1/1000", data=x, level="deployed").samples
    assert asked.status is Status.UNKNOWN and "real arithmetic only" in asked.note
    (measured,) = api.radius(path, data=x, level="deployed").samples
    assert measured.radius == 0 and measured.status is Status.UNKNOWN


def test_levels_and_clips_that_make_no_sense_are_refused(network):
    path, inputs = network
    for options in ({"level": "exact"}, {"level": "estimate"}, {"clip": (1, 0)}, {"clip": (0,)}, {"clip": ("a", 1)}):
        with pytest.raises(UsageError):
            api.verify(path, "1/10", data=(inputs, None), **options)


@pytest.mark.parametrize("clip", [(-1, 1), ("-1/2", "1/2"), (0.25, 3), (Fraction(-2), np.float32(2))])
def test_counterexamples_stay_in_the_clip(network, clip):
    path, inputs = network
    low, high = (Fraction(end) if isinstance(end, (str, int, Fraction)) else Fraction(float(end)) for end in clip)
    report = api.verify(path, "3/2", data=(inputs, None), clip=clip, method="spectral")
    assert report.clip == (low, high)
    found = [sample.counterexample for sample in report.samples if sample.status is Status.FALSIFIED]
    assert found and all(low <= Fraction(float(x)) <= high for point in found for x in point.ravel())
    free = api.verify(path, "3/2", data=(inputs, None), method="spectral")
    assert free.count(Status.FALSIFIED) >= len(found)
