"""Runs on property files and whole suites, repairs, and runs that go on where an earlier one stopped."""

from certlip.runs.property import verify_property
from certlip.runs.repair import repair
from certlip.runs.suite import verify_instances

__all__ = ["repair", "verify_instances", "verify_property"]
