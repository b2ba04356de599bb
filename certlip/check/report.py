"""What the two command lines of the checker print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from certlip.check.checker import Finding

SCHEMA = 1


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The object that `--json` prints; its schema is `specs/check.schema.json`."""
    entries = [
        {"path": str(f.path), "accepted": f.accepted, "level": f.level, "message": f.message} for f in findings
    ]
    rejected = sum(not finding.accepted for finding in findings)
    return {"schema": SCHEMA, "checked": len(findings), "rejected": rejected, "certificates": entries}


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    rejected = sum(not finding.accepted for finding in findings)
    return f"{len(findings)} checked, {rejected} rejected"


def told(findings: Iterable[Finding]) -> Iterator[str]:
    """One line for each finding as it comes; refusals for the reason of the line before are only counted."""
    reason, more = "", 0
    for finding in findings:
        if not finding.accepted and finding.message == reason:
            more += 1
            continue
        if more:
            yield _alike(more)
        reason, more = "" if finding.accepted else finding.message, 0
        yield repr(finding)
    if more:
        yield _alike(more)


def _alike(count: int) -> str:
    return f"... {count} more refused for the same reason"
