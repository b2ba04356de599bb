"""Verdicts on property files as JSON; the schemas are `specs/verify-*.schema.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.report.json_form import SCHEMA, finite, model_json

if TYPE_CHECKING:
    from certlip.properties.property import Property
    from certlip.report.suites import InstanceResult, InstancesReport, PropertyReport
    from certlip.rigor.rounding import Array


def property_report_json(report: PropertyReport) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": model_json(report.model),
        "property": {"path": None if report.path is None else str(report.path), **_sizes(report.property)},
        "result": {
            "status": str(report.status),
            "verdict": report.verdict,
            "method": report.result.method,
            "level": report.result.level,
            "seconds": round(report.result.seconds, 4),
            "note": report.result.note,
            "counterexample": numbers(report.result.counterexample),
            "outputs": numbers(report.result.outputs),
        },
    }


def _sizes(property: Property) -> dict[str, int]:
    """How large the question is."""
    return {
        "inputs": property.inputs,
        "outputs": property.outputs,
        "cases": len(property.cases),
        "vacuous_cases": sum(case.is_vacuous for case in property.cases),
    }


def numbers(array: Array | None) -> list[float | None] | None:
    """Entries in flat (row-major) order; the decimals name the floating-point numbers exactly."""
    return None if array is None else [finite(value) for value in array.reshape(-1).tolist()]


def instance_json(instance: InstanceResult) -> dict[str, Any]:
    return {
        "index": instance.index,
        "model": instance.model,
        "property": instance.property,
        "status": str(instance.status),
        "verdict": instance.verdict,
        "method": instance.method,
        "level": instance.level,
        "seconds": round(instance.seconds, 4),
        "timeout": instance.timeout,
        "note": instance.note,
        "counterexample": numbers(instance.counterexample),
        "outputs": numbers(instance.outputs),
        "expected": instance.expected,
        "contradicts": instance.contradicts,
        "exit_code": instance.exit_code,
    }


def instances_report_json(report: InstancesReport) -> dict[str, Any]:
    from certlip.verification import Status

    statuses = (Status.CERTIFIED, Status.FALSIFIED, Status.UNKNOWN, Status.TIMEOUT, Status.ERROR)
    return {
        "schema": SCHEMA,
        "path": str(report.path),
        "summary": {
            "instances": report.total,
            **{str(status): report.count(status) for status in statuses},
            "contradicts": len(report.contradictions),
            "earlier": report.earlier,
            "seconds": round(report.seconds, 4),
            "interrupted": len(report.instances) < report.total,
        },
        "instances": [instance_json(instance) for instance in report.instances],
    }
