"""VNN-LIB files of competitions and of this repository: they fit their models and mean what they say."""

from __future__ import annotations

import csv
import gzip
import os
import random
import re
from collections import defaultdict
from fractions import Fraction
from functools import cache
from math import prod
from pathlib import Path

import onnx
import pytest
from vnnlib_evaluator import Text, contains

from certlip.properties.vnnlib import parse_property, property_text, read_property

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("CERTLIP_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
INSTANCES = DATA / "vnncomp" / "instances.csv"


def benchmark_of(path: Path) -> str:
    return path.relative_to(DATA / "vnncomp").parts[0]


COMPETITION = sorted((DATA / "vnncomp").glob("*/vnnlib/**/*.vnnlib.gz"))
SMALL = sorted((DATA / "onnx").glob("*.vnnlib"))
OWN = sorted((ROOT / "specs" / "vnnlib").glob("*.vnnlib"))
BENCHMARKS = sorted({benchmark_of(path) for path in COMPETITION})
needs_data = pytest.mark.skipif(not COMPETITION, reason="no reference properties: set CERTLIP_REFERENCE_DATA")


@cache
def sizes(path: Path) -> tuple[int, int]:
    """How many inputs and outputs the model of a file has, batch dimensions counted as 1."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    graph = onnx.load_model_from_string(data).graph
    weights = {tensor.name for tensor in graph.initializer}
    (entry,) = (value for value in graph.input if value.name not in weights)
    shapes = [value.type.tensor_type.shape.dim for value in (entry, graph.output[0])]
    inputs, outputs = (prod(dim.dim_value or 1 for dim in shape) for shape in shapes)
    return inputs, outputs


def agrees(text: str, points: int) -> set[bool]:
    """Compare the reading with the text itself at points in, at the edge of and beside its boxes; the answers."""
    found, meaning = parse_property(text, "reference"), Text(text)
    assert (len(meaning.inputs), len(meaning.outputs)) == (found.inputs, found.outputs)
    choose = random.Random(len(text))
    levels = [Fraction(n) for n in re.findall(r"-?\d+\.\d+", text)[-4:]] + [Fraction(-100), Fraction(0), Fraction(100)]
    answers = set()
    for k in range(points):
        case = choose.choice(found.cases)
        x = [choose.choice((low, high, (low + high) / 2)) for low, high in zip(case.low, case.high, strict=True)]
        if k % 3 == 2:
            moved = choose.randrange(len(x))
            x[moved] += choose.choice((-1, 1)) * Fraction(choose.choice((1, 10**9)), 10**9)
        y = [choose.choice(levels) + Fraction(choose.choice((-1, 0, 0, 1)), 10**9) for _ in range(found.outputs)]
        answers.add(contains(found, x, y))
        assert contains(found, x, y) == meaning.contains(x, y), (x, y)
    return answers


@needs_data
def test_the_collection_is_complete():
    assert len(COMPETITION) == 304 and len(SMALL) == 4 and len(BENCHMARKS) == 10


@needs_data
def test_every_file_fits_its_model():
    models = defaultdict(set)
    for row in csv.DictReader(INSTANCES.open()):
        models[row["property"]].add(row["model"])
    assert {str(path.relative_to(DATA / "vnncomp")) for path in COMPETITION} == set(models)
    for path in COMPETITION:
        found = read_property(path)
        for model in models[str(path.relative_to(DATA / "vnncomp"))]:
            assert (found.inputs, found.outputs) == sizes(DATA / "vnncomp" / model), (path, model)
        assert found.cases and not found.is_vacuous


@needs_data
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_competition_files_mean_what_they_say(benchmark):
    files = [path for path in COMPETITION if benchmark_of(path) == benchmark]
    large = len(property_text(files[0])) > 20_000
    answers = set()
    for path in files[:: 12 if large else 1]:
        answers |= agrees(property_text(path), points=10 if large else 40)
    assert answers == {True, False}


@needs_data
@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_small_files_mean_what_they_say(path):
    assert agrees(property_text(path), points=200) == {True, False}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_own_files_mean_what_they_say(path):
    found = read_property(path)
    assert (found.inputs, found.outputs) == sizes(ROOT / "models_zoo" / f"{path.stem}.onnx")
    assert len(found.cases) == found.outputs - 1 and all(len(case.halfspaces) == 1 for case in found.cases)
    assert agrees(property_text(path), points=10) == {True, False}


@needs_data
def test_the_disjunction_of_boxes_of_acasxu():
    path = DATA / "vnncomp" / "acasxu" / "vnnlib" / "prop_6.vnnlib.gz"
    found = read_property(path)
    assert len({case.low for case in found.cases}) == 2 and len(found.cases) == 8


@needs_data
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_standards_own_parser_reads_the_same(benchmark):
    """The files rewritten in VNN-LIB 2, which is the only version that the package takes, reach the same property."""
    vnnlib = pytest.importorskip("vnnlib", reason="the package vnnlib, the parser of the standard, is not installed")
    path = next(path for path in COMPETITION if benchmark_of(path) == benchmark)
    text = property_text(path)
    found = parse_property(text, path.name)
    body = re.sub(r"\(declare-const \S+ Real\)", "", re.sub(r"([XY])_(\d+)", r"\1[\2]", text))
    body = re.sub(r"(?<=[ (])(-?\d+)(?=[ )])", r"\1.0", body)
    shapes = f"(declare-input X real [{found.inputs}]) (declare-output Y real [{found.outputs}])"
    second = f"(vnnlib-version <2.0>)\n(declare-network N {shapes})\n{body}"
    assert parse_property(second, path.name) == found
    printed = " ".join(str(assertion) for assertion in vnnlib.parse_query_string(second).assertions)
    again = f"(vnnlib-version <2.0>) (declare-network N {shapes}) {printed}"
    assert parse_property(again, path.name) == found
