"""A page of text: titled sections of short items, for a terminal of 80 columns and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from certlip.report.text import one_line

WIDTH = 80
_TERM = 14
_LONGEST = 300


@dataclass(frozen=True)
class Item:
    """A paragraph, or what a term means. The term "-" makes it an entry of a list, "$" a command line."""

    text: str
    term: str = ""


@dataclass(frozen=True)
class Section:
    """A title and what stands below it. about: a name that belongs to the title."""

    title: str
    items: tuple[Item, ...]
    about: str = ""


def bullets(texts: Iterable[str]) -> tuple[Item, ...]:
    return tuple(Item(text, "-") for text in texts)


def clipped(text: str) -> str:
    """Text that others wrote: one line that steers no terminal, and not a long one."""
    safe = one_line(text)
    return safe if len(safe) <= _LONGEST else f"{safe[:_LONGEST]}..."


def page(sections: Sequence[Section]) -> str:
    """The sections as text; lines are at most 80 columns wide unless one word or a command is wider."""
    parts = (
        "\n".join([f"{section.title.upper()} {section.about}".rstrip(), *map(_lines, section.items)])
        for section in sections
    )
    return "\n\n".join(parts)


def sections_json(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """The same as data."""
    return [
        {
            "title": f"{section.title} {section.about}".rstrip(),
            "items": [{"term": item.term, "text": item.text} for item in section.items],
        }
        for section in sections
    ]


def _lines(item: Item) -> str:
    if item.term == "$":
        return f"    $ {item.text}"
    if item.term == "-":
        return _filled(item.text, "  - ", "    ")
    if item.term:
        return _filled(item.text, f"  {item.term:<{_TERM}}", " " * (_TERM + 2))
    return _filled(item.text, "  ", "  ")


def _filled(text: str, first: str, rest: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
