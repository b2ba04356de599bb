"""`certlip verify MODEL --property FILE`: one verdict."""

from __future__ import annotations

from pathlib import Path

from certlip.cli.exit_codes import property_code
from certlip.cli.options import load_model, print_json
from certlip.cli.progress import working


def decide_one(
    model: Path,
    property: Path,
    timeout: float,
    method: str,
    names: tuple[str | None, str | None],
    counterexample: Path | None,
    certificates: Path | None,
    as_json: bool,
) -> int:
    """Decide, print, and write the counterexample where there is one."""
    from certlip.properties.vnnlib import parse_property, property_text
    from certlip.report.console import err
    from certlip.report.counterexample import require_place, write_counterexample
    from certlip.report.property_json import property_report_json
    from certlip.report.property_text import print_property
    from certlip.runs.property import decide_read
    from certlip.verification.model_file import input_type

    if counterexample is not None:
        require_place(counterexample)
    text = property_text(property)
    asked = parse_property(text, str(property))  # a malformed one is refused before a large model is read
    loaded = load_model(model, *names)
    with working() as (say, _):
        report = decide_read(
            loaded, asked, property, timeout, method, progress=say, text=text, certificates=certificates
        )
    point, outputs = report.result.counterexample, report.result.outputs
    written = counterexample is not None and point is not None and outputs is not None
    if as_json:
        print_json(property_report_json(report))
    else:
        print_property(report, written)
    if counterexample is not None:
        if point is not None and outputs is not None:
            x = point.reshape(loaded.graph.input_shape).astype(input_type(loaded))
            write_counterexample(counterexample, x, outputs)
        done = f"counterexample written to {counterexample}" if written else "there is no counterexample to write"
        err().print(done, markup=False)
    return property_code(report.status)
