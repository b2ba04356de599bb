"""What the two command lines of the checker print."""

from __future__ import annotations

from collections.abc import Sequence
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
