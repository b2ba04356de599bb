"""The code that checks enter: `python -m tests.check.reached_code MODEL EXACT PATH...` prints its lines by room.

A line counts if it holds code (no comment, no docstring) and belongs to a function that was called while checking.
"""

from __future__ import annotations

import ast
import io
import json
import sys
import tokenize
from collections import Counter
from pathlib import Path

import certlip

ROOT = Path(certlip.__file__).parent
_SILENT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in _SILENT
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def functions(source: str) -> dict[int, set[int]]:
    """For the first line of each function, as the interpreter counts it, all of its lines."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            first = min(part.lineno for part in (node, *node.decorator_list))
            found[first] = set(range(first, (node.end_lineno or first) + 1))
    return found


def reached(called: set[tuple[str, int]]) -> dict[str, int]:
    """Lines of code by room, of the functions that start at these places."""
    rooms: Counter[str] = Counter()
    for path in sorted({Path(name) for name, _ in called if name.startswith(str(ROOT))}):
        source = path.read_text()
        starts = functions(source)
        entered = [starts[line] for name, line in called if name == str(path) and line in starts]
        rooms[path.relative_to(ROOT).parts[0]] += len(code_lines(source) & set().union(*entered))
    return dict(rooms)


def main() -> None:
    from certlip.check import Checker, records

    called: set[tuple[str, int]] = set()

    def note(frame, event, argument) -> None:
        if event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    checker = Checker([Path(sys.argv[1])], exact=sys.argv[2] == "exact")
    sys.setprofile(note)
    findings = [checker.check_record(store, name) for store, name in records(sys.argv[3:])]
    sys.setprofile(None)
    print(json.dumps({"accepted": all(finding.accepted for finding in findings), "rooms": reached(called)}))


if __name__ == "__main__":
    main()
