"""What a `--method` stands for where samples are decided."""

from __future__ import annotations

from dataclasses import dataclass

from certlip.errors import UsageError
from certlip.lipschitz.certifier import certifiers

LINEAR_METHODS = {
    "crown": (
        "verify only: linear bounds on the sample's own ball, by a few passes backwards: milliseconds",
        "for an answer at once at a given radius",
    ),
    "branch": (
        "verify only: linear bounds, then distinctions of cases until the deadline",
        "for verdicts at a given radius without Lipschitz bounds",
    ),
}
"""Methods that decide samples without any Lipschitz bound: what they do, and when to use them."""


@dataclass(frozen=True)
class Plan:
    """lipschitz: the name that chooses Lipschitz bounds, None for none of them. linear: linear bounds on the sample's
    set. cases: distinctions of cases, and the long attacks beside them."""

    lipschitz: str | None
    linear: bool
    cases: bool

    @classmethod
    def of(cls, method: str) -> Plan:
        """Every stage for "auto" and "all", else those of the name alone. Raises UsageError for an unknown one."""
        known = ("auto", "all", *certifiers(), *LINEAR_METHODS)
        if method not in known:
            raise UsageError(f"unknown method '{method}'; choose {', '.join(known[:-1])} or {known[-1]}")
        if method in LINEAR_METHODS:
            return cls(None, True, method == "branch")
        every = method in ("auto", "all")
        return cls(method, every, every)
