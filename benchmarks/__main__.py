"""`python -m benchmarks [SECTION ...]`: measure, compare with peers in the same run, write docs/benchmarks.md.

Named sections are measured again and replace their part of the page; without names everything is.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import accuracy, admm, checks, crown, families, repairs, restriction, suites
from benchmarks.cases import SECTIONS, Case, Section
from benchmarks.measure import Row, machine, measure
from benchmarks.networks import FOLDER, ROOT, dense_onnx, published_value, reference_data
from benchmarks.page import table

PAGE = ROOT / "docs" / "benchmarks.md"
READING = """\
Written by `make bench`, which installs the peers and runs `python -m benchmarks`; with a table's key (`--help` lists
them) that table alone is measured again. `suites`, `accuracy` and those of repairs take long: interrupted, they go on
where they stopped when started again. `CERTLIP_REFERENCE_DATA` names the folder of published networks. Absolute
times drift with the machine; each table is from one run. Every row is a process of its own that first solves a tiny
network, so that imports do not count; rows below 5 s are medians of three.

- `bound`: proved and rounded up, unless the row says otherwise.
- `gap`: relative distance to the optimum of the method's program; `~` marks a solver's estimate.
- `proof`: time of the proof over the time of finding.
- `MB`: peak memory of the process, Python and libraries included.
- `met`: computed from the row. `target` must hold, `goal` is what it reaches for."""
IMPORT, CHECKS, CROWN = "import", "checks", "crown"
OTHERS = {CHECKS: checks, CROWN: crown, suites.KEY: suites, accuracy.KEY: accuracy}
OTHERS |= {module.KEY: module for module in (restriction, families, admm, repairs)}
"""Sections that are no list of cases, by their keys: modules with a title and a function of their lines."""


def published(case: Case) -> float | None:
    """The number that others published for this row."""
    if isinstance(case.published, str):
        return published_value(case.name, case.published)
    return case.published


def import_section() -> list[str]:
    """Reading an ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        path = dense_onnx(Path(folder) / "model.onnx", [784, 400, 400, 64, 10])
        row = measure(Case("import", str(path), work="import"))
    lines = ["## Import and check", ""]
    if "unavailable" in row:
        return [*lines, f"Not measured: {row['unavailable']}."]
    return [
        *lines,
        "Reading an ONNX chain and checking it value by value against onnxruntime, whose own import is included; "
        "median of three processes.",
        "",
        "| parameters | wall s | CPU s | MB |",
        "|---|---|---|---|",
        f"| {row['parameters']} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['memory']:.0f} |",
    ]


def measured(section: Section) -> list[str]:
    """The lines of one section. Cases of a network are measured one after the other, as ratios need."""
    if section.needs_data and reference_data() is None:
        return [f"## {section.title}", "", f"Not measured: `{FOLDER}` names no folder of published networks."]
    rows: dict[tuple[str, str], Row] = {}
    for case in section.cases:
        rows[case.name, case.method] = row = measure(case)
        print(f"  {case.name}, {case.method}: {row.get('value', row.get('unavailable'))}", flush=True)
    return table(section, rows, published)


def main() -> None:
    keys = [IMPORT, *(section.key for section in SECTIONS), *OTHERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"any of {', '.join(keys)}; default: all")
    parser.add_argument("--all", action="store_true", help="suites: also instances without a firm verdict")
    parser.add_argument(
        "--suite", action="append", metavar="NAME", choices=suites.names(),
        help="suites: this one alone, repeatable, into a page named by --out: %(choices)s",
    )
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    arguments = parser.parse_args()
    wanted = arguments.sections or keys
    if arguments.suite and arguments.out == PAGE:
        parser.error("some suites alone are not what the page shows; name another file with --out")
    if unknown := sorted(set(wanted) - set(keys)):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(keys)}")
    titles = {IMPORT: "Import and check", **{section.key: section.title for section in SECTIONS}}
    titles |= {key: other.TITLE for key, other in OTHERS.items()}
    parts = _parts(arguments.out) if arguments.sections else {}
    makers: dict[str, Callable[[], list[str]]] = {IMPORT: import_section}
    makers |= {key: other.section for key, other in OTHERS.items()}
    makers[suites.KEY] = partial(suites.section, arguments.all, arguments.suite or ())
    makers |= {section.key: partial(measured, section) for section in SECTIONS}
    for key in wanted:
        print(f"{key}:", flush=True)
        parts[titles[key]] = "\n".join(makers[key]())
        head = ["# Benchmarks", "", *machine(), "", READING]
        kept = [parts[titles[key]] for key in keys if titles[key] in parts]
        arguments.out.write_text("\n\n".join(["\n".join(head), *kept]) + "\n")  # after each: a stop loses one section
    print(f"wrote {arguments.out}")


def _parts(page: Path) -> dict[str, str]:
    """The sections of an earlier page by title."""
    text = page.read_text() if page.exists() else ""
    found = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0]: f"## {part.rstrip()}" for part in found}


if __name__ == "__main__":
    main()
