"""`python -m certlip` is the `certlip` command."""

from certlip.cli.main import run

if __name__ == "__main__":
    run()
