"""Whether a point lies in the unsafe set of a VNN-LIB text: the definition, evaluated as it stands.

Written without certlip's reader, to be compared with it: formulas stay as nested lists and are evaluated recursively.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import reduce
from itertools import product

from certlip.properties.property import Property

_TOKEN = re.compile(r'[()]|"[^"]*"|[^\s()\[\]"]+(?:\s*\[[^\]]*\])?')
_COMPARE = {
    "<=": lambda a, b: a <= b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b, ">": lambda a, b: a > b,
    "=": lambda a, b: a == b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip
_COMPUTE = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
}  # fmt: skip


class Text:
    """A parsed text: the names of inputs and outputs in row-major order, and the asserted formulas."""

    def __init__(self, text: str):
        stack: list[list] = [[]]
        for token in _TOKEN.findall(re.sub(r";[^\n]*", "", text)):
            if token == "(":
                stack.append([])
            elif token == ")":
                closed = stack.pop()
                stack[-1].append(closed)
            else:
                stack[-1].append(re.sub(r"\s", "", token))
        (commands,) = stack
        self.formulas = [command[1] for command in commands if command[0] == "assert"]
        constants = [command[1] for command in commands if command[0] == "declare-const"]
        self.inputs = sorted((n for n in constants if n[0] == "X"), key=lambda n: int(n[2:]))
        self.outputs = sorted((n for n in constants if n[0] == "Y"), key=lambda n: int(n[2:]))
        for command in commands:
            if command[0] == "declare-network":
                self.inputs, self.outputs = _entries(command[2]), _entries(command[3])

    def contains(self, x: list[Fraction], y: list[Fraction]) -> bool:
        values = dict(zip(self.inputs + self.outputs, x + y, strict=True))
        return all(_truth(formula, values) for formula in self.formulas)


def _entries(declaration: list) -> list[str]:
    _, name, kind = declaration
    shape = [int(n) for n in re.findall(r"\d+", kind.partition("[")[2])]
    return [f"{name}[{','.join(map(str, index))}]" if index else name for index in product(*map(range, shape))]


def _truth(formula: list, values: dict) -> bool:
    operator, *parts = formula
    if operator in ("and", "or"):
        return (all if operator == "and" else any)([_truth(part, values) for part in parts])
    return _COMPARE[operator](*(_value(part, values) for part in parts))


def _value(term: list | str, values: dict) -> Fraction:
    if isinstance(term, str):
        return values[term] if term in values else Fraction(term)
    operator, *parts = term
    found = [_value(part, values) for part in parts]
    return -found[0] if operator == "-" and len(found) == 1 else reduce(_COMPUTE[operator], found)


def contains(property: Property, x: list[Fraction], y: list[Fraction]) -> bool:
    """Whether the point lies in one of the cases."""
    return any(
        all(low <= value <= high for low, value, high in zip(case.low, x, case.high, strict=True))
        and all(
            half.holds(sum(c * x[i] for i, c in half.inputs) + sum(a * y[j] for j, a in half.outputs))
            for half in case.halfspaces
        )
        for case in property.cases
    )
