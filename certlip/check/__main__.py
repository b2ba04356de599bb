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
    checker = Checker(options.model)
    findings = [checker.check(file) for file in files]
    for finding in findings:
        sys.stdout.write(f"{finding!r}\n")
    return 0 if findings and all(finding.accepted for finding in findings) else 5


if __name__ == "__main__":
    sys.exit(main())
