"""`certlip verify`: a verdict on every sample."""

from __future__ import annotations

from pathlib import Path

import click

from certlip.cli.exit_codes import exit_code
from certlip.cli.options import (
    certificates_option,
    data_option,
    import_options,
    json_option,
    level_option,
    limit_option,
    load_model,
    method_option,
    model_argument,
    norm_option,
    parse_interval,
    parse_share,
    print_json,
    sample_timeout_option,
    tolerance_option,
    total_timeout_option,
    working,
)
from certlip.errors import UsageError


@click.command("verify")
@model_argument
@click.option(
    "--eps", required=True, metavar="E", help="Radius of the perturbations, like 0.1 or 8/255, in input units."
)
@norm_option
@data_option
@method_option
@limit_option
@sample_timeout_option
@total_timeout_option
@click.option(
    "--min-certified", default=None, metavar="F", help="Exit 0 if at least this share of samples is certified."
)
@tolerance_option
@click.option(
    "--clip", default=None, metavar="LOW,HIGH", help="Perturb entries within this interval only, like 0,1 for pixels."
)
@certificates_option
@level_option
@click.option("--data-free", is_flag=True, help="Claim only the margin above which every input is robust; no samples.")
@import_options
@json_option
def command(
    model: Path,
    eps: str,
    norm: str,
    data: Path | None,
    method: str,
    limit: int | None,
    timeout: float,
    total_timeout: float | None,
    min_certified: str | None,
    tolerance: str | None,
    clip: str | None,
    certificates: Path | None,
    level: str,
    data_free: bool,
    input_name: str | None,
    output_name: str | None,
    as_json: bool,
) -> int:
    """Decide each sample: proved or refuted.

    A sample is certified when no perturbation of norm at most E changes MODEL's decision, falsified when a
    counterexample shows one that does.
    """
    from certlip import api
    from certlip.report.console import print_verdicts
    from certlip.report.json_form import verify_report_json
    from certlip.verification import Question
    from certlip.verification.amount import exact_amount, exact_interval
    from certlip.verification.dataset import default_data, read_dataset

    amount = exact_amount(eps, "--eps")
    slack = None if tolerance is None else exact_amount(tolerance, "--tolerance")
    interval = None if clip is None else exact_interval(parse_interval(clip, "--clip"), "--clip")
    share = None if min_certified is None else parse_share(min_certified, "--min-certified")
    if data_free and data is not None:
        raise UsageError("--data-free claims nothing about samples; leave out --data")
    if data_free and share is not None:
        raise UsageError("--data-free claims nothing about samples; leave out --min-certified")
    loaded = load_model(model, input_name, output_name)
    source = None if data_free else data or default_data(loaded)
    if source is None:
        from certlip.cli.data_free import claim_for_all_inputs

        if level == "deployed" or clip is not None:
            raise UsageError("--level deployed and --clip are about samples; pass them with --data FILE")
        question = Question(amount, norm, slack)
        seconds = timeout if total_timeout is None else min(timeout, total_timeout)
        return claim_for_all_inputs(loaded, question, method, seconds, certificates, data_free, as_json)
    samples = read_dataset(source, loaded, limit)
    with working(len(samples)) as (say, advance):
        report = api.verify(
            loaded,
            amount,
            data=samples,
            norm=norm,
            method=method,
            timeout=timeout,
            total_timeout=total_timeout,
            tolerance=slack,
            clip=interval,
            certificates=certificates,
            level=level,
            progress=say,
            each=advance,
        )
    if as_json:
        print_json(verify_report_json(report))
    else:
        print_verdicts(report)
    return exit_code(report, share)
