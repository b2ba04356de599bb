"""Damaged, truncated and random property files end in a property or in a PropertyError, soon."""

from __future__ import annotations

import gzip
import random
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vnnlib_evaluator import Text, contains

from certlip.errors import PropertyError
from certlip.properties.property import Property
from certlip.properties.vnnlib import parse_property, read_property

FILES = sorted((Path(__file__).parents[2] / "specs" / "vnnlib").glob("*.vnnlib"))
ONE = """(declare-const X_0 Real) ; input
(declare-const X_1 Real)
(declare-const Y_0 Real)
(assert (and (>= X_0 -1.0) (<= X_0 1e0) (= X_1 0.5)))
(assert (or (and (<= Y_0 (* 2 X_0)) (!= Y_0 (- 0.5))) (> (+ Y_0 X_1 (/ 1 3)) 2)))
"""
TWO = """(vnnlib-version <2.0>)
(declare-network N (declare-input X Real [1,2]) (declare-output Y Real []))
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (== X[0,1] 0.5)))
(assert (or (and (<= Y (* 2 X[0,0])) (!= Y (- 0.5))) (> (+ Y X[0,1]) 2)))
"""
PIECES = [
    "(", ")", "[", "]", ",", ";", '"', "\n", "\r", "\0", " ", "-", "+", "*", "/", "<", "<=", "=", "!=", "and", "or",
    "assert", "X_0", "Y_0", "X_1", "X[0,0]", "0", "1e99", "1e-2000", "0.5", "declare-const", "Real", "\u00e9", "<2.0>",
]  # fmt: skip


def ends(text: str) -> Property | None:
    """The property, None where the text is refused. Anything else fails."""
    began = time.process_time()
    try:
        found = parse_property(text, "fuzzed")
    except PropertyError as error:
        assert str(error).startswith("fuzzed, line ") and "\n" not in str(error)
        return None
    finally:
        assert time.process_time() - began < 10
    assert isinstance(found, Property)
    assert all(len(case.low) == len(case.high) == found.inputs for case in found.cases)
    return found


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from(PIECES)).map(" ".join) | st.lists(st.sampled_from(PIECES)).map("".join))
@example("(" * 10**5)
@example(")" * 10**5)
@example("(assert " + "(and " * 10**5)
@example("(assert (<= " + "9" * 10**6 + " 1))")
@example("\ud800")
def test_random_texts(text):
    ends(text)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([ONE, TWO]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(["", *PIECES])), min_size=1, max_size=4),
)
def test_mutated_texts(text, changes):
    """Where a damaged text is still read, it is read as it stands."""
    for where, length, piece in changes:
        at = int(where * len(text))
        text = text[:at] + piece + text[at + length :]
    found = ends(text)
    if found is None:
        return
    meaning, choose = Text(text), random.Random(0)
    grid = [Fraction(n, 2) for n in range(-4, 5)]
    for _ in range(20):
        x, y = ([choose.choice(grid) for _ in range(n)] for n in (found.inputs, found.outputs))
        assert contains(found, x, y) == meaning.contains(x, y)


@pytest.mark.parametrize("text", [ONE, TWO], ids=["1.0", "2"])
def test_every_truncation(text):
    whole = ends(text)
    assert whole is not None
    for end in range(len(text) - 2):
        ends(text[:end])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_truncated_files(path):
    """A file without its end is refused, or lacks whole assertions at the end: nothing is read by halves."""
    text = path.read_text()
    choose = random.Random(path.stem)
    for end in choose.sample(range(text.rstrip().rfind(")")), 8):
        found = ends(text[:end])
        if found is not None:
            assert text[:end].count("(") == text[:end].count(")")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["raw", "gzip", "damaged"]), st.integers(0, 10**6))
def test_random_bytes(tmp_path_factory, data, kind, place):
    path = tmp_path_factory.getbasetemp() / "fuzzed.vnnlib"
    if kind != "raw":
        data = gzip.compress(data)
    if kind == "damaged":
        at = place % len(data)
        data = data[:at] + bytes([data[at] ^ (1 + place % 255)]) + data[at + 1 :]
    path.write_bytes(data)
    try:
        read_property(path)
    except PropertyError as error:
        assert str(path) in str(error) and "\n" not in str(error)


HOSTILE = {
    "sums of sums": "(<= " + "(+ Y_0 " * 195 + "1" + ")" * 195 + " 1)",
    "many large numbers": "(<= (+ " + "1e1999 1e-1999 " * 4000 + ") Y_0)",
    "many divisors": "(<= (+ " + " ".join(f"(/ 1 {n})" for n in range(3, 20001)) + ") Y_0)",
    "powers": "(<= (* " + "7 " * 10**5 + ") Y_0)",
    "wide conjunctions": "(and " * 195 + "(<= Y_0 1)" * 20000 + ")" * 195,
    "wide alternatives": "(or " * 195 + "".join(f"(<= Y_0 {n})" for n in range(20000)) + ")" * 195,
    "pending products": "(or " + f"(and {'(!= Y_0 1)' * 6})" * 2000 + ")",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_formulas_take_bounded_time(name):
    ends("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (= X_0 0))(assert " + HOSTILE[name] + ")")
