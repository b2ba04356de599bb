"""`certlip attest` and `certlip check --attestation` as command lines."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from small_models import ROOT, command, random_chain, save_chain

from certlip.certificate import open_writer


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attest")
    model = save_chain(folder / "m.onnx", random_chain(1, (2, 5, 3)))
    np.savez(folder / "m.npz", x=np.float32([[1.0, 0.0], [0.3, 2.0]]))
    ran = command("verify", model, "--eps", "0.001", "--level", "deployed", "--certificates", folder / "c")
    assert ran.code == 0, ran.out + ran.err
    bundle = open_writer(folder / "b.certlip")  # the same files: two runs would differ in their provenance
    for file in (folder / "c").iterdir():
        bundle.put(file.name, file.read_bytes())
    bundle.close()
    return folder


def test_it_prints_one_statement_and_remarks_go_to_stderr(place):
    ran = command("attest", place / "c")
    assert ran.code == 0 and json.loads(ran.out)["predicate"]["level"] == "deployed"
    assert "attested 2 claims (2 robustness) about m.onnx, level deployed" in ran.err


def test_a_file_is_written_whole_or_not_at_all(place, tmp_path):
    file = tmp_path / "new" / "a.json"
    ran = command("attest", place / "b.certlip", "--level", "deployed", "--output", file)
    assert ran.code == 0 and ran.out == "" and str(file) in ran.err
    before = file.read_bytes()
    (tmp_path / "bad.json").write_text("{}")
    ran = command("attest", place / "b.certlip", tmp_path / "bad.json", "--output", file)
    assert ran.code == 5 and "nothing is attested" in ran.err and ran.out == ""
    assert file.read_bytes() == before and [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_equal_certificates_give_equal_bytes(place, monkeypatch):
    plain = command("attest", place / "c", "--no-time").out
    assert plain == command("attest", place / "b.certlip", "--no-time").out and "timeChecked" not in plain
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    first, second = command("attest", place / "c").out, command("attest", place / "c").out
    assert first == second and json.loads(first)["predicate"]["timeChecked"] == "2001-09-09T01:46:40Z"
    for wrong in ("", "now", "-1", "1e9", "1.5", "9" * 13, "999999999999", "\u0661"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        ran = command("attest", place / "c")
        assert ran.code == 2 and "SOURCE_DATE_EPOCH" in ran.err, wrong


def test_check_holds_it_against_certificates_and_model(place, tmp_path):
    file = tmp_path / "a.json"
    assert command("attest", place / "c", "--output", file).code == 0
    for target in ("c", "b.certlip"):
        ran = command("check", place / target, "--attestation", file, "--model", place / "m.onnx")
        assert ran.code == 0 and "accepted [deployed] attestation" in ran.out.splitlines()[-1], ran.out
    ran = command("check", place / "c", "--attestation", file, "--json")
    assert ran.code == 0 and json.loads(ran.out)["attestation"] == {"path": str(file), "accepted": True, "reasons": []}


def test_falsifications_are_counted_as_what_they_are(place, tmp_path):
    """A counterexample is an accepted claim; nobody may take it for a property of the model that holds."""
    folder, file = tmp_path / "c", tmp_path / "a.json"
    x = tmp_path / "x.npz"
    np.savez(x, x=np.float32([[0.82, -1.38], [-0.3, 1.78]]))
    line = ["verify", place / "m.onnx", "--data", x, "--eps", "1/4", "--level", "deployed", "--certificates", folder]
    assert command(*line).code == 1
    kinds = [json.loads(path.read_text())["statement"]["kind"] for path in folder.glob("sample-*.json")]
    assert sorted(kinds) == ["falsification", "robustness"]
    ran = command("attest", folder, "--output", file)
    assert ran.code == 0 and "attested 2 claims (1 robustness, 1 falsification)" in ran.err
    data = json.loads(file.read_text())
    assert data["predicate"]["claims"] == {
        "lipschitz": 0, "robustness": 1, "radius": 0, "tolerance": 0, "falsification": 1,
    }  # fmt: skip
    ran = command("check", folder, "--attestation", file)
    assert ran.code == 0 and "2 claims (1 robustness, 1 falsification) about m.onnx" in ran.out
    for change in ({"falsification": 0, "robustness": 2}, {"falsification": 2}, {"radius": 1}):
        wrong = json.loads(file.read_text())
        wrong["predicate"]["claims"] |= change
        (tmp_path / "wrong.json").write_text(json.dumps(wrong))
        ran = command("check", folder, "--attestation", tmp_path / "wrong.json")
        assert ran.code == 5 and "numbers of claims" in ran.err


def test_check_refuses_what_is_not_attested(place, tmp_path):
    file = tmp_path / "a.json"
    assert command("attest", place / "c" / "sample-000000.json", "--output", file).code == 0
    assert command("check", place / "c" / "sample-000000.json", "--attestation", file).code == 0
    ran = command("check", place / "c", "--attestation", file)
    assert ran.code == 5 and "REJECTED attestation" in ran.out and "0 rejected" in ran.out
    ran = command("check", place / "c", "--attestation", file, "--json")
    found = json.loads(ran.out)
    assert ran.code == 5 and found["rejected"] == 0 and found["attestation"]["reasons"]
    data = json.loads(file.read_text())
    data["subject"][0]["digest"]["sha256"] = "0" * 64
    file.write_text(json.dumps(data))
    ran = command("check", place / "c" / "sample-000000.json", "--attestation", file)
    assert ran.code == 5 and "another model" in ran.out
    file.write_text("{}")
    ran = command("check", place / "c", "--attestation", file)
    assert ran.code == 5 and "attestation is malformed" in ran.err and ran.out == ""
    assert command("check", place / "c", "--attestation", tmp_path / "none").code == 2


def test_the_named_model_must_be_the_subject(place, tmp_path):
    """The checker would find the right file beside the certificates; the user asks about another one."""
    other = save_chain(tmp_path / "m.onnx", random_chain(2, (2, 5, 3)))
    file = tmp_path / "a.json"
    assert command("attest", place / "c", "--model", other).code == 5
    assert command("attest", place / "c", "--output", file).code == 0
    assert command("check", place / "c", "--model", other).code == 0
    ran = command("check", place / "c", "--model", other, "--attestation", file)
    assert ran.code == 5 and "another model" in ran.out
    assert command("attest", place / "c", "--model", tmp_path / "none.onnx").code == 2


def test_external_weights_are_subjects(tmp_path):
    path = save_chain(tmp_path / "m.onnx", random_chain(1, (2, 5, 3)))
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0, convert_attribute=False
    )
    assert command("bound", path, "--method", "spectral", "--certificate", tmp_path / "c" / "bound.json").code == 0
    ran = command("attest", tmp_path / "c")
    digests = {name: sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("m.onnx", "m.data")}
    assert json.loads(ran.out)["subject"] == [{"name": name, "digest": {"sha256": digests[name]}} for name in digests]
    (tmp_path / "a.json").write_text(ran.out)
    assert command("check", tmp_path / "c", "--model", path, "--attestation", tmp_path / "a.json").code == 0


def test_the_outputs_obey_their_schema(place, tmp_path):
    validators = {
        name: Draft202012Validator(json.loads((ROOT / "specs" / f"{name}.schema.json").read_text()))
        for name in ("attest", "check")
    }
    file = tmp_path / "a.json"
    for options in ([], ["--no-time"]):
        assert command("attest", place / "c", *options, "--output", file).code == 0
        data = json.loads(file.read_text())
        assert list(validators["attest"].iter_errors(data)) == []
        for wrong in ({**data, "more": 1}, {**data, "predicate": {**data["predicate"], "level": "estimate"}}):
            assert list(validators["attest"].iter_errors(wrong))
    found = json.loads(command("check", place / "c", "--attestation", file, "--json").out)
    assert list(validators["check"].iter_errors(found)) == []
    found["attestation"]["accepted"] = "yes"
    assert list(validators["check"].iter_errors(found))


def test_what_was_proved_exactly_is_proved_exactly_again(place, tmp_path):
    bound, file = tmp_path / "bound.json", tmp_path / "a.json"
    assert command("bound", place / "m.onnx", "--method", "lipsdp", "--certificate", bound).code == 0
    ran = command("attest", bound, "--model", place / "m.onnx", "--level", "exact", "--output", file)
    assert ran.code == 0 and "level exact" in ran.err
    assert json.loads(file.read_text())["predicate"]["checker"]["exact"] is True
    ran = command("check", bound, "--model", place / "m.onnx", "--attestation", file)
    assert ran.code == 0 and ran.out.count("accepted [exact]") == 2, ran.out
    assert "accepted [float]" in command("check", bound, "--model", place / "m.onnx").out
