"""`python -m certlip.check PATH...`: the checker alone, needing numpy and onnx only."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from certlip.check import LEVELS, Checker, Finding, records
from certlip.check.report import findings_json, summary, told
from certlip.errors import UsageError

INTERRUPTED, CLOSED_PIPE = 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what a command line names, by default that of the process; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m certlip.check", description="Re-prove certificates.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="certificates, folders or bundles of them")
    parser.add_argument("--model", action="append", default=[], type=Path, help="model file or folder of models")
    parser.add_argument("--exact", action="store_true", help="prove again in exact arithmetic")
    parser.add_argument("--level", choices=LEVELS[1:], default=LEVELS[1], help="refuse what is proved at a lower level")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        entries = records(options.paths)
    except UsageError as error:
        parser.error(str(error))
    missing = [model for model in options.model if not model.exists()]
    if missing:
        parser.error(f"there is no model {missing[0]}; check the path")
    checker = Checker(options.model, options.exact, options.level)
    findings: list[Finding] = []

    def checked() -> Iterator[Finding]:
        for store, name in entries:
            findings.append(checker.check_record(store, name))
            yield findings[-1]

    for line in told(checked()):
        if not options.json:
            sys.stdout.write(f"{line}\n")
    sys.stdout.write((json.dumps(findings_json(findings), indent=1) if options.json else summary(findings)) + "\n")
    return 0 if all(finding.accepted for finding in findings) else 5


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; an interruption and a reader who went away are no defects, and leave no trace on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends no run
    try:
        code = main(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own last flush
        return CLOSED_PIPE


if __name__ == "__main__":
    sys.exit(run())
