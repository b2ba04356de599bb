"""Runs the examples of a Markdown page as a reader would, in a folder with a copy of the model zoo and its properties.

```console blocks hold `$ ` commands, each followed by the output to expect: `certlip ...` and `python -m ...` are run,
`make TARGET` and `pip install` are checked against the repository. `# exit code N` after a command is the code to
expect (0 without it). ```python blocks are executed one after the other; comments after `print(...)` are what it
prints. `...` in an expected output stands for anything, and differences of white space do not count.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from certlip.cli.main import code_of

ROOT = Path(__file__).parents[2]
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"# exit code (\d+)$")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return _BLOCK.findall(page.read_text())


def commands(text: str) -> Iterator[tuple[str, int, str]]:
    """(command, expected exit code, expected output) of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        code = _EXIT.search(line)
        yield line[: code.start()].strip() if code else line.strip(), int(code[1]) if code else 0, output


def run_page(page: Path, folder: Path) -> int:
    """Run every example of a page; the number of examples. The current folder must be `folder`."""
    shutil.copytree(ROOT / "models_zoo", folder / "models_zoo", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(ROOT / "specs" / "vnnlib", folder / "specs" / "vnnlib")
    count, names = 0, {}
    for language, text in blocks(page):
        if language == "console":
            for command, code, output in commands(text):
                _run_command(command, code, output)
                count += 1
        elif language == "python":
            _run_python(text, names, page)
            count += 1
    return count


def _run_command(command: str, code: int, expected: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
    elif words[:2] == ["pip", "install"]:
        constraints = ROOT / words[words.index("-c") + 1]
        assert re.search(r"^torch==", constraints.read_text(), re.MULTILINE), command
    elif words[0] == "certlip":
        with redirect_stdout(StringIO()) as stream:
            found = code_of(words[1:])
        _compare(command, code, expected, found, stream.getvalue())
    else:
        assert words[:2] == ["python", "-m"], f"the page shows a command that no test runs: {command}"
        places = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, env=places, check=False)
        _compare(command, code, expected, done.returncode, done.stdout)


def _compare(command: str, code: int, expected: str, found: int, output: str) -> None:
    assert found == code, f"{command}\nexited {found}, not {code}:\n{output}"
    if expected.strip():
        assert matches(expected, output), f"{command}\nshould print\n{expected}\nbut prints\n{output}"


def matches(expected: str, output: str) -> bool:
    """Whether the output is the expected one; it may go on after the lines that the page shows."""
    checker = doctest.OutputChecker()
    return checker.check_output(expected, output, _FLAGS) or checker.check_output(expected + "...\n", output, _FLAGS)


def _run_python(text: str, names: dict, page: Path) -> None:
    expected = "\n".join(re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE))
    assert len(expected.splitlines()) == len(re.findall(r"^print\(", text, re.MULTILINE)), "a print without its output"
    with redirect_stdout(StringIO()) as stream:
        exec(compile(text, f"<example of {page.name}>", "exec"), names)
    assert matches(expected, stream.getvalue()), f"{text}\nprints\n{stream.getvalue()}"
