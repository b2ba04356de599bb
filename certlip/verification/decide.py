"""The verdict on one property: attacks and proofs in turn, the cheap ones first, until one of them decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from certlip.bounds.refute import Branching, Outcome, refute_at_once
from certlip.errors import UsageError
from certlip.importers import Model
from certlip.lipschitz.threads import threads_for
from certlip.proofs.query import property_queries
from certlip.proofs.relaxation.branches import Tree
from certlip.properties.property import Property
from certlip.rigor.rounding import Array
from certlip.verification.confirm import confirm, confirm_real
from certlip.verification.falsify import QUICK, THOROUGH, Effort, find_unsafe
from certlip.verification.replay import runner
from certlip.verification.verdicts import Status

METHODS = ("auto", "attack", "crown", "branch")
"""auto: all of them. attack: search for counterexamples only. crown: one linear bound. branch: proofs by cases, without
an attack before them."""

_SHARE, _LONGEST = 0.1, 5.0  # of the time that is left, and seconds at most, for each of two searches before the last
_WITHIN = "no number of the model's input type lies in the box: the counterexample is one of real numbers"


@dataclass(frozen=True)
class PropertyResult:
    """The verdict on one property: certified where the unsafe set is proved empty, falsified where a counterexample is
    confirmed.

    proofs: for every query of `property_queries` the trees that prove it. outputs: the runtime's own at the
    counterexample. visited: how many subproblems were bounded.
    """

    status: Status
    method: str
    seconds: float
    counterexample: Array | None = None
    outputs: Array | None = None
    note: str = ""
    level: str = "none"
    proofs: tuple[Tree, ...] = ()
    visited: int = 0


def decide_property(
    model: Model,
    property: Property,
    *,
    deadline: float | None,
    seed: int = 0,
    method: str = "auto",
    progress: Callable[[str], None] = lambda message: None,
    device: str = "cpu",
) -> PropertyResult:
    """Decide a property of the model by the deadline (of time.monotonic).

    method: one of `METHODS`. Raises UsageError for another one, and for a property of other sizes than the model's.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r} for a property; choose {', '.join(METHODS[:-1])} or {METHODS[-1]}")
    began = time.monotonic()
    if property.is_vacuous:
        note = "no input lies in any box, so the property says nothing about the model"
        return PropertyResult(Status.CERTIFIED, "vacuous", time.monotonic() - began, note=note, level="float")
    search = _Search(model, property, deadline, seed, method, progress, device)
    if method != "crown":
        import torch  # noqa: F401 - loaded before threads are limited, so that its own are, too
    with threads_for(1):  # two threads on a busy machine cost small matrices many times what they gain
        result = search.run()
    return PropertyResult(**{**vars(result), "seconds": time.monotonic() - began})


class _Search:
    """One property of one model on its way to a verdict."""

    def __init__(self, model, property, deadline, seed, method, progress, device):
        self._model, self._property, self._deadline = model, property, deadline
        self._seed, self._method, self._say, self._device = seed, method, progress, device
        self._queries = property_queries(model.graph, property)
        self._found: PropertyResult | None = None
        self._branching: dict[int, Branching] = {}
        self._visited = 0

    def run(self) -> PropertyResult:
        """The stages in order. Where one of them is not asked for, it is left out."""
        if self._late():
            return self._open(Status.TIMEOUT)
        proved: dict[int, Outcome] = {}
        attacks, bounds = self._method in ("auto", "attack"), self._method != "attack"
        if attacks and self._attack(QUICK, self._deadline):
            return self._verdict()
        if bounds:
            self._say("linear bounds")
            for number, query in enumerate(self._queries):
                proved[number] = refute_at_once(query, number, deadline=self._deadline)
                self._visited += 1
            if all(outcome.is_proof for outcome in proved.values()):
                return self._certified(proved, "crown")
        if self._method == "crown":
            return self._open(Status.TIMEOUT if self._late() else Status.UNKNOWN)
        if not bounds:
            found = self._attack(THOROUGH, self._deadline)
            return self._verdict() if found else self._open(Status.TIMEOUT if self._late() else Status.UNKNOWN)
        self._branching = {
            number: Branching(self._queries[number], outcome, None, self._accepts, self._device)
            for number, outcome in proved.items()
            if not outcome.is_proof
        }
        # most proofs by cases are short: one that is not gives way once to a thorough attack
        status = self._branch(proved, self._a_while())
        if status is not None and self._found is None:
            if attacks and self._attack(THOROUGH, self._a_while()):
                return self._verdict()
            status = self._branch(proved, self._deadline)
        if self._found is not None:
            return self._verdict()
        if status is not None:
            return self._open(status)
        return self._certified(proved, " and ".join(sorted({o.method for o in proved.values()} - {"crown"})))

    def _branch(self, proved: dict[int, Outcome], deadline: float | None) -> Status | None:
        """Continue all proofs by cases, None where they are complete."""
        self._say("proof by cases")
        for number, search in self._branching.items():
            if proved[number].is_proof:
                continue
            before = proved[number].visited
            proved[number] = search.run(deadline)
            self._visited += proved[number].visited - before
            if self._found is not None:
                return Status.FALSIFIED
            if not proved[number].is_proof:
                return Status.UNKNOWN if proved[number].complete else Status.TIMEOUT
        return None

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _a_while(self) -> float:
        now = time.monotonic()
        left = _LONGEST if self._deadline is None else _SHARE * max(0.0, self._deadline - now)
        return now + min(left, _LONGEST)

    def _attack(self, effort: Effort, deadline: float | None) -> bool:
        """Whether a counterexample was confirmed."""
        self._say("attack")
        find = partial(find_unsafe, seed=self._seed, deadline=deadline, device=self._device, effort=effort)
        return any(self._any_accepted(find(query)) for query in self._queries)

    def _any_accepted(self, points: Iterable[Array]) -> bool:
        return any(map(self._accepts, points))

    def _accepts(self, point: Array) -> bool:
        """Whether the candidate is a counterexample; it is kept then."""
        x, note = confirm(self._model, self._property, point), ""
        if x is None:
            exact = confirm_real(self._model, self._property, point)
            if exact is None:
                return False
            x, note = np.array([float(entry) for entry in exact]).reshape(self._model.graph.input_shape), _WITHIN
        outputs = runner(self._model)(x)
        self._found = PropertyResult(Status.FALSIFIED, "attack", 0.0, x, outputs, note, "float")
        return True

    def _verdict(self) -> PropertyResult:
        if self._found is None:
            raise RuntimeError("a search was ended by a counterexample that nobody kept")
        return PropertyResult(**{**vars(self._found), "visited": self._visited})

    def _certified(self, proved: dict[int, Outcome], method: str) -> PropertyResult:
        trees = tuple(tree for number in sorted(proved) for tree in proved[number].trees or ())
        return PropertyResult(Status.CERTIFIED, method, 0.0, level="float", proofs=trees, visited=self._visited)

    def _open(self, status: Status) -> PropertyResult:
        return PropertyResult(status, "", 0.0, visited=self._visited)



