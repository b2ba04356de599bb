"""`python -m certlip.check PATH... [--model MODEL]...`: the checker alone, needing numpy and onnx only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from certlip.check import Checker


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m certlip.check", description="Re-prove certificates.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="certificate files or folders of them")
    parser.add_argument("--model", action="append", default=[], type=Path, help="model file or folder of models")
    options = parser.parse_args()
    files = [f for path in options.paths for f in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    checker = Checker(options.model)
    findings = [checker.check(file) for file in files]
    for finding in findings:
        sys.stdout.write(f"{finding!r}\n")
    return 0 if findings and all(finding.accepted for finding in findings) else 5


if __name__ == "__main__":
    sys.exit(main())
