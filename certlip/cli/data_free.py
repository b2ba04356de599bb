"""`certlip verify` without samples: the margin above which every input is robust."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

MANY_PAIRS = 45  # beyond ten classes the bound of the whole output serves all pairs


def claim_for_all_inputs(
    model,
    eps: Fraction,
    norm: str,
    method: str,
    timeout: float,
    tolerance: Fraction | None,
    certificates: Path | None,
    is_claim: bool,
    as_json: bool,
) -> int:
    """Print the bound and what follows from it for every input. Exit 3 unless that statement itself is the claim."""
    from certlip.properties.numbers import decimal_up
    from certlip.report.console import NORM_SIGNS, model_line, number_up, out
    from certlip.report.json_form import SCHEMA, bound_json, model_json, property_json
    from certlip.verify.certify import Recorder

    bounds, factor = _bounds(model, norm, method, timeout, tolerance is not None)
    proved = [bound for bound in bounds if bound is not None]
    complete = bool(proved) and len(proved) == len(bounds)
    worst = max(proved, key=lambda bound: bound.value) if complete else None
    moved = None if worst is None else Fraction(worst.value) * factor * eps
    holds = moved is not None and (tolerance is None or moved <= tolerance)
    if certificates is not None:
        recorder = Recorder(model, certificates)
        for bound in proved:
            recorder.bound(bound)
    reach = None if moved is None else decimal_up(_float_up(moved))
    if as_json:
        empty = dict.fromkeys(("certified", "falsified", "unknown", "timeout", "misclassified", "error"), 0)
        print_data = {
            "schema": SCHEMA,
            "model": model_json(model),
            "property": property_json(norm, eps, tolerance),
            "summary": {"samples": 0, **empty, "clean_accuracy": None, "certified_accuracy": None, "labels": "none"},
            "samples": [],
            "bounds": [bound_json(bound) for bound in proved],
            "data_free": {"margin": reach, "proved": holds, "claimed": is_claim},
        }
        from certlip.cli.options import print_json

        print_json(print_data)
    else:
        console = out()
        console.print(model_line(model))
        if worst is None or reach is None:
            console.print("no bound was proved in the time given")
        else:
            console.print(f"bound: {number_up(worst.value)} for {worst.output} ({worst.method}, {norm})")
            subject = (
                "every output moves by at most"
                if tolerance is not None or model.graph.output_size == 1
                else "every input is robust whose margin between the first and any other class exceeds"
            )
            console.print(f"for {NORM_SIGNS[norm]} <= {eps}: {subject} {reach:.10g}")
        if not is_claim:
            console.print("no samples were given, so none was decided; pass --data, or --data-free to claim this alone")
    return 0 if holds and is_claim else 3


def _bounds(model, norm: str, method: str, timeout: float, is_regressor: bool):
    """The bounds behind the statement, and the factor from them to a margin."""
    from certlip.properties.outputs import ALL, DECISION
    from certlip.verify.bounds import BoundTable, class_pairs

    table = BoundTable(model.graph, norm, method)
    deadline = time.monotonic() + timeout
    size = model.graph.output_size
    outputs, factor = [ALL], Fraction(1)
    if not is_regressor and size == 1:
        outputs = [DECISION]
    elif not is_regressor:
        outputs = class_pairs(size)
        if len(outputs) > MANY_PAIRS:  # |f_i - f_j| <= sqrt(2) |f|_2 and <= 2 |f|_inf
            outputs, factor = [ALL], Fraction("1.4142135624") if norm == "l2" else Fraction(2)
    for output in outputs:
        for _ in table.refine(output, deadline):
            pass
    return [table.best(output) for output in outputs], factor


def _float_up(value: Fraction) -> float:
    from certlip.rigor.rounding import up

    nearest = float(value)
    return nearest if Fraction(nearest) >= value else up(nearest)
