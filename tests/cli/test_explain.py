"""`certlip explain` as a command line: one certificate, many, and what a check has to do with it."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from small_models import ROOT, command, random_chain, save_chain

from certlip.certificate import Certificate, open_writer
from certlip.certificate.store import model_name


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    model = save_chain(folder / "m.onnx", random_chain(1, (2, 5, 3)))
    np.savez(folder / "m.npz", x=np.float32([[1.0, 0.0], [0.3, 2.0]]))
    ran = command("verify", model, "--eps", "0.001", "--certificates", folder / "c")
    assert ran.code == 0, ran.out + ran.err
    bundle = open_writer(folder / "b.certlip")  # the same files: two runs would differ in their provenance
    for file in (folder / "c").iterdir():
        bundle.put(file.name, file.read_bytes())
    bundle.close()
    return folder


def test_one_certificate_is_read_or_checked(place):
    path = place / "c" / "sample-000001.json"
    read, checked = command("explain", path), command("explain", path, "--check")
    assert read.code == checked.code == 0 and read.err == checked.err == ""
    assert "READ ONLY" in read.out and "PROVED AGAIN" not in read.out
    assert "PROVED AGAIN" in checked.out and "READ ONLY" not in checked.out
    assert f"certlip check {path} --level deployed\n" in read.out  # the model is found where it lay
    named = command("explain", path, "--model", place / "m.onnx")
    assert f"--model {place / 'm.onnx'}" in named.out


def test_the_command_on_the_page_works(place, monkeypatch):
    monkeypatch.chdir(place)
    for arguments in (["c/sample-000001.json"], ["c"], ["b.certlip"], ["b.certlip", "--name", "sample-000000"]):
        page = command("explain", *arguments).out
        line = next(line for line in page.splitlines() if line.startswith("    $ certlip check "))
        assert command(*line.split()[2:]).code == 0, line


def test_a_bundle_that_holds_its_model_needs_no_other(place, tmp_path, monkeypatch):
    """As those of torch modules do: nobody has a file of that name to pass with --model."""
    bound = tmp_path / "bound.json"
    assert command("bound", place / "m.onnx", "--method", "spectral", "--certificate", bound).code == 0
    record = Certificate.from_json(bound.read_text())
    name = model_name(record.model["sha256"])
    writer = open_writer(tmp_path / "t.certlip")
    alone = replace(record, model={**record.model, "name": name}, provenance={})
    writer.write("bound.json", alone, {})
    writer.put(name, (place / "m.onnx").read_bytes())
    writer.close()
    open_writer(tmp_path / "elsewhere" / "c").write("bound.json", alone, {})
    monkeypatch.chdir(tmp_path)
    page = command("explain", "t.certlip").out
    line = next(line for line in page.splitlines() if line.startswith("    $ certlip check "))
    assert "--model" not in line and command(*line.split()[2:]).code == 0
    assert f"--model {name}" in command("explain", "elsewhere/c").out


def test_a_falsification_shows_what_the_runtime_answered(place, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.float32([[-0.3, 1.78]]))
    line = ["verify", place / "m.onnx", "--data", tmp_path / "x.npz", "--eps", "1/4", "--certificates", tmp_path / "c"]
    assert command(*line).code == 1
    file = tmp_path / "c" / "sample-000000.json"
    record = json.loads(file.read_text())
    told = [Fraction(value) for value in record["provenance"]["details"]["execution"]["outputs_at_counterexample"]]
    shown = " ".join(command("explain", file).out.split())
    assert f"the largest for class {told.index(max(told))}, at the failing input" in shown
    assert "evidence, not part of the proof" in shown
    assert ", ".join(f"{float(value):.5g}" for value in told) + " (rounded)" in shown
    honest = Certificate.from_json(file.read_text())
    for answer in (None, [], "12", {"1": 1}, [1], ["x"], ["1/0"], [["1"]]):
        told = {"runtime": "\x1b[2Kme", "outputs_at_counterexample": answer}
        lie = replace(honest, provenance={"details": {"execution": told}})
        open_writer(tmp_path / "lie").write("x.json", lie, {})
        ran = command("explain", tmp_path / "lie" / "x.json")
        assert ran.code == 0 and "gave no answer" in ran.out and "\x1b" not in ran.out
    for details in (None, [], "x", {"execution": []}):
        open_writer(tmp_path / "lie").write("x.json", replace(honest, provenance={"details": details}), {})
        ran = command("explain", tmp_path / "lie" / "x.json")
        assert ran.code == 0 and "answer" not in ran.out


def test_a_rejected_certificate_is_never_explained_as_proved(place, tmp_path):
    other = save_chain(tmp_path / "m.onnx", random_chain(2, (2, 5, 3)))
    copy = tmp_path / "c" / "c" / "sample-000001.json"
    copy.parent.mkdir(parents=True)
    for file in (place / "c").iterdir():
        (copy.parent / file.name).write_bytes(file.read_bytes())
    ran = command("explain", copy, "--check", "--model", other)
    assert ran.code == 5 and "REJECTED just now" in ran.out and "supports nothing" in ran.out
    assert command("explain", copy).code == 0  # only read
    ran = command("explain", copy.parent, "--check", "--model", other, "--json")
    data = json.loads(ran.out)
    assert ran.code == 5 and data["rejected"] == data["certificates"] > 2


@pytest.mark.parametrize("target", ["c", "b.certlip"])
def test_folders_and_bundles_have_one_page_and_one_for_each(place, target):
    ran = command("explain", place / target)
    assert ran.code == 0 and "ONE OF EACH KIND" in ran.out and "READ ONLY" in ran.out
    assert "CHECKED just now" in command("explain", place / target, "--check").out
    one = command("explain", place / target, "--name", "sample-000000")
    assert one.code == 0 and one.out.startswith("CERTIFICATE sample-000000.json")
    digest = json.loads((place / "c" / "sample-000000.json").read_text())["digest"]
    assert command("explain", place / target, "--name", digest).out == one.out
    assert command("explain", place / target, "--name", "sample-7").code == 2


def test_json_holds_the_same_page(place):
    path = place / "c" / "sample-000000.json"
    data = json.loads(command("explain", path, "--check", "--json").out)
    record = json.loads(path.read_text())
    check = data["certificate"].pop("check")
    assert data["certificate"] == {"name": path.name, "digest": record["digest"], "kind": "robustness"}
    assert (
        check["accepted"]
        and check["level"] == "deployed" != record["semantics"]
        and data["rejected"] == 0
        and data["certificates"] == 1
    )
    shown = " ".join(command("explain", path, "--check").out.split())
    for section in data["sections"]:
        for item in section["items"]:
            assert " ".join(item["text"].split()) in shown
    many = json.loads(command("explain", place / "c", "--json").out)
    assert many["certificate"] is None and many["rejected"] is None and many["unreadable"] == 0
    assert many["kinds"]["robustness"] == 2 and many["certificates"] == sum(many["kinds"].values())


def test_what_is_no_certificate_is_refused(place, tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    ran = command("explain", tmp_path / "bad.json")
    assert ran.code == 5 and ran.out == "" and "not a certlip certificate" in ran.err
    assert command("explain", tmp_path / "bad.json", "--check").code == 5
    (tmp_path / "also.json").write_bytes(b"\xff")
    ran = command("explain", tmp_path)
    assert ran.code == 5 and "2 are no certificates" in ran.out
    (tmp_path / "b.certlip").write_bytes(b"PK")
    assert command("explain", tmp_path / "b.certlip").code == 5
    assert command("explain", tmp_path / "none.json").code == 2
    assert command("explain", place / "c", "--exact").code == 2
    assert command("explain", place / "c", "--model", tmp_path / "none.onnx").code == 2


def test_the_outputs_obey_their_schema(place):
    validator = Draft202012Validator(json.loads((ROOT / "specs" / "explain.schema.json").read_text()))
    for arguments in (
        ["c"],
        ["c", "--check"],
        ["b.certlip", "--name", "sample-000000"],
        ["c/sample-000000.json", "--check"],
    ):
        data = json.loads(command("explain", place / arguments[0], *arguments[1:], "--json").out)
        assert list(validator.iter_errors(data)) == []
        for key in data:
            assert list(validator.iter_errors({**data, key: 0.5})), key


def test_folders_of_bundles_may_repeat_names(place, tmp_path):
    for name in ("one.certlip", "two.certlip"):
        (tmp_path / name).write_bytes((place / "b.certlip").read_bytes())
    once = json.loads(command("explain", place / "b.certlip", "--json").out)["certificates"]
    assert json.loads(command("explain", tmp_path, "--json").out)["certificates"] == 2 * once
    ran = command("explain", tmp_path, "--name", "sample-000000")
    assert ran.code == 2 and "more than one" in ran.err
