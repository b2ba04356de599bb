"""What the exit codes mean, and the one that a set of verdicts leads to."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certlip.report.results import VerifyReport
    from certlip.report.suites import InstanceResult
    from certlip.verification import Status

EXIT_CODES = """\b
Exit codes:
  0    every claim is proved (or the share asked by --min-certified)
  1    falsified: a counterexample was found, or a sample is misclassified
  2    usage: a command, an option or a data file is missing or makes no sense
  3    not proved: unknown, timeout, or the bound is above the limit
  4    the model is unsupported, malformed or read differently by its runtime
  5    a certificate was rejected
  70   internal error     130  interrupted     141  closed pipe
With mixed results the first that applies: 70, 5, 4, 2, 1, 3, 0."""

INTERNAL, INTERRUPTED, CLOSED_PIPE = 70, 130, 141
PRECEDENCE = (INTERNAL, 5, 4, 2, 1, 3, 0)


def exit_code(report: VerifyReport, share: Fraction | None) -> int:
    """70 for errors; with a share: 0 if reached, 1 if it no longer can be, else 3; without: 1, 3 or 0."""
    from certlip.verification import Status

    if report.count(Status.ERROR):
        return INTERNAL
    refuted = report.count(Status.FALSIFIED) + report.count(Status.MISCLASSIFIED)
    certified, total = report.count(Status.CERTIFIED), len(report.samples)
    needed = total if share is None else share * total
    if certified >= needed:
        return 0
    return 1 if total - refuted < needed else 3


def property_code(status: Status) -> int:
    """0 where the property holds, 1 where it is violated, 3 where that is open."""
    from certlip.verification import Status

    return {Status.CERTIFIED: 0, Status.FALSIFIED: 1, Status.ERROR: INTERNAL}.get(status, 3)


def instances_code(instances: Iterable[InstanceResult]) -> int:
    """The first in the order of precedence that an instance would exit with by itself."""
    codes = {property_code(one.status) if one.exit_code is None else one.exit_code for one in instances}
    return next((code for code in PRECEDENCE if code in codes), INTERNAL)
