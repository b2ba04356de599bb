"""`certlip solvers`: what this installation can compute with."""

from __future__ import annotations

import click

from certlip.cli.options import json_option, print_json


@click.command("solvers")
@json_option
def command(as_json: bool) -> int:
    """List what can be used here, and why not.

    Solvers and runtimes with their versions.
    """
    from importlib.metadata import PackageNotFoundError, version

    from certlip.report.console import print_table
    from certlip.solvers.conic import available

    rows = [("structured interior point", True, "part of certlip; used by lipsdp")]
    rows += available()
    for name, purpose in (
        ("onnxruntime", "import check and replay of counterexamples"),
        ("torch", "import of modules"),
    ):
        try:
            rows.append((name, True, f"version {version(name)}, {purpose}"))
        except PackageNotFoundError:
            rows.append((name, False, f"not installed; needed for {purpose}"))
    if as_json:
        print_json({"schema": 1, "solvers": [{"name": n, "usable": u, "note": note} for n, u, note in rows]})
    else:
        print_table(("solver", "usable", "note"), [(n, "yes" if u else "no", note) for n, u, note in rows])
    return 0
