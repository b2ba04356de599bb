"""S-expressions, folded from the inside out while the text is read: neither trees nor recursion, in linear time.

Characters that no rule covers are an error, never skipped. Lone carriage returns are among them: whether one ends a
comment is read differently by different programs, and what a comment swallows may be a constraint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from certlip.errors import PropertyError

MAX_DEPTH = 200
MAX_TOKENS = 2**22

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\n]+|\r\n|;[^\r\n\0]*)
    | (?P<open>\()
    | (?P<close>\))
    | (?P<symbol>[!\#-'*+\--:<-Z\\^-{}~]+)  # printable ASCII, without quotes, brackets, commas, semicolons and bars
    | (?P<index>\[[0-9,\ \t\r\n]*\])
    | (?P<string>"[^"\r\n\0]*")
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Atom(NamedTuple):
    """A symbol, a number, a string in quotes or an index in brackets, as written, and where it starts."""

    text: str
    at: int

    @property
    def is_index(self) -> bool:
        return self.text.startswith("[")

    def __str__(self) -> str:
        """The text as messages quote it, on one line."""
        return f"'{' '.join(self.text[:40].split())}{'...' if len(self.text) > 40 else ''}'"


@dataclass(frozen=True)
class Source:
    """A text, and the name that messages call it."""

    text: str
    name: str

    def error(self, at: int, sentence: str) -> PropertyError:
        """The error at a place in the text."""
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        return PropertyError(f"{self.name}, line {line}, column {column}: {sentence}")


Reduce = Callable[[list[object], int, int], object]
"""(parts, where the parenthesis opens, how many enclose it) -> value. Parts are atoms and values."""


def fold(source: Source, reduce: Reduce) -> None:
    """Call `reduce` for each expression after those inside it, in the order in which they close.

    Raises PropertyError for unbalanced parentheses, stray characters, nesting beyond MAX_DEPTH and more tokens than
    MAX_TOKENS.
    """
    stack: list[list[object]] = []
    starts: list[int] = []
    count = 0
    for token in _TOKEN.finditer(source.text):
        kind, at = token.lastgroup, token.start()
        if kind == "space":
            continue
        count += 1
        if count > MAX_TOKENS:
            raise source.error(at, f"the file holds more than {MAX_TOKENS} words; split the property")
        if kind == "open":
            if len(stack) == MAX_DEPTH:
                raise source.error(at, f"parentheses are nested deeper than {MAX_DEPTH}; flatten the formula")
            stack.append([])
            starts.append(at)
        elif kind == "other":
            raise source.error(at, f"unexpected character {token.group()!a}; remove it")
        elif not stack:
            raise source.error(at, f"{Atom(token.group(), at)} stands outside all parentheses; balance them")
        elif kind == "close":
            value = reduce(stack.pop(), starts.pop(), len(stack))
            if stack:
                stack[-1].append(value)
        else:
            stack[-1].append(Atom(token.group(), at))
    if stack:
        raise source.error(starts[-1], "this parenthesis is never closed; the file may be truncated")
