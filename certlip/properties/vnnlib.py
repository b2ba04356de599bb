"""Properties in VNN-LIB: placeholder for comparisons of single variables with numbers and with each other."""

from __future__ import annotations

import gzip
import re
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from certlip.errors import PropertyError
from certlip.properties.property import Case, Halfspace, Property
from certlip.regular_files import TooLarge, read_regular

_LIMIT = 2**28
_TOKEN = re.compile(r"\s+|;[^\n]*|(?P<token>[()]|[^\s();]+)")


def read_property(path: Path) -> Property:
    """The property in a file, plain or gzip-compressed. Raises PropertyError with file, line and column."""
    try:
        raw = read_regular(path, _LIMIT)
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, EOFError, TooLarge, ValueError) as error:
        raise PropertyError(f"cannot read the property {path} ({error}); check the path and the file") from error
    try:
        return _property(_expressions(text))
    except _Wrong as error:
        before = text[: error.place]
        line, column = before.count("\n") + 1, error.place - (before.rfind("\n") + 1) + 1
        raise PropertyError(f"{path}, line {line}, column {column}: {error}; correct it there") from error


class _Wrong(Exception):
    def __init__(self, message: str, place: int):
        super().__init__(message)
        self.place = place


class _Token(str):
    place: int


def _expressions(text: str) -> list[Any]:
    stack: list[list[Any]] = [[]]
    for found in _TOKEN.finditer(text):
        token = found["token"]
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise _Wrong("a parenthesis is closed that was not opened", found.start())
            stack[-2].append(stack.pop())
        elif token:
            word = _Token(token)
            word.place = found.start()
            stack[-1].append(word)
    if len(stack) > 1:
        raise _Wrong("a parenthesis is not closed", len(text))
    return stack[0]


def _place(expression: Any) -> int:
    while isinstance(expression, list):
        expression = expression[0] if expression else _Token("")
    return getattr(expression, "place", 0)


def _property(expressions: list[Any]) -> Property:
    sizes = {"X": 0, "Y": 0}
    cases: list[list[tuple[dict[str, Fraction], Fraction]]] = [[]]
    for expression in expressions:
        match expression:
            case ["declare-const", name, "Real"]:
                sizes[name[0]] = max(sizes.get(name[0], 0), int(name[2:]) + 1)
            case ["assert", body]:
                cases = [old + new for old, new in product(cases, _cases(body))]
            case _:
                raise _Wrong("this is neither declare-const nor assert", _place(expression))
    return Property(sizes["X"], sizes["Y"], tuple(_case(case, sizes["X"]) for case in cases))


def _cases(body: Any) -> list[list[Any]]:
    match body:
        case ["or", *parts]:
            return [case for part in parts for case in _cases(part)]
        case ["and", *parts]:
            return [[row for part in choice for row in part] for choice in product(*map(_cases, parts))]
        case ["<=" | ">=" as sign, left, right]:
            (a, c), (b, d) = _side(left), _side(right)
            terms = {name: a.get(name, Fraction(0)) - b.get(name, Fraction(0)) for name in {*a, *b}}
            factor = 1 if sign == "<=" else -1
            return [[({name: factor * value for name, value in terms.items() if value}, factor * (d - c))]]
    raise _Wrong("this is no comparison", _place(body))


def _side(word: Any) -> tuple[dict[str, Fraction], Fraction]:
    if isinstance(word, str) and re.fullmatch(r"[XY]_\d+", word):
        return {word: Fraction(1)}, Fraction(0)
    try:
        return {}, Fraction(word)
    except (ValueError, TypeError) as error:
        raise _Wrong(f"'{word}' is no number", _place(word)) from error


def _case(rows: list[Any], inputs: int) -> Case:
    low: list[Fraction | None] = [None] * inputs
    high = list(low)
    halfspaces = []
    for terms, bound in rows:
        names = sorted(terms, key=lambda name: (name[0], int(name[2:])))
        if len(names) == 1 and names[0][0] == "X":
            i, value = int(names[0][2:]), bound / terms[names[0]]
            if terms[names[0]] > 0:
                high[i] = value if high[i] is None else min(high[i], value)
            else:
                low[i] = value if low[i] is None else max(low[i], value)
            continue
        split = {kind: tuple((int(n[2:]), terms[n]) for n in names if n[0] == kind) for kind in "XY"}
        halfspaces.append(Halfspace(split["X"], split["Y"], bound))
    ends = [tuple(value for value in values if value is not None) for values in (low, high)]
    if any(len(values) < inputs for values in ends):
        raise _Wrong("an input has no finite bounds", 0)
    return Case(ends[0], ends[1], tuple(halfspaces))
