"""`certlip radius`: how far each sample is safe."""

from __future__ import annotations

from pathlib import Path

import click

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
    print_json,
    sample_timeout_option,
    tolerance_option,
    total_timeout_option,
)
from certlip.cli.progress import working
from certlip.errors import UsageError


@click.command("radius")
@model_argument
@norm_option
@data_option
@method_option
@limit_option
@sample_timeout_option
@total_timeout_option
@tolerance_option
@certificates_option
@level_option
@import_options
@json_option
def command(
    model: Path,
    norm: str,
    data: Path | None,
    method: str,
    limit: int | None,
    timeout: float,
    total_timeout: float | None,
    tolerance: str | None,
    certificates: Path | None,
    level: str,
    input_name: str | None,
    output_name: str | None,
    as_json: bool,
) -> int:
    """Measure the certified radius of each sample.

    Every perturbation smaller than its radius keeps MODEL's decision, in real arithmetic unless --level deployed asks
    for the smaller radius that holds in every execution too. `certlip verify` shows that one beside the level deployed.

    Exits 0 when every sample has a positive radius, 1 when one is misclassified, 3 when one has none.
    """
    from certlip import api
    from certlip.cli.exit_codes import exit_code
    from certlip.report.console import print_radii
    from certlip.report.json_form import radius_report_json
    from certlip.verification.dataset import default_data, read_dataset

    loaded = load_model(model, input_name, output_name)
    source = data or default_data(loaded)
    if source is None:
        raise UsageError(f"no samples: there is no .npz beside {loaded.name}; pass --data FILE.npz or FILE.csv")
    samples = read_dataset(source, loaded, limit)
    with working(len(samples)) as (say, advance):
        report = api.radius(
            loaded,
            data=samples,
            norm=norm,
            method=method,
            timeout=timeout,
            total_timeout=total_timeout,
            tolerance=tolerance,
            certificates=certificates,
            level=level,
            progress=say,
            each=advance,
        )
    if as_json:
        print_json(radius_report_json(report))
    else:
        print_radii(report)
    return exit_code(report, None)
