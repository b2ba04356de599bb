"""The result of a certifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certlip.proofs.ranges import Region
from certlip.properties import Output
from certlip.properties.numbers import decimal_up
from certlip.rigor.rounding import Array


@dataclass(frozen=True, eq=False)
class Bound:
    """|Df| <= value |Dx| for one output of a network, in `norm` ("l2": both norms l2, "linf": both l-infinity).

    proved: True only if `value` was recomputed from the witness in rigorous arithmetic; `level` is then "float".
    Without a proof `value` is infinite, `level` is "none" and `note` says why.
    region: the inputs between which the bound holds; None for all. resume: see `Witness`.
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
    region: Region | None = None
    resume: Any = field(default=None, repr=False)

    @property
    def level(self) -> str:
        return "float" if self.proved else "none"

    def __repr__(self) -> str:
        if not self.proved:
            return f"no bound by {self.method} for {self.output}: {self.note}"
        value = f"{decimal_up(self.value):.10g}"
        where = "" if self.region is None else f" on {self.region}"
        return f"|Df| <= {value} |Dx| ({self.norm}, {self.output}){where}, proved by {self.method}"
