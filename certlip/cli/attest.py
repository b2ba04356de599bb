"""`certlip attest`: an in-toto statement about certificates that the checker accepts."""

from __future__ import annotations

from pathlib import Path

import click

from certlip.cli.options import exact_option, least_level_option, models_option


@click.command("attest")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CERTIFICATE...")
@models_option
@exact_option
@least_level_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    default="-",
    show_default=True,
    metavar="FILE",
    help="Where to write; - is stdout.",
)
@click.option("--no-time", is_flag=True, help="Leave out when it was checked: equal certificates give equal bytes.")
def command(
    paths: tuple[Path, ...], models: tuple[Path, ...], exact: bool, level: str, output: Path, no_time: bool
) -> int:
    """Attest that certificates were checked.

    Checks certificates, folders or bundles of them about one model and writes an in-toto Statement v1 for a signing
    tool such as cosign: the model's sha256, each claim and the level at which it is proved. If one is rejected, nothing
    is written. A file named with --model must be that model. An accepted counterexample is a claim too, that the model
    fails: the statement counts the claims of each kind. The time is that of SOURCE_DATE_EPOCH where this is set.

    `certlip check --attestation FILE` holds such a statement against model and certificates.
    """
    from threadpoolctl import threadpool_limits

    from certlip.attestation import attest, check_time
    from certlip.certificate.folder import write_atomically
    from certlip.report.console import err
    from certlip.report.text import one_line

    time = None if no_time else check_time()
    with threadpool_limits(1, user_api="blas"):
        attestation = attest(paths, models, exact, level, time)
    text = attestation.to_json()
    what = f"attested {attestation.in_short} about {attestation.subjects[0][0]}, level {attestation.level}"
    if output == Path("-"):
        click.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())
        what += f", written to {output}"
    err().print(one_line(what), markup=False)
    return 0
