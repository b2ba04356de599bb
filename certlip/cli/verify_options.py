"""Which options of `certlip verify` go together, said once."""

from __future__ import annotations

from collections.abc import Mapping

import click
from click.core import ParameterSource

from certlip.errors import UsageError

QUESTIONS = {"eps": "--eps", "property_file": "--property", "instances": "--instances"}
_SAMPLES, _PROPERTY, _SUITE = "samples", "a property", "instances"
_MODES = {"eps": _SAMPLES, "property_file": _PROPERTY, "instances": _SUITE}
_BELONGS = {
    **dict.fromkeys(
        ("norm", "data", "min_certified", "tolerance", "clip", "level", "data_free"), (_SAMPLES,)
    ),
    **dict.fromkeys(("limit", "total_timeout", "as_jsonl", "resume"), (_SAMPLES, _SUITE)),
    "counterexample": (_PROPERTY,),
}
_NO_SAMPLES = "it claims nothing about samples"
_EXCLUDE = (
    ("as_json", "as_jsonl", "choose one of them"),
    ("resume", "certificates", "an earlier run's verdicts come without their proofs"),
    ("data_free", "data", _NO_SAMPLES),
    ("data_free", "min_certified", _NO_SAMPLES),
    ("data_free", "as_jsonl", _NO_SAMPLES),
    ("data_free", "resume", _NO_SAMPLES),
)


def require_coherent(context: click.Context) -> None:
    """Raises UsageError for a line that asks no question or several, or whose options belong to different ones."""
    given = given_options(context)
    asked = [name for name in QUESTIONS if name in given]
    if not asked:
        raise UsageError("no question is asked; give --eps E for samples, --property FILE or --instances FILE.csv")
    if len(asked) > 1:
        first, second = (QUESTIONS[name] for name in asked[:2])
        raise UsageError(f"{first} and {second} are different questions; choose one")
    mode = _MODES[asked[0]]
    if mode == _SUITE and "model" in given:
        raise UsageError("the rows of --instances name their models; leave out MODEL")
    if mode != _SUITE and "model" not in given:
        raise UsageError("no model is named; give MODEL, or --instances FILE.csv whose rows name models")
    for name, flag in given.items():
        if mode not in _BELONGS.get(name, (mode,)):
            where = " or ".join(_BELONGS[name])
            raise UsageError(f"{flag} is about {where}; leave it out with {QUESTIONS[asked[0]]}")
    for one, other, why in _EXCLUDE:
        if one in given and other in given:
            raise UsageError(f"{given[one]} excludes {given[other]}: {why}; leave one out")


def given_options(context: click.Context) -> Mapping[str, str]:
    """Parameters that the line names, with the flag that does it."""
    default = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None)
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None
        and context.get_parameter_source(parameter.name) not in default
        and context.params.get(parameter.name) is not None
    }
