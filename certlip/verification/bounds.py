"""The Lipschitz bounds that a run needs, computed once each, on demand and within deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from certlip.graph import Graph
from certlip.lipschitz.bound import Bound
from certlip.lipschitz.certifier import Certifier, Witness
from certlip.lipschitz.engine import best, is_needless, methods, prove, quick_first, run
from certlip.lipschitz.lipsdp import LipSDP
from certlip.lipschitz.shared import SharedMultipliers
from certlip.proofs.neuron_form import neuron_form
from certlip.properties import Output, select
from certlip.properties.outputs import ALL

_OWN_SECONDS = 10.0  # a pair gets a semidefinite program of its own where it takes less than this ...
_QUICK_SECONDS = 0.5  # ... and where it takes more than this, no digits beyond ...
_SHOWN_GAP = 1e-4  # ... the relative gap that a radius shows: they take half of the time


Admitted = Callable[[Certifier, float], bool]
"""Whether a method that is expected to take so many seconds may run."""


def every(certifier: Certifier, seconds: float) -> bool:
    """No method has to wait."""
    return True


class BoundTable:
    """Bounds by output, refined method by method; none without a method. `graph` is the raw graph of the imported
    model. own_seconds: pairs share the multipliers of the whole output where a program of their own takes
    longer."""

    def __init__(
        self,
        graph: Graph,
        norm: str,
        method: str | None,
        progress: Callable[[str], None] = lambda message: None,
        own_seconds: float | None = None,
    ):
        self.norm, self._own_seconds = norm, _OWN_SECONDS if own_seconds is None else own_seconds
        self._graph, self._progress = graph, progress
        self._methods = [] if method is None else methods(method)
        self._patient = method != "auto"
        self._selected: dict[Output, Graph] = {}
        self._bounds: dict[Output, dict[str, Bound]] = {}
        self._finished: set[tuple[Output, str]] = set()
        self._shared: SharedMultipliers | None = None
        self._near: dict[str, Any] = {}
        self._took: dict[str, float] = {}  # by method: seconds of its last run

    @property
    def has_local(self) -> bool:
        """Whether the chosen methods include the one that also bounds a network on a ball."""
        return any(isinstance(certifier, LipSDP) and not certifier.is_reference for certifier in self._methods)

    def know(self, bound: Bound) -> None:
        """A bound that was found elsewhere; its method is not run again for this output."""
        self._bounds.setdefault(bound.output, {})[bound.method] = bound
        self._finished.add((bound.output, bound.method))

    def best(self, output: Output) -> Bound | None:
        """The smallest bound proved so far."""
        return best(self._bounds.get(output, {}).values())

    def all(self) -> list[Bound]:
        """Every bound tried, proved or not."""
        return [bound for table in self._bounds.values() for bound in table.values()]

    def refine(
        self, output: Output, deadline: float | None, admitted: Admitted = every
    ) -> Iterator[Bound | None]:
        """Run the methods not yet tried on this output, cheapest first, yielding the best bound after each.

        Leaves out those that are not admitted. Stops without trying more once the deadline has passed; `is_complete`
        tells.
        """
        table = self._bounds.setdefault(output, {})
        yield self.best(output)
        for certifier in quick_first(self._methods, self._select(output), self.norm):
            if (output, certifier.name) in self._finished:
                continue
            if is_needless(certifier, table.values()):
                self._finished.add((output, certifier.name))
                continue
            if deadline is not None and time.monotonic() >= deadline:
                return
            if not admitted(certifier, self._expected(certifier, output)):
                continue
            self._progress(f"{certifier.name}: {output}")
            began = time.monotonic()
            bound = self._run(certifier, output, deadline)
            self._took[certifier.name] = time.monotonic() - began
            if not _cut_short(bound):
                self._finished.add((output, certifier.name))
            known = table.get(certifier.name)
            if known is None or bound.value < known.value or not known.proved:
                table[certifier.name] = bound
            yield self.best(output)

    def is_complete(self, output: Output) -> bool:
        """True where every method has had its say without being cut short by a deadline."""
        return all((output, certifier.name) in self._finished for certifier in self._methods)

    def program_seconds(self, outputs: Sequence[Output]) -> float:
        """Expected time of the semidefinite program over all neurons, once for each of these outputs."""
        programs = [c for c in self._methods if isinstance(c, LipSDP) and not c.is_reference]
        return sum(self._expected(certifier, outputs[0]) for certifier in programs[:1]) * len(outputs)

    def _expected(self, certifier: Certifier, output: Output) -> float:
        """Seconds for this output: as many as for the last one, the method's own guess before the first."""
        if certifier.name in self._took:
            return self._took[certifier.name]
        graph = self._select(output)
        return certifier.seconds(graph, self.norm) if certifier.supports(graph, self.norm) is None else 0.0

    def _run(self, certifier: Certifier, output: Output, deadline: float | None) -> Bound:
        graph = self._select(output)
        is_one_of_many = output.kind in ("pair", "logit") and self._graph.output_size > 2
        if isinstance(certifier, LipSDP) and not certifier.is_reference and is_one_of_many:
            expected = certifier.seconds(graph, self.norm) if certifier.supports(graph, self.norm) is None else 0.0
            if expected > self._own_seconds:
                return self._from_shared(certifier, graph, output, deadline)
            if expected > _QUICK_SECONDS:
                certifier = replace(certifier, tolerance=max(certifier.tolerance, _SHOWN_GAP))
        near = self._near.get(certifier.name)
        bound = run(certifier, graph, output, self.norm, deadline, self._patient, near)
        if bound.resume is not None:
            self._near[certifier.name] = bound.resume
        return bound

    def _from_shared(self, certifier: LipSDP, graph: Graph, output: Output, deadline: float | None) -> Bound:
        """Large networks: one program for all outputs, whose multipliers serve every pair."""
        began = time.monotonic()
        whole = self._bounds.get(ALL, {}).get(certifier.name)
        if whole is None or not whole.proved:
            for _ in self.refine(ALL, deadline):
                pass
            whole = self._bounds[ALL].get(certifier.name)
        if (whole is None or not whole.proved) and (ALL, certifier.name) not in self._finished:
            note = "the program for the whole output was not solved in time"
            seconds, details = time.monotonic() - began, {"status": "deadline"}
            return Bound(certifier.name, self.norm, output, float("inf"), False, seconds, note=note, details=details)
        witness = None if whole is None or not whole.proved else self._share(whole, graph, output)
        if witness is None:
            return run(certifier, graph, output, self.norm, deadline, self._patient)
        return prove(certifier, graph, output, self.norm, witness, began)

    def _share(self, whole: Bound, graph: Graph, output: Output) -> Witness | None:
        """The multipliers of the whole output for one pair, None where they are singular. Cut short, they stay so."""
        row = np.zeros(self._graph.output_size)
        row[list(output.indices)] = (1.0, -1.0)[: len(output.indices)]
        try:
            if self._shared is None:
                self._shared = SharedMultipliers((neuron_form(self._select(ALL)),), whole.witness)
            shared = self._shared.witness(row, (neuron_form(graph),), self.norm)
        except (ArithmeticError, ValueError):
            return None
        kept = {"status": whole.details["status"]} if _cut_short(whole) else {}
        return Witness(shared.arrays, {**shared.details, **kept})

    def _select(self, output: Output) -> Graph:
        if output not in self._selected:
            self._selected[output] = select(self._graph, output)
        return self._selected[output]


def _cut_short(bound: Bound) -> bool:
    """True if more time could change the bound: the search was stopped, or not begun for lack of time."""
    return bound.details.get("status") == "deadline"


def class_pairs(count: int) -> list[Output]:
    """Every unordered pair of outputs."""
    return [Output.pair(i, j) for i, j in combinations(range(count), 2)]
