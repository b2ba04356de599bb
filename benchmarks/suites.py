"""Suites of VNN-COMP: every instance is decided, and its certificate checked, in a process of its own."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.kept import Kept, Row, kept
from benchmarks.networks import ROOT, reference_data

TITLE = "Properties of VNN-COMP"
KEY = "suites"
_TEXT = """\
Instances with a firm verdict, decided by `auto` within the limit, reading included. `unsat`: the property is proved,
`sat`: a counterexample is confirmed. `sat_tol`: answered instances whose published counterexample holds only within
1e-6, so that either answer may be right. `others`: answered ones without a firm verdict, measured with `--all`; the two
count nowhere else. `wrong`: verdicts that contradict a firm one. Times are those of all firm instances, the undecided
ones with what they took; CPU s: the mean. `proof kB`: median and largest certificate of an unsat instance, without the
property file. `check s`: median and longest time that `certlip check` takes for it. `accepted`: certificates that it
accepts, of all that were decided."""
_SLACK = 600.0  # seconds beyond the limit, for the check, after which a process is ended
_ANSWERS = {"certified": "unsat", "falsified": "sat"}

@dataclass(frozen=True)
class Target:
    """undecided: how many firm instances may stay so. unsat: least number proved. all_sat: every sat is falsified.
    median: seconds."""

    undecided: int | None = None
    unsat: int | None = None
    all_sat: bool = False
    median: float | None = None

    def words(self) -> str:
        """As the page prints it."""
        parts = [
            self.undecided is not None and ("all" if not self.undecided else f"all but {self.undecided}"),
            self.unsat is not None and f"{self.unsat} unsat",
            self.all_sat and "all sat",
            self.median is not None and f"median < {self.median:g} s",
        ]
        return ", ".join(part for part in parts if part)

    def missed(self, rows: Sequence[Row]) -> list[str]:
        """What rows with a firm verdict miss."""
        answers = Counter((row["verdict"], answer(row)) for row in rows)
        decided = sum(count for (_, found), count in answers.items() if found)
        sat = sum(row["verdict"] == "sat" for row in rows)
        tests = [
            ("decided", self.undecided is None or len(rows) - decided <= self.undecided),
            ("unsat", self.unsat is None or answers["unsat", "unsat"] >= self.unsat),
            ("sat", not self.all_sat or answers["sat", "sat"] == sat),
            ("time", self.median is None or statistics.median(row["seconds"] for row in rows) < self.median),
        ]
        return [name for name, holds in tests if not holds]


@dataclass(frozen=True)
class Suite:
    """benchmarks: of instances.csv. Several of them make a row that sums up rows above."""

    name: str
    benchmarks: tuple[str, ...]
    seconds: float
    must: Target | None = None
    goal: Target = Target(undecided=0)


_SMALL = {
    "rl cartpole": "rl_benchmarks", "reach_prob": "reach_prob_density", "safenlp medical": "safenlp",
    "tll": "tllverifybench", "collins small": "collins_rul_cnn",
}  # fmt: skip
SUITES = (
    Suite("mnist_fc 256x2", ("mnist_fc",), 60, Target(undecided=1), Target(undecided=0, median=5)),
    Suite("acasxu shared", ("acasxu",), 60, Target(undecided=4)),
    *(Suite(name, (benchmark,), 60) for name, benchmark in _SMALL.items()),
    Suite("these five", tuple(_SMALL.values()), 60, Target(undecided=3)),
    Suite("oval21 base", ("oval21",), 120, Target(unsat=5)),
    Suite("sri_resnet_a", ("sri_resnet_a",), 120, Target(all_sat=True)),
    Suite("cora mnist-point", ("cora",), 120, Target(all_sat=True)),
)


def answer(row: Row) -> str:
    """sat, unsat, or nothing."""
    return _ANSWERS.get(row["status"], "")


def is_wrong(row: Row) -> bool:
    """Whether the verdict contradicts a firm one."""
    return row["verdict"] in ("sat", "unsat") and answer(row) not in ("", row["verdict"])


def names() -> list[str]:
    """The benchmarks of all suites."""
    return sorted({benchmark for suite in SUITES for benchmark in suite.benchmarks})


def section(everything: bool = False, only: Iterable[str] = ()) -> list[str]:
    """The lines of the table. everything: also instances without a firm verdict. only: some benchmarks."""
    folder = reference_data()
    if folder is None:
        return [f"## {TITLE}", "", "Not measured: there is no folder of published networks."]
    chosen = [suite for suite in SUITES if not only or set(suite.benchmarks) <= set(only)]
    rows: dict[str, list[Row]] = {}
    with kept("-".join([KEY, *sorted(only)])) as known:
        for suite in chosen:
            if len(suite.benchmarks) == 1:
                rows[suite.benchmarks[0]] = list(run(suite, folder / "vnncomp", everything, known))
    return table(chosen, rows)


def run(suite: Suite, folder: Path, everything: bool, known: Kept) -> Iterable[Row]:
    """The rows of a suite in the order of its file; known ones are not measured again."""
    with (folder / "instances.csv").open(newline="") as stream:
        entries = [row for row in csv.DictReader(stream) if row["benchmark"] in suite.benchmarks]
    for entry in entries:
        if not everything and entry["verdict"] not in ("sat", "unsat", "sat_tol"):
            continue
        asked = {name: entry[name] for name in ("model", "property", "model_sha256", "property_sha256")}
        files = folder / entry["model"], folder / entry["property"]
        row = known.row(asked | {"seconds": suite.seconds}, partial(_once, *files, suite.seconds))
        row = row | {"verdict": entry["verdict"]}
        wrong = " WRONG" * is_wrong(row)
        print(f"  {entry['property']}: {row['status']}{wrong} ({entry['verdict']}), {row['seconds']:.1f} s", flush=True)
        yield row


def _once(model: Path, property: Path, seconds: float) -> Row:
    """What `benchmarks.instance` measures; a process that ends without a verdict is an error with its last words."""
    command = [sys.executable, "-m", "benchmarks.instance", str(model), str(property), str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _SLACK, cwd=ROOT, check=False)
        output, words = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        words = f"ended after {seconds + _SLACK:.0f} s"
    for line in reversed(output.splitlines()):
        if line.startswith("{") and line.endswith("}"):
            return json.loads(line)
    note = (words.strip().splitlines() or ["no output"])[-1]
    return {"status": "error", "note": note[:300], "seconds": seconds, "cpu": None, "memory": None}


def table(suites: Sequence[Suite], rows: dict[str, list[Row]]) -> list[str]:
    """The lines of the section."""
    heads = (
        "suite | limit s | instances | decided | unsat | sat | sat_tol | others | wrong | median s | mean s | max s | "
        "CPU s | MB | proof kB | check s | accepted | target | goal | met"
    )
    lines = [f"## {TITLE}", "", _TEXT, "", f"| {heads} |", "|---" * (heads.count("|") + 1) + "|"]
    for suite in suites:
        found = [row for benchmark in suite.benchmarks for row in rows.get(benchmark, [])]
        if found:
            lines.append(f"| {' | '.join(_cells(suite, found))} |")
    return lines


def _cells(suite: Suite, rows: Sequence[Row]) -> list[str]:
    firm = [row for row in rows if row["verdict"] in ("sat", "unsat")]
    near = [row for row in rows if row["verdict"] == "sat_tol"]
    rest = [row for row in rows if row not in firm and row not in near]
    decided = [row for row in rows if answer(row)]
    proved = [row for row in decided if answer(row) == "unsat" and row.get("accepted") is not None]
    seconds = [row["seconds"] for row in firm]
    answers = Counter(answer(row) for row in firm)
    accepted = sum(row.get("accepted") is True for row in decided)

    def of(known: Sequence[Row], key: str, form: Callable[[list[float]], str]) -> str:
        values = [row[key] for row in known if row.get(key) is not None]
        return form(values) if values else ""

    return [
        suite.name, f"{suite.seconds:g}", str(len(firm)), str(answers["unsat"] + answers["sat"]),
        str(answers["unsat"]), str(answers["sat"]), _share(near), _share(rest), str(sum(map(is_wrong, firm))),
        *(f"{form(seconds):.3g}" for form in (statistics.median, statistics.mean, max)),
        of(firm, "cpu", lambda values: f"{statistics.mean(values):.3g}"), of(firm, "memory", _most),
        of(proved, "bytes", lambda values: f"{statistics.median(values) / 1e3:.3g}, {max(values) / 1e3:.3g}"),
        of(proved, "check", lambda values: f"{statistics.median(values):.3g}, {max(values):.3g}"),
        f"{accepted} of {len(decided)}", suite.must.words() if suite.must else "", suite.goal.words(),
        _met(suite, firm),
    ]  # fmt: skip


def _most(values: list[float]) -> str:
    return f"{max(values):.0f}"


def _share(rows: Sequence[Row]) -> str:
    return f"{sum(bool(answer(row)) for row in rows)} of {len(rows)}" if rows else ""


def _met(suite: Suite, firm: Sequence[Row]) -> str:
    """yes, "target only" or no, with what is missed; a wrong verdict misses everything."""
    if any(map(is_wrong, firm)):
        return "no: wrong verdicts"
    must, goal = suite.must.missed(firm) if suite.must else [], suite.goal.missed(firm)
    if must:
        return f"no: {', '.join(must)}"
    if not goal:
        return "yes"
    return f"{'target only, goal' if suite.must else 'goal no'}: {', '.join(goal)}"
