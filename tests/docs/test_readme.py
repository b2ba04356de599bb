"""The README is true: its commands run, print what it shows and exit as it says, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented_examples import ROOT, blocks, commands, matches, run_page

from certlip.cli.exit_codes import EXIT_CODES

README = ROOT / "README.md"


@pytest.fixture(autouse=True)
def plain_folder(tmp_path, monkeypatch):
    """A fresh current folder, and no settings that colour or fold the output."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "COLUMNS", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def test_every_example_runs(tmp_path):
    assert run_page(README, tmp_path) >= 10


def test_it_opens_with_the_two_commands_and_the_plain_installation():
    opening = [command for language, text in blocks(README)[:2] for command, _, _ in commands(text)]
    assert opening == ["make demo", "make test", "pip install -c constraints.txt ."]
    before = README.read_text().split("```")[0]
    assert len(before.splitlines()) <= 6


def test_every_block_has_a_language_that_is_run():
    assert {language for language, _ in blocks(README)} == {"console", "python"}


def test_the_gate_runs_the_test_command_of_the_readme():
    gate = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"^(exec )?make test$", gate, re.MULTILINE)


def test_exit_codes_are_those_of_the_command_line():
    rows = re.findall(r"^\| (\d[\d, ]*) \| (.*) \|$", README.read_text(), re.MULTILINE)
    stated = {code: text.replace("`", "") for code, text in rows}
    lines = dict(re.findall(r"^  (\d)    (.*)$", EXIT_CODES, re.MULTILINE))
    assert len(lines) == 6
    for code, meaning in lines.items():
        assert stated[code] == meaning
    assert EXIT_CODES.splitlines()[-1] in README.read_text()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target


def test_expected_outputs_are_compared():
    assert matches("a  b\n... 1\n", "a b\nx 1\nmore\n")
    assert not matches("a\n", "b\n")
    assert not matches("20 samples\n", "21 samples\n")
    assert Path.cwd() != ROOT
