"""Runs on property files and whole suites, and runs that go on where an earlier one stopped."""

from certlip.runs.property import verify_property
from certlip.runs.suite import verify_instances

__all__ = ["verify_instances", "verify_property"]
