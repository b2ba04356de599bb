"""Which methods run on a graph, in which order, within which time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from certlip.errors import UsageError
from certlip.graph import Graph
from certlip.lipschitz.bound import Bound
from certlip.lipschitz.certifier import Certifier, Witness, certifiers
from certlip.properties import Output, select

NORMS = ("l2", "linf")


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
    results = []
    for certifier in methods(method):
        progress(f"{certifier.name}: {output}")
        results.append(run(certifier, chosen, output, norm, deadline, patient=method != "auto"))
    return results


def run(
    certifier: Certifier, graph: Graph, output: Output, norm: str, deadline: float | None, patient: bool = True
) -> Bound:
    """One method on a graph in normal form."""
    began = time.monotonic()
    reason, details = certifier.supports(graph, norm), {}
    estimate = getattr(certifier, "seconds_for_start", None)
    if reason is None and deadline is not None and certifier.cost > 1:
        left = deadline - began
        if left <= 0:
            reason = "the time budget was spent before this method could start"
        elif not patient and estimate is not None and estimate(graph, norm) > left:
            reason = f"its first steps need about {estimate(graph, norm):.0f} s, more than the {left:.0f} s left"
        details = {} if reason is None else {"status": "deadline"}
    if reason is not None:
        seconds = time.monotonic() - began
        return Bound(certifier.name, norm, output, float("inf"), False, seconds, note=reason, details=details)
    try:
        with np.errstate(all="ignore"):  # what overflows proposes nothing; the proof decides
            witness = certifier.propose(graph, norm, deadline)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:  # a search may fail, its numbers being floats
        note = f"the search for a witness failed: {error}; another method may work"
        return Bound(certifier.name, norm, output, float("inf"), False, time.monotonic() - began, note=note)
    return prove(certifier, graph, output, norm, witness, began)


def prove(certifier: Certifier, graph: Graph, output: Output, norm: str, witness: Witness, began: float) -> Bound:
    """The bound that a witness proves, timed from `began`."""
    value = certifier.prove(graph, norm, witness)
    seconds = time.monotonic() - began
    if not np.isfinite(value):
        note = "the witness found proves no finite bound; another method or a longer timeout may"
        return Bound(certifier.name, norm, output, float("inf"), False, seconds, note=note, details=witness.details)
    note = str(witness.details.get("remark", ""))
    if witness.details.get("status") == "deadline":
        note = f"stopped at the deadline, estimated {100 * witness.details['estimated_gap']:.2g} % above its optimum"
    return Bound(
        certifier.name, norm, output, value, True, seconds, witness.arrays, certifier.theorem, note, witness.details
    )


def best(bounds: Iterable[Bound]) -> Bound | None:
    """The smallest proved bound, None where nothing is proved."""
    proved = [bound for bound in bounds if bound.proved]
    return min(proved, key=lambda bound: bound.value) if proved else None
