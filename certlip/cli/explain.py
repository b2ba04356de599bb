"""`certlip explain`: certificates in plain English."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certlip.cli.options import json_option, models_option, print_json

if TYPE_CHECKING:
    from certlip.report.explanation import Explanation

SCHEMA = 1


@click.command("explain")
@click.argument("path", type=click.Path(path_type=Path), metavar="CERTIFICATE")
@click.option("--name", default=None, metavar="NAME", help="Which one of a folder or bundle: its file name or digest.")
@click.option("--check", is_flag=True, help="Prove it again first, and say what came of it.")
@click.option("--exact", is_flag=True, help="With --check: in exact arithmetic.")
@models_option
@json_option
def command(path: Path, name: str | None, check: bool, exact: bool, models: tuple[Path, ...], as_json: bool) -> int:
    """Explain a certificate in plain English.

    One page: what is claimed, for which inputs, under which assumptions, how it is proved, what is not claimed, how to
    prove it again, and where it stands in ISO/IEC 24029-2 and in Article 15 of the EU AI Act. For a folder or a bundle
    of several certificates, one page about all of them.

    Without --check the page only repeats the record; with it, the exit code is 5 if a certificate is rejected.
    """
    from threadpoolctl import threadpool_limits

    from certlip.attestation import steady
    from certlip.check import Checker, records
    from certlip.errors import CertificateRejected, UsageError
    from certlip.report.explanation import choose, explain, survey
    from certlip.report.sections import page

    if exact and not check:
        raise UsageError("--exact is about a check; add --check")
    for model in models:
        if not model.exists():
            raise UsageError(f"there is no model {model}; check the path")
    entries = steady(records([path]))
    if name is not None:
        entries = [choose(entries, name)]
    findings = []
    if check:
        checker = Checker(models, exact)
        with threadpool_limits(1, user_api="blas"):
            findings = [checker.check_record(store, each) for store, each in entries]
    if len(entries) == 1:
        found = explain(*entries[0], path, findings[0] if findings else None, models)
    else:
        found = survey(entries, path, findings, models)
    if as_json:
        print_json(_json(path, found))
    else:
        click.echo(page(found.sections))
    return 0 if found.is_sound else CertificateRejected.exit_code


def _json(path: Path, found: Explanation) -> dict[str, Any]:
    """The object that `--json` prints; its schema is `specs/explain.schema.json`."""
    from certlip.report.sections import sections_json

    checked = [{"accepted": f.accepted, "level": f.level, "message": f.message} for f in found.findings]
    certificate = None
    if found.record is not None:
        check = checked[0] if checked else None
        certificate = {"name": found.name, "digest": found.record.digest, "kind": found.record.kind, "check": check}
    return {
        "schema": SCHEMA,
        "path": str(path),
        "certificates": sum(found.kinds.values()),
        "kinds": dict(found.kinds),
        "unreadable": len(found.unreadable),
        "rejected": sum(not entry["accepted"] for entry in checked) if checked else None,
        "certificate": certificate,
        "sections": sections_json(found.sections),
    }
