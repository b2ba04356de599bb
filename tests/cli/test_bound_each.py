"""`certlip bound --pairs` and `--logits`: every output in one run, and what the JSON says about each search."""

import json
import time
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from small_models import ROOT, ZOO, command, evaluate, random_chain, save_chain

import certlip
from certlip import Output, api
from certlip.errors import UsageError
from certlip.lipschitz import Bound
from certlip.lipschitz.sampled import LowerBound
from certlip.properties.outputs import ALL
from certlip.report.console import gap_text
from certlip.report.json_form import search_json
from certlip.report.results import OutputsReport
from certlip.verification.bounds import BoundTable
from certlip.verification.each_output import outputs_named, refine_each

SCHEMA = Draft202012Validator(json.loads((ROOT / "specs" / "bound.schema.json").read_text()))
LAYERS = random_chain(4, (3, 12, 12, 4))
PAIRS = list(combinations(range(4), 2))
DUAL = {"l2": 2, "linf": np.inf}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_chain(tmp_path_factory.mktemp("each") / "m.onnx", LAYERS)


def decoded(*line, code=0) -> dict:
    ran = command("bound", *line, "--json")
    assert ran.code == code, ran.err
    data = json.loads(ran.out)
    assert not list(SCHEMA.iter_errors(data))
    return data


def steepest(norm: str, row: np.ndarray) -> float:
    """A slope of row'f between random points, in numpy alone."""
    x = np.random.default_rng(0).standard_normal((4000, 3))
    y = x + 1e-3 * np.random.default_rng(1).standard_normal(x.shape)
    moved = np.abs((evaluate(LAYERS, x) - evaluate(LAYERS, y)) @ row)
    return float((moved / np.linalg.norm(x - y, ord=DUAL[norm], axis=1)).max())


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", ["pairs", "logits"])
def test_bounds_are_those_of_single_runs(model, norm, name, tmp_path):
    data = decoded(model, f"--{name}", "--norm", norm, "--certificate", tmp_path / "c")
    found = {bound["output"]: bound for bound in data["outputs"]["best"]}
    expected = [f"pair {i},{j}" for i, j in PAIRS] if name == "pairs" else [f"logit {i}" for i in range(4)]
    assert list(found) == expected and data["outputs"]["name"] == name
    assert data["outputs"]["missing"] == data["outputs"]["unfinished"] == [] and "best" not in data
    for output, bound in found.items():
        kind, index = output.split()
        alone = decoded(model, f"--{kind}", index, "--norm", norm)["best"]
        assert alone["search"]["least"] <= bound["value"] <= alone["value"] * (1 + 1e-4)
        row = np.zeros(4)
        row[[int(i) for i in index.split(",")]] = (1.0, -1.0)[: len(index.split(","))]
        assert steepest(norm, row) <= bound["value"] and bound["norm"] == norm and bound["proved"]
    values = [bound["value"] for bound in found.values()]
    assert data["outputs"]["largest"]["value"] == max(values) >= data["lower"]["value"] > 0
    tried = {(bound["output"], bound["method"]) for bound in data["bounds"]}
    assert len(tried) == len(data["bounds"]) and {output for output, _ in tried} == set(found)
    ran = command("check", tmp_path / "c", "--model", model, "--json")
    checked = json.loads(ran.out)
    assert ran.code == 0 and checked["checked"] == len(found) and checked["rejected"] == 0
    for output in found:
        assert any(entry["message"].endswith(f"for {output}") for entry in checked["certificates"])


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_large_networks_share_one_program(model, norm, monkeypatch, tmp_path):
    own = {bound["output"]: bound["value"] for bound in decoded(model, "--pairs", "--norm", norm)["outputs"]["best"]}
    # (e_i - e_j)' H (e_i - e_j) is at most 2 in the rescaling of the whole's multipliers: H is at most the identity
    monkeypatch.setattr("certlip.verification.bounds._OWN_SECONDS", 0.0)
    place = tmp_path / "c.certlip"
    line = [model, "--pairs", "--norm", norm, "--method", "lipsdp", "--certificate", place]
    data = decoded(*line)
    (whole,) = (bound for bound in data["bounds"] if bound["output"] == "all")
    assert whole["search"]["gap"] < 1e-5 and len(data["outputs"]["best"]) == 6
    for bound in data["outputs"]["best"]:
        assert own[bound["output"]] * (1 - 1e-5) <= bound["value"] <= 2**0.5 * (1 + 1e-5) * whole["value"]
        assert bound["search"] == {"status": None, "least": None, "gap": None}  # the program was another one
    assert json.loads(command("check", place, "--model", model, "--json").out)["rejected"] == 0
    assert "gap: " not in command("bound", *line).out


def test_a_matrix_shows_pairs_rounded_up(model):
    data = decoded(model, "--pairs", "--method", "spectral")
    exact = {bound["output"]: bound["value"] for bound in data["outputs"]["best"]}
    lines = command("bound", model, "--pairs", "--method", "spectral").out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split() == ["1", "2", "3"])
    for i in range(3):
        shown = lines[head + 1 + i].split()
        assert shown[0] == str(i) and len(shown) == 4 - i
        for j, text in zip(range(i + 1, 4), shown[1:], strict=True):
            assert exact[f"pair {i},{j}"] <= float(text) <= exact[f"pair {i},{j}"] * 1.001 and len(text) <= 9
    assert lines[-2].startswith("largest: |.|_2 of pair ") and "<= true constant <=" in lines[-1]


def test_logits_and_many_classes_are_lists(model, tmp_path):
    rows = [line.split() for line in command("bound", model, "--logits").out.splitlines() if line.startswith("logit ")]
    assert [row[:2] for row in rows] == [["logit", str(i)] for i in range(4)] and all(len(row) == 6 for row in rows)
    assert all(0 <= float(row[3]) < 1e-5 and row[-1] == "lipsdp" for row in rows)
    wide = save_chain(tmp_path / "w.onnx", random_chain(1, (2, 4, 16)))
    ran = command("bound", wide, "--pairs", "--method", "spectral")
    values = [float(line.split()[2]) for line in ran.out.splitlines() if line.startswith("pair ")]
    assert len(values) == 100 and values == sorted(values, reverse=True) and "... 20 smaller ones" in ran.out
    assert len(decoded(wide, "--pairs", "--method", "spectral")["outputs"]["best"]) == 120


def test_a_claim_is_about_every_one(model):
    largest = decoded(model, "--pairs")["outputs"]["largest"]["value"]
    above, below = (str(Fraction(largest) * Fraction(share)) for share in ("1.001", "0.98"))
    assert decoded(model, "--pairs", "--max-lipschitz", above)["claim"]["proved"]
    assert not decoded(model, "--pairs", "--max-lipschitz", below, code=3)["claim"]["proved"]
    ran = command("bound", model, "--pairs", "--max-lipschitz", below)
    assert ran.code == 3 and ran.out.splitlines()[-1].endswith(": not proved")


def test_what_is_missing_is_said_and_not_claimed(model, monkeypatch, tmp_path):
    monkeypatch.setattr(api, "refine_each", lambda table, outputs, deadline: refine_each(table, outputs[:4], deadline))
    line = [model, "--pairs", "--max-lipschitz", "1e9"]
    data = decoded(*line, code=3)
    assert data["outputs"]["missing"] == data["outputs"]["unfinished"] == ["pair 1,3", "pair 2,3"]
    assert len(data["outputs"]["best"]) == 4 and data["claim"]["proved"] is False
    ran = command("bound", *line, "--certificate", tmp_path / "c.certlip")
    assert ran.code == 3 and "nothing is proved for 2 of 6 pairs" in ran.out and "gap: " in ran.out
    assert "4 certificates written" in ran.err and command("check", tmp_path / "c.certlip", "--model", model).code == 0
    assert command("bound", *line[:2]).code == 3


def test_without_time_nothing_is_proved(model, tmp_path):
    ran = command("bound", model, "--pairs", "--timeout", "1e-9", "--certificate", tmp_path / "c.certlip")
    assert ran.code == 3 and "nothing is proved for 6 of 6 pairs" in ran.out and "largest" not in ran.out
    assert "no certificate" in ran.err and not (tmp_path / "c.certlip").exists()
    data = decoded(model, "--logits", "--timeout", "1e-9", code=3)
    assert data["lower"] is data["outputs"]["largest"] is None and len(data["outputs"]["missing"]) == 4


def test_cheap_methods_come_first_everywhere(model, monkeypatch):
    calls, ends = [], time.monotonic() + 1000.0

    def fake(certifier, graph, output, norm, deadline, patient=True, near=None):
        calls.append((certifier.name, str(output)))
        if len(calls) == 5:
            monkeypatch.setattr("certlip.verification.bounds.time.monotonic", lambda: ends + 1.0)
        return Bound(certifier.name, norm, output, 10.0 - len(calls), True, 0.0)

    monkeypatch.setattr("certlip.verification.bounds.run", fake)
    table, outputs = BoundTable(api.load(model).graph, "l2", "auto"), outputs_named("logits", 4)
    refine_each(table, outputs, ends)
    names = [f"logit {i}" for i in range(4)]
    assert calls == [*(("spectral", name) for name in names), ("eclipse-fast", names[0])]
    assert [table.best(output).value for output in outputs] == [5.0, 8.0, 7.0, 6.0]
    assert not any(map(table.is_complete, outputs))


@pytest.mark.parametrize(
    "options",
    [
        ["--pairs", "--logits"],
        ["--pairs", "--pair", "0,1"],
        ["--logits", "--logit", "0"],
        ["--pairs", "--compare"],
        ["--logits", "--around", "s.npz", "--eps", "1"],
    ],
)
def test_what_excludes_each_other(model, options):
    ran = command("bound", model, *options)
    assert ran.code == 2 and "exclude each other" in ran.err and ran.out == "" and len(ran.err.splitlines()) == 1
    assert all(option in ran.err for option in options if option in ("--compare", "--around", "--pairs", "--logits"))


def test_one_file_cannot_hold_many_certificates(model, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("b.json", "file", "b.json.gz"):
        ran = command("bound", model, "--pairs", "--certificate", tmp_path / name)
        assert ran.code == 2 and "folder" in ran.err and ".certlip" in ran.err and len(ran.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "v1.0").mkdir()
    assert command("bound", model, "--logits", "--certificate", tmp_path / "v1.0").code == 0
    assert len(list((tmp_path / "v1.0").glob("bound-l2-logit-*.json"))) == 4


def test_models_of_one_output_have_no_pairs():
    ran = command("bound", ZOO / "diabetes.onnx", "--pairs")
    assert ran.code == 2 and "no pairs" in ran.err
    assert decoded(ZOO / "diabetes.onnx", "--logits", "--method", "spectral")["outputs"]["missing"] == []


def test_reports_in_python(model):
    report = certlip.bound(model, output="pairs", method="spectral", timeout=None)
    assert list(report.best) == [Output.pair(i, j) for i, j in PAIRS] and report.missing == report.unfinished == ()
    assert report.largest.value == max(bound.value for bound in report.best.values())
    assert len(repr(report).splitlines()) == 6 and report._repr_html_().count("proved") == 6
    for wrong in ({"output": "every"}, {"compare": True}, {"eps": "1"}, {"norm": "l1"}, {"method": "magic"}):
        with pytest.raises(UsageError):
            certlip.bound(model, **{"output": "pairs", **wrong})


def test_reports_hold_the_slope_against_the_largest_bound(model):
    outputs = Output.logit(0), Output.logit(1)
    bounds = tuple(
        Bound("m", "l2", output, value, True, 0.0) for output, value in zip(outputs, (1.0, 3.0), strict=True)
    )
    lower = LowerBound(2.0, np.zeros(1), np.ones(1), 0.0, 1)
    loaded = api.load(model)
    OutputsReport(loaded, "logits", outputs, bounds, lower=lower)
    with pytest.raises(RuntimeError, match="unsound"):
        OutputsReport(loaded, "logits", outputs, (*bounds, Bound("n", "l2", outputs[1], 1.5, True, 0.0)), lower=lower)


def test_searches_in_json(model):
    found = {bound["method"]: bound for bound in decoded(model, "--method", "all")["bounds"]}
    assert found["spectral"]["search"] == {"status": None, "least": None, "gap": None}
    search, value = found["lipsdp"]["search"], found["lipsdp"]["value"]
    assert search["status"] == "solved" and 0 < search["least"] <= value and 0 <= search["gap"] < 1e-5
    assert search["gap"] == pytest.approx(1 - search["least"] / value, abs=1e-9)
    late = decoded(model, "--method", "lipsdp", "--timeout", "1e-9", code=3)["bounds"][0]
    assert late["search"] == {"status": "deadline", "least": None, "gap": None}


@pytest.mark.parametrize(
    "value, details, expected",
    [
        (3.0, {"status": "solved", "least": 2.0}, ("solved", 2.0, 0.3333333334)),
        (3.0, {"status": "stalled", "least": np.float64(3.0)}, ("stalled", 3.0, 0.0)),
        (3.0, {"status": "deadline", "least": 0.0}, ("deadline", None, None)),
        (3.0, {"status": "own words", "least": float("nan")}, (None, None, None)),
        (3.0, {"least": float("inf")}, (None, None, None)),
        (0.0, {"least": 0.0}, (None, None, None)),
        (1e-300, {"least": 5e-301}, (None, None, None)),
        (float("inf"), {"status": "stalled", "least": 1.0}, ("stalled", 1.0, None)),
    ],
)
def test_a_gap_is_rounded_up_or_not_there(value, details, expected):
    bound = Bound("m", "l2", ALL, value, bool(np.isfinite(value)), 0.0, details=details)
    found = search_json(bound)
    assert tuple(found.values()) == expected
    shown = gap_text(bound)
    assert shown == "-" if found["gap"] is None else found["gap"] <= float(shown) <= found["gap"] * 1.1


def test_the_table_shows_gaps(model):
    lines = command("bound", model).out.splitlines()
    head = next(line for line in lines if line.startswith("method"))
    rows = {line.split()[0]: line.split() for line in lines}
    place = head.replace("Lipschitz bound", "bound").split().index("gap")
    assert rows["spectral"][place] == "-" and 0 <= float(rows["lipsdp"][place]) < 1e-5 and len(head.rstrip()) < 100
