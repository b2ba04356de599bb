"""`certlip verify` without samples: the margin above which every input is robust."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

from certlip.cli.options import print_json
from certlip.cli.progress import working

MANY_PAIRS = 45  # beyond ten classes the bound of the whole output serves all pairs


def claim_for_all_inputs(
    model, question, method: str, timeout: float, certificates: Path | None, is_claim: bool, as_json: bool
) -> int:
    """Print the bound and what follows from it for every input. Exit 3 unless that statement itself is the claim."""
    from certlip.verification.certify import Recorder

    options = {"method": method, "timeout": timeout}
    recorder = None if certificates is None else Recorder(model, certificates, options)
    with working() as (say, _):
        bounds, factor = _bounds(model, question, method, timeout, say)
    proved = [bound for bound in bounds if bound is not None]
    worst = max(proved, key=lambda bound: bound.value) if proved and len(proved) == len(bounds) else None
    moved = None if worst is None else Fraction(worst.value) * factor * question.eps
    holds = moved is not None and (question.tolerance is None or moved <= question.tolerance)
    if recorder is not None:
        with recorder:
            for bound in proved:
                recorder.bound(bound)
            if worst is not None and holds and question.tolerance is not None:
                recorder.tolerance(worst, question)
    if as_json:
        print_json(_json(model, question, proved, moved, holds, is_claim))
    else:
        _print(model, question, worst, moved, holds, is_claim)
    return 0 if holds and is_claim else 3


def _json(model, question, proved, moved: Fraction | None, holds: bool, is_claim: bool):
    from certlip.report.json_form import SCHEMA, bound_json, finite, model_json, property_json

    empty = dict.fromkeys(("certified", "falsified", "unknown", "timeout", "misclassified", "error"), 0)
    counts = {"samples": 0, **empty, "clean_accuracy": None, "certified_accuracy": None}
    return {
        "schema": SCHEMA,
        "model": model_json(model),
        "property": property_json(question.norm, question.eps, question.tolerance),
        "summary": {**counts, "levels": {"float": 0, "deployed": 0}, "labels": "none"},
        "samples": [],
        "bounds": [bound_json(bound) for bound in proved],
        "data_free": {
            "margin": None if moved is None else finite(_decimal_up(moved)),
            "proved": holds,
            "claimed": is_claim,
        },
    }


def _print(model, question, worst, moved: Fraction | None, holds: bool, is_claim: bool) -> None:
    from certlip.report.console import NORM_SIGNS, number_up, out, print_notes
    from certlip.report.exact import amount

    print_notes(model)
    console = out()
    if worst is None or moved is None:
        console.print("no bound was proved in the time given; use a longer --timeout")
    else:
        console.print(f"bound: {number_up(worst.value)} for {worst.output} ({worst.method}, {question.norm})")
        if question.tolerance is not None:
            subject = "every output moves by at most"
        elif model.graph.output_size == 1:
            subject = "every input is robust whose output (the logit, before a final sigmoid) is further from 0 than"
        else:
            subject = "every input is robust whose margin between the first and any other class exceeds"
        console.print(f"for {NORM_SIGNS[question.norm]} <= {amount(question.eps)}: {subject} {_decimal_up(moved):.10g}")
        if question.tolerance is not None:
            console.print(f"claim: at most {amount(question.tolerance)}: {'proved' if holds else 'not proved'}")
    if not is_claim:
        console.print("no samples were given, so none was decided; pass --data, or --data-free to claim this alone")


def _bounds(model, question, method: str, timeout: float, say):
    """The bounds behind the statement, and the factor from them to a margin."""
    from certlip.properties.outputs import ALL, DECISION
    from certlip.verification.bounds import BoundTable, class_pairs

    table = BoundTable(model.graph, question.norm, method, say)
    deadline = time.monotonic() + timeout
    size = model.graph.output_size
    outputs, factor = [ALL], Fraction(1)
    if question.tolerance is None and size == 1:
        outputs = [DECISION]
    elif question.tolerance is None:
        outputs = class_pairs(size)
        if len(outputs) > MANY_PAIRS:  # |f_i - f_j| <= sqrt(2) |f|_2 and <= 2 |f|_inf
            outputs, factor = [ALL], Fraction("1.4142135624") if question.norm == "l2" else Fraction(2)
    for output in outputs:
        for _ in table.refine(output, deadline):
            pass
    return [table.best(output) for output in outputs], factor


def _decimal_up(value: Fraction) -> float:
    """A decimal of ten digits that is at least the value, infinite beyond all floats."""
    from certlip.properties.numbers import decimal_up
    from certlip.rigor.rounding import up

    try:
        nearest = float(value)
    except OverflowError:
        return float("inf")
    return decimal_up(nearest if Fraction(nearest) >= value else up(nearest))
