"""`certlip methods`: certifiers of Lipschitz bounds, methods that decide samples without one, methods of repair."""

from __future__ import annotations

import click

from certlip.cli.options import json_option, print_json


@click.command("methods")
@json_option
def command(as_json: bool) -> int:
    """List the methods, cheapest first, and when to use which."""
    from certlip.lipschitz import certifiers
    from certlip.repairs.method import methods as repair_methods
    from certlip.report.console import print_table
    from certlip.verification.plan import LINEAR_METHODS

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
        common = {"in_auto": True, "proof": "branches", "norms": ["l2", "linf"]}
        entries += [{"name": n, "summary": what, "when": when, **common} for n, (what, when) in LINEAR_METHODS.items()]
        repairs = [
            {"name": method.name, "summary": method.summary, "in_auto": method.in_auto}
            for method in repair_methods().values()
        ]
        print_json({"schema": 1, "methods": entries, "repairs": repairs})
    else:
        rows = [(c.name, "yes" if c.in_auto else "no", c.summary, c.when) for c in known]
        rows += [(name, "yes", what, when) for name, (what, when) in LINEAR_METHODS.items()]
        print_table(("method", "in auto", "what it does", "use it"), rows)
        known_repairs = repair_methods().values()
        lines = [(method.name, "yes" if method.in_auto else "no", method.summary) for method in known_repairs]
        print_table(("certlip repair", "in auto", "what it does"), lines)
    return 0
