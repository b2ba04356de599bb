"""Options and arguments that several commands share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from certlip.errors import UsageError

model_argument = click.argument("model", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
norm_option = click.option(
    "--norm", type=click.Choice(["l2", "linf"]), default="l2", show_default=True, help="Norm of input and output."
)
method_option = click.option(
    "--method",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto (the best within the time), all, or a name that `certlip methods` lists.",
)


class Seconds(click.ParamType):
    """A positive, finite number of seconds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r} is not a positive number of seconds", param, ctx)
        return seconds


timeout_option = click.option(
    "--timeout", type=Seconds(), default=60.0, show_default=True, metavar="S", help="Seconds for the search."
)
sample_timeout_option = click.option(
    "--timeout", type=Seconds(), default=60.0, show_default=True, metavar="S", help="Seconds for each sample."
)
total_timeout_option = click.option(
    "--total-timeout", type=Seconds(), default=None, metavar="S", help="Seconds for the whole run."
)
decision_timeout_option = click.option(
    "--timeout",
    type=Seconds(),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds for each sample, property or instance.",
)
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Samples: .npz (x, y) or .csv. Default: the .npz beside the model with its stem.",
)
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=None, metavar="N", help="Use the first N samples only."
)
decision_limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=None, metavar="N", help="Use the first N samples or instances only."
)
tolerance_option = click.option(
    "--tolerance",
    default=None,
    metavar="D",
    help="Regressors: outputs may move by at most D instead of keeping a class.",
)
certificates_option = click.option(
    "--certificates",
    type=click.Path(path_type=Path),
    default=None,
    metavar="PLACE",
    help="Write every proof into this folder, or into one file if the name ends in .certlip.",
)
level_option = click.option(
    "--level",
    type=click.Choice(["float", "deployed"]),
    default="float",
    show_default=True,
    help="deployed: count only what is proved for every execution in the model's own arithmetic.",
)
models_option = click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="Model file or folder of models; matched by sha256. Repeatable.",
)
exact_option = click.option(
    "--exact", is_flag=True, help="Prove claims about real arithmetic again in exact arithmetic."
)
least_level_option = click.option(
    "--level",
    type=click.Choice(["float", "exact", "deployed"]),
    default="float",
    show_default=True,
    help="Refuse what is proved at a lower level; exact includes --exact.",
)


def import_options(function: Callable) -> Callable:
    """--input-name and --output-name, for models with several."""
    function = click.option(
        "--output-name", default=None, metavar="NAME", help="Which output, where the model has several."
    )(function)
    return click.option("--input-name", default=None, metavar="NAME", help="Which input, where the model has several.")(
        function
    )


def load_model(path: Path, input_name: str | None, output_name: str | None):
    """Import a model for a command."""
    from certlip.importers import load

    return load(path, input_name=input_name, output_name=output_name)


def print_json(data: Any) -> None:
    """One JSON object on stdout; infinities never get here."""
    click.echo(json.dumps(data, indent=1, allow_nan=False))


def parse_share(text: str, what: str) -> Fraction:
    """An exact share between 0 and 1."""
    from certlip.verification.amount import exact_amount

    share = exact_amount(text, what)
    if share > 1:
        raise UsageError(f"{what} '{text[:40]}' is more than 1; write a share like 0.9")
    return share


def parse_interval(text: str, what: str) -> tuple[str, str]:
    """Two ends, like 0,1; what they are is for the caller to read."""
    ends = text.split(",")
    if len(ends) != 2:
        raise UsageError(f"{what} '{text[:40]}' is not an interval; write its two ends like 0,1")
    return ends[0], ends[1]
