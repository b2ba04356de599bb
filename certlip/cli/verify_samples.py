"""`certlip verify MODEL --eps E`: a verdict on every sample."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from certlip.cli.exit_codes import INTERRUPTED, exit_code
from certlip.cli.options import load_model, parse_interval, parse_share, print_json
from certlip.cli.progress import working
from certlip.errors import UsageError


@dataclass(frozen=True)
class SampleOptions:
    """What the command line says about samples, as it was written."""

    norm: str
    data: Path | None
    method: str
    limit: int | None
    timeout: float
    total_timeout: float | None
    min_certified: str | None
    tolerance: str | None
    clip: str | None
    certificates: Path | None
    level: str
    data_free: bool
    resume: Path | None
    as_json: bool
    as_jsonl: bool


def decide_samples(model: Path, eps: str, names: tuple[str | None, str | None], given: SampleOptions) -> int:
    """Decide the samples of the line, or state what holds for all inputs where there are none."""
    from certlip.runs.samples import SampleRun
    from certlip.verification import Question
    from certlip.verification.amount import exact_amount, exact_interval
    from certlip.verification.dataset import default_data, read_dataset

    amount = exact_amount(eps, "--eps")
    slack = None if given.tolerance is None else exact_amount(given.tolerance, "--tolerance")
    clip = None if given.clip is None else exact_interval(parse_interval(given.clip, "--clip"), "--clip")
    share = None if given.min_certified is None else parse_share(given.min_certified, "--min-certified")
    loaded = load_model(model, *names)
    source = None if given.data_free else given.data or default_data(loaded)
    if source is None:
        return _claim_for_all_inputs(loaded, Question(amount, given.norm, slack), given)
    run = SampleRun(
        loaded, Question(amount, given.norm, slack, clip, given.level), read_dataset(source, loaded, given.limit),
        given.timeout, given.total_timeout, given.method, given.certificates,
    )  # fmt: skip
    return _decide(run, share, given)


def _decide(run: Any, share: Any, given: SampleOptions) -> int:
    """Print each verdict as it comes, or all of them at the end; an interruption leaves those that there are."""
    from certlip.report.console import err, print_verdicts, verdict_line
    from certlip.report.json_form import verify_report_json
    from certlip.runs.ledger import Ledger
    from certlip.verification.uninterrupted import uninterrupted

    counted: set[int] = set()
    try:
        with (
            nullcontext() if given.resume is None else Ledger(given.resume) as ledger,
            working(len(run.samples)) as (say, advance),
        ):

            def each(result: Any, line: dict[str, Any]) -> None:
                if given.as_jsonl:
                    with uninterrupted():  # lines are whole
                        click.echo(json.dumps(line, allow_nan=False))
                if result.index not in counted:
                    counted.add(result.index)
                    advance(result, line["earlier"])

            run.progress, run.each = say, each
            report, interrupted = run.verify(ledger), False
    except KeyboardInterrupt:
        report, interrupted = run.report(), True
    if report.samples:
        if given.as_jsonl:
            err().print(f"{len(report.samples)} samples: {verdict_line(report)}")
        elif given.as_json:
            print_json(verify_report_json(report))
        else:
            print_verdicts(report)
    if interrupted:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    return exit_code(report, share)


def _claim_for_all_inputs(model: Any, question: Any, given: SampleOptions) -> int:
    from certlip.cli.data_free import claim_for_all_inputs

    if given.level == "deployed" or given.clip is not None:
        raise UsageError("--level deployed and --clip are about samples; pass them with --data FILE")
    if given.as_jsonl or given.resume is not None:
        raise UsageError("--jsonl and --resume are about samples; pass them with --data FILE")
    limit = given.timeout if given.total_timeout is None else min(given.timeout, given.total_timeout)
    return claim_for_all_inputs(
        model, question, given.method, limit, given.certificates, given.data_free, given.as_json
    )
