"""`certlip repair` and `certlip.repair` from a model to the files, checked by others: onnxruntime, and the checker."""

from __future__ import annotations

import json
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from small_models import command, save_chain, save_model

import certlip
from certlip.errors import UsageError
from certlip.repairs.attempt import Judge

DRAW = np.random.default_rng(0)


def accepted(place: Path) -> list:
    findings = certlip.check(place)
    assert findings and all(finding.accepted for finding in findings)
    return findings


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0]


def slope(path: Path, width: int) -> float:
    """The steepest of many secants that onnxruntime shows."""
    x, step = DRAW.normal(size=(500, width)), DRAW.normal(size=(500, width)) * 0.1
    moved = run(path, x + step).astype(float) - run(path, x)
    sizes = np.linalg.norm((x + step).astype(np.float32).astype(float) - x.astype(np.float32).astype(float), axis=1)
    return float((np.linalg.norm(moved.reshape(500, -1), axis=1) / sizes).max())


@pytest.fixture
def classifier(tmp_path) -> Path:
    """Two separated clouds in the plane and a steep network that tells them apart, with its data beside it."""
    x = np.concatenate([DRAW.normal(-1, 0.4, (60, 2)), DRAW.normal(1, 0.4, (60, 2))]).astype(np.float32)
    np.savez(tmp_path / "steep.npz", x=x, y=np.repeat([0, 1], 60))
    first = np.array([[3.0, 3.0], [-3.0, -3.0], [1.0, -1.0]])
    return save_chain(tmp_path / "steep.onnx", [(first, np.zeros(3)), ([[-2, 2, 0.5], [2, -2, 0.0]], np.zeros(2))])


def test_a_bound_is_met_and_proved_of_the_written_file(classifier, tmp_path):
    before = classifier.read_bytes()
    out = tmp_path / "repaired.onnx"
    ran = command("repair", classifier, "--max-lipschitz", "2", "--method", "scale", "--output", out)
    assert ran.code == 0 and "Met and proved by scale." in ran.out
    assert classifier.read_bytes() == before
    (finding,) = accepted(tmp_path / "repaired.certlip")
    bound = certlip.bound(out).best
    assert Fraction(bound.value) <= 2 and slope(out, 2) <= 2
    assert finding.message.startswith("|Df| <=")
    one, other = onnx.load(classifier), onnx.load(out)
    for ends in ("input", "output"):
        assert [e.SerializeToString() for e in getattr(one.graph, ends)] == [
            e.SerializeToString() for e in getattr(other.graph, ends)
        ]
    report = json.loads((tmp_path / "repaired.repair.json").read_text())
    assert report["met"] and report["after"]["bound"]["value"] <= 2 < report["before"]["bound"]["value"]
    assert report["repaired"]["sha256"] == certlip.load(out).sha256
    page = (tmp_path / "repaired.repair.md").read_text()
    assert "Met and proved by scale." in page and "| scale * |" in page


def test_linf(classifier, tmp_path):
    out = tmp_path / "repaired.onnx"
    options = ("--max-lipschitz", "3", "--norm", "linf", "--method", "scale", "--output", out)
    assert command("repair", classifier, *options).code == 0
    assert Fraction(certlip.bound(out, norm="linf").best.value) <= 3
    accepted(tmp_path / "repaired.certlip")


def test_a_model_that_meets_the_bound_is_copied(classifier, tmp_path):
    out = tmp_path / "repaired.onnx"
    ran = command("repair", classifier, "--max-lipschitz", "1000", "--output", out)
    assert ran.code == 0 and "meets the requirement as it is" in ran.out
    assert out.read_bytes() == classifier.read_bytes()
    accepted(tmp_path / "repaired.certlip")


def test_a_share_that_is_met_has_a_certificate_for_each_sample(classifier, tmp_path):
    out = tmp_path / "repaired.onnx"
    ran = command("repair", classifier, "--min-certified", "0.7", "--eps", "0.1", "--output", out)
    assert ran.code == 0
    report = json.loads((tmp_path / "repaired.repair.json").read_text())
    findings = accepted(tmp_path / "repaired.certlip")
    assert sum(finding.path.name.startswith("sample-") for finding in findings) == report["after"]["certified"]
    assert report["after"]["certified_share"] >= 0.7


def one_coordinate(folder: Path) -> tuple[np.ndarray, np.ndarray, Path]:
    """Two clouds, and a network that looks at one coordinate where both tell them apart."""
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.normal(-1, 0.4, (60, 2)), draw.normal(1, 0.4, (60, 2))]).astype(np.float32)
    first = np.array([[3.0, -0.8], [-3.0, 0.8], [0.5, -0.5]])
    model = save_chain(folder / "one.onnx", [(first, np.zeros(3)), ([[-2, 2, 0.5], [2, -2, 0.0]], np.zeros(2))])
    return x, np.repeat([0, 1], 60), model


def test_a_share_is_reached_by_training(tmp_path):
    x, y, model = one_coordinate(tmp_path)
    out = tmp_path / "r.onnx"
    options = {"min_certified": "0.85", "eps": "0.6", "method": "orthogonal", "timeout": 12, "output": out}
    report = certlip.repair(model, data=(x, y), **options)
    total = len(report.after.verdicts)
    assert report.before.certified < 0.85 * total <= report.after.certified and report.met
    part = report.problem.parts.test
    again = certlip.verify(out, "0.6", data=(part.inputs, part.targets), method="lipsdp")
    assert again.certified_accuracy == report.after.certified / total
    accepted(tmp_path / "r.certlip")


def test_a_probability_keeps_its_sigmoid(tmp_path):
    x = np.concatenate([DRAW.normal(-1, 0.4, (60, 2)), DRAW.normal(1, 0.4, (60, 2))]).astype(np.float32)
    np.savez(tmp_path / "p.npz", x=x, y=np.repeat([0, 1], 60))
    layers = [(np.array([[3.0, 3.0], [1.0, -1.0]]), np.zeros(2)), ([[4.0, 0.5]], np.array([-6.0]))]
    model = save_chain(tmp_path / "p.onnx", layers, last="Sigmoid")
    out = tmp_path / "repaired.onnx"
    assert command("repair", model, "--max-lipschitz", "0.5", "--method", "scale", "--output", out).code == 0
    assert onnx.load(out).graph.node[-1].op_type == "Sigmoid"
    p = run(out, x)
    assert p.min() >= 0 and p.max() <= 1 and slope(out, 2) <= 0.5
    assert Fraction(certlip.bound(out).best.value) <= Fraction(1, 2)
    assert ((p[:, 0] > 0.5) == (run(model, x)[:, 0] > 0.5)).mean() > 0.9


def test_a_softmax_stays(tmp_path, classifier):
    first = np.array([[3.0, 3.0], [-3.0, -3.0]])
    model = save_chain(tmp_path / "steep.onnx", [(first, np.zeros(2)), ([[-2, 2], [2, -2]], np.zeros(2))], "Softmax")
    out = tmp_path / "repaired.onnx"
    assert command("repair", model, "--max-lipschitz", "2", "--method", "scale", "--output", out).code == 0
    assert onnx.load(out).graph.node[-1].op_type == "Softmax"
    assert np.allclose(run(out, np.zeros((1, 2))).sum(), 1.0)


@pytest.fixture
def regressor(tmp_path) -> Path:
    x = DRAW.normal(size=(120, 2)).astype(np.float32)
    layers = [(DRAW.normal(size=(8, 2)), DRAW.normal(size=8)), (DRAW.normal(size=(1, 8)), np.zeros(1))]
    model = save_chain(tmp_path / "smooth.onnx", layers)
    np.savez(tmp_path / "smooth.npz", x=x, y=run(model, x))
    return model


def test_auto_beats_scaling_on_a_regressor(regressor):
    data = regressor.with_suffix(".npz")
    half = certlip.bound(regressor).best.value / 2
    scaled = certlip.repair(regressor, data=data, max_lipschitz=half, method="scale")
    best = certlip.repair(regressor, data=data, max_lipschitz=half, method="convex-restriction", timeout=20)
    assert scaled.met and best.met
    assert best.after.scores.error < scaled.after.scores.error
    assert best.after.scores.samples == len(best.problem.parts.test)


def test_a_tolerance_asks_for_a_bound(regressor, tmp_path):
    out = tmp_path / "repaired.onnx"
    options = ("--min-certified", "1", "--eps", "0.1", "--tolerance", "0.05", "--method", "scale", "--output", out)
    assert command("repair", regressor, *options).code == 0
    assert certlip.bound(out).best.value <= 0.5
    accepted(tmp_path / "repaired.certlip")


def test_without_labels_the_models_own_answers_count(classifier, tmp_path):
    with np.load(classifier.with_suffix(".npz")) as data:
        np.savez(tmp_path / "bare.npz", x=data["x"])
    out = tmp_path / "repaired.onnx"
    options = ("--max-lipschitz", "2", "--method", "scale", "--output", out, "--data", tmp_path / "bare.npz")
    ran = command("repair", classifier, *options)
    assert ran.code == 0 and "no labels" in ran.out and "agreement with the model" in ran.out
    assert json.loads((tmp_path / "repaired.repair.json").read_text())["samples"]["labels"] == "predicted"


def test_what_is_proved_of_a_decision_is_about_its_logits(tmp_path, classifier):
    first = np.array([[3.0, 3.0], [-3.0, -3.0]])
    model = save_chain(tmp_path / "steep.onnx", [(first, np.zeros(2)), ([[-2, 2], [2, -2]], np.zeros(2))], "LogSoftmax")
    ran = command("repair", model, "--max-lipschitz", "2", "--method", "scale", "--output", tmp_path / "r.onnx")
    assert ran.code == 0 and "of the logits moves at most" in ran.out and "of the output" not in ran.out
    page = (tmp_path / "r.repair.md").read_text()
    assert "of the logits moves at most" in page and "LogSoftmax is left out" in page
    with np.load(classifier.with_suffix(".npz")) as data, pytest.raises(UsageError, match="need class labels"):
        certlip.repair(model, data=(data["x"], run(model, data["x"])), max_lipschitz=2)


def test_a_constant_network_is_certified_everywhere(tmp_path):
    x = DRAW.normal(size=(60, 2)).astype(np.float32)
    model = save_chain(tmp_path / "one.onnx", [(np.zeros((3, 2)), np.ones(3)), (np.zeros((2, 3)), [1.0, 0.0])])
    np.savez(tmp_path / "one.npz", x=x, y=np.zeros(60, np.int64))
    out = tmp_path / "r.onnx"
    assert command("repair", model, "--min-certified", "1", "--eps", "5", "--output", out).code == 0
    level = save_chain(tmp_path / "level.onnx", [(np.zeros((3, 2)), np.ones(3)), (np.zeros((1, 3)), [1.0])])
    options = ("--min-certified", "1", "--eps", "5", "--tolerance", "0.1", "--loss", "square")
    np.savez(tmp_path / "level.npz", x=x, y=DRAW.normal(1, 0.1, size=60))
    assert command("repair", level, *options, "--output", out).code == 0


def test_weights_of_half_precision_are_scaled_until_the_file_is_within_the_bound(tmp_path, classifier):
    first = np.array([[3.0, 3.0], [-3.0, -3.0], [1.0, -1.0]]).astype(np.float16)
    last, zero = np.array([[-2, 2, 0.5], [2, -2, 0]], np.float16), np.zeros
    nodes = [
        helper.make_node("Gemm", ["x", "W0", "b0"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["z"]),
        helper.make_node("Gemm", ["z", "W1", "b1"], ["y"], transB=1),
    ]
    constants = {"W0": first, "b0": zero(3, np.float16), "W1": last, "b1": zero(2, np.float16)}
    model = save_model(tmp_path / "half.onnx", nodes, 2, 2, constants, TensorProto.FLOAT16)
    for limit in ("0.61", "0.613", "0.6177"):
        report = certlip.repair(model, data=classifier.with_suffix(".npz"), max_lipschitz=limit, method="scale")
        assert report.met and report.after.attempt.bound.value > 0.99 * float(limit)


def test_samples_that_training_cannot_tell_apart_are_not_scored(tmp_path, classifier):
    with np.load(classifier.with_suffix(".npz")) as data:
        x, y = data["x"].astype(float), data["y"]
    wide = save_model(
        tmp_path / "wide.onnx", [helper.make_node("MatMul", ["x", "W"], ["y"])], 2, 2,
        {"W": np.array([[-2.0, 2.0], [-2.0, 2.0]])}, TensorProto.DOUBLE,
    )  # fmt: skip
    with pytest.raises(UsageError, match="among those of"):
        certlip.repair(wide, data=(x, y), holdout=(x[:30] * (1 + 1e-14), y[:30]), max_lipschitz=1)


def test_a_model_with_other_outputs_is_refused(tmp_path, classifier):
    model = onnx.load(classifier)
    model.graph.output.append(helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["batch", 3]))
    onnx.save(model, tmp_path / "two.onnx")
    options = ("--output-name", "y", "--data", classifier.with_suffix(".npz"), "--output", tmp_path / "r.onnx")
    ran = command("repair", tmp_path / "two.onnx", "--max-lipschitz", "1", *options)
    assert ran.code == 2 and "also has h0" in ran.err


def test_metadata_stay(tmp_path, classifier):
    model = onnx.load(classifier)
    model.metadata_props.add(key="classes", value="left,right")
    model.doc_string, model.model_version = "two clouds", 7
    onnx.save(model, classifier)
    options = ("--max-lipschitz", "2", "--method", "scale", "--output", tmp_path / "r.onnx")
    assert command("repair", classifier, *options).code == 0
    written = onnx.load(tmp_path / "r.onnx")
    assert [(entry.key, entry.value) for entry in written.metadata_props] == [("classes", "left,right")]
    assert written.doc_string == "two clouds" and written.model_version == 7


@pytest.mark.parametrize("error", [RuntimeError("no convergence"), BaseException("a panic")])
def test_a_method_that_fails_ends_itself_alone(classifier, monkeypatch, error):
    def broken(self, task):
        yield task.start
        raise error

    monkeypatch.setattr("certlip.repairs.convex.method.ConvexRestriction.propose", broken)
    report = certlip.repair(
        classifier, data=classifier.with_suffix(".npz"), max_lipschitz=2, method="convex-restriction"
    )
    assert report.met and "stopped" in report.notes["convex-restriction"]


def test_a_second_interruption_waits_for_the_files(classifier, tmp_path):
    def stop(attempt):
        os.kill(os.getpid(), signal.SIGINT)

    def again(message):
        if message.startswith("scoring scale"):
            os.kill(os.getpid(), signal.SIGINT)

    out, data = tmp_path / "r.onnx", classifier.with_suffix(".npz")
    with pytest.raises(KeyboardInterrupt):
        certlip.repair(classifier, data=data, max_lipschitz=2, output=out, progress=again, each=stop)
    accepted(tmp_path / "r.certlip")
    assert json.loads((tmp_path / "r.repair.json").read_text())["interrupted"]


def test_without_targets_a_regressor_of_two_outputs_keeps_its_outputs(classifier):
    with np.load(classifier.with_suffix(".npz")) as data:
        x = data["x"]
    report = certlip.repair(classifier, data=x, max_lipschitz=2, method="scale", loss="square")
    assert report.met and report.before.scores.error == 0.0 and report.after.scores.accuracy is None


def test_a_model_that_misses_the_share_where_it_counts_is_not_kept(tmp_path, monkeypatch):
    """Even if its share on the samples that choose is high enough and no candidate's is."""
    x, y, model = one_coordinate(tmp_path)
    first = []
    monkeypatch.setattr(Judge, "_meets", lambda self, bound, found: not first and not first.append(bound))
    report = certlip.repair(model, data=(x, y), min_certified="0.85", eps="0.6", method="orthogonal", timeout=12)
    assert report.before.attempt.meets and not report.after.attempt.meets
    assert report.met and report.after.certified > report.before.certified


def test_an_interruption_keeps_the_best_state(classifier, tmp_path):
    def stop(attempt):
        os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "repaired.onnx"
    report = certlip.repair(classifier, data=classifier.with_suffix(".npz"), max_lipschitz=2, output=out, each=stop)
    assert report.interrupted and report.met and list(report.table) == ["scale"]
    accepted(tmp_path / "repaired.certlip")
    assert json.loads((tmp_path / "repaired.repair.json").read_text())["interrupted"]


def test_what_is_not_met_says_how_far_it_is(classifier, tmp_path):
    out = tmp_path / "repaired.onnx"
    options = ("--min-certified", "1", "--eps", "2", "--timeout", "4", "--output", out)
    ran = command("repair", classifier, *options)
    assert ran.code == 3 and "Not met" in ran.out
    report = json.loads((tmp_path / "repaired.repair.json").read_text())
    assert not report["met"] and report["shortfall"] > 0 and out.exists()


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 1.5}, {"output": 5}, {"data": [[0.0], [1.0]]}])
def test_arguments_of_a_wrong_kind_are_refused(classifier, options):
    with pytest.raises(UsageError):
        certlip.repair(classifier, **{"data": classifier.with_suffix(".npz"), "max_lipschitz": 2, **options})


def test_an_output_that_cannot_be_written_is_refused_at_once(classifier, tmp_path):
    (tmp_path / "r.repair.json").mkdir()
    places = tmp_path / "r.onnx", classifier.with_suffix(".npz") / "r.onnx"
    for place in places:
        ran = command("repair", classifier, "--max-lipschitz", "2", "--output", place)
        assert ran.code == 2 and len(ran.err.strip().splitlines()) == 1 and not ran.out
    assert not places[0].exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--max-lipschitz", "0"], "leaves only constants"),
        (["--max-lipschitz", "-1"], "negative"),
        (["--max-lipschitz", "ten"], "is not a number"),
        (["--max-lipschitz", "1", "--min-certified", "0.5", "--eps", "1"], "one requirement"),
        ([], "one requirement"),
        (["--min-certified", "0.5"], "needs a radius"),
        (["--min-certified", "1.5", "--eps", "1"], "at most 1"),
        (["--max-lipschitz", "1", "--eps", "1"], "belong to a certified share"),
        (["--min-certified", "0.5", "--eps", "1", "--tolerance", "1"], "these are classes"),
        (["--max-lipschitz", "1", "--method", "magic"], "unknown method 'magic'"),
        (["--max-lipschitz", "1", "--loss", "magic"], "unknown loss 'magic'"),
        (["--max-lipschitz", "1", "--loss", "square"], "store one for"),
        (["--max-lipschitz", "1", "--data", "nowhere.npz"], "there is no data file"),
        (["--max-lipschitz", "1", "--norm", "linf", "--method", "convex-restriction"], "choose one of scale"),
        (["--min-certified", "1", "--eps", "1.5", "--method", "scale"], "certifies nothing more"),
    ],
)
def test_bad_input_is_one_sentence(classifier, tmp_path, options, message):
    ran = command("repair", classifier, "--output", tmp_path / "out.onnx", *options)
    assert ran.code == 2 and message in ran.err and len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "out.onnx").exists()


def test_the_model_itself_is_no_output(classifier):
    ran = command("repair", classifier, "--max-lipschitz", "1", "--output", classifier)
    assert ran.code == 2 and "is the model itself" in ran.err
    assert command("repair", classifier, "--max-lipschitz", "1", "--output", classifier.with_suffix(".pt")).code == 2


def test_labels_of_another_model_are_refused(classifier):
    with np.load(classifier.with_suffix(".npz")) as data:
        x, y = data["x"], data["y"]
    with pytest.raises(UsageError, match="they look like another model's"):
        certlip.repair(classifier, data=(x, 1 - y), max_lipschitz=1)
    with pytest.raises(UsageError, match="labels from 0 to 2"):
        certlip.repair(classifier, data=(x, np.arange(len(y)) % 3), max_lipschitz=1)


def test_targets_of_another_model_are_refused(regressor):
    with np.load(regressor.with_suffix(".npz")) as data:
        x, y = data["x"], data["y"]
    with pytest.raises(UsageError, match="look like another model's"):
        certlip.repair(regressor, data=(x, 100 + y), max_lipschitz=1)


def test_a_torch_module_is_repaired_through_its_export(tmp_path):
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1))
    x = DRAW.normal(size=(80, 2)).astype(np.float32)
    model = certlip.load(module, input_shape=(1, 2))
    y = model.graph(x.astype(float).reshape(-1, 1, 2)).reshape(-1, 1)
    bound = certlip.bound(model).best.value
    report = certlip.repair(model, data=(x, y), max_lipschitz=bound / 2, method="scale", output=tmp_path / "r.onnx")
    assert report.met and certlip.bound(tmp_path / "r.onnx").best.value <= bound / 2


def test_the_result_needs_no_file(classifier):
    report = certlip.repair(classifier, data=classifier.with_suffix(".npz"), max_lipschitz=2, method="scale")
    assert report.met and not report.files and certlip.bound(report.model).best.value <= 2
