"""Text that others wrote, made fit for one line of a terminal."""

from __future__ import annotations


def one_line(text: object) -> str:
    """Names in models and paths may hold anything: nothing in them may start a line or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
