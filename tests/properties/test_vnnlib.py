"""Reading VNN-LIB: one test for each rule of the normal form, in versions 1.0 and 2."""

from __future__ import annotations

import gzip
from fractions import Fraction as F

import pytest

from certlip.properties.property import Halfspace
from certlip.properties.vnnlib import parse_property, property_text, read_property

BOX = "(assert (>= X_0 0)) (assert (<= X_0 1)) (assert (>= X_1 -1)) (assert (<= X_1 2))"
NAMES = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
NETWORK = """(vnnlib-version <2.0>)
(declare-network N (declare-input X Real [1,2]) (declare-output Y Real [2,1]))"""
BOX2 = "(assert (and (>= X[0,0] 0) (<= X[0,0] 1) (>= X[0,1] -1) (<= X[0,1] 2)))"


def read(*formulas: str):
    return parse_property(f"{NAMES} {BOX} " + " ".join(f"(assert {formula})" for formula in formulas), "test")


def only(*formulas: str):
    (case,) = read(*formulas).cases
    return case


def test_a_box_alone():
    found = read()
    assert (found.inputs, found.outputs) == (2, 2)
    (case,) = found.cases
    assert case.low == (0, -1) and case.high == (1, 2) and case.halfspaces == ()
    assert not case.is_vacuous


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", F(1, 2)), ("-0.5", F(-1, 2)), ("+0.5", F(1, 2)), ("(- 0.5)", F(-1, 2)), ("1e-05", F(1, 100000)),
        ("2.5E+1", F(25)), ("5.", F(5)), (".5", F(1, 2)), ("-0.0", F(0)), ("(/ 1 3)", F(1, 3)),
        ("(/ 1 3 -2)", F(-1, 6)),
        ("(- 1 2 3)", F(-4)), ("(+ 1 2 3)", F(6)), ("(* 2 3 0.5)", F(3)), ("(+ 1)", F(1)), ("0.1", F(1, 10)),
        ("1.23319541454315185546875", F("1.23319541454315185546875")), ("1e2000", F(10**2000)), ("(- (- 1))", F(1)),
        ("0" * 400 + "1", F(1)), ("1e0000000000000000", F(1)),
    ],
)  # fmt: skip
def test_numbers_are_exact(text, value):
    assert only(f"(<= Y_0 {text})").halfspaces == (Halfspace((), ((0, F(1)),), value),)


@pytest.mark.parametrize(
    ("formula", "halfspaces"),
    [
        ("(<= Y_0 Y_1)", [Halfspace((), ((0, F(1)), (1, F(-1))), F(0))]),
        ("(>= Y_0 Y_1)", [Halfspace((), ((0, F(-1)), (1, F(1))), F(0))]),
        ("(< Y_0 2)", [Halfspace((), ((0, F(1)),), F(2), strict=True)]),
        ("(> Y_0 2)", [Halfspace((), ((0, F(-1)),), F(-2), strict=True)]),
        ("(= Y_0 2)", [Halfspace((), ((0, F(1)),), F(2)), Halfspace((), ((0, F(-1)),), F(-2))]),
        ("(== Y_0 2)", [Halfspace((), ((0, F(1)),), F(2)), Halfspace((), ((0, F(-1)),), F(-2))]),
        ("(<= (+ X_0 X_1) 1)", [Halfspace(((0, F(1)), (1, F(1))), (), F(1))]),
        ("(<= (- Y_1 (* 3 X_1)) 1)", [Halfspace(((1, F(-3)),), ((1, F(1)),), F(1))]),
        ("(<= (* (- 2 1) Y_0 0.5) (/ Y_1 4))", [Halfspace((), ((0, F(1, 2)), (1, F(-1, 4))), F(0))]),
        ("(<= 1 (+ Y_0 2))", [Halfspace((), ((0, F(-1)),), F(1))]),
        ("(and (<= Y_0 1) (<= Y_0 1.0))", [Halfspace((), ((0, F(1)),), F(1))]),
        ("(<= (+ Y_0 X_0 (- X_0)) 1)", [Halfspace((), ((0, F(1)),), F(1))]),
        ("(<= (+ Y_0 (* 0 Y_1)) 1)", [Halfspace((), ((0, F(1)),), F(1))]),
    ],
)
def test_constraints_become_halfspaces(formula, halfspaces):
    assert list(only(formula).halfspaces) == halfspaces


def test_constraints_on_one_input_narrow_the_box():
    case = only("(<= (* 2 X_0) 1)", "(>= (* -4 X_1) -4)", "(>= (- X_0 0.25) 0)", "(<= X_0 7)")
    assert case.low == (F(1, 4), -1) and case.high == (F(1, 2), 1) and case.halfspaces == ()


def test_strict_ends_are_kept_beside_the_closed_box():
    case = only("(< X_0 0.5)", "(> X_1 0)")
    assert case.low == (0, 0) and case.high == (F(1, 2), 2)
    assert case.halfspaces == (
        Halfspace(((0, F(1)),), (), F(1, 2), strict=True),
        Halfspace(((1, F(-1)),), (), F(0), strict=True),
    )


def test_equality_of_an_input_fixes_it():
    case = only("(= X_0 0.5)")
    assert case.low[0] == case.high[0] == F(1, 2) and case.halfspaces == ()


def test_inequality_makes_two_strict_cases():
    first, second = read("(!= Y_0 1)").cases
    assert first.halfspaces == (Halfspace((), ((0, F(1)),), F(1), strict=True),)
    assert second.halfspaces == (Halfspace((), ((0, F(-1)),), F(-1), strict=True),)


def test_contradictory_boxes_stay_as_vacuous_cases():
    found = read("(or (<= X_0 -1) (<= X_0 0.5))")
    assert [case.is_vacuous for case in found.cases] == [True, False] and not found.is_vacuous
    assert read("(<= X_0 -1)").is_vacuous


@pytest.mark.parametrize("true", ["(<= 0 1)", "(= X_0 X_0)", "(<= X_0 X_0)", "(!= 0 1)", "(and (<= 0 0) (< 0 1))"])
def test_what_always_holds_is_dropped(true):
    assert read(true).cases == read().cases
    assert read(f"(and {true} (<= Y_0 1))").cases == read("(<= Y_0 1)").cases


@pytest.mark.parametrize("false", ["(<= 1 0)", "(< X_0 X_0)", "(= 0 1)", "(!= 1 1.0)", "(or (< 0 0) (> 0 1))"])
def test_what_never_holds_removes_its_case(false):
    assert read(false).cases == () and read(false).is_vacuous
    assert read(f"(or {false} (<= Y_0 1))").cases == read("(<= Y_0 1)").cases
    assert read("(or (<= Y_0 1) (<= Y_1 1))", false, "(or (<= Y_0 2) (<= Y_1 2))").cases == ()


def test_cases_are_multiplied_out_in_the_order_of_the_text():
    found = read("(or (<= Y_0 0) (and (<= Y_0 1) (or (<= Y_1 2) (<= Y_1 3))))", "(or (<= Y_1 4) (<= X_0 0.5))")
    bounds = [tuple(half.bound for half in case.halfspaces) for case in found.cases]
    assert bounds == [(0, 4), (0,), (1, 2, 4), (1, 2), (1, 3, 4), (1, 3)]
    assert [case.high[0] for case in found.cases] == [1, F(1, 2)] * 3


def test_cases_share_the_box_that_they_do_not_change():
    found = read("(or (<= Y_0 0) (<= Y_0 1) (<= Y_0 2))")
    assert len({id(case.low) for case in found.cases}) == 1


def test_each_case_may_have_its_own_box():
    text = (
        NAMES
        + """(assert (or (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (<= Y_0 0))
                                  (and (>= X_0 2) (<= X_0 3) (>= X_1 2) (<= X_1 3) (<= Y_0 1))))"""
    )
    found = parse_property(text, "test")
    assert [(case.low, case.high) for case in found.cases] == [((0, 0), (1, 1)), ((2, 2), (3, 3))]


def test_reading_is_deterministic():
    formula = "(or (and (<= Y_1 Y_0) (<= (+ X_1 X_0 Y_1) 1)) (!= Y_0 1))"
    assert read(formula) == read(formula)


def test_comments_white_space_and_line_ends():
    text = f"; (assert (<= 1 0)) \u00e9\r\n\t{NAMES}{BOX};)\n(assert;\r\n(<=\tY_0\n1)) ; end"
    assert parse_property(text, "test") == read("(<= Y_0 1)")


def test_declarations_in_any_order():
    text = "(declare-const Y_0 Real)(declare-const X_1 Real)(declare-const X_0 Real)(declare-const Y_1 Real)" + BOX
    assert parse_property(text, "test") == read()


def read2(*formulas: str):
    return parse_property(f"{NETWORK} {BOX2} " + " ".join(f"(assert {formula})" for formula in formulas), "test")


@pytest.mark.parametrize(
    ("second", "first"),
    [
        ("(<= Y[0,0] Y[1,0])", "(<= Y_0 Y_1)"),
        ("(== (* 2.0 X[0,1]) 1.0)", "(= (* 2.0 X_1) 1.0)"),
        ("(or (!= Y [ 1 , 0 ] -0.5) (> (- X[0,0]) (+ X [0,1] 1 Y[0,0])))",
         "(or (!= Y_1 -0.5) (> (- X_0) (+ X_1 1 Y_0)))"),
        ("(<= (- 1 X[0,0] Y[0,0]) 0)", "(<= (- 1 X_0 Y_0) 0)"),
    ],
)  # fmt: skip
def test_version_2_means_the_same(second, first):
    assert read2(second) == read(first)


@pytest.mark.parametrize("version", ["<2.0>", "<2.1>", "<2.10>"])
def test_versions(version):
    assert parse_property(NETWORK.replace("<2.0>", version) + BOX2, "test") == read()


def test_indices_are_row_major():
    text = """(vnnlib-version <2.0>)
    (declare-network N (declare-input image real [2,3,2]) (declare-output y Real []))
    (assert (<= (+ (* 5 image[1,0,1]) y) 0))"""
    box = "".join(
        f"(assert (and (>= image[{i},{j},{k}] 0) (<= image[{i},{j},{k}] 1)))"
        for i in range(2) for j in range(3) for k in range(2)
    )  # fmt: skip
    found = parse_property(text + box, "test")
    assert (found.inputs, found.outputs) == (12, 1)
    assert found.cases[0].halfspaces == (Halfspace(((7, F(5)),), ((0, F(1)),), F(0)),)


def test_a_scalar_input_has_no_index():
    text = "(vnnlib-version <2.0>)(declare-network N (declare-input x Real []) (declare-output y Real [3]))"
    found = parse_property(text + "(assert (and (<= x 1) (>= x 0) (< y[2] x)))", "test")
    assert found.cases[0].halfspaces == (Halfspace(((0, F(-1)),), ((2, F(1)),), F(0), strict=True),)


def test_files_plain_and_compressed(tmp_path):
    text = f"{NAMES}\r\n{BOX} ; \u20ac\n(assert (<= Y_0 1))"
    (tmp_path / "plain.vnnlib").write_bytes(text.encode())
    (tmp_path / "small.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("plain.vnnlib", "small.vnnlib.gz"):
        assert read_property(tmp_path / name) == read("(<= Y_0 1)")
        assert property_text(tmp_path / name) == text


def test_long_flat_formulas_take_linear_time():
    terms = " ".join(f"(* {i} Y_0)" for i in range(20000))
    assert only(f"(<= (+ {terms}) 1)").halfspaces[0].outputs == ((0, F(sum(range(20000)))),)
    alternatives = " ".join(f"(and (<= Y_0 {i}) (>= X_0 0.{i:05}))" for i in range(20000))
    assert len(read(f"(or {alternatives})").cases) == 20000


def test_nesting_up_to_the_limit():
    depth = 198  # the assertion and the comparison are two more
    assert only("(and " * depth + "(<= Y_0 1)" + ")" * depth) == only("(<= Y_0 1)")
    assert only("(<= " + "(- " * depth + "Y_0" + ")" * depth + " 1)") == only("(<= Y_0 1)")
