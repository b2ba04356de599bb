"""Certificates written by `verify` and `bound`, and what `check` says about them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
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


def test_without_its_model_or_with_another_a_run_is_rejected(run):
    _, folder, _ = run
    ran = command("check", folder)
    assert ran.code == 5 and "--model" in ran.out and ran.err == ""
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
