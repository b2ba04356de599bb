"""The reading of random formulas contains exactly the points that the formulas, evaluated as they stand, hold at."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vnnlib_evaluator import Text, contains

from certlip.properties.vnnlib import parse_property

INPUTS, OUTPUTS = 2, 2
NUMBERS = ["0", "1", "-1", "0.0", "1.0", "0.5", "2", "-0.5", "1e0", "5e-1", "-2.0", "1.5", "-0.0"]
GRID = [Fraction(n, 2) for n in range(-4, 5)]
"""Coordinates of points: they meet the ends of boxes and constraints often."""
NAMES_1 = [f"X_{i}" for i in range(INPUTS)] + [f"Y_{j}" for j in range(OUTPUTS)]
NAMES_2 = ["X[0,0]", "X [0, 1]", "Y[0]", "Y[1]"]
HEADS = {
    1: "".join(f"(declare-const {name} Real)\n" for name in NAMES_1),
    2: "(vnnlib-version <2.0>)(declare-network N (declare-input X Real [1,2])(declare-output Y Real [2]))\n",
}


@st.composite
def texts(draw, version: int, plain: bool = False):
    """A whole property: a box, and formulas nested a few levels deep. plain: only what that package takes."""
    names = {1: NAMES_1, 2: NAMES_2}[version]
    numbers = [n for n in NUMBERS if "." in n] if plain else NUMBERS
    constants = st.sampled_from(numbers)
    if not plain:
        constants |= st.sampled_from(["(- 0.5)", "(/ 1 2)", "(/ -3 2 -1)", "(* 2 0.5)", "(- 1 2 -0.5)", "(+ 0.5 1)"])
    variables = st.sampled_from(names)
    products = st.tuples(constants, variables).map(lambda pair: f"(* {pair[0]} {pair[1]})")
    if not plain:
        products |= st.tuples(variables, st.sampled_from(["2", "-4", "(- 1)"])).map(lambda p: f"(/ {p[0]} {p[1]})")
    leaves = variables | constants | products
    terms = st.recursive(
        leaves,
        lambda inner: st.tuples(st.sampled_from("+-"), st.lists(inner, min_size=1, max_size=3)).map(
            lambda pair: f"({pair[0]} {' '.join(pair[1])})"
        ),
        max_leaves=4,
    )
    signs = ["<=", ">=", "<", ">", "==", "!="] + ["="] * (not plain)
    single = st.tuples(st.sampled_from(signs), variables, constants)
    comparisons = (single | st.tuples(st.sampled_from(signs), terms, terms)).map(" ".join).map("({})".format)
    formulas = st.recursive(
        comparisons,
        lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda pair: f"({pair[0]} {' '.join(pair[1])})"
        ),
        max_leaves=8,
    )
    box = "".join(f"(assert (and (>= {name} -1.5) (>= 1.5 {name})))" for name in names[:2])
    asserted = draw(st.lists(formulas, max_size=4))
    return HEADS[version] + box + "".join(f"\n(assert {formula})" for formula in asserted)


points = st.lists(st.tuples(*[st.lists(st.sampled_from(GRID), min_size=2, max_size=2)] * 2), min_size=12, max_size=12)


@pytest.mark.parametrize("version", [1, 2])
def test_membership_is_what_the_text_says(version):
    @settings(max_examples=300, deadline=None)
    @given(texts(version), points)
    def agree(text, some):
        found, meaning = parse_property(text, "random"), Text(text)
        assert (found.inputs, found.outputs) == (len(meaning.inputs), len(meaning.outputs)) == (INPUTS, OUTPUTS)
        for x, y in some:
            assert contains(found, x, y) == meaning.contains(x, y), (x, y)

    agree()


def test_both_answers_occur():
    """The comparison is no empty one: a text whose unsafe set has points of both kinds on the grid."""
    text = HEADS[1] + "(assert (and (>= X_0 -1) (< X_0 1) (>= X_1 -1) (<= X_1 1)))(assert (or (!= Y_0 X_0) (> Y_1 0)))"
    found, meaning = parse_property(text, "fixed"), Text(text)
    answers = {
        (contains(found, [a, b], [c, d]), meaning.contains([a, b], [c, d]))
        for a in GRID for b in GRID for c in GRID[::2] for d in GRID[::2]
    }  # fmt: skip
    assert answers == {(True, True), (False, False)}


def tree(vnnlib, formula):
    """The formula as another parser understood it, in the lists that the evaluator takes."""
    signs = {
        vnnlib.LessEqual: "<=", vnnlib.GreaterEqual: ">=", vnnlib.LessThan: "<", vnnlib.GreaterThan: ">",
        vnnlib.Equal: "==", vnnlib.NotEqual: "!=", vnnlib.And: "and", vnnlib.Or: "or", vnnlib.Plus: "+",
        vnnlib.Multiply: "*",
    }  # fmt: skip
    kind = type(formula)
    if isinstance(formula, vnnlib.Comparison):
        return [signs[kind], tree(vnnlib, formula.lhs), tree(vnnlib, formula.rhs)]
    if kind is vnnlib.Negate:
        return ["-", tree(vnnlib, formula.expr)]
    if kind is vnnlib.Minus:
        return ["-", tree(vnnlib, formula.head), *(tree(vnnlib, part) for part in formula.rest)]
    if kind is vnnlib.Var:
        return f"{formula.name}[{','.join(map(str, formula.indices))}]"
    if isinstance(formula, vnnlib.Literal):
        return formula.lexeme
    return [signs[kind], *(tree(vnnlib, part) for part in formula.args)]


def test_the_standards_own_parser_reads_the_same():
    vnnlib = pytest.importorskip("vnnlib", reason="the package vnnlib, the parser of the standard, is not installed")

    @settings(max_examples=300, deadline=None)
    @given(texts(2, plain=True), points)
    def agree(text, some):
        text = text.replace(" Real ", " real ")  # the spelling of that package; the standard has both
        found, meaning, query = parse_property(text, "random"), Text(text), vnnlib.parse_query_string(text)
        (network,) = query.networks
        assert [network.inputs[0].shape, network.outputs[0].shape] == [[1, 2], [2]]
        meaning.formulas = [tree(vnnlib, assertion.expr) for assertion in query.assertions]
        for x, y in some:
            assert contains(found, x, y) == meaning.contains(x, y), (x, y)

    agree()
