"""`certlip`: the group of commands and the meaning of exit codes."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback

import click
from click.exceptions import Exit

from certlip.cli import attest, bound, check, explain, inspect, methods, radius, repair, solvers, verify
from certlip.cli.exit_codes import CLOSED_PIPE, EXIT_CODES, INTERNAL, INTERRUPTED
from certlip.errors import CertlipError, UsageError
from certlip.report.text import one_line
from certlip.version import __version__


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="certlip")
def main() -> None:
    """Prove how far a neural network's output can move when its input moves."""


for module in (inspect, bound, verify, radius, repair, check, explain, attest, solvers, methods):
    main.add_command(module.command)


def run(arguments: list[str] | None = None) -> None:
    """Entry point: runs a command and leaves the process with its exit code; an internal error is never 0 or 1."""
    for stream in (sys.stdout, sys.stderr):  # a file name that the terminal cannot show must not end the run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if "_CERTLIP_COMPLETE" in os.environ:  # a shell asks what could come next
        main.main(arguments, prog_name="certlip")
    sys.exit(code_of(arguments))


def code_of(arguments: list[str] | None = None) -> int:
    """Exit code of a command line. Errors are one sentence on stderr."""
    try:
        try:
            code = _invoke(sys.argv[1:] if arguments is None else list(arguments))
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
        except BrokenPipeError:
            raise
        except Exit as stop:  # --help and --version
            return stop.exit_code
        except click.ClickException as error:
            error.show()
            return UsageError.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            return INTERRUPTED
        except CertlipError as error:
            return _fail(str(error), error.exit_code)
        except MemoryError:
            return _fail("not enough memory for this model; use a smaller method or a larger machine", INTERNAL)
        except OSError as error:
            if error.filename is not None:
                reason = f"{error.strerror}: {error.filename}; check the path and its permissions"
                return _fail(reason, UsageError.exit_code)
            if error.errno == errno.ENOSPC:
                _abandon_stdout()
                return _fail("the output cannot be written, no space is left; free some or write elsewhere", INTERNAL)
            return _defect()
        except (Exception, SystemExit):  # the last line of defence: report it as what it is
            return _defect()
    except BrokenPipeError:
        _abandon_stdout()
        return CLOSED_PIPE


def _invoke(arguments: list[str]) -> int:
    """Run a command. `main.main` is avoided: it turns a closed pipe into exit code 1 and any EOFError into an abort."""
    with main.make_context("certlip", arguments) as context:
        code = main.invoke(context)
    if type(code) is not int:
        raise TypeError(f"the command returned {code!r} instead of an exit code")
    return code


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {one_line(message)}", err=True)
    return code


def _defect() -> int:
    traceback.print_exc()
    return _fail("this is a defect of certlip; please report the lines above", INTERNAL)


def _abandon_stdout() -> None:
    """Nobody reads any more: let the interpreter's last flush go nowhere instead of failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
