"""`certlip methods`: the certifiers."""

from __future__ import annotations

import click

from certlip.cli.options import json_option, print_json


@click.command("methods")
@json_option
def command(as_json: bool) -> int:
    """List the methods, cheapest first, and when to use which."""
    from certlip.lipschitz import certifiers
    from certlip.report.console import print_table

    known = list(certifiers().values())
    if as_json:
        entries = [
            {
                "name": c.name,
                "summary": c.summary,
                "when": c.when,
                "in_auto": c.in_auto,
                "proof": c.theorem,
                "norms": ["l2", "linf"],
            }
            for c in known
        ]
        print_json({"schema": 1, "methods": entries})
    else:
        print_table(
            ("method", "in auto", "what it does", "use it"),
            [(c.name, "yes" if c.in_auto else "no", c.summary, c.when) for c in known],
        )
    return 0
