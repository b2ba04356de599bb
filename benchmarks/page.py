"""From measured rows to docs/benchmarks.md. Whether a target is met is computed here, never written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.cases import Case, Section, Target
from certlip.properties.numbers import decimal_up

Row = Mapping[str, Any]
Rows = Mapping[tuple[str, str], Row]  # by (name, method)


def missed(target: Target, case: Case, published: float | None, rows: Rows) -> list[str]:
    """What of a target a case misses; empty where it is met."""
    row = rows[case.name, case.method]
    if "value" not in row:
        return ["no value"]
    value = row["value"]

    def other(method: str) -> float:
        return rows.get((case.name, method), {}).get("value", float("nan"))

    def not_slower(method: str, factor: float) -> bool:
        peer = rows.get((case.name, method), {})
        return "wall" not in peer or row["wall"] * factor <= peer["wall"]

    gap = row.get("gap")
    tests: list[tuple[str, bool]] = []
    if target.value is not None:
        tests.append(("value", value <= target.value))
    if target.relative is not None:
        tests.append(("value", published is not None and value <= published * (1 + target.relative)))
    if target.ratio is not None:
        tests.append(("ratio", value <= target.ratio * other("spectral")))
    if target.gap is not None:
        tests.append(("gap", gap is not None and gap <= target.gap))
    if target.seconds is not None:
        tests.append(("time", row["wall"] <= target.seconds))
    if target.gigabytes is not None:
        tests.append(("memory", row["memory"] <= target.gigabytes * 1024))
    if target.below:
        tests.append((f"above {target.below}", value <= other(target.below)))
    if target.near is not None:
        method, tolerance = target.near
        tests.append((f"not near {method}", abs(value / other(method) - 1) <= tolerance))
    tests += [(f"time against {method}", not_slower(method, factor)) for method, factor in target.faster]
    return [name for name, holds in tests if not holds]


def sentence(target: Target | None) -> str:
    """A target as the page prints it."""
    if target is None:
        return ""
    parts = [
        target.value is not None and f"<= {target.value:g}",
        target.relative is not None and f"published to {target.relative:g}",
        target.ratio is not None and f"ratio <= {target.ratio:g}",
        target.below and f"<= {target.below}",
        target.near is not None and f"{target.near[0]} to {target.near[1]:g}" if target.near else "",
        target.gap is not None and f"gap <= {target.gap:g}",
        target.seconds is not None and f"< {target.seconds:g} s",
        target.gigabytes is not None and f"< {target.gigabytes:g} GB",
    ]
    same: dict[float, list[str]] = {}
    for method, factor in target.faster:
        same.setdefault(factor, []).append(method)
    for factor, names in same.items():
        parts.append(f"time <= {f'1/{factor:g} of ' * (factor != 1)}{', '.join(names)}")
    return ", ".join(str(part) for part in parts if part)


def verdict(case: Case, published: float | None, rows: Rows) -> str:
    """yes: target and goal; "target only": not the goal; no: with what is missed."""
    if case.must is None and case.goal is None:
        return ""
    must = missed(case.must, case, published, rows) if case.must else []
    goal = missed(case.goal, case, published, rows) if case.goal else []
    if must:
        return f"no: {', '.join(must)}"
    if not goal:
        return "yes"
    return f"target only, goal: {', '.join(goal)}" if case.must else f"goal no: {', '.join(goal)}"


def _gap(row: Row) -> str:
    if row.get("gap") is None:
        return ""
    return f"{'' if row['gap_is_certified'] else '~'}{row['gap']:.1e}{', cut short' if row['cut_short'] else ''}"


def _proof(row: Row) -> str:
    if row.get("proof") is None:
        return ""
    share = row["proof"] / max(row["wall"] - row["proof"], 1e-9)
    return f"{100 * share:.0f} %" if share < 10 else "all"  # a method without a search is nothing but its proof


def _value(case: Case, row: Row) -> str:
    if "value" not in row:
        known = ("did not", "out of", "crashed", "not installed", "stopped")
        return "not available: " * (not row["unavailable"].startswith(known)) + row["unavailable"]
    return f"{row['value']:.10g} (not proved)" if case.work == "peer" else f"{decimal_up(row['value']):.10g}"


def _ratio(case: Case, row: Row, rows: Rows) -> str:
    product = rows.get((case.name, "spectral"), {}).get("value")
    return f"{row['value'] / product:.4f}" if product and "value" in row else ""


def table(section: Section, rows: Rows, published: Callable[[Case], float | None]) -> list[str]:
    """The lines of a section: title, text, one row for each case that was measured."""
    heads = ["network", "method", "published", "target", "goal", "bound"]
    heads += ["ratio"] * section.ratio + ["difference", "x time"] * bool(section.against)
    heads += ["gap", "wall s", "CPU s", "proof", "MB", "met"]
    lines = [f"## {section.title}", "", section.text, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for case in section.cases:
        if (case.name, case.method) not in rows:
            continue
        row, expected = rows[case.name, case.method], published(case)
        cells = [case.name, f"auto: {row['used']}" if row.get("used") else case.method]
        cells += ["" if expected is None else f"{expected:.9g}", sentence(case.must), sentence(case.goal)]
        cells.append(_value(case, row))
        if section.ratio:
            cells.append(_ratio(case, row, rows))
        if section.against:
            cells += _against(row, rows.get((case.name, section.against), {}))
        cells += [_gap(row), *(f"{row[key]:.3g}" if key in row else "" for key in ("wall", "cpu"))]
        cells += [_proof(row), f"{row['memory']:.0f}" if "memory" in row else "", verdict(case, expected, rows)]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return lines


def _against(row: Row, ours: Row) -> list[str]:
    """Relative difference of the value, and time over ours."""
    if row is ours or "value" not in ours:
        return ["", ""]
    difference = f"{row['value'] / ours['value'] - 1:+.1e}" if "value" in row else ""
    more = ">" * ("value" not in row)
    return [difference, f"{more}{row['wall'] / ours['wall']:.3g}" if "wall" in row else ""]
