"""`python -m certlip.check PATH... [--model MODEL]...`: the checker alone, needing numpy and onnx only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from certlip.check import Checker, certificate_files
from certlip.errors import UsageError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m certlip.check", description="Re-prove certificates.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="certificate files or folders of them")
    parser.add_argument("--model", action="append", default=[], type=Path, help="model file or folder of models")
    options = parser.parse_args()
    try:
        files = certificate_files(options.paths)
    except UsageError as error:
        parser.error(str(error))
    missing = [model for model in options.model if not model.exists()]
    if missing:
        parser.error(f"there is no model {missing[0]}; check the path")
    checker = Checker(options.model)
    findings = [checker.check(file) for file in files]
    for finding in findings:
        sys.stdout.write(f"{finding!r}\n")
    rejected = sum(not finding.accepted for finding in findings)
    sys.stdout.write(f"{len(findings)} checked, {rejected} rejected\n")
    return 5 if rejected else 0


if __name__ == "__main__":
    sys.exit(main())
