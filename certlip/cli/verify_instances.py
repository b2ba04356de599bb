"""`certlip verify --instances FILE`: a line for each instance as it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from certlip.cli.exit_codes import INTERRUPTED, instances_code
from certlip.cli.options import print_json
from certlip.cli.progress import working


def decide_instances(
    path: Path,
    timeout: float,
    total_timeout: float | None,
    limit: int | None,
    method: str,
    names: tuple[str | None, str | None],
    resume: Path | None,
    certificates: Path | None,
    as_json: bool,
    as_jsonl: bool,
) -> int:
    """Decide the suite and print its summary, which an interruption only makes shorter."""
    from certlip.report.console import err, out
    from certlip.report.property_json import instances_report_json
    from certlip.report.property_text import print_instance, summary_line
    from certlip.report.suites import InstanceResult, InstancesReport
    from certlip.runs import verify_instances
    from certlip.runs.instances import read_instances
    from certlip.runs.lines import instance_line
    from certlip.verification.uninterrupted import uninterrupted

    began = time.monotonic()
    total = len(read_instances(path)[:limit])
    ended: list[InstanceResult] = []
    interrupted = False
    try:
        with working(total) as (say, advance):

            def each(result: InstanceResult) -> None:
                with uninterrupted():  # lines are whole, and those that the summary counts
                    ended.append(result)
                    if as_jsonl:
                        click.echo(json.dumps(instance_line(result), allow_nan=False))
                    elif not as_json:
                        print_instance(result)
                advance(result, result.earlier)

            verify_instances(
                path, timeout=timeout, total_timeout=total_timeout, limit=limit, method=method, input_name=names[0],
                output_name=names[1], resume=resume, certificates=certificates, progress=say, each=each,
            )  # fmt: skip
    except KeyboardInterrupt:
        interrupted = True
    report = InstancesReport(path, tuple(ended), total, time.monotonic() - began)
    if as_json:
        print_json(instances_report_json(report))
    else:
        (err() if as_jsonl else out()).print(summary_line(report))
    if interrupted:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    return instances_code(ended)
