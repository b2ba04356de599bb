"""`certlip inspect`: what a model consists of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from certlip.cli.options import import_options, json_option, model_argument, print_json


@click.command("inspect")
@model_argument
@import_options
@json_option
def command(model: Path, input_name: str | None, output_name: str | None, as_json: bool) -> int:
    """Show layers, shapes and proved norms.

    Lists everything in MODEL that is not supported, where there is any.
    """
    from certlip.cli.options import load_model
    from certlip.errors import UnsupportedModel
    from certlip.report.console import print_notes, print_table
    from certlip.report.json_form import SCHEMA, model_json

    try:
        loaded = load_model(model, input_name, output_name)
    except UnsupportedModel as error:
        nodes = [vars(node) for node in error.nodes]
        if as_json:
            print_json({"schema": SCHEMA, "supported": False, "unsupported": nodes})
        else:
            print_table(
                ("unsupported node", "operator", "opset", "hint"),
                [(n["name"], n["operator"], str(n["opset"]), n["hint"]) for n in nodes],
            )
        raise  # the same as one sentence on stderr, and the exit code
    layers = _layers(loaded)
    if as_json:
        print_json(
            {"schema": SCHEMA, "supported": True, "model": model_json(loaded), "layers": layers, "unsupported": []}
        )
        return 0
    print_notes(loaded)
    print_table(
        ("layer", "operator", "kind", "output shape", "weights", "l2 norm <=", "linf norm <="),
        [
            (
                layer["name"],
                layer["operator"],
                layer["kind"],
                "x".join(map(str, layer["shape"])),
                str(layer["weights"]),
                _text(layer["l2_norm"]),
                _text(layer["linf_norm"]),
            )
            for layer in layers
        ],
    )
    return 0


def _text(norm: float | None) -> str:
    return "" if norm is None else f"{norm:.10g}"


def _layers(model) -> list[dict[str, Any]]:
    """The normal form, as the certifiers see it; norms of pointwise layers are their largest slopes."""
    from certlip.graph import Affine, Merge, Pointwise
    from certlip.passes import normal_form
    from certlip.properties.numbers import decimal_up
    from certlip.report.json_form import finite

    graph = normal_form(model.graph)
    rows = []
    for node, shape in zip(graph.nodes, graph.shapes[1:], strict=True):
        operator = node.operator
        kind = next(kind.__name__.lower() for kind in (Affine, Pointwise, Merge) if isinstance(operator, kind))
        norms = (None, None) if kind == "merge" else (operator.gain("l2", 1.0), operator.gain("linf", 1.0))
        rows.append(
            {
                "name": node.name,
                "operator": type(operator).__name__,
                "kind": kind,
                "shape": list(shape),
                "weights": int(operator.weight.mid.size) if isinstance(operator, Affine) else 0,
                "l2_norm": None if norms[0] is None else finite(decimal_up(norms[0])),
                "linf_norm": None if norms[1] is None else finite(decimal_up(norms[1])),
            }
        )
    return rows
