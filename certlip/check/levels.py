"""How much of a claim is proved, weakest first, and the words for it.

estimate: a number that a search found; never certified. float: a claim about real arithmetic, proved with bounds on the
rounding errors of the proof itself. exact: the same claim, proved in exact integer or rational arithmetic. deployed: a
claim about every execution of a declared class, proved at one of the other two levels and with its rounding errors.
"""

from __future__ import annotations

from certlip.errors import UsageError

LEVELS = ("estimate", "float", "exact", "deployed")


def reaches(level: str, wanted: str) -> bool:
    """Whether a level is at least another."""
    return LEVELS.index(level) >= LEVELS.index(wanted)


def require_level(level: str) -> str:
    """The level itself. Raises UsageError for a word that names none."""
    if level not in LEVELS:
        raise UsageError(f"'{level}' is no level; choose {', '.join(LEVELS[1:-1])} or {LEVELS[-1]}")
    return level
