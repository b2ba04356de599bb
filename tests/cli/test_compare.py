"""The sampled slope in every report of `certlip bound`, and `certlip bound --compare`."""

import json
from fractions import Fraction

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from small_models import ROOT, ZOO, command, random_chain, save_chain

from certlip import api
from certlip.cli.compare import _cells
from certlip.lipschitz import Bound, certifiers
from certlip.lipschitz.sampled import LowerBound
from certlip.proofs import LIPSCHITZ_PROOFS
from certlip.properties.outputs import ALL
from certlip.report.console import _apart
from certlip.report.results import BoundReport

SCHEMA = Draft202012Validator(json.loads((ROOT / "specs" / "bound.schema.json").read_text()))


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0], [0.3, 2.0]]))
    return save_chain(tmp_path / "m.onnx", random_chain(4, (2, 12, 12, 3)))


def decoded(*line) -> dict:
    ran = command(*line, "--json")
    assert ran.code == 0, ran.err
    data = json.loads(ran.out)
    assert not list(SCHEMA.iter_errors(data))
    return data


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_every_report_has_a_slope(model, norm):
    line = ["bound", model, "--norm", norm, "--method", "spectral"]
    data = decoded(*line)
    lower, best = data["lower"], data["best"]["value"]
    assert 0 < lower["value"] <= best and lower["points"] > 0
    assert lower["gap"] == pytest.approx(best / lower["value"] - 1, rel=1e-6)
    assert Fraction(lower["gap"]) >= Fraction(best) / Fraction(lower["value"]) - 1 - Fraction(1, 10**8)
    ran = command(*line)
    (shown,) = (row for row in ran.out.splitlines() if "sampled slope" in row)
    words = shown.split()
    assert words[:2] == ["sampled", "slope"] and words[3:6] == ["<=", "true", "constant"] and words[6] == "<="
    assert float(words[2]) == lower["value"] and float(words[7]) == best and shown.endswith("apart)")


def test_the_slope_is_one_of_the_points_in_the_report(model):
    report = api.bound(model, method="spectral")
    assert report.lower is not None and report.local_lower is None
    moved = np.diff(api.load(model).graph(np.stack([report.lower.x, report.lower.y]))[:, 0], axis=0)
    step = np.linalg.norm(report.lower.x - report.lower.y)
    assert np.linalg.norm(moved) / step == pytest.approx(report.lower.value, rel=1e-6)
    assert "proved" in repr(report).splitlines()[-1] and "slope" in repr(report).splitlines()[-1]


def test_slopes_of_a_region(model, tmp_path):
    line = ["bound", model, "--around", tmp_path / "m.npz", "--eps", "0.01"]
    data = decoded(*line)
    local, lower = data["local"]["bound"]["value"], data["local"]["lower"]["value"]
    assert 0 < lower <= local < data["best"]["value"]
    assert command(*line).out.count("sampled slope") == 2


def test_data_that_cannot_be_read_do_not_matter(model, tmp_path):
    (tmp_path / "m.npz").write_bytes(b"no archive")
    assert decoded("bound", model, "--method", "spectral")["lower"]["value"] > 0
    np.savez(tmp_path / "m.npz", x=np.zeros((3, 7)))
    assert decoded("bound", model, "--method", "spectral")["lower"]["value"] > 0


def test_constant_networks_have_no_slope(tmp_path):
    path = save_chain(tmp_path / "c.onnx", [(np.zeros((3, 2)), np.ones(3))])
    assert decoded("bound", path, "--method", "spectral")["lower"] is None
    assert "sampled slope" not in command("bound", path, "--method", "spectral").out


def test_a_comparison_in_json(model):
    data = decoded("bound", model, "--compare")
    rows = data["comparison"]
    assert {row["method"] for row in rows} == set(certifiers()) == {bound["method"] for bound in data["bounds"]}
    proved = [row for row in rows if row["proved"]]
    assert proved == rows[: len(proved)] and len(proved) >= 4
    values = [row["value"] for row in proved]
    assert values == sorted(values) and values[0] == data["best"]["value"] >= data["lower"]["value"]
    for row in rows:
        assert row["summary"] == certifiers()[row["method"]].summary
        if row["proved"]:
            assert row["relative"] == pytest.approx(row["value"] / values[0], rel=1e-8) and row["relative"] >= 1
        else:
            assert row["value"] is row["relative"] is None and row["note"]


def test_a_comparison_in_a_table(model):
    ran = command("bound", model, "--compare")
    lines = ran.out.splitlines()
    head = next(index for index, line in enumerate(lines) if line.split()[:2] == ["method", "bound"])
    rows = [line.split() for line in lines[head + 1 : head + 2 + len(certifiers())]]
    assert ran.code == 0 and [row[0] for row in rows[:-1]] != [] and rows[-1][:2] == ["sampled", "slope"]
    assert {row[0] for row in rows[:-1]} == set(certifiers())
    numbers = [float(row[1]) for row in rows[:-1] if row[1] != "not"]
    assert numbers == sorted(numbers) and rows[0][2] == "1" and float(rows[-1][2]) <= numbers[0]
    for row in rows[len(numbers) : -1]:
        assert row[1:4] == ["not", "proved", "-"] and len(row) > 5  # a reason, and never a number as a bound
    assert lines[-2].startswith("best: ") and "<= true constant <=" in lines[-1]


def test_hopeless_bounds_stay_short():
    cells = _cells(Bound("gershgorin", "l2", ALL, 1.2345678e150, True, 0.0), 1.2345678e150)
    assert cells[2] == "1.235e+150" and max(map(len, cells[:5])) < 20


def test_a_comparison_of_one_pair_is_a_claim_too(model, tmp_path):
    proof = tmp_path / "c" / "b.json"
    line = ["bound", model, "--compare", "--pair", "0,1", "--norm", "linf", "--max-lipschitz", "1000"]
    ran = command(*line, "--certificate", proof)
    assert ran.code == 0 and "claim: at most 1000: proved" in ran.out
    assert command("check", proof, "--model", model).code == 0
    assert decoded(*line)["claim"]["proved"]


def test_a_comparison_without_time(model):
    data = json.loads(command("bound", model, "--compare", "--timeout", "1e-9", "--json").out)
    assert not list(SCHEMA.iter_errors(data)) and data["best"]["method"] == "spectral" and data["lower"] is None
    assert any("time" in row["note"] for row in data["comparison"] if not row["proved"])


def test_a_comparison_names_no_method(model):
    ran = command("bound", model, "--compare", "--method", "lipsdp")
    assert ran.code == 2 and "leave --method out" in ran.err


@pytest.mark.parametrize("method", ["spectral", "gershgorin"])
def test_a_slope_above_a_bound_is_a_defect_that_is_named(model, tmp_path, monkeypatch, method):
    monkeypatch.setitem(LIPSCHITZ_PROOFS, method, lambda graph, norm, witness: 1e-3)
    proof = tmp_path / "c" / "b.json"
    ran = command("bound", model, "--method", method, "--certificate", proof)
    assert ran.code == 70 and f"unsound: {method} proved" in ran.err and "best" not in ran.out
    assert not proof.exists()


def test_reports_hold_slopes_against_every_bound():
    lower = LowerBound(2.0, np.zeros(1), np.ones(1), 0.0, 1)

    def bound(value, proved=True):
        return Bound("m", "l2", ALL, value, proved, 0.0)

    model = api.load(ZOO / "diabetes.onnx")
    BoundReport(model, (bound(2.0), bound(float("inf"), False)), lower=lower, local_lower=lower)
    for arguments in (
        {"bounds": (bound(3.0), bound(np.nextafter(2.0, 0.0))), "lower": lower},
        {"bounds": (bound(1.0),), "local_lower": lower},
        {"bounds": (), "local": bound(1.0), "local_lower": lower},
        {"bounds": (bound(float("nan")),), "lower": lower},
    ):
        with pytest.raises(RuntimeError, match="unsound: m proved"):
            BoundReport(model, **arguments)


def test_distances_in_words():
    assert _apart(1.0, 1.0) == "less than 0.001 % apart"
    assert _apart(1.0, 1.0625) == "6.3 % apart" and _apart(2.0, 5.0) == "150 % apart"
    assert _apart(1.0, 4.01) == "a factor of 4.1 apart" and _apart(1.0, 1e9) == "a factor of 1.0e+09 apart"
