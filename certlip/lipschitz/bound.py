"""The result of a certifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certlip.properties import Output
from certlip.properties.numbers import decimal_up
from certlip.rigor.rounding import Array


@dataclass(frozen=True, eq=False)
class Bound:
    """|Df| <= value |Dx| for one output of a network, in `norm` ("l2": both norms l2, "linf": both l-infinity).

    proved: True only if `value` was recomputed from the witness in rigorous arithmetic; `level` is then "float".
    Without a proof `value` is infinite, `level` is "none" and `note` says why.
    """

    method: str
    norm: str
    output: Output
    value: float
    proved: bool
    seconds: float
    witness: Mapping[str, Array] = field(default_factory=dict)
    theorem: str = ""
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> str:
        return "float" if self.proved else "none"

    def __repr__(self) -> str:
        if not self.proved:
            return f"no bound by {self.method} for {self.output}: {self.note}"
        value = f"{decimal_up(self.value):.10g}"
        return f"|Df| <= {value} |Dx| ({self.norm}, {self.output}), proved by {self.method}"
