"""Which methods run on a graph, in which order, within which time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from certlip.errors import UsageError
from certlip.graph import Graph
from certlip.lipschitz.bound import Bound
from certlip.lipschitz.certifier import Certifier, Witness, certifiers
from certlip.properties import Output, select

NORMS = ("l2", "linf")

_PATIENCE = 5.0
"""A method begins if it is expected to need less than this many times what is left: what it has by then counts."""

_LONG = 10.0
"""Seconds until a first bound from which a method waits for those that are quicker."""

_HALTED = 1e-3
"""The gap from which a search that came to a halt is worth a word."""

_GRACE = 2.0
"""A method begins if its first bound, before which it cannot stop, is expected this many seconds late at most."""


def methods(choice: str) -> list[Certifier]:
    """The certifiers that a `--method` names, cheapest first: "all" but references, "auto" only what can win."""
    known = certifiers()
    if choice in ("auto", "all"):
        return [
            certifier
            for certifier in known.values()
            if certifier.in_auto or (choice == "all" and not certifier.is_reference)
        ]
    if choice not in known:
        raise UsageError(f"unknown method '{choice}'; choose auto, all or one of {', '.join(known)}")
    return [known[choice]]


def quick_first(chosen: Sequence[Certifier], graph: Graph, norm: str) -> list[Certifier]:
    """The methods in their order, but those after all others that spend long before they have any bound.

    Of two long ones that begin alike the one that goes on comes first: where it proves something, no other is needed.
    """

    def is_long(certifier: Certifier) -> bool:
        return certifier.supports(graph, norm) is None and certifier.first_seconds(graph, norm) > _LONG

    late = [certifier for certifier in chosen if is_long(certifier)]
    return [c for c in chosen if c not in late] + sorted(late, key=lambda certifier: bool(certifier.start_of))


def is_needless(certifier: Certifier, known: Iterable[Bound]) -> bool:
    """True if a method that begins with this one has proved something already."""
    return any(bound.proved and bound.method == certifier.start_of for bound in known)


def bound_output(
    graph: Graph,
    output: Output,
    norm: str = "l2",
    method: str = "auto",
    deadline: float | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[Bound]:
    """Bounds on one output of an imported graph by the chosen methods, in the order in which they ran.

    auto: cheap methods first; an expensive one only where its first steps fit before `deadline`. A method that cannot
    be used appears with `proved` false and the reason in `note`. Every value is proved.
    """
    if norm not in NORMS:
        raise UsageError(f"unknown norm '{norm}'; choose l2 or linf")
    chosen = select(graph, output)
    results: list[Bound] = []
    for certifier in quick_first(methods(method), chosen, norm):
        if is_needless(certifier, results):
            continue
        progress(f"{certifier.name}: {output}")
        results.append(run(certifier, chosen, output, norm, deadline, patient=method != "auto"))
    return results


def run(
    certifier: Certifier,
    graph: Graph,
    output: Output,
    norm: str,
    deadline: float | None,
    patient: bool = True,
    near: Any = None,
) -> Bound:
    """One method on a graph in normal form. patient: begin even what is expected to be cut short by far."""
    began = time.monotonic()
    reason, details = certifier.supports(graph, norm), {}
    if reason is None and deadline is not None:
        left = deadline - began
        if left <= 0 and certifier.cost > 1:
            reason = "the time budget was spent before this method could start"
        elif (expected := certifier.first_seconds(graph, norm)) > max(left, 0.0) + _GRACE:
            reason = f"it would need about {expected:.0f} s for a first bound, more than the {left:.2g} s left"
        elif certifier.cost > 1 and not patient and (expected := certifier.seconds(graph, norm)) > _PATIENCE * left:
            reason = f"it would need about {expected:.0f} s, far more than the {left:.0f} s left"
        details = {} if reason is None else {"status": "deadline"}
    if reason is not None:
        seconds = time.monotonic() - began
        return Bound(certifier.name, norm, output, float("inf"), False, seconds, note=reason, details=details)
    try:
        witness = _searched(certifier, graph, norm, deadline, near)
        if isinstance(witness, Witness):
            return prove(certifier, graph, output, norm, witness, began)
        note = witness
    except MemoryError as error:
        note = f"{error or 'there is not enough memory for this method'}; another method may do with less"
    return Bound(certifier.name, norm, output, float("inf"), False, time.monotonic() - began, note=note)


def _searched(certifier: Certifier, graph: Graph, norm: str, deadline: float | None, near: Any) -> Witness | str:
    """A witness, or why the search found none: it may fail, its numbers being floats."""
    hint = () if near is None else (near,)  # certifiers of third parties need not take one
    try:
        with np.errstate(all="ignore"):  # what overflows proposes nothing; the proof decides
            return certifier.propose(graph, norm, deadline, *hint)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
        return f"the search for a witness failed: {error}; another method may work"


def prove(certifier: Certifier, graph: Graph, output: Output, norm: str, witness: Witness, began: float) -> Bound:
    """The bound that a witness proves, timed from `began`."""
    start = time.monotonic()
    value = certifier.prove(graph, norm, witness)
    seconds = time.monotonic() - began
    details = {**witness.details, "seconds_proof": time.monotonic() - start}
    if not np.isfinite(value):
        note = "the witness found proves no finite bound; another method may"
        return Bound(certifier.name, norm, output, float("inf"), False, seconds, note=note, details=details)
    if "least" in details:
        details["gap"] = max(0.0, 1.0 - details["least"] / value) if value > 0 else 0.0
    note = ". ".join(str(details[key]) for key in ("choice", "remark") if details.get(key))
    halted = details.get("status") == "stalled" and details.get("gap", 0.0) > _HALTED
    if details.get("status") == "deadline" or halted:
        least = details.get("least")
        note = "stopped at the deadline" if not halted else "the search came to a halt"
        note += f"; no multipliers can prove less than {least:.6g}" if least else ""
    return Bound(
        certifier.name,
        norm,
        output,
        value,
        True,
        seconds,
        witness.arrays,
        certifier.theorem,
        note,
        details,
        resume=witness.resume,
    )


def best(bounds: Iterable[Bound]) -> Bound | None:
    """The smallest proved bound, None where nothing is proved."""
    proved = [bound for bound in bounds if bound.proved]
    return min(proved, key=lambda bound: bound.value) if proved else None
