"""What a certifier is, and which ones there are."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from math import prod
from typing import Any, ClassVar

import numpy as np

from certlip.graph import Graph
from certlip.lipschitz.threads import threads_for
from certlip.proofs import LIPSCHITZ_PROOFS
from certlip.rigor.rounding import Array, up

_log = logging.getLogger(__name__)

PORTABILITY = 2.0**-40
"""Every proved value is raised by this relative amount, so that a checker whose sums round differently agrees."""


@dataclass(frozen=True, eq=False)
class Witness:
    """What a proof needs, as named arrays, and where it came from (never part of the proof)."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    resume: Any = None
    """Where a search for the same network with another output may start; never part of the proof."""


@dataclass(frozen=True)
class Certifier(ABC):
    """A way to bound |Df| / |Dx| of a graph in normal form. Subclasses with a `name` register themselves.

    summary, when: what it does and when to use it, as `certlip methods` says.
    cost orders the methods, cheapest first; `in_auto` is False for one that another
    method always beats, `is_reference` True for one that runs only when named, to compare with.
    start_of: the method whose search begins with this one's witness and returns it if it finds nothing better.
    supports: None, or the reason why the graph is out of reach. propose: an untrusted witness, found before `deadline`
    (a `time.monotonic` value) as well as possible. prove: the number, from the witness alone, by the theorem of
    `certlip.proofs` named `theorem` (the method's own name by default); infinite if the witness proves nothing.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    when: ClassVar[str] = ""
    cost: ClassVar[int] = 0
    in_auto: ClassVar[bool] = True
    is_reference: ClassVar[bool] = False
    theorem: ClassVar[str] = ""
    start_of: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[Certifier]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            cls.theorem = cls.theorem or cls.name
            Certifier.registry[cls.name] = cls

    def supports(self, graph: Graph, norm: str) -> str | None:
        """Why this graph cannot be bounded by this method, or None."""
        return None

    def seconds(self, graph: Graph, norm: str) -> float:
        """Expected time of search and proof; decides whether `auto` begins what a deadline would cut short."""
        return 0.0

    def first_seconds(self, graph: Graph, norm: str) -> float:
        """Expected time until there is any bound, before which no deadline is looked at; nothing large is written."""
        return 0.0

    @abstractmethod
    def propose(self, graph: Graph, norm: str, deadline: float | None, near: Any = None) -> Witness:
        """A witness; its quality decides how tight the bound is, never whether it is valid. near: what a witness for
        another output of the same network has in `resume`."""

    def prove(self, graph: Graph, norm: str, witness: Witness) -> float:
        """Proved upper bound, or infinity. Small matrices are multiplied on one thread."""
        order = max(map(prod, graph.shapes)) if self.theorem == "lipsdp" else 1
        with threads_for(order), np.errstate(all="ignore"):  # what overflows is infinite, which proves nothing
            value = LIPSCHITZ_PROOFS[self.theorem](graph, norm, witness.arrays)
        return up(value * (1.0 + PORTABILITY)) if value > 0 else value


@cache
def _load_plugins() -> None:
    for entry in entry_points(group="certlip.certifiers"):
        try:
            entry.load()
        except Exception as error:  # a broken plug-in must not take certlip down, but is named
            _log.warning("the certifier plug-in '%s' cannot be loaded: %s", entry.name, error)


def certifiers() -> dict[str, Certifier]:
    """Every registered certifier by name, cheapest first."""
    _load_plugins()
    return {name: cls() for name, cls in sorted(Certifier.registry.items(), key=lambda pair: (pair[1].cost, pair[0]))}
