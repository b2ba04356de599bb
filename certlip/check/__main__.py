"""`python -m certlip.check PATH...`: the checker alone, needing numpy and onnx only."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from certlip.check import LEVELS, Checker, records
from certlip.check.report import findings_json, summary
from certlip.errors import UsageError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m certlip.check", description="Re-prove certificates.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="certificates, folders or bundles of them")
    parser.add_argument("--model", action="append", default=[], type=Path, help="model file or folder of models")
    parser.add_argument("--exact", action="store_true", help="prove again in exact arithmetic")
    parser.add_argument("--level", choices=LEVELS[1:], default=LEVELS[1], help="refuse what is proved at a lower level")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        entries = records(options.paths)
    except UsageError as error:
        parser.error(str(error))
    missing = [model for model in options.model if not model.exists()]
    if missing:
        parser.error(f"there is no model {missing[0]}; check the path")
    checker = Checker(options.model, options.exact, options.level)
    findings = []
    for store, name in entries:
        findings.append(checker.check_record(store, name))
        if not options.json:
            sys.stdout.write(f"{findings[-1]!r}\n")
    sys.stdout.write((json.dumps(findings_json(findings), indent=1) if options.json else summary(findings)) + "\n")
    return 0 if all(finding.accepted for finding in findings) else 5


if __name__ == "__main__":
    sys.exit(main())
