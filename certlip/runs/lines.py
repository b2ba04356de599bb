"""Results as JSON lines, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from certlip.errors import UsageError
from certlip.report.json_form import SCHEMA, sample_json
from certlip.report.property_json import instance_json, numbers
from certlip.report.suites import InstanceResult
from certlip.rigor.rounding import Array
from certlip.runs.instances import Instance
from certlip.verification import SampleResult, Status
from certlip.verification.verdicts import Grade
from certlip.version import __version__


def limits_of(timeout: float | None, method: str, seed: int) -> dict[str, Any]:
    """How a verdict was searched for: another search with more time, or by another version, may find more."""
    return {"timeout": timeout, "method": method, "seed": seed, "version": __version__}


def instance_line(result: InstanceResult) -> dict[str, Any]:
    """The line of one instance of a suite."""
    return _line("instance", result.asked, result.limits, instance_json(result), result.earlier)


def sample_line(
    result: SampleResult, asked: Mapping[str, Any], limits: Mapping[str, Any], earlier: bool = False
) -> dict[str, Any]:
    """The line of one sample."""
    entry = {**sample_json(result), "counterexample": numbers(result.counterexample)}
    return _line("sample", asked, limits, entry, earlier)


def _line(kind: str, asked, limits, result: dict[str, Any], earlier: bool) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": kind,
        "asked": dict(asked),
        "limits": dict(limits),
        "result": result,
        "earlier": earlier,
    }


def earlier_instance(line: Mapping[str, Any], instance: Instance) -> InstanceResult:
    """The verdict in the line, on this row. Raises UsageError for a line that was altered."""
    entry = line["result"]
    try:
        return InstanceResult(
            instance.index, instance.model, instance.property, Status(entry["status"]), str(entry["method"]),
            float(entry["seconds"]), line["limits"]["timeout"], str(entry["level"]), _array(entry["counterexample"]),
            _array(entry["outputs"]), str(entry["note"]), instance.expected, None, line["asked"], line["limits"], True,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise _altered(error) from error


def earlier_sample(line: Mapping[str, Any], index: int, shape: tuple[int, ...]) -> SampleResult:
    """The verdict in the line, on the sample with this index; its margin and radius were rounded down."""
    entry = line["result"]
    try:
        point = _array(entry["counterexample"])
        share, predicted = entry["slack_share"], entry["predicted"]
        result = SampleResult(
            index, entry["label"], math.nan if predicted is None else predicted, Status(entry["status"]),
            _number(entry["margin"], math.nan), _number(entry["radius"], math.inf), str(entry["method"]),
            float(entry["seconds"]), None if point is None else point.reshape(shape), (), str(entry["note"]),
        )  # fmt: skip
        return replace(result, grade=Grade(level=str(entry["level"]), share=_number(share, math.nan)))
    except (KeyError, TypeError, ValueError) as error:
        raise _altered(error) from error


def _altered(error: Exception) -> UsageError:
    return UsageError(f"a line of the earlier run was altered ({type(error).__name__}: {error}); remove that line")


def _number(value: float | None, missing: float) -> float:
    return missing if value is None else float(value)


def _array(values: list[float | None] | None) -> Array | None:
    return None if values is None else np.array([_number(value, math.nan) for value in values])
