"""`certlip verify`: a verdict on every sample, on a property, or on a suite of them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from certlip.cli.options import (
    certificates_option,
    data_option,
    decision_limit_option,
    decision_timeout_option,
    import_options,
    json_option,
    level_option,
    method_option,
    norm_option,
    tolerance_option,
    total_timeout_option,
)
from certlip.cli.verify_options import require_coherent


@click.command("verify")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--eps", default=None, metavar="E", help="Radius of the perturbations, like 0.1 or 8/255, in input units."
)
@click.option(
    "--property",
    "property_file",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Decide this VNN-LIB property (.vnnlib, .vnnlib.gz) instead of samples.",
)
@click.option(
    "--instances",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Decide every row of this .csv file: model,property,timeout as in VNN-COMP, or a header with model and "
    "property, and if you like timeout and verdict (sat or unsat, what is expected). Paths are relative to the file.",
)
@norm_option
@data_option
@method_option
@decision_limit_option
@decision_timeout_option
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
@click.option(
    "--counterexample",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="With --property: write the counterexample, if there is one, as arrays (.npz) or as VNN-COMP does (.txt).",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Append every verdict to this file of JSON lines as it comes, and take those that it has from there: the same "
    "command goes on where it was interrupted.",
)
@import_options
@json_option
@click.option("--jsonl", "as_jsonl", is_flag=True, help="Print one JSON object a line as soon as a verdict is there.")
@click.pass_context
def command(
    context: click.Context,
    model: Path | None,
    eps: str | None,
    property_file: Path | None,
    instances: Path | None,
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
    counterexample: Path | None,
    resume: Path | None,
    input_name: str | None,
    output_name: str | None,
    as_json: bool,
    as_jsonl: bool,
) -> int:
    """Decide samples or properties: proved or refuted.

    With --eps, a sample is certified when no perturbation of norm at most E changes MODEL's decision, falsified when a
    counterexample shows one that does.

    With --property, the property holds (VNN-COMP: unsat) when no input that the file describes leads to an output that
    it calls unsafe, and is violated (sat) when a counterexample does. Exits 0 when it holds, 1 when it is violated, 3
    when that is open, 2 for a malformed property.

    With --instances, a suite of models and properties is decided, one line as soon as each ends; --timeout is the limit
    of rows without one and the cap of the others. An instance whose files are missing or make no sense is an error, and
    the others go on. Exits with the first of 70, 4, 2, 1, 3, 0 that an instance would exit with by itself.

    Ctrl-C ends a run with a summary of the verdicts so far. With --resume it can go on: verdicts are found again by the
    sha256 of model, property and sample; those without a result are searched again with more --timeout, another
    --method or another version.
    """
    require_coherent(context)
    if instances is not None:
        from certlip.cli.verify_instances import decide_instances

        return decide_instances(
            instances, timeout, total_timeout, limit, method, (input_name, output_name), resume, certificates, as_json,
            as_jsonl,
        )  # fmt: skip
    path = cast(Path, model)  # there is one: the question needs it
    if property_file is not None:
        from certlip.cli.verify_property import decide_one

        names = input_name, output_name
        return decide_one(path, property_file, timeout, method, names, counterexample, certificates, as_json)
    from certlip.cli.verify_samples import SampleOptions, decide_samples

    options = SampleOptions(
        norm, data, method, limit, timeout, total_timeout, min_certified, tolerance, clip, certificates, level,
        data_free, resume, as_json, as_jsonl,
    )  # fmt: skip
    return decide_samples(path, str(eps), (input_name, output_name), options)
