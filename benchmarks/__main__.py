"""`python -m benchmarks`: measure, compare with peers in the same run, write docs/benchmarks.md."""

from __future__ import annotations

import csv
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Timing, machine, run
from benchmarks.networks import ROOT, dense_onnx, reference_data
from certlip.properties.numbers import decimal_up

TARGET = ROOT / "docs" / "benchmarks.md"
HIDDEN = 50
REFERENCES = (
    ("lipsdp_random", "all", 36.48223),
    ("lipsdp_mnist", "all", 24.36635),
    ("digits_fnn2_seed0", "7", None),
    ("digits_fnn3_seed0", "7", None),
)


def _bound(timing: Timing) -> str:
    """The proved bound, rounded up."""
    return f"{decimal_up(timing.result['value']):.10g}"


def import_section() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = dense_onnx(Path(folder) / "model.onnx", [784, 400, 400, 64, 10])
        timing = run("import_and_check", str(path))
    if timing is None:
        return ["Import did not finish."]
    return [
        "## Import and check",
        "",
        "Reading an ONNX chain and checking it value by value against onnxruntime, whose own import is included; "
        f"median of {timing.runs} processes.",
        "",
        "| parameters | wall s | CPU s |",
        "|---|---|---|",
        f"| {timing.result['parameters']} | {timing.wall:.2f} | {timing.cpu:.2f} |",
    ]


def lipsdp_section() -> list[str]:
    ours = run("lipsdp", str(HIDDEN), "lipsdp")
    peer = run("lipsdp", str(HIDDEN), "lipsdp-conic", runs=1)
    lines = [
        "## LipSDP, 2 x 50 hidden neurons",
        "",
        "Random chain 10-50-50-5, bound found and proved, against the same program through cvxpy "
        f"{version('cvxpy')} with Clarabel {version('clarabel')} in the same run (one run of the peer).",
        "",
        "| solver | bound | wall s | CPU s |",
        "|---|---|---|---|",
    ]
    if ours is not None:
        lines.append(f"| certlip | {_bound(ours)} | {ours.wall:.3f} | {ours.cpu:.3f} |")
    if peer is None:
        lines.append("| cvxpy + Clarabel | did not finish | > 900 | |")
    else:
        lines.append(f"| cvxpy + Clarabel | {_bound(peer)} | {peer.wall:.1f} | {peer.cpu:.1f} |")
    if ours is not None and peer is not None:
        lines += ["", f"Ratio: {peer.wall / ours.wall:.0f} in wall time, {peer.cpu / ours.cpu:.0f} in CPU time."]
    return lines


def reference_section() -> list[str]:
    folder = reference_data()
    if folder is None:
        return ["## Published networks", "", "Not measured: `CERTLIP_REFERENCE_DATA` names no folder."]
    with (folder / "lipschitz" / "references.csv").open(newline="") as stream:
        published = {
            row["network"]: float(row["value"])
            for row in csv.DictReader(stream)
            if row["bound"] in ("lipsdp-neuron", "LipSDP") and row["norm"] == "l2"
        }
    lines = [
        "## Published networks",
        "",
        "`lipsdp_*` are the networks of the LipSDP repository (Fazlyab et al. 2019), `digits_*` those of GLipSDP with "
        "the bound on logit 7.",
        "",
        "| network | published | certlip, proved | relative difference | wall s |",
        "|---|---|---|---|---|",
    ]
    for name, output, value in REFERENCES:
        timing = run("reference", name, output, runs=3)
        expected = value if value is not None else published[name]
        if timing is None:
            lines.append(f"| {name} | {expected:.9g} | did not finish | | |")
            continue
        difference = timing.result["value"] / expected - 1.0
        lines.append(f"| {name} | {expected:.9g} | {_bound(timing)} | {difference:+.1e} | {timing.wall:.3f} |")
    return lines


def main() -> None:
    head = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {machine()}. Absolute times drift with the machine; ratios are from one run.",
    ]
    sections = [head]
    for section in (import_section, lipsdp_section, reference_section):
        print(f"measuring: {section.__name__}", flush=True)
        sections.append(section())
    TARGET.write_text("\n\n".join("\n".join(lines) for lines in sections) + "\n")
    print(TARGET.read_text())


if __name__ == "__main__":
    main()
