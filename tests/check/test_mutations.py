"""Each number of a valid certificate, changed and signed again: refused unless the claim becomes weaker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import ZOO, command
from workbench import BROKE_OFF, Workbench, ball, float32, onnx_model, random_layers

from certlip.certificate import Certificate, Folder, array_digest
from certlip.certificate.grammar import rational
from certlip.check import Checker
from certlip.errors import CertificateRejected
from certlip.onnx_reader import read_file, read_graph
from certlip.properties import Output

RUNS = {
    "digits": ["verify", "digits_mlp.onnx", "--eps", "1/10", "--limit", "1", "--method", "spectral"],
    "falsified": ["verify", "digits_mlp.onnx", "--eps", "3", "--limit", "1", "--method", "spectral", "--clip", "0,1"],
    "radius": ["radius", "breast_cancer.onnx", "--limit", "1", "--method", "gershgorin"],
    "deployed radius": ["radius", "breast_cancer.onnx", "--limit", "1", "--level", "deployed", "--method", "spectral"],
    "tolerance": ["verify", "diabetes.onnx", "--eps", "1/10", "--tolerance", "1/5", "--limit", "1"],
    "moved": ["verify", "diabetes.onnx", "--eps", "1/2", "--tolerance", "1/20", "--limit", "1"],
    "everywhere": ["verify", "diabetes.onnx", "--eps", "1/10", "--tolerance", "1/5", "--data-free"],
}
WEAKER = {
    "value": 1, "tolerance": 1, "eps": -1, "radius": -1,
    ("falsification", "eps"): 1, ("falsification", "tolerance"): -1,
}  # fmt: skip
"""The direction in which a number weakens its claim."""


@pytest.fixture(scope="module", params=RUNS)
def folder(request, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("run") / "c"
    name, model, *options = RUNS[request.param]
    ran = command(name, ZOO / model, *options, "--certificates", place)
    assert ran.code in (0, 1), ran.err
    return place


def numbers(data: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every path to a number in a statement: integers and rationals."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if isinstance(value, (dict, list)):
            yield from numbers(value, (*path, key))
        elif type(value) is int or (re.fullmatch("-?[0-9]+(/[0-9]+)?", value) and len(value) != 64):
            yield (*path, key)


def winner(folder: Path, record: Certificate) -> int:
    """The class that the exact network has at the counterexample of a digit."""
    graph = read_graph(read_file(ZOO / "digits_mlp.onnx"))
    point = Folder(folder).array(record.statement["counterexample"])
    return int(graph(point[None]).ravel().argmax())


def changed(record: Certificate, path: tuple, value: Any) -> Certificate:
    statement = json.loads(json.dumps(dict(record.statement)))
    place = statement
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return Certificate(record.model, statement, record.witness, record.semantics)


def accepted(folder: Path, record: Certificate) -> bool | None:
    """None where the record is not even written: its form is refused."""
    path = folder / "zzz-changed.json"
    try:
        path.write_text(record.to_json())
    except CertificateRejected:
        return None
    finding = Checker([ZOO]).check(path)
    path.unlink()
    assert BROKE_OFF not in finding.message, finding.message
    return finding.accepted


def test_every_number_of_a_statement(folder):
    """Rationals a little and much larger and smaller; labels and indices of outputs."""
    changes = 0
    for name in Folder(folder).names():
        record = Folder(folder).record(name)
        assert accepted(folder, record)
        for path in numbers(record.statement):
            key, value = path[-1], record.statement
            for step in path:
                value = value[step]
            if type(value) is int and key == "label":
                lies = {value + 1, value + 1000, 0 if value else 10**30} - {value}
                if record.kind == "falsification":  # other classes lose there as well, all but the one that wins
                    lies = {winner(folder, record), value + 1000}
                for other in lies:
                    assert not accepted(folder, changed(record, path, other)), (name, path, other)
                    changes += 1
            elif type(value) is int:  # an index of the bounded output
                assert not accepted(folder, changed(record, path, value + 1000)), (name, path)
                changes += 1
            elif isinstance(key, str):
                direction = WEAKER.get((record.kind, key), WEAKER.get(key))
                exact = rational(value)
                for factor in (
                    Fraction(1, 2),
                    1 - Fraction(1, 10**9),
                    1 + Fraction(1, 10**9),
                    Fraction(2),
                    Fraction(100),
                ):
                    verdict = accepted(folder, changed(record, path, str(exact * factor)))
                    if (factor - 1) * direction > 0:
                        assert verdict, (name, path, factor)
                    changes += 1
                stronger = exact / 100 if direction > 0 else exact * 100
                if record.kind == "falsification" and key == "tolerance":
                    stronger = exact * 10**6
                assert not accepted(folder, changed(record, path, str(stronger))), (name, path)
                assert accepted(folder, changed(record, path, str(-exact))) is None
    assert changes > 5


def test_numbers_at_their_edge(folder):
    """Bounds and radii leave no room: the slightest stronger claim fails."""
    for name in Folder(folder).names():
        record = Folder(folder).record(name)
        if record.kind == "lipschitz":
            value = rational(record.statement["value"])
            lie = changed(record, ("value",), str(value * (1 - Fraction(1, 10**9))))
            assert not accepted(folder, lie)
        if record.kind == "radius":
            radius = rational(record.statement["radius"])
            assert not accepted(folder, changed(record, ("radius",), str(radius * (1 + Fraction(1, 10**6)))))


def test_the_class_of_executions(folder):
    for name in Folder(folder).names():
        record = Folder(folder).record(name)
        if not record.is_deployed:
            continue
        for semantics, holds in (
            ({"arithmetic": "binary64", "library_units": 16}, False), ({"arithmetic": "real"}, True),
            ({"arithmetic": "binary32", "library_units": 0}, True),
        ):  # fmt: skip
            other = Certificate(record.model, record.statement, record.witness, semantics)
            assert accepted(folder, other) == holds, (name, semantics)


def test_every_digest(folder):
    """Of models, points, arrays and lemmas: another one is another proof, which is not there."""
    for name in Folder(folder).names():
        record = Folder(folder).record(name)
        text = record.to_json()
        data = json.loads(text)
        tables = [(part, key, inner) for part, key in (("witness", "arrays"), ("witness", "bounds"))
                  for inner in data[part].get(key, {})]  # fmt: skip
        places = [("model", "sha256"), ("model", "graph"), *tables]
        places += [("statement", "set", "center")] if "center" in data["statement"].get("set", {}) else []
        places += [("statement", key) for key in ("center", "counterexample") if key in data["statement"]]
        for path in places:
            for replacement in ("0" * 64, record.digest):
                copy = json.loads(text)
                place = copy
                for key in path[:-1]:
                    place = place[key]
                place[path[-1]] = replacement
                lie = Certificate(copy["model"], copy["statement"], copy["witness"], copy["semantics"])
                assert not accepted(folder, lie), (name, path)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("arrays"), onnx_model(random_layers(4, (3, 6, 2))))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_entry_of_a_witness(bench, data):
    """A witness with one entry changed proves its claim or not, but whatever is accepted is true: the bound is the
    smallest these multipliers prove, up to rounding, so a metric that falls below it cannot pass."""
    certificate, (metric, multipliers) = bench.lipschitz()
    smaller = data.draw(st.booleans())
    which = data.draw(st.sampled_from(["metric", "multipliers"]))
    arrays = {"metric": metric.copy(), "multipliers": multipliers.copy()}
    place = data.draw(st.integers(0, arrays[which].size - 1))
    entry = arrays[which].flat[place]
    arrays[which].flat[place] = data.draw(
        st.sampled_from([entry * 0.9, entry * 1.1, 0.0, -entry, np.nan, np.inf, 5e-324, 1e300, -0.0])
    )
    value = Fraction(certificate.statement["value"]) * (Fraction(999, 1000) if smaller else 1)
    statement = {**certificate.statement, "value": str(value)}
    names = {name: array_digest(array) for name, array in arrays.items()}
    lie = Certificate(certificate.model, statement, {"method": "lipsdp", "arrays": names})
    if smaller:  # no multipliers prove less than the optimum
        assert not bench.accepted(lie, *arrays.values())
    else:
        bench.accepted(lie, *arrays.values())  # asserts that nothing breaks off


def test_a_point_that_is_moved_is_another_claim(bench):
    """A record with a center elsewhere is proved from there, or not at all."""
    bounds = {"bounds": {"pair 0,1": bench.bounds([Output.pair(0, 1)])["pair 0,1"].digest}}
    draw = np.random.default_rng(0)
    for _ in range(20):
        x = float32(draw.normal(0, 2, (1, 3)))
        scores = bench.graph(x[None].astype(float)).ravel()
        label = int(scores.argmin())
        statement = {"kind": "robustness", "set": ball(x, 0), "label": label}
        assert not bench.accepted(Certificate(bench.model, statement, bounds), x)
        assert bench.accepted(Certificate(bench.model, {**statement, "label": 1 - label}, bounds), x)
