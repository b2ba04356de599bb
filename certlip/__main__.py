"""`python -m certlip` is the `certlip` command, where everything it needs is installed."""

from __future__ import annotations

import sys

from certlip.errors import UsageError


def main() -> None:
    """Run the command, or say in one sentence what is missing. Checking needs numpy and onnx only: there the trusted
    base runs by itself."""
    try:
        from certlip.cli.main import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "certlip":
            raise
        if sys.argv[1:2] == ["check"]:
            from certlip.check.__main__ import run as check

            sys.exit(check(sys.argv[2:]))
        sys.stderr.write(
            f"error: the certlip command needs {error.name}, which is not installed here; `python -m certlip.check` "
            "proves certificates again with numpy and onnx alone\n"
        )
        sys.exit(UsageError.exit_code)
    run()


if __name__ == "__main__":
    main()
