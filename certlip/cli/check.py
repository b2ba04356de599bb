"""`certlip check`: prove certificates again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from threadpoolctl import threadpool_limits  # at once: where it is missing, `python -m certlip.check` takes over

from certlip.cli.options import exact_option, json_option, least_level_option, models_option, print_json

if TYPE_CHECKING:
    from certlip.attestation import Attestation

_SHOWN = 12
_COLOURS = {"accepted": "green", "REJECTED": "red"}


@click.command("check")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@models_option
@exact_option
@least_level_option
@click.option(
    "--attestation",
    "statement",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Hold what `certlip attest` wrote against these certificates and models too; signatures are not looked at.",
)
@json_option
def command(
    paths: tuple[Path, ...], models: tuple[Path, ...], exact: bool, level: str, statement: Path | None, as_json: bool
) -> int:
    """Prove certificates again.

    PATH names certificates, folders or bundles (.certlip) of them; the proofs need numpy and onnx alone.

    `python -m certlip.check` does the same where nothing else is installed.
    """
    from certlip.attestation import objections, read_attestation, steady
    from certlip.check import Checker, Finding, records
    from certlip.check.report import findings_json, summary, told
    from certlip.errors import CertificateRejected, UsageError

    attestation = None if statement is None else read_attestation(statement)
    entries = records(paths) if attestation is None else steady(records(paths))
    for model in models:
        if not model.exists():
            raise UsageError(f"there is no model {model}; check the path")
    checker = Checker(models, exact or (attestation is not None and attestation.exact), level)
    findings: list[Finding] = []

    def checked() -> Iterator[Finding]:
        for store, name in entries:
            findings.append(checker.check_record(store, name))
            yield findings[-1]

    with threadpool_limits(1, user_api="blas"):
        for line in told(checked()):
            if not as_json:
                word, rest = line.split(" ", 1)
                click.echo(f"{click.style(word, fg=_COLOURS.get(word))} {rest}")
    reasons = [] if attestation is None else objections(attestation, entries, findings, models)
    if as_json:
        data = findings_json(findings)
        if attestation is not None:
            data["attestation"] = {"path": str(statement), "accepted": not reasons, "reasons": reasons}
        print_json(data)
    else:
        click.echo(summary(findings))
        if attestation is not None:
            _say(attestation, statement, reasons)
    return 0 if all(finding.accepted for finding in findings) and not reasons else CertificateRejected.exit_code


def _say(attestation: Attestation, path: Path | None, reasons: list[str]) -> None:
    """One line, or one for each reason why the attestation does not stand."""
    from certlip.report.text import one_line

    for reason in reasons[:_SHOWN]:
        click.echo(click.style("REJECTED", fg="red") + one_line(f" attestation {path}: {reason}"))
    if len(reasons) > _SHOWN:
        click.echo(f"... {len(reasons) - _SHOWN} more reasons; --json prints all")
    if not reasons:
        when = f", checked {attestation.time}" if attestation.time else ""
        text = f" [{attestation.level}] attestation {path}: {attestation.in_short} about "
        text += f"{attestation.subjects[0][0]}{when}; whether it is signed is not looked at"
        click.echo(click.style("accepted", fg="green") + one_line(text))
