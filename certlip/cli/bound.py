"""`certlip bound`: proved Lipschitz bounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
)
from certlip.cli.progress import working
from certlip.errors import UsageError

if TYPE_CHECKING:
    from fractions import Fraction

    from certlip.importers import Model


@click.command("bound")
@model_argument
@norm_option
@method_option
@click.option("--logit", type=click.IntRange(min=0), default=None, metavar="I", help="Bound output I alone.")
@click.option("--pair", default=None, metavar="I,J", help="Bound the difference of outputs I and J.")
@click.option("--pairs", is_flag=True, help="Bound the difference of every two outputs, in one run.")
@click.option("--logits", is_flag=True, help="Bound every output by itself, in one run.")
@click.option(
    "--max-lipschitz",
    default=None,
    metavar="L",
    help="Exit 0 only if the bound (each of them, with --pairs or --logits) is proved to be at most L.",
)
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
    "same file if its name ends in .certlip. With --pairs or --logits a folder or a .certlip file, for one proof each.",
)
@import_options
@json_option
def command(
    model: Path,
    norm: str,
    method: str,
    logit: int | None,
    pair: str | None,
    pairs: bool,
    logits: bool,
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
    --pairs and --logits bound many outputs in one run, in which searches share their work.
    """
    from fractions import Fraction

    from certlip import api
    from certlip.cli.compare import comparison_json, print_comparison
    from certlip.report.console import err, out, print_bounds, print_local
    from certlip.report.json_form import bound_report_json
    from certlip.verification.amount import exact_amount

    chosen = {"--logit": logit is not None, "--pair": pair is not None, "--pairs": pairs, "--logits": logits}
    _require_one(*(name for name, given in chosen.items() if given))
    output = _output(logit, pair)
    limit = None if max_lipschitz is None else exact_amount(max_lipschitz, "--max-lipschitz")
    if (around is None) != (eps is None):
        raise UsageError("--around and --eps belong together; give the sample and the radius")
    radius = None if eps is None else exact_amount(eps, "--eps")
    if compare and method != "auto":
        raise UsageError("--compare runs every method; leave --method out")
    if pairs or logits:
        name: Literal["pairs", "logits"] = "pairs" if pairs else "logits"
        for other, given in (("--around", around is not None), ("--compare", compare)):
            _require_one(f"--{name}", *([other] if given else []))
        options = {"norm": norm, "method": method, "timeout": timeout, "certificate": certificate}
        return _bound_each(load_model(model, input_name, output_name), name, limit, as_json, options)
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
        print_json(_with_claim(data, limit, holds))
    else:
        (print_comparison if compare else print_bounds)(report)
        print_local(report)
        if limit is not None:
            _print_claim(limit, holds)
        elif report.best is None:
            out().print("no bound was proved; give it more --timeout or another --method")
    if certificate is not None:
        err().print(
            f"certificate written to {certificate}" if best else "nothing is proved, so no certificate", markup=False
        )
    return 0 if holds else 3


def _bound_each(model: Model, name: Literal["pairs", "logits"], limit: Fraction | None, as_json: bool, options) -> int:
    """--pairs and --logits."""
    from fractions import Fraction

    from certlip import api
    from certlip.report.console import err
    from certlip.report.json_form import outputs_report_json
    from certlip.report.outputs_table import print_outputs

    with working() as (say, _):
        report = api.bound(model, output=name, progress=say, **options)
    largest = report.largest
    holds = largest is not None and not report.missing and (limit is None or Fraction(largest.value) <= limit)
    if as_json:
        print_json(_with_claim(outputs_report_json(report), limit, holds))
    else:
        print_outputs(report)
        if limit is not None:
            _print_claim(limit, holds)
    place, count = options["certificate"], len(report.best)
    if place is not None:
        what = f"{count} certificate{'s' * (count > 1)} written to {place}"
        err().print(what if count else "nothing is proved, so no certificate", markup=False)
    return 0 if holds else 3


def _with_claim(data: dict[str, Any], limit: Fraction | None, holds: bool) -> dict[str, Any]:
    if limit is None:
        return data
    return {
        **data,
        "claim": {"max_lipschitz": float(limit), "max_lipschitz_exact": str(limit), "proved": holds},
    }


def _print_claim(limit: Fraction, holds: bool) -> None:
    from certlip.report.console import out
    from certlip.report.exact import amount

    word = "[green]proved[/]" if holds else "[yellow]not proved[/]"
    out().print(f"claim: at most {amount(limit)}: {word}")


def _require_one(*given: str) -> None:
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} exclude each other; choose one")


def _output(logit: int | None, pair: str | None):
    from certlip.properties import Output
    from certlip.properties.outputs import ALL

    if logit is not None:
        return Output.logit(logit)
    if pair is None:
        return ALL
    parts = pair.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--pair '{pair}' is not two output indices; write it like --pair 3,5")
    return Output.pair(*(int(part) for part in parts))
