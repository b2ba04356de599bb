"""`certlip repair`: the same network, but within the bound."""

from __future__ import annotations

from pathlib import Path

import click

from certlip.cli.exit_codes import INTERRUPTED
from certlip.cli.options import (
    Seconds,
    import_options,
    json_option,
    load_model,
    model_argument,
    norm_option,
    print_json,
)
from certlip.cli.progress import working


@click.command("repair")
@model_argument
@click.option("--max-lipschitz", default=None, metavar="L", help="Ask for a Lipschitz constant proved to be at most L.")
@click.option(
    "--min-certified",
    default=None,
    metavar="SHARE",
    help="Ask for this share of the scored samples to be right and certified at --eps.",
)
@click.option("--eps", default=None, metavar="E", help="With --min-certified: the radius, in input units.")
@norm_option
@click.option(
    "--tolerance",
    default=None,
    metavar="D",
    help="With --min-certified, regressors: outputs may move by at most D instead of keeping a class.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Samples to fit: .npz (x, y) or .csv; without labels the model's own answers are kept as well as possible. "
    "Default: the .npz beside the model with its stem.",
)
@click.option(
    "--holdout",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Samples to score, none of which may be among the others. Default: a fifth of --data is split off.",
)
@click.option(
    "--method",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto (every method that applies, the best is kept) or a name that `certlip methods` lists.",
)
@click.option(
    "--max-accuracy-loss",
    default="0.03",
    show_default=True,
    metavar="A",
    help="With --max-lipschitz, classifiers: accuracy that may be given up for larger certified radii.",
)
@click.option("--loss", default=None, metavar="NAME", help="What is fitted. Default: cross-entropy or square.")
@click.option(
    "--timeout", type=Seconds(), default=300.0, show_default=True, metavar="S", help="Seconds for the whole repair."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Of splits and training."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Where the repaired .onnx goes; certificates (.certlip) and reports (.repair.json, .repair.md) go beside it.",
)
@import_options
@json_option
def command(
    model: Path,
    max_lipschitz: str | None,
    min_certified: str | None,
    eps: str | None,
    norm: str,
    tolerance: str | None,
    data: Path | None,
    holdout: Path | None,
    method: str,
    max_accuracy_loss: str,
    loss: str | None,
    timeout: float,
    seed: int,
    output: Path,
    input_name: str | None,
    output_name: str | None,
    as_json: bool,
) -> int:
    """Change the weights of MODEL as little as it takes until a bound is proved.

    Writes an ordinary ONNX model of the same interface, its certificates and a report of what it cost. Exit 0: met and
    proved. Exit 3: not met; the best attempt is written and its distance printed. MODEL itself is never changed.
    """
    from certlip.errors import UsageError
    from certlip.report.console import err
    from certlip.report.repair_console import print_repair
    from certlip.report.repair_json import repair_report_json
    from certlip.runs.repair import repair
    from certlip.verification.dataset import default_data

    loaded = load_model(model, input_name, output_name)
    source = data or default_data(loaded)
    if source is None:
        raise UsageError(f"no samples to fit: there is no .npz beside {loaded.name}; pass --data")
    with working() as (say, _):
        report = repair(
            loaded, data=source, max_lipschitz=max_lipschitz, min_certified=min_certified, eps=eps, norm=norm,
            tolerance=tolerance, holdout=holdout, method=method, loss=loss, max_accuracy_loss=max_accuracy_loss,
            timeout=timeout, seed=seed, output=output, progress=say,
        )  # fmt: skip
    if as_json:
        print_json(repair_report_json(report))
    else:
        print_repair(report)
    err().print(f"written to {', '.join(str(path) for path in report.files.values())}", markup=False)
    if report.interrupted:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    return 0 if report.met else 3
