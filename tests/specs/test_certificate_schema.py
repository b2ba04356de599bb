"""The schema of certificates accepts what certlip writes and refuses what its decoder refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from property_files import property_text

from certlip.certificate import Certificate
from certlip.cli.main import code_of
from certlip.errors import CertificateRejected

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "models_zoo"
VALIDATOR = Draft202012Validator(json.loads((ROOT / "specs" / "certificate.schema.json").read_text()))
KINDS = ("lipschitz", "robustness", "radius", "tolerance", "falsification", "property", "violation")


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[dict]:
    """Certificates of every kind, made by the command line."""
    folder = tmp_path_factory.mktemp("certificates")
    runs = (
        ("verify", "breast_cancer.onnx", "--eps", "0.8", "--limit", "4"),
        ("verify", "digits_mlp.onnx", "--eps", "1/2", "--limit", "3", "--method", "spectral"),
        ("verify", "diabetes.onnx", "--eps", "0.1", "--tolerance", "0.2", "--limit", "1"),
        ("verify", "diabetes.onnx", "--eps", "0.3", "--tolerance", "0.1", "--limit", "1"),
        ("verify", "diabetes.onnx", "--eps", "0.1", "--tolerance", "0.2", "--data-free"),
        ("verify", "mnist_mlp.onnx", "--eps", "0.1", "--clip", "0,1", "--limit", "1", "--method", "spectral"),
        ("radius", "breast_cancer.onnx", "--limit", "2"),
        ("radius", "breast_cancer.onnx", "--limit", "2", "--level", "deployed", "--norm", "linf"),
    )
    (folder / "violated.vnnlib").write_text(property_text([("0.0", "1.0")] * 64, "(<= Y_0 1000.0)", 10))
    runs += (
        ("verify", "digits_mlp.onnx", "--property", str(ROOT / "specs" / "vnnlib" / "digits_mlp.vnnlib")),
        ("verify", "digits_mlp.onnx", "--property", str(folder / "violated.vnnlib")),
    )
    for number, (command, model, *options) in enumerate(runs):
        code_of([command, str(ZOO / model), *options, "--certificates", str(folder / str(number))])
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/*.json"))]


def of_kind(records, kind: str) -> dict:
    """One that is about executions, where there is a choice."""
    found = [record for record in records if record["statement"]["kind"] == kind]
    return copy.deepcopy(next((record for record in found if record["semantics"] != {"arithmetic": "real"}), found[0]))


def test_real_certificates_are_valid(records):
    assert {record["statement"]["kind"] for record in records} == set(KINDS)
    semantics = {(record["statement"]["kind"], record["semantics"]["arithmetic"]) for record in records}
    real = {(kind, "real") for kind in ("lipschitz", "tolerance", "radius", "property", "violation")}
    assert semantics == real | {
        (kind, "binary32") for kind in ("robustness", "radius", "tolerance", "falsification")
    }
    for record in records:
        assert [error.message for error in VALIDATOR.iter_errors(record)] == []


def refused_by_the_decoder(record: dict) -> bool:
    """Whether certlip refuses the record for its form; the digest is made to fit where it can be."""
    try:
        content = {key: record[key] for key in ("model", "statement", "semantics", "witness", "provenance")}
        fitting = Certificate(**content, assumptions=tuple(record["assumptions"])).digest
        Certificate.from_json(json.dumps({**record, "digest": fitting}))
    except (CertificateRejected, KeyError, TypeError):
        return True
    return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [None, "model", "statement", "semantics", "witness"])
def test_unknown_and_missing_fields_are_refused(records, kind, part):
    record = of_kind(records, kind)
    place = record if part is None else record[part]
    place["note"] = "0" * 64
    assert not VALIDATOR.is_valid(record) and refused_by_the_decoder(record)
    record = of_kind(records, kind)
    place = record if part is None else record[part]
    optional = {"set"} if kind == "lipschitz" else set()
    for key in set(place) - optional:
        value = place.pop(key)
        assert not VALIDATOR.is_valid(record), key
        if key != "digest":  # it is recomputed here
            assert refused_by_the_decoder(record), key
        place[key] = value


@pytest.mark.parametrize(
    "kind, path, value",
    [
        ("lipschitz", ("schema",), 1),
        ("lipschitz", ("type",), "certificate"),
        ("lipschitz", ("semantics",), {"arithmetic": "binary32", "library_units": 16}),
        ("lipschitz", ("statement", "kind"), "local"),
        ("lipschitz", ("statement", "norm"), "l1"),
        ("lipschitz", ("statement", "value"), 7.9),
        ("lipschitz", ("statement", "value"), "7.9"),
        ("lipschitz", ("statement", "value"), "-1/2"),
        ("lipschitz", ("statement", "value"), "1/0"),
        ("lipschitz", ("statement", "output"), "all"),
        ("lipschitz", ("statement", "output", "indices"), [-1]),
        ("lipschitz", ("witness", "arrays"), {"metric": "metric.npy"}),
        ("lipschitz", ("model", "sha256"), "F" * 64),
        ("lipschitz", ("model", "external"), {"weights.bin": ""}),
        ("lipschitz", ("provenance", "seconds"), 0.25),
        ("robustness", ("statement", "label"), -1),
        ("robustness", ("statement", "label"), "7"),
        ("robustness", ("statement", "set", "eps"), 0.1),
        ("robustness", ("statement", "set", "center"), "sample.npy"),
        ("robustness", ("statement", "set", "clip"), ["0"]),
        ("robustness", ("statement", "set", "clip"), [0, 1]),
        ("robustness", ("semantics",), {"arithmetic": "real", "library_units": 16}),
        ("robustness", ("semantics",), {"arithmetic": "binary32"}),
        ("robustness", ("semantics", "library_units"), 16.5),
        ("robustness", ("semantics", "arithmetic"), "tf32"),
        ("radius", ("statement", "radius"), "0"),
        ("radius", ("statement", "radius"), "-1"),
        ("robustness", ("witness", "bounds"), []),
        ("tolerance", ("statement", "tolerance"), "0.2"),
        ("falsification", ("statement", "counterexample"), None),
        ("robustness", ("witness",), {"method": "branches"}),
        ("robustness", ("witness",), {"arrays": {}}),
        ("robustness", ("witness",), {"method": "branches", "arrays": {}, "bounds": {}}),
        ("tolerance", ("witness",), {"method": "lipsdp", "arrays": {}}),
        ("property", ("witness", "method"), "lipsdp"),
        ("property", ("witness", "arrays"), {"nodes": "nodes.npy"}),
        ("property", ("statement", "property"), "digits.vnnlib"),
        ("violation", ("statement", "counterexample"), None),
        ("violation", ("witness",), {"method": "branches", "arrays": {}}),
        ("falsification", ("assumptions",), "none"),
        ("falsification", ("assumptions",), [1]),
    ],
)
def test_wrong_values_are_refused(records, kind, path, value):
    record = of_kind(records, kind)
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(record)
    assert refused_by_the_decoder(record)


def test_a_falsification_is_of_a_label_or_of_a_tolerance(records):
    record = of_kind(records, "falsification")
    record["statement"] |= {"label": 1, "tolerance": "1/10"}
    assert not VALIDATOR.is_valid(record) and refused_by_the_decoder(record)


def test_a_tolerance_without_a_center_has_bounds(records):
    record = next(r for r in records if r["statement"]["kind"] == "tolerance" and "center" not in r["statement"]["set"])
    record = copy.deepcopy(record)
    record["witness"] = {"method": "branches", "arrays": {}}
    assert not VALIDATOR.is_valid(record) and refused_by_the_decoder(record)
    record["statement"]["set"]["center"] = "0" * 64
    assert VALIDATOR.is_valid(record) and not refused_by_the_decoder(record)


def test_a_witness_of_another_kind_is_refused(records):
    record = of_kind(records, "robustness")
    record["witness"] = of_kind(records, "lipschitz")["witness"]
    assert not VALIDATOR.is_valid(record) and refused_by_the_decoder(record)
