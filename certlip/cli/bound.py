"""`certlip bound`: proved Lipschitz bounds."""

from __future__ import annotations

from pathlib import Path

import click

from certlip.cli.options import (
    import_options,
    json_option,
    load_model,
    method_option,
    model_argument,
    norm_option,
    print_json,
    timeout_option,
    working,
)
from certlip.errors import UsageError


@click.command("bound")
@model_argument
@norm_option
@method_option
@click.option("--logit", type=click.IntRange(min=0), default=None, metavar="I", help="Bound output I alone.")
@click.option("--pair", default=None, metavar="I,J", help="Bound the difference of outputs I and J.")
@click.option("--max-lipschitz", default=None, metavar="L", help="Exit 0 only if the bound is proved to be at most L.")
@click.option(
    "--around", default=None, metavar="FILE[:I]", help="Bound also near sample I (the first) of this data file alone."
)
@click.option("--eps", default=None, metavar="E", help="With --around: the radius, in input units and the same norm.")
@click.option("--compare", is_flag=True, help="Run every method, references included, and print them side by side.")
@timeout_option
@click.option(
    "--certificate",
    "--certificates",
    "certificate",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Write the proof of the best bound (with --around of the local one); its arrays go beside it, or into the "
    "same file if its name ends in .certlip.",
)
@import_options
@json_option
def command(
    model: Path,
    norm: str,
    method: str,
    logit: int | None,
    pair: str | None,
    max_lipschitz: str | None,
    around: str | None,
    eps: str | None,
    compare: bool,
    timeout: float,
    certificate: Path | None,
    input_name: str | None,
    output_name: str | None,
    as_json: bool,
) -> int:
    """Prove Lipschitz bounds of MODEL.

    A bound L says that no change of the input moves the output by more than L times its own size. With --around it is
    also proved for the inputs within --eps of a sample, where it is smaller; --max-lipschitz is then about these.
    """
    from fractions import Fraction

    from certlip import api
    from certlip.cli.compare import comparison_json, print_comparison
    from certlip.report.console import err, out, print_bounds, print_local
    from certlip.report.exact import amount
    from certlip.report.json_form import bound_report_json
    from certlip.verification.amount import exact_amount

    output = _output(logit, pair)
    limit = None if max_lipschitz is None else exact_amount(max_lipschitz, "--max-lipschitz")
    if (around is None) != (eps is None):
        raise UsageError("--around and --eps belong together; give the sample and the radius")
    radius = None if eps is None else exact_amount(eps, "--eps")
    if compare and method != "auto":
        raise UsageError("--compare runs every method; leave --method out")
    loaded = load_model(model, input_name, output_name)
    with working() as (say, _):
        report = api.bound(
            loaded, norm=norm, output=output, method=method, timeout=timeout, certificate=certificate,
            around=around, eps=radius, compare=compare, progress=say,
        )  # fmt: skip
    best = report.best
    if report.local is not None:
        best = report.local if report.local.proved else None
    holds = best is not None and (limit is None or Fraction(best.value) <= limit)
    if as_json:
        data = bound_report_json(report)
        if compare:
            data["comparison"] = comparison_json(report)
        if limit is not None:
            data["claim"] = {"max_lipschitz": float(limit), "max_lipschitz_exact": str(limit), "proved": holds}
        print_json(data)
    else:
        (print_comparison if compare else print_bounds)(report)
        print_local(report)
        if limit is not None:
            word = "[green]proved[/]" if holds else "[yellow]not proved[/]"
            out().print(f"claim: at most {amount(limit)}: {word}")
        elif report.best is None:
            out().print("no bound was proved; give it more --timeout or another --method")
    if certificate is not None:
        err().print(
            f"certificate written to {certificate}" if best else "nothing is proved, so no certificate", markup=False
        )
    return 0 if holds else 3


def _output(logit: int | None, pair: str | None):
    from certlip.properties import Output
    from certlip.properties.outputs import ALL

    if logit is not None and pair is not None:
        raise UsageError("--logit and --pair exclude each other; choose one")
    if logit is not None:
        return Output.logit(logit)
    if pair is None:
        return ALL
    parts = pair.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--pair '{pair}' is not two output indices; write it like --pair 3,5")
    return Output.pair(*(int(part) for part in parts))
