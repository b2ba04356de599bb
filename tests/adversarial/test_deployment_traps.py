"""Robust in real arithmetic, wrong when executed: the slack of an execution covers what really happens."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from chain_traps import CHAINS
from deployment_traps import DETECTORS
from forgery import accepted, accepts, records, with_arithmetic
from graph_traps import GRAPHS
from onnx_arithmetic import EXECUTIONS, distance_squared, margin, run
from traps import save_layers

from certlip import api, load
from certlip.proofs.deployment import slack
from certlip.proofs.ranges import Region
from certlip.rigor.rounding import BINARY32
from certlip.verification import Status

PROVABLE = [trap for trap in DETECTORS if trap.provable]
SAFE = [trap for trap in (*CHAINS, *GRAPHS) if trap.safe is not None and trap.dtype is np.float32]
HARMLESS = {
    "kink at the sample", "shifted pair", "radius just beyond the truth", "scales of 1e-30 and 1e15",
    "singular vector orthogonal to the start",
}  # fmt: skip
"""Traps for methods, not for arithmetic."""
each_norm = pytest.mark.parametrize("norm", ["l2", "linf"])
each_detector = pytest.mark.parametrize("trap", DETECTORS, ids=[trap.name for trap in DETECTORS])


def keeps_label(scores) -> bool:
    """What a program that takes the first largest score says; NaN is not the label."""
    return bool(scores[0] >= scores[1])


def points(trap) -> list[np.ndarray]:
    """Representable points of the ball."""
    center, eps = np.float32(trap.x), np.float32(trap.eps)
    draw = np.random.default_rng(0)
    moved = [center + eps * np.float32(draw.uniform(-1, 1, len(center))) for _ in range(4)]
    return [center, *(point for point in moved if (np.abs(point.astype(float) - center) <= float(trap.eps)).all())]


@each_detector
def test_real_arithmetic_is_robust_and_executions_are_not(trap, tmp_path):
    file, *others = trap.executed(tmp_path)
    assert margin(file, trap.x, 0) > 0
    shown = [keeps_label(run(model, trap.x, order)) for model in (file, *others) for order in EXECUTIONS]
    assert not all(shown)


@each_detector
def test_the_slack_covers_every_execution(trap, tmp_path):
    file, *others = trap.executed(tmp_path)
    graph = load(trap.save(tmp_path)).graph
    region = Region(np.reshape(trap.x, graph.input_shape), trap.eps, "linf")
    allowed = slack(graph, region, BINARY32)
    assert allowed.shape == (2,) and (allowed >= 0).all()
    assert not Fraction(margin(file, trap.x, 0)) > sum(map(_fraction, allowed))
    session = onnxruntime.InferenceSession(file.SerializeToString())
    for point in points(trap):
        exact = run(file, point.tolist())
        computed = [run(model, point, order) for model in (file, *others) for order in EXECUTIONS]
        computed.append(session.run(None, {"x": point[None]})[0].ravel())
        for scores in computed:
            for value, truth, limit in zip(scores.tolist(), exact, allowed.tolist(), strict=True):
                assert limit == np.inf or abs(Fraction(value) - truth) <= Fraction(limit)


def _fraction(value: float) -> Fraction:
    return Fraction(value) if value < np.inf else Fraction(10) ** 400


def verdict(path, x, eps, label=0, **options):
    (sample,) = api.verify(path, eps, data=(np.array([x]), np.array([label])), timeout=20, **options).samples
    assert sample.status is not Status.ERROR, sample.note
    return sample


@each_norm
@pytest.mark.parametrize("trap", PROVABLE, ids=[trap.name for trap in PROVABLE])
def test_the_real_claim_is_proved_and_is_not_one_about_executions(trap, norm, tmp_path):
    path, folder = trap.save(tmp_path), tmp_path / "claims"
    sample = verdict(path, trap.x, trap.eps, norm=norm, certificates=folder)
    assert sample.status is Status.CERTIFIED and sample.level == "float"
    (claim,) = records(folder, "robustness")
    assert accepted(claim, path) and not accepted(claim, path, level="deployed")
    for arithmetic in ("binary32", "binary64", "binary16", "bfloat16"):
        for units in (0, 16, 2**20):
            assert not accepts(claim, path, with_arithmetic(arithmetic, units))


@each_norm
@each_detector
def test_nothing_is_certified_for_executions(trap, norm, tmp_path):
    path, folder = trap.save(tmp_path), tmp_path / "claims"
    for eps in (trap.eps, 0):
        sample = verdict(path, trap.x, eps, norm=norm, level="deployed", certificates=folder)
        assert sample.status is not Status.CERTIFIED and sample.level != "deployed"
    assert not list(folder.glob("sample*"))


@each_norm
@pytest.mark.parametrize("trap", SAFE, ids=[trap.name for trap in SAFE])
def test_what_is_certified_for_executions_is_kept_by_them(trap, norm, tmp_path):
    """The traps of the other suite, on the ball where their real claim is true."""
    path, model = trap.save(tmp_path), trap.model(tmp_path)
    sample = verdict(path, trap.x, trap.safe, norm=norm, level="deployed")
    if sample.status is Status.CERTIFIED:
        assert sample.level == "deployed" and trap.name in HARMLESS
        reach = 0.999 * float(trap.safe) / len(trap.x)
        for point in np.float32(np.float64(trap.x) + reach * np.array([[-1], [-0.5], [0], [0.5], [1]])):
            assert distance_squared(point, np.float64(trap.x), norm) <= trap.safe**2
            assert all(keeps_label(run(model, point, order)) for order in EXECUTIONS)
    else:
        assert trap.name not in HARMLESS


@each_norm
def test_a_network_without_tricks_is_certified_for_executions(norm, tmp_path):
    """The class is not so wide that nothing can be proved of it."""
    path = save_layers(tmp_path / "plain.onnx", [([[1, 0.5], [-0.25, 1]], [0, 0.125]), ([[1, -1], [-1, 1]], [0.5, 0])])
    folder = tmp_path / "claims"
    assert verdict(path, (1, 0.25), "1/10", norm=norm, level="deployed", certificates=folder).level == "deployed"
    (claim,) = records(folder, "robustness")
    assert accepted(claim, path) and accepted(claim, path, level="deployed")
    assert accepts(claim, path, with_arithmetic("real"))
    assert not accepts(claim, path, with_arithmetic("binary64"))  # finer than what the file is executed in
    assert not accepts(claim, path, with_arithmetic("bfloat16", 2**20))
