"""Certificates written by `verify` and `bound`, and what `check` says about them."""

from __future__ import annotations

import json
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import ZOO, command, random_chain, save_chain

RUNS = {
    "digits": ["digits_mlp", "--eps", "0.1", "--limit", "6"],
    "linf": ["digits_mlp", "--eps", "0.002", "--norm", "linf", "--limit", "4", "--method", "spectral"],
    "falsified": ["digits_mlp", "--eps", "2", "--limit", "3", "--method", "spectral"],
    "diabetes": ["diabetes", "--eps", "0.1", "--tolerance", "0.2", "--limit", "5"],
    "moved": ["diabetes", "--eps", "0.5", "--tolerance", "0.05", "--limit", "3"],
}


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    """The model and the folder of certificates of one run."""
    folder = tmp_path_factory.mktemp(request.param) / "certificates"
    model, *options = RUNS[request.param]
    path = ZOO / f"{model}.onnx"
    ran = command("verify", path, *options, "--certificates", folder, "--json")
    assert ran.code in (0, 1), ran.err
    return path, folder, json.loads(ran.out)


def test_a_run_checks_by_model_and_by_folder_of_models(run):
    path, folder, data = run
    for place in (path, ZOO):
        ran = command("check", folder, "--model", place)
        assert ran.code == 0 and "0 rejected" in ran.out, ran.out
    kinds = {json.loads(file.read_text())["statement"]["kind"] for file in folder.glob("*.json")}
    summary = data["summary"]
    assert ("falsification" in kinds) == bool(summary["falsified"])
    assert bool({"robustness", "tolerance"} & kinds) == bool(summary["certified"])
    ran = command("check", folder, "--model", path, "--json")
    found = json.loads(ran.out)
    assert ran.code == 0 and found["rejected"] == 0 and found["checked"] == len(list(folder.glob("*.json")))


def test_without_its_model_or_with_another_a_run_is_rejected(run, tmp_path):
    """Where it was made the model is found again; carried elsewhere, the certificates need it named."""
    _, folder, _ = run
    assert command("check", folder).code == 0
    shutil.copytree(folder, tmp_path / "elsewhere" / "c")
    ran = command("check", tmp_path / "elsewhere" / "c")
    assert ran.code == 5 and "--model" in ran.out and ran.err == ""
    count = len(list(folder.glob("*.json")))
    assert ran.out.count("REJECTED") == 1 and f"... {count - 1} more refused for the same reason" in ran.out
    assert f"{count} checked, {count} rejected" in ran.out
    assert command("check", folder, "--model", ZOO / "mnist_mlp.onnx").code == 5
    ran = command("check", folder, "--model", ZOO / "none.onnx")
    assert ran.code == 2 and ran.out == ""


def test_a_changed_digit_is_rejected(run, tmp_path):
    path, folder, _ = run
    for file in sorted(folder.glob("*.json"))[::4]:
        copy = tmp_path / file.stem
        shutil.copytree(folder, copy)
        text = file.read_text()
        place = next(i for i in range(text.index('"statement"'), len(text)) if text[i].isdigit())
        digit = "1" if text[place] != "1" else "2"
        (copy / file.name).write_text(text[:place] + digit + text[place + 1 :])
        ran = command("check", copy, "--model", path)
        assert ran.code == 5 and "REJECTED" in ran.out


def test_a_changed_array_is_rejected(run, tmp_path):
    path, folder, _ = run
    shutil.copytree(folder, tmp_path / "copy")
    arrays = list((tmp_path / "copy").glob("*.npy"))
    for array in arrays:
        content = bytearray(array.read_bytes())
        content[-1] ^= 1
        array.write_bytes(bytes(content))
    assert command("check", tmp_path / "copy", "--model", path).code == (5 if arrays else 0)


def test_bound_writes_one_certificate_that_checks(tmp_path):
    path = save_chain(tmp_path / "m.onnx", random_chain(1, (2, 5, 3)))
    choices = ["--pair", "2,0"], ["--logit", "1", "--norm", "linf"], ["--method", "gershgorin"]
    for index, options in enumerate(choices):
        file = tmp_path / "proofs" / f"{index}.json"
        assert command("bound", path, *options, "--certificate", file).code == 0
        assert command("check", file, "--model", path).code == 0
    assert command("check", tmp_path / "proofs").code == 0  # the model lies in the parent
    relative = command("bound", path, "--certificate", file)
    assert relative.code == 0 and command("check", file).code == 0


def test_nothing_is_written_where_nothing_is_proved(tmp_path):
    path = save_chain(tmp_path / "m.onnx", random_chain(1, (2, 5, 3)))
    file = tmp_path / "c" / "bound.json"
    ran = command("bound", path, "--method", "lipsdp", "--timeout", "1e-9", "--certificate", file)
    assert ran.code == 3 and "no certificate" in ran.err and not list(file.parent.iterdir())
    ran = command("check", file)
    assert ran.code == 2 and "no certificate" in ran.err
    assert command("check", file.parent).code == 2


def test_a_model_that_was_trained_again_rejects_the_old_certificates_only(tmp_path):
    folder = tmp_path / "c"
    path = save_chain(tmp_path / "m.onnx", random_chain(1, (2, 5, 3)))
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0], [0.3, 2.0]]))
    assert command("verify", path, "--eps", "0.001", "--certificates", folder).code == 0
    old = set(folder.glob("sample-*.json")) and {json.loads(f.read_text())["digest"] for f in folder.glob("*.json")}
    save_chain(path, random_chain(2, (2, 5, 3)))
    assert command("check", folder).code == 5
    assert command("verify", path, "--eps", "0.001", "--certificates", folder).code == 0
    found = json.loads(command("check", folder, "--json").out)
    for entry in found["certificates"]:
        with open(entry["path"]) as stream:
            assert entry["accepted"] != (json.load(stream)["digest"] in old)


def test_data_free_claims_leave_certificates(tmp_path):
    path = ZOO / "diabetes.onnx"
    line = ["verify", path, "--eps", "0.1", "--data-free", "--certificates", tmp_path / "c"]
    ran = command(*line, "--tolerance", "0.2")
    assert ran.code == 0 and "claim: at most 1/5 (0.2): proved" in ran.out
    assert (tmp_path / "c" / "tolerance-l2.json").is_file()
    assert command("check", tmp_path / "c", "--model", path).code == 0
    ran = command(*line[:-2], "--tolerance", "0.01")
    assert ran.code == 3 and "claim: at most 1/100 (0.01): not proved" in ran.out


def test_what_is_no_certificate_is_rejected(tmp_path):
    contents = {"a.json": b"", "b.json": b"{}", "c.json": b"\xff", "m.onnx": b"x", "d.json": b"[1]"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        ran = command("check", tmp_path / name)
        assert ran.code == 5 and "REJECTED" in ran.out and ran.err == ""
    assert command("check", tmp_path).code == 5
    assert command("check", tmp_path / "none.json").code == 2


def test_external_weights_are_part_of_what_is_certified(tmp_path):
    path = save_chain(tmp_path / "m.onnx", random_chain(1, (2, 5, 3)))
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0, convert_attribute=False)
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0]]))
    assert command("verify", path, "--eps", "0.001", "--certificates", tmp_path / "c").code == 0
    assert command("check", tmp_path / "c").code == 0
    content = bytearray((tmp_path / "m.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "m.data").write_bytes(bytes(content))
    assert command("check", tmp_path / "c").code == 5


@pytest.mark.parametrize("name", RUNS)
def test_a_bundle_holds_what_a_folder_holds(name, tmp_path):
    model, *options = RUNS[name]
    path, places = ZOO / f"{model}.onnx", (tmp_path / "c", tmp_path / "c.certlip")
    for place in places:
        assert command("verify", path, *options, "--certificates", place).code in (0, 1)
    findings = [json.loads(command("check", place, "--model", path, "--json").out) for place in places]
    folder, bundle = (
        sorted((entry["message"], entry["level"]) for entry in found["certificates"]) for found in findings
    )
    assert folder == bundle and findings[1]["rejected"] == 0
    inside = {entry.filename for entry in zipfile.ZipFile(places[1]).infolist()}  # bounds tell how long they took
    alike = lambda names: {name for name in names if not name.startswith("bound")}  # noqa: E731
    assert alike(inside) == alike(file.name for file in places[0].iterdir())
    assert len(inside) == len(list(places[0].iterdir()))
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_bounds_and_radii_in_bundles(tmp_path):
    path = save_chain(tmp_path / "m.onnx", random_chain(1, (2, 5, 3)))
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0], [0.3, 2.0]]))
    assert command("bound", path, "--certificate", tmp_path / "b.certlip").code == 0
    assert command("radius", path, "--certificates", tmp_path / "r.certlip").code == 0
    assert command("radius", path, "--certificates", tmp_path / "d.certlip", "--level", "deployed").code == 0
    for name, level, kinds in (("b", "float", 1), ("r", "float", 2), ("d", "deployed", 2)):
        ran = command("check", tmp_path / f"{name}.certlip", "--level", level if name != "b" else "float", "--json")
        found = json.loads(ran.out)
        assert ran.code == 0 and found["rejected"] == 0
        assert sum(entry["level"] == level for entry in found["certificates"]) >= kinds
    assert command("check", tmp_path / "r.certlip", "--level", "deployed").code == 5
    # a folder of bundles is checked as a whole
    assert json.loads(command("check", tmp_path, "--json").out)["checked"] > 5


def test_deployed_radii_are_a_little_smaller(tmp_path):
    line = ["radius", ZOO / "breast_cancer.onnx", "--limit", "5", "--method", "spectral", "--json"]
    levels = [], ["--level", "deployed"]
    real, deployed = (json.loads(command(*line, *level).out)["samples"] for level in levels)
    for first, second in zip(real, deployed, strict=True):
        assert second["level"] == "deployed" and first["level"] == "float"
        assert first["radius"] * 0.999 < second["radius"] < first["radius"]
        assert 0 < second["slack_share"] < 1e-3 and first["slack_share"] is None


def test_an_interrupted_run_leaves_the_bundle_of_what_it_proved(tmp_path, monkeypatch):
    from certlip.verification import Verifier

    decide, calls = Verifier.decide, []

    def interrupted(self, index, *rest):
        calls.append(index)
        if index == 2:
            raise KeyboardInterrupt
        return decide(self, index, *rest)

    monkeypatch.setattr("certlip.verification.pipeline.Verifier.decide", interrupted)
    monkeypatch.setattr("certlip.verification.pipeline.verify_samples.__defaults__", (None, None, interrupted))
    line = ["verify", ZOO / "breast_cancer.onnx", "--eps", "0.1", "--limit", "5", "--method", "spectral"]
    ran = command(*line, "--certificates", tmp_path / "c.certlip")
    assert ran.code == 130 and calls == [0, 1, 2]
    found = json.loads(command("check", tmp_path / "c.certlip", "--model", ZOO, "--json").out)
    assert found["rejected"] == 0
    names = {Path(entry["path"]).name for entry in found["certificates"]}
    assert {"sample-000000.json", "sample-000001.json"} < names and "sample-000002.json" not in names
    assert [file.name for file in tmp_path.iterdir()] == ["c.certlip"]


def test_a_failed_run_does_not_replace_a_bundle(tmp_path):
    place = tmp_path / "c.certlip"
    line = ["verify", ZOO / "breast_cancer.onnx", "--eps", "0.1", "--limit", "2", "--method", "spectral"]
    assert command(*line, "--certificates", place).code == 0
    before = place.read_bytes()
    np.savez(tmp_path / "bad.npz", x=np.zeros((2, 30), np.float32), y=np.int64([0, 7]))
    ran = command(*line, "--data", tmp_path / "bad.npz", "--certificates", place)
    assert ran.code == 2 and place.read_bytes() == before
    (tmp_path / "d.certlip").mkdir()
    ran = command(*line, "--certificates", tmp_path / "d.certlip")
    assert ran.code == 2 and "folder" in ran.err


def test_falsifications_keep_what_the_runtime_answers(tmp_path):
    path = ZOO / "digits_mlp.onnx"
    command("verify", path, "--eps", "3", "--limit", "1", "--method", "spectral", "--certificates", tmp_path)
    record = json.loads((tmp_path / "sample-000000.json").read_text())
    assert record["statement"]["kind"] == "falsification" and record["semantics"]["arithmetic"] == "binary32"
    told = record["provenance"]["details"]["execution"]
    session = onnxruntime.InferenceSession(path)
    for key, place in (("outputs_at_input", ("set", "center")), ("outputs_at_counterexample", ("counterexample",))):
        digest = record["statement"]
        for step in place:
            digest = digest[step]
        (found,) = session.run(None, {"input": np.load(tmp_path / f"{digest}.npy")})
        np.testing.assert_allclose([float(Fraction(value)) for value in told[key]], found.ravel(), rtol=1e-5, atol=1e-5)
    label = record["statement"]["label"]
    assert max(range(10), key=lambda k: Fraction(told["outputs_at_counterexample"][k])) != label
    assert told["runtime"].startswith("onnxruntime")


def test_clipped_attacks_stay_in_the_clip(tmp_path):
    path, line = ZOO / "digits_mlp.onnx", ["--eps", "3", "--limit", "3", "--method", "spectral"]
    with np.load(ZOO / "digits_mlp.npz") as data:
        low, high = float(data["x"].min()), float(data["x"].max())
    assert command("verify", path, *line, "--clip", f"{low},{high}", "--certificates", tmp_path / "c").code == 1
    records = [json.loads(file.read_text()) for file in (tmp_path / "c").glob("sample-*.json")]
    falsified = [record for record in records if record["statement"]["kind"] == "falsification"]
    assert falsified
    for record in falsified:
        point = np.load(tmp_path / "c" / f"{record['statement']['counterexample']}.npy")
        assert low <= point.min() and point.max() <= high
        assert [float(Fraction(end)) for end in record["statement"]["set"]["clip"]] == [low, high]
    assert command("check", tmp_path / "c", "--model", path, "--level", "deployed").code == 0
    ran = command("verify", path, *line, "--clip", "100,101")  # nothing of the ball lies there
    assert ran.code != 1 and "falsified" not in ran.out
    for clip in ("1", "1,0", "a,b", "0,1,2", "0,inf", ""):
        ran = command("verify", path, *line, "--clip", clip)
        assert ran.code == 2 and "clip" in ran.err, clip


def test_deployed_verdicts_are_asked_for(tmp_path):
    """A network whose margins are below what rounding errors may decide: certified for real arithmetic only."""
    weight = np.float32([[1000.0, 1000.0], [1000.0, 500.0]])
    path = save_chain(tmp_path / "m.onnx", [(weight, np.zeros(2, np.float32))])
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 1e-7], [1.0, 1.0]]), y=np.int64([0, 0]))
    line = ["verify", path, "--eps", "1e-9", "--json", "--certificates", tmp_path / "c"]
    found = json.loads(command(*line).out)
    assert [sample["level"] for sample in found["samples"]] == ["float", "deployed"]
    assert found["summary"]["levels"] == {"float": 1, "deployed": 1}
    ran = command(*line, "--level", "deployed")
    found = json.loads(ran.out)
    assert ran.code == 3 and [sample["status"] for sample in found["samples"]] == ["unknown", "certified"]
    assert "real arithmetic only" in found["samples"][0]["note"] and found["samples"][0]["level"] == "none"
    ran = command(*line[:-3], "--level", "deployed")
    assert "level: 1 deployed" in ran.out
    ran = command("verify", path, "--eps", "1", "--level", "deployed", "--data-free")
    assert ran.code == 2 and "--level" in ran.err
