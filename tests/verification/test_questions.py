"""What is asked of a sample: ties, eps zero, one logit, tolerances, decisions at the end, missing labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_models import command, save_chain, save_model

from certlip import api
from certlip.errors import UsageError
from certlip.verification import Question, Status

LINE = [([[2.0]], [-1.0])]  # f(x) = 2 x - 1 changes its sign at one half


def statuses(report) -> list[str]:
    return [str(sample.status) for sample in report.samples]


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("last", ["", "Sigmoid"])
def test_one_logit_decides_by_its_sign(tmp_path, last, norm):
    path = save_chain(tmp_path / "line.onnx", LINE, last)
    x, y = np.float32([[0.75], [0.75], [0.25], [0.25], [0.5625], [0.4375]]), np.array([1, 0, 0, 1, 1, 0])
    report = api.verify(path, "1/8", data=(x, y), norm=norm, certificates=tmp_path / "c")
    expected = ["certified", "misclassified", "certified", "misclassified", "falsified", "falsified"]
    assert statuses(report) == expected
    real = api.radius(path, data=(x[:1], y[:1]), norm=norm).samples[0]
    assert real.radius == pytest.approx(0.25, rel=1e-9) and real.radius <= 0.25
    assert report.samples[0].level == "deployed"  # a little less, for the rounding errors of executions
    assert report.samples[0].radius == pytest.approx(0.25, rel=1e-4) and report.samples[0].radius < real.radius
    for sample in report.samples[4:]:
        crossed = 2 * float(sample.counterexample.item()) - 1
        assert crossed < 0 if sample.label == 1 else crossed > 0
    assert command("check", tmp_path / "c").code == 0
    np.savez(tmp_path / "line.npz", x=x, y=y)
    ran = command("verify", path, "--eps", "1/8", "--norm", norm)
    assert ran.code == 1 and "one output: its sign" in ran.out


def test_a_sample_on_the_boundary_is_never_certified(tmp_path):
    path = save_chain(tmp_path / "line.onnx", LINE)
    for label in (0, 1):
        report = api.verify(path, 0, data=(np.float32([[0.5]]), np.array([label])), certificates=tmp_path / "c")
        assert statuses(report)[0] in ("unknown", "misclassified")
        assert report.samples[0].radius == 0
    assert not list((tmp_path / "c").glob("*.json"))


def test_the_ball_is_closed(tmp_path):
    """At distance eps exactly the other class is reached, but only as a tie: neither certified nor falsified."""
    path = save_chain(tmp_path / "line.onnx", LINE)
    report = api.verify(path, "1/4", data=(np.float32([[0.75]]), np.array([1])))
    assert statuses(report) == ["unknown"]


def test_ties_of_several_classes_are_not_certified(tmp_path):
    path = save_chain(tmp_path / "tie.onnx", [([[1.0], [1.0], [0.0]], [0.0, 0.0, -5.0])])
    for label in (0, 1):
        report = api.verify(path, 0, data=(np.float32([[1.0]]), np.array([label])))
        assert statuses(report)[0] in ("unknown", "misclassified")


def test_eps_zero_asks_for_the_prediction_alone(tmp_path):
    path = save_chain(tmp_path / "line.onnx", LINE)
    report = api.verify(path, "0", data=(np.float32([[0.75], [0.25]]), np.array([1, 1])))
    assert statuses(report) == ["certified", "misclassified"]


def test_an_unlabelled_sigmoid_keeps_its_prediction_and_a_bare_output_is_a_regressor(tmp_path):
    bare, sigmoid = save_chain(tmp_path / "bare.onnx", LINE), save_chain(tmp_path / "s.onnx", LINE, "Sigmoid")
    x = np.float32([[0.75], [0.25]])
    assert statuses(api.verify(sigmoid, "0.1", data=x)) == ["certified", "certified"]
    with pytest.raises(UsageError, match="--tolerance"):
        api.verify(bare, "0.1", data=x)


@pytest.mark.parametrize(("tolerance", "expected"), [("0.2", "certified"), ("0.19", "falsified"), ("1/5", "certified")])
def test_tolerance_bounds_the_move_of_the_output(tmp_path, tolerance, expected):
    path = save_chain(tmp_path / "line.onnx", [([[2.0], [0.0]], [-1.0, 3.0])])
    report = api.verify(
        path, "0.0999", data=np.float32([[0.7]]), tolerance=tolerance, norm="linf", certificates=tmp_path / "c"
    )
    assert statuses(report) == [expected]
    assert command("check", tmp_path / "c").code == 0


@pytest.mark.parametrize("targets", [np.array([151, 75]), np.array([1, 0]), np.array([0.5, 2.5]), np.array([-3, 9])])
def test_targets_of_a_regressor_are_not_classes(tmp_path, targets):
    path = save_chain(tmp_path / "line.onnx", LINE)
    np.savez(tmp_path / "line.npz", x=np.float32([[0.5], [1.0]]), y=targets)
    ran = command("verify", path, "--eps", "0.1", "--tolerance", "0.3")
    assert ran.code == 0 and "labels are not used" in ran.out


def test_radius_with_tolerance_zero_certifies_nothing(tmp_path):
    path = save_chain(tmp_path / "line.onnx", LINE)
    report = api.radius(path, data=np.float32([[0.5]]), tolerance=0)
    assert statuses(report) == ["unknown"] and report.samples[0].radius == 0


def test_radius_of_a_tolerance_is_tolerance_over_bound(tmp_path):
    path = save_chain(tmp_path / "line.onnx", LINE)
    report = api.radius(path, data=np.float32([[0.5]]), tolerance="0.5")
    assert 0.25 * (1 - 1e-9) <= report.samples[0].radius <= 0.25


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax", "ArgMax"])
def test_a_final_decision_is_left_out_and_said(tmp_path, last):
    layers = [(np.eye(2), np.zeros(2))]
    if last == "ArgMax":
        nodes = [
            helper.make_node("Gemm", ["x", "W"], ["h"], "dense"),
            helper.make_node("ArgMax", ["h"], ["y"], "last", axis=1, keepdims=1),
        ]
        graph = save_model(tmp_path / "m.onnx", nodes, 2, 1, {"W": np.eye(2, dtype=np.float32)})
        import onnx

        model = onnx.load(graph)
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
        onnx.save(model, graph)
    else:
        graph = save_chain(tmp_path / "m.onnx", layers, last)
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0]]), y=np.array([0]))
    for name in ("verify", "radius"):
        ran = command(name, graph, *(["--eps", "0.5"] if name == "verify" else []))
        assert ran.code == 0 and last in ran.out and "left out" in ran.out
    data = json.loads(command("verify", graph, "--eps", "0.5", "--json").out)
    assert any(last in note for note in data["model"]["notes"])


def test_no_labels_means_the_predicted_label_and_says_so(tmp_path):
    path = save_chain(tmp_path / "m.onnx", [(np.eye(2), np.zeros(2))])
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0], [0.0, 1.0]]))
    ran = command("verify", path, "--eps", "0.5")
    assert ran.code == 0 and "predicted label" in ran.out
    data = json.loads(command("verify", path, "--eps", "0.5", "--json").out)
    assert data["summary"]["labels"] == "predicted" and data["summary"]["clean_accuracy"] is None
    assert [sample["label"] for sample in data["samples"]] == [0, 1]
    assert "predicted label" in command("radius", path).out


def test_a_constant_network_is_robust_everywhere(tmp_path):
    path = save_chain(tmp_path / "m.onnx", [(np.zeros((2, 2)), [1.0, 0.0])])
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0]]), y=np.array([0]))
    assert command("verify", path, "--eps", "1e30").code == 0
    report = api.radius(path)
    assert statuses(report) == ["certified"] and report.samples[0].radius > 1e300


def test_the_model_takes_its_own_type_where_casts_are_coarser(tmp_path):
    """A double input that is cast to float: samples keep their doubles and counterexamples can be replayed."""
    weight = np.float32([[1, -1], [0.5, 1]])
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], "cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["c", "W"], ["h"], "dense"),
        helper.make_node("Cast", ["h"], ["y"], "back", to=TensorProto.DOUBLE),
    ]
    path = save_model(tmp_path / "m.onnx", nodes, 2, 2, {"W": weight}, TensorProto.DOUBLE)
    report = api.verify(path, 3, data=(np.array([[1.0, 0.1]]), np.array([0])), certificates=tmp_path / "c")
    assert statuses(report) == ["falsified"]
    assert command("check", tmp_path / "c").code == 0
    samples = api.dataset_of(api.load(path), (np.array([[0.1, 0.7]]), None), None)
    assert samples.inputs.ravel().tolist() == [0.1, 0.7]


def test_outputs_that_overflow_decide_nothing(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"], "dense"),
        helper.make_node("MatMul", ["h", "W"], ["y"], "again"),
    ]
    path = save_model(tmp_path / "m.onnx", nodes, 2, 2, {"W": 1e100 * np.eye(2)}, TensorProto.DOUBLE)
    x = np.array([[1e200, 0.0], [1.0, 0.0]])
    for labels in (None, np.array([1, 0])):
        report = api.verify(path, "1e-9", data=(x, labels))
        assert statuses(report) == ["unknown", "certified"]
        assert "overflow" in repr(report.samples[0])
    assert api.radius(path, data=(x, None)).samples[0].status is Status.UNKNOWN


@pytest.mark.parametrize("norm", ["l1", "linf ", "", "2", None])
def test_only_known_norms_are_asked_about(norm):
    with pytest.raises(UsageError, match="norm"):
        Question(1, norm)
