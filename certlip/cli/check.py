"""`certlip check`: prove certificates again."""

from __future__ import annotations

from pathlib import Path

import click

from certlip.cli.options import json_option, print_json


@click.command("check")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="Model file or folder of models; matched by sha256. Repeatable.",
)
@json_option
def command(paths: tuple[Path, ...], models: tuple[Path, ...], as_json: bool) -> int:
    """Prove certificates again.

    PATH names files or folders of them; the proofs need numpy and onnx alone.

    `python -m certlip.check` does the same where nothing else is installed.
    """
    from threadpoolctl import threadpool_limits

    from certlip.check import Checker, certificate_files
    from certlip.errors import CertificateRejected, UsageError

    files = certificate_files(paths)
    for model in models:
        if not model.exists():
            raise UsageError(f"there is no model {model}; check the path")
    checker = Checker(models)
    findings = []
    for file in files:
        with threadpool_limits(1, user_api="blas"):
            finding = checker.check(file)
        findings.append(finding)
        if not as_json:
            word, rest = repr(finding).split(" ", 1)
            click.echo(click.style(word, fg="green" if finding.accepted else "red") + " " + rest)
    rejected = sum(not finding.accepted for finding in findings)
    if as_json:
        entries = [{"path": str(f.path), "accepted": f.accepted, "message": f.message} for f in findings]
        print_json({"schema": 1, "checked": len(findings), "rejected": rejected, "certificates": entries})
    else:
        click.echo(f"{len(findings)} checked, {rejected} rejected")
    return CertificateRejected.exit_code if rejected else 0
