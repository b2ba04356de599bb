"""`certlip verify --property` and `--instances` with --certificates: what is written is proved again, explained and
attested."""

from __future__ import annotations

import json

import numpy as np
import pytest
from property_files import VACUOUS, VIOLATED, property_text, save_rows, save_suite
from small_models import ROOT, ZOO, command

from certlip.certificate import Folder
from certlip.certificate.store import property_name
from certlip.check import check
from certlip.errors import UsageError
from certlip.properties.vnnlib import read_property
from certlip.runs import verify_property

DIGITS, HOLDS = ZOO / "digits_mlp.onnx", ROOT / "specs" / "vnnlib" / "digits_mlp.vnnlib"


@pytest.fixture
def folder(tmp_path):
    return save_suite(tmp_path)


def certified(model, property, place) -> str:
    """The message of the checker about the one certificate that a run writes."""
    ran = command("verify", model, "--property", property, "--certificates", place)
    assert ran.code in (0, 1), ran.err
    (finding,) = check(place, [model])
    assert finding.accepted, finding
    return finding.message


@pytest.mark.parametrize("name", ["proofs", "proofs.certlip"])
def test_a_proof_and_a_violation_are_written_and_proved_again(folder, name):
    assert "holds" in certified(DIGITS, HOLDS, folder / name)
    assert "violates" in certified(folder / "net.onnx", folder / VIOLATED, folder / f"other-{name}")
    assert "vacuous" in certified(folder / "net.onnx", folder / VACUOUS, folder / f"more-{name}")


def test_proofs_by_splits(folder):
    """|x0 - x1| on the unit square is not above 1.01; one bound does not show it."""
    from small_models import save_chain

    layers = [([[1.0, -1.0], [-1.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0], [0.0, 0.0]], [0.0, 0.0])]
    save_chain(folder / "abs.onnx", [(np.array(weight), np.array(bias)) for weight, bias in layers])
    text = property_text([("0.0", "1.0"), ("0.0", "1.0")], "(>= Y_0 1.01)")
    (folder / "abs.vnnlib").write_text(text)
    assert "holds" in certified(folder / "abs.onnx", folder / "abs.vnnlib", folder / "c")
    record = Folder(folder / "c").record(Folder(folder / "c").names()[0])
    assert record.witness["method"] == "branches"
    assert (folder / "c" / property_name(record.statement["property"])).read_text() == text
    assert record.provenance["details"]["file"] == "abs.vnnlib"


def test_a_suite_in_one_place(folder):
    rows = save_rows(folder, f"net.onnx,{VACUOUS},5", f"net.onnx,{VIOLATED},5", "net.onnx,missing.vnnlib,5")
    for place in (folder / "c", folder / "c.certlip"):
        assert command("verify", "--instances", rows, "--certificates", place).code == 2  # one is missing
        findings = check(place, [folder / "net.onnx"])
        assert [finding.path.name for finding in findings] == ["instance-000000.json", "instance-000001.json"]
        assert all(finding.accepted for finding in findings)


def test_the_pages_and_the_attestation(folder):
    certified(DIGITS, HOLDS, folder / "c")
    page = command("explain", folder / "c", "--check", "--model", DIGITS)
    assert page.code == 0 and "PROVED AGAIN" in page.out
    for words in ("network HAS the property", "property-19c7ee86853f22d3.vnnlib", "By linear bounds", "reachability"):
        assert words in " ".join(page.out.split()), words
    certified(folder / "net.onnx", folder / VIOLATED, folder / "v")
    page = command("explain", folder / "v", "--check", "--model", folder / "net.onnx")
    assert page.code == 0 and "does NOT have the property" in page.out and "answered" in page.out
    assert command("attest", folder / "c", "--model", DIGITS, "--output", folder / "a.json").code == 0
    claims = json.loads((folder / "a.json").read_text())["predicate"]["claims"]
    assert claims == {"lipschitz": 0, "robustness": 0, "radius": 0, "tolerance": 0, "falsification": 0, "property": 1}
    line = ["check", folder / "c", "--model", DIGITS, "--attestation", folder / "a.json"]
    assert command(*line).code == 0
    (folder / "a.json").write_text((folder / "a.json").read_text().replace('"property":1', '"property":0', 1))
    assert command(*line).code == 5


def test_what_is_open_writes_nothing(folder):
    text = property_text([("0.1", "0.2"), ("0.3", "0.4")], "(<= Y_0 Y_1)")
    (folder / "open.vnnlib").write_text(text)
    line = ["verify", folder / "net.onnx", "--property", folder / "open.vnnlib", "--method", "crown"]
    assert command(*line, "--certificates", folder / "c").code == 3
    assert not list((folder / "c").iterdir())


def test_a_property_without_a_file_has_no_certificate(folder):
    with pytest.raises(UsageError, match="pass its path"):
        verify_property(folder / "net.onnx", read_property(folder / VIOLATED), certificates=folder / "c")
