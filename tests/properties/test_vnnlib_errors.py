"""What the VNN-LIB reader refuses: one sentence each, with file, line and column."""

from __future__ import annotations

import gzip
import os
import re
import time

import pytest

from certlip.errors import CertlipError, PropertyError
from certlip.properties import cases, sexpressions, vnnlib
from certlip.properties.vnnlib import parse_property, read_property

NAMES = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
BOX = "(assert (>= X_0 0))\n(assert (<= X_0 1))\n"
V2 = "(vnnlib-version <2.0>)\n"
NET = V2 + "(declare-network N (declare-input X Real [1,2]) (declare-output Y Real [1]))\n"


def refused(text: str) -> str:
    began = time.process_time()
    with pytest.raises(PropertyError) as caught:
        parse_property(text, "a.vnnlib")
    assert time.process_time() - began < 5
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300 and caught.value.exit_code == 2
    assert re.match(r"a\.vnnlib, line \d+, column \d+: ", message), message
    return message


def test_the_error_is_one_of_certlips():
    assert issubclass(PropertyError, CertlipError)


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "empty"),
        (" ; nothing\n", 1, 1, "empty"),
        (NAMES + "(assert (<= X_0 1)", 3, 1, "never closed"),
        (NAMES + "(assert (<= X_0 1)))", 3, 20, "outside all parentheses"),
        (NAMES + "[\n0]", 3, 1, "'[ 0]' stands outside all parentheses"),
        (NAMES + "X_0", 3, 1, "outside all parentheses"),
        (NAMES + "(assert\n  (<= X_1 1))", 4, 7, "'X_1' is no number and not declared"),
        ("(assert (<= Y_0 1))" + NAMES, 1, 13, "not declared"),
        (NAMES + "(assert (<= (* X_0 Y_0) 1))", 3, 13, "not linear"),
        (NAMES + "(assert (<= (/ 1 Y_0) 1))", 3, 13, "not linear"),
        (NAMES + "(assert (<= (/ Y_0 0.0) 1))", 3, 13, "divides by zero"),
        (NAMES + "(assert (<= (/ Y_0) 1))", 3, 13, "two operands"),
        (NAMES + "(assert (not (<= Y_0 1)))", 3, 9, "'not' is no operator"),
        (NAMES + "(assert (=> (<= Y_0 1) (<= Y_0 2)))", 3, 9, "no operator"),
        (NAMES + "(assert (AND (<= Y_0 1)))", 3, 9, "no operator"),
        (NAMES + "(check-sat)", 3, 1, "no operator"),
        (NAMES + "(assert (<= Y_0 nan))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 inf))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 -Infinity))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 1/3))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 0x10))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 1_000))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 --1))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 1e))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 .))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 \u0661))", 3, 17, "unexpected character"),
        (NAMES + "(assert (<= Y_0\u00a01))", 3, 16, "unexpected character"),
        (NAMES + "(assert (<= Y_0 1e10001))", 3, 17, "digits"),
        (NAMES + "(assert (<= Y_0 1e-10001))", 3, 17, "digits"),
        (NAMES + f"(assert (<= Y_0 1e{'9' * 5000}))", 3, 17, "digits"),
        (NAMES + f"(assert (<= Y_0 {'9' * 5000}))", 3, 17, "digits"),
        (NAMES + "(assert (<= Y_0 " + "(* 1e2000 " * 9 + "1" + ")" * 9 + "))", 3, 77, "bits"),
        (NAMES + "(assert (<= Y_0 1 2))", 3, 9, "compares two terms"),
        (NAMES + "(assert (<= Y_0))", 3, 9, "compares two terms"),
        (NAMES + "(assert (<=))", 3, 9, "no operands"),
        (NAMES + "(assert (and))", 3, 9, "needs formulas"),
        (NAMES + "(assert (or Y_0))", 3, 9, "needs formulas"),
        (NAMES + "(assert (and (<= Y_0 1) Y_0))", 3, 9, "needs formulas"),
        (NAMES + "(assert (<= (<= Y_0 1) 1))", 3, 9, "takes numbers"),
        (NAMES + "(assert (<= (and (<= Y_0 1)) 1))", 3, 9, "takes numbers"),
        (NAMES + "(assert Y_0)", 3, 1, "needs formulas"),
        (NAMES + "(assert (+ Y_0 1))", 3, 1, "needs formulas"),
        (NAMES + "(assert (<= Y_0 1) (<= Y_0 2))", 3, 1, "one formula"),
        (NAMES + "(assert)", 3, 1, "needs formulas"),
        (NAMES + "()", 3, 1, "no operator"),
        (NAMES + "((assert (<= Y_0 1)))", 3, 2, "outside of all parentheses"),
        (NAMES + "(<= Y_0 1)", 3, 1, "inside of a command"),
        (NAMES + "(assert (assert (<= Y_0 1)))", 3, 9, "outside of all parentheses"),
        (NAMES + "(and (<= Y_0 1))", 3, 1, "inside of a command"),
        (NAMES + "(assert (<= Y_0 \"1\"))", 3, 17, "no number"),
        (NAMES + "(assert (<= Y_0 \"1))", 3, 17, "unexpected character"),
        (NAMES + "(assert (<= |Y_0| 1))", 3, 13, "unexpected character"),
        (NAMES + "(assert (<= Y_0, 1))", 3, 16, "unexpected character"),
        (NAMES + "(assert (<= Y_0 [0] 1))", 3, 13, "belong to VNN-LIB 2.0"),
        (NAMES + "(assert (<= Y_0 1 [0]))", 3, 19, "follows a number"),
        (NAMES + "(assert (<= [0] 1))", 3, 13, "follows no name"),
        (NAMES + "; old line ends\r(assert (<= 1 0))", 3, 16, "unexpected character"),
        (NAMES + "; \0", 3, 3, "unexpected character"),
        ("\ufeff" + NAMES, 1, 1, "unexpected character"),
        (NAMES + "(declare-const X_0 Real)", 3, 1, "declared twice"),
        (NAMES + "(declare-const X_00 Real)", 3, 1, "no name of an input"),
        (NAMES + "(declare-const x_1 Real)", 3, 1, "no name of an input"),
        (NAMES + "(declare-const X_0-1 Real)", 3, 1, "no name of an input"),
        (NAMES + "(declare-const X_999999999 Real)", 3, 1, "no name of an input"),
        (NAMES + "(declare-const X_1 Int)", 3, 1, "declare it as Real"),
        (NAMES + "(declare-const X_1)", 3, 1, "needs a name and a type"),
        (NAMES + "(declare-const X_1 Real Real)", 3, 1, "needs a name and a type"),
        (NAMES + "(declare-const (+ X_0) Real)", 3, 1, "needs a name and a type"),
        (NAMES + "(declare-fun X_1 () Real)", 3, 18, "no operator"),
        (NAMES + "(declare-const X_2 Real)", 3, 25, "X_1 is not declared"),
        ("(declare-const X_0 Real)" + BOX, 2, 20, "Y_0 is not declared"),
        ("(declare-const Y_0 Real)", 1, 25, "X_0 is not declared"),
        (NAMES, 1, 16, "input X_0 has no lower bound"),
        (NAMES + "(assert (>= X_0 0))", 1, 16, "input X_0 has no upper bound"),
        (NAMES + "(assert (<= (+ X_0 Y_0) 0))", 1, 16, "input X_0 has no lower bound"),
        (NAMES + "(assert (or (<= X_0 1) (and (>= X_0 0) (<= X_0 1))))", 1, 16, "no lower bound in one of the cases"),
        (NAMES + "(vnnlib-version <2.0>)", 3, 1, "first command"),
        ("(vnnlib-version <1.0>)", 1, 1, "no <2.0>"),
        ("(vnnlib-version <3.0>)", 1, 1, "no <2.0>"),
        ("(vnnlib-version 2.0)", 1, 1, "no <2.0>"),
        (V2, 1, 23, "no network"),
        (V2 + V2, 2, 1, "first command"),
        (V2 + NAMES, 2, 1, "belongs to VNN-LIB 1.0"),
        (NET.removeprefix(V2), 1, 20, "begin the file with"),
        (NET + NET.removeprefix(V2), 3, 1, "second network"),
        (NET, 2, 35, "input X[0,0] has no lower bound"),
        (NET + "(assert (and (>= X[0,0] 0) (<= X[0,0] 1)))", 2, 35, "input X[0,1] has no lower bound"),
        (NET + "(assert (<= X[0] 1))", 3, 13, "2 dimensions"),
        (NET + "(assert (<= X 1))", 3, 13, "2 dimensions"),
        (NET + "(assert (<= X[1,0] 1))", 3, 13, "outside"),
        (NET + "(assert (<= X[0,-1] 1))", 3, 14, "unexpected character"),
        (NET + "(assert (<= X[0 1] 1))", 3, 13, "no list of sizes or indices"),
        (NET + "(assert (<= X[\n,0] 1))", 3, 13, "'[ ,0]' is no list"),
        (NET + "(assert (<= X[0,01] 1))", 3, 13, "no list of sizes or indices"),
        (NET + "(assert (<= X[0,] 1))", 3, 13, "no list of sizes or indices"),
        (NET + "(assert (<= X[0,0][0,1] 1))", 3, 19, "follows no name"),
        (NET + "(assert (<= (- Y[0])[0] 1))", 3, 21, "follows no name"),
        (NET + "(assert (<= Z[0] 1))", 3, 13, "not declared"),
        (NET + "(assert (<= X_0 1))", 3, 13, "not declared"),
        (NET.replace("Real [1]", "float32 [1]"), 2, 49, "declare it as Real"),
        (NET.replace("[1]", "[0]"), 2, 49, "does not have between"),
        (NET.replace("[1]", "[99999999,99999999]"), 2, 49, "does not have between"),
        (NET.replace("[1]", "[" + "1," * 40 + "1]"), 2, 49, "does not have between"),
        (NET.replace("[1]", "1"), 2, 49, "no list of sizes"),
        (NET.replace("Y", "X"), 2, 1, "share a name"),
        (NET.replace(" N ", " X "), 2, 1, "share a name"),
        (NET.replace(" Y ", " _y "), 2, 49, "no name"),
        (NET.replace(" N ", " "), 2, 1, "needs a name first"),
        (NET.replace("[1]", '[1] "logits"'), 2, 49, "names a tensor of the model file"),
        (NET.replace("(declare-input", "(equal-to M) (declare-input"), 2, 20, "one network"),
        (NET.replace("(declare-input", "(isomorphic-to M) (declare-input"), 2, 20, "one network"),
        (NET.replace("(declare-output", '(declare-hidden Z Real [1] "z") (declare-output'), 2, 49, "hidden"),
        (NET.replace("(declare-output", "(declare-input W Real [1]) (declare-output"), 2, 1, "just one input"),
        (NET.replace("(declare-output", "(declare-output W Real [1]) (declare-output"), 2, 1, "just one input"),
        (NET.replace("(declare-output Y Real [1])", ""), 2, 1, "just one input"),
        (NET.replace("N (", "N x ("), 2, 1, "just one input"),
        (NET + "(assert (declare-input W Real [1]))", 3, 1, "needs formulas"),
        (V2 + "(declare-input X Real [1])", 2, 1, "inside of a command"),
    ],
)  # fmt: skip
def test_refusals(text, line, column, words):
    message = refused(text)
    assert message.startswith(f"a.vnnlib, line {line}, column {column}: ") and words in message, message


def test_nesting_has_a_limit():
    assert "nested deeper than 200" in refused(NAMES + "(" * 201)
    assert "nested deeper than 200" in refused("(" * 10**6)


@pytest.mark.parametrize("choices", ["(or (<= Y_0 1) (<= Y_0 2)) " * 30, "(!= Y_0 1) " * 10**4])
def test_formulas_that_multiply_are_refused(choices):
    assert "more than 100000 cases" in refused(NAMES + BOX + f"(assert (and {choices}))")


def test_assertions_that_multiply_are_refused():
    assert "more than 100000 cases" in refused(NAMES + BOX + "(assert (!= Y_0 1))" * 20)


def test_alternatives_have_a_limit(monkeypatch):
    monkeypatch.setattr(cases, "MAX_CASES", 1000)
    assert "more than 1000 cases" in refused(NAMES + BOX + f"(assert (or {'(<= Y_0 1)' * 1001}))")


def test_work_has_a_limit(monkeypatch):
    monkeypatch.setattr(cases, "MAX_WORK", 10_000)
    product = "(and (!= Y_0 1) (!= Y_0 2) (!= Y_0 3) (!= Y_0 4))"
    assert "more than 10000 steps" in refused(NAMES + BOX + f"(assert (or {product * 100}))")
    wide = "(vnnlib-version <2.0>)(declare-network N (declare-input X Real [9999]) (declare-output Y Real [1]))"
    assert "more than 10000 steps" in refused(wide)
    assert "more than 10000 steps" in refused(NAMES + f"(assert (<= (+ {'1e1999 ' * 30}) Y_0))")
    names = "".join(f"(declare-const X_{i} Real)" for i in range(1, 101))
    total = " ".join(f"X_{i}" for i in range(100))
    assert "more than 10000 steps" in refused(NAMES + names + f"(assert (<= {'(- ' * 150}(+ {total}){')' * 150} 0))")


def test_words_have_a_limit(monkeypatch):
    monkeypatch.setattr(sexpressions, "MAX_TOKENS", 20)
    assert "more than 20 words" in refused(NAMES + BOX)


def test_messages_quote_long_words_in_part():
    assert "x" * 40 + "...'" in refused(NAMES + f"(assert (<= Y_0 {'x' * 10**6}))")


def refused_file(path) -> str:
    with pytest.raises(PropertyError) as caught:
        read_property(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    assert "No such file" in refused_file(tmp_path / "none.vnnlib")
    assert refused_file(tmp_path).startswith("cannot read the property")
    assert "no file name" in refused_file(tmp_path / "a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "no regular file" in refused_file(tmp_path / "pipe")


def test_texts_that_are_not_utf8(tmp_path):
    path = tmp_path / "latin.vnnlib"
    path.write_bytes(NAMES.encode() + b"; caf\xe9")
    assert refused_file(path) == f"{path}, line 3, column 6: the text is not UTF-8; save it as UTF-8"


def test_broken_gzip_files(tmp_path):
    whole = gzip.compress((NAMES + BOX).encode() * 20)
    path = tmp_path / "a.vnnlib.gz"
    broken = [whole[:-9], whole[:12], whole[:3], whole + b"trailing", whole[:20] + b"\xff" * 20 + whole[40:]]
    for data in broken:
        path.write_bytes(data)
        assert "not a complete gzip file" in refused_file(path)


def test_files_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(vnnlib, "MAX_BYTES", 1000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b" " * 10**5))
    (tmp_path / "large").write_bytes(b" " * 1001)
    for name in ("bomb.gz", "large"):
        assert "exceeds 1000 bytes" in refused_file(tmp_path / name)
