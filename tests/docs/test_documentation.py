"""The pages in docs/ are complete, current and true."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib

import pytest
from documented_examples import ROOT, blocks, run_page

import certlip
from certlip.cli.main import main
from certlip.lipschitz import certifiers
from certlip.onnx_reader.lowering import LOWERINGS

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def load_generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()


@pytest.mark.parametrize("name", ["cli.md", *GENERATOR.PARTS])
def test_generated_pages_are_current(name):
    assert (DOCS / name).read_text() == GENERATOR.pages()[name], "run `make docs`"


def test_generating_twice_changes_nothing(tmp_path, monkeypatch, capsys):
    for page in PAGES:
        (tmp_path / page.name).write_text(page.read_text())
    (tmp_path / "cli.md").unlink()
    monkeypatch.setattr(GENERATOR, "DOCS", tmp_path)
    GENERATOR.main()
    assert capsys.readouterr().out == "docs/cli.md\n"
    GENERATOR.main()
    assert capsys.readouterr().out == ""


def test_a_lost_marker_is_an_error():
    with pytest.raises(ValueError, match="markers"):
        GENERATOR.filled("no markers here", "methods", "table")


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_documented(name):
    command = main.commands[name]
    assert command.help and command.help.strip().endswith((".", "installed."))
    page = (DOCS / "cli.md").read_text()
    assert f"\n## certlip {name}\n" in page
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, parameter.name
            assert all(f"`{option}`" in page for option in parameter.opts)


@pytest.mark.parametrize("name", [name for name in certlip.__all__ if name != "__version__"])
def test_every_public_name_has_a_docstring(name):
    assert (getattr(certlip, name).__doc__ or "").strip()
    assert name in (DOCS / "python.md").read_text()


@pytest.mark.parametrize("name", sorted(certifiers()))
def test_every_certifier_is_documented(name):
    assert f"| `{name}` |" in (DOCS / "methods.md").read_text()


def test_every_lowering_is_documented():
    page = (DOCS / "operators.md").read_text()
    for operator in LOWERINGS:
        if "." not in operator:  # patterns that the reader makes itself
            assert f"| `{operator}` |" in page, operator
    assert set(GENERATOR.CASES) <= set(LOWERINGS)


def test_every_dependency_is_explained():
    page = (DOCS / "dependencies.md").read_text()
    project = SETTINGS["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (entry for entries in lists for entry in entries):
        name = re.match(r"[\w-]+", requirement)[0]
        assert re.search(rf"^\| [^|]*\b{name}\b", page, re.MULTILINE), name


def test_every_room_is_on_the_map():
    page = (DOCS / "architecture.md").read_text()
    layers = SETTINGS["tool"]["importlinter"]["contracts"][0]["layers"]
    rows = re.findall(r"^\| (`certlip\.[^|]*) \|", page, re.MULTILINE)
    assert [row.replace("`", "").replace(", ", " | ") for row in rows] == layers


def test_the_changelog_has_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(certlip.__version__)}\b", changelog, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = page.read_text()
    headings = {heading.strip().lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^):]+)\)", text):
        file, _, anchor = target.partition("#")
        assert not file or (page.parent / file).exists(), target
        assert file or anchor in headings, target
    if page.stem != "index":
        assert f"({page.name})" in (DOCS / "index.md").read_text()


WITH_EXAMPLES = [page for page in PAGES if {"console", "python"} & {language for language, _ in blocks(page)}]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "COLUMNS", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    assert run_page(page, tmp_path) > 0
