"""`certlip`: the group of commands and the meaning of exit codes."""

from __future__ import annotations

import os
import sys
import traceback

import click

from certlip.cli import bound, check, inspect, methods, radius, solvers, verify
from certlip.errors import CertlipError
from certlip.version import __version__

EXIT_CODES = """\b
Exit codes:
  0    every claim is proved (or the share asked by --min-certified)
  1    falsified: a counterexample was found, or a sample is misclassified
  2    usage: an option or a data file is missing or makes no sense
  3    not proved: unknown, timeout, or the bound is above the limit
  4    the model is unsupported, malformed or read differently by its runtime
  5    a certificate was rejected
  70   internal error     130  interrupted     141  closed pipe
With mixed results the first that applies: 70, 5, 4, 1, 3, 0."""

INTERNAL, INTERRUPTED, CLOSED_PIPE = 70, 130, 141


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="certlip")
def main() -> None:
    """Prove how far a neural network's output can move when its input moves."""


for module in (inspect, bound, verify, radius, check, solvers, methods):
    main.add_command(module.command)


def run(arguments: list[str] | None = None) -> None:
    """Entry point: runs a command and leaves the process with its exit code; an internal error is never 0 or 1."""
    sys.exit(code_of(arguments))


def code_of(arguments: list[str] | None = None) -> int:
    """Exit code of a command line. Errors are one sentence on stderr."""
    try:
        try:
            code = main.main(arguments, prog_name="certlip", standalone_mode=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except BrokenPipeError:
            raise
        except click.ClickException as error:
            error.show()
            return 2
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            return INTERRUPTED
        except CertlipError as error:
            click.echo(f"error: {error}", err=True)
            return error.exit_code
        except MemoryError:
            click.echo("error: not enough memory for this model; use a smaller method or a larger machine", err=True)
            return INTERNAL
        except Exception:  # the last line of defence: report it as what it is
            traceback.print_exc()
            click.echo("error: this is a defect of certlip; please report the lines above", err=True)
            return INTERNAL
    except BrokenPipeError:
        # Nobody reads any more: let the interpreter's last flush go nowhere instead of failing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
