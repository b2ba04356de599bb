"""`python -m models_zoo.cards`: write proved bounds and certified accuracies into the cards, below their marker."""

from __future__ import annotations

from pathlib import Path

from certlip import api
from certlip.importers import Model, load
from certlip.properties.numbers import decimal_up

HERE = Path(__file__).parent
MARKER = "<!-- bounds -->"
RADII = {"l2": ("0.1", "0.3"), "linf": ("0.01", "0.03")}
TOLERANCE = "0.5"
SECONDS = 60.0


def stems() -> list[str]:
    """The models of the zoo."""
    return sorted(path.stem for path in HERE.glob("*.onnx"))


def bound_rows(model: Model) -> list[str]:
    """One table row for each norm and method; a bound that a deadline cut short would differ between machines."""
    rows = []
    for norm in ("l2", "linf"):
        for bound in api.bound(model, norm=norm, method="all", timeout=SECONDS).bounds:
            if bound.proved and bound.details.get("status") != "deadline":
                rows.append(f"| {bound.method} | {norm} | {decimal_up(bound.value):.10g} |")
    return rows


def verdict_rows(model: Model) -> list[str]:
    """One table row for each radius: shares of the held-out samples."""
    tolerance = TOLERANCE if model.graph.output_size == 1 else None
    rows = []
    for norm, radii in RADII.items():
        for eps in radii:
            report = api.verify(model, eps, norm=norm, tolerance=tolerance, timeout=SECONDS)
            falsified = sum(sample.status == "falsified" for sample in report.samples) / len(report.samples)
            rows.append(f"| {norm} | {eps} | {report.certified_accuracy:.4f} | {falsified:.4f} |")
    return rows


def section(stem: str) -> str:
    """What stands below the marker."""
    model = load(HERE / f"{stem}.onnx")
    question = f"outputs move by at most {TOLERANCE}" if model.graph.output_size == 1 else "the label is kept"
    return "\n".join(
        [
            MARKER,
            "",
            "Proved bounds on the change of the whole output over the change of the input, same norm on both sides:",
            "",
            "| method | norm | Lipschitz bound |",
            "|---|---|---|",
            *bound_rows(model),
            "",
            f"Held-out samples, global bounds only; certified means that {question}:",
            "",
            "| norm | eps | certified | falsified |",
            "|---|---|---|---|",
            *verdict_rows(model),
            "",
        ]
    )


def main() -> None:
    for stem in stems():
        path = HERE / f"{stem}.md"
        head = path.read_text().split(MARKER)[0]
        path.write_text(head + section(stem))
        print(f"{stem}: card written")


if __name__ == "__main__":
    main()
