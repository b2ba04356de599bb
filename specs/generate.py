"""Write one VNN-LIB 1.0 property per classifier of the zoo: `python -m specs.generate [--out DIR]`.

Property of a model: the l-infinity box of radius EPS around its first held-out sample, and as unsafe set the points
where some other class scores at least as high as the sample's label. `unsat` means that the label is kept on the whole
box. Bounds are exact decimals of (stored sample) +- EPS; nothing is drawn at random, so the files never change by
themselves.
"""

from __future__ import annotations

import argparse
import sys
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "models_zoo"
EPS = Fraction(1, 100)
SAMPLE = 0
EXACT = Context(prec=1200, traps=[Inexact])  # a decimal that would have to round is an error


def decimal(value: Fraction) -> str:
    """The exact decimal of a fraction whose denominator has only factors 2 and 5."""
    text = format(EXACT.divide(Decimal(value.numerator), Decimal(value.denominator)), "f")
    return text if "." in text else f"{text}.0"


def classes_of(labels: np.ndarray) -> int:
    """Outputs of a classifier: the held-out samples of the zoo cover every class."""
    return int(labels.max()) + 1


def vnnlib(stem: str, sample: np.ndarray, label: int, classes: int) -> str:
    """The property as text; inputs are numbered in row-major order."""
    values = [Fraction(float(value)) for value in sample.ravel()]
    lines = [
        f"; {stem}.onnx, held-out sample {SAMPLE}, label {label}",
        f"; inputs: the l-infinity box of radius {decimal(EPS)} around the sample, in the model's own units, row-major",
        f"; outputs: unsafe where a class other than {label} scores at least as high; unsat means robust",
        "",
        *(f"(declare-const X_{i} Real)" for i in range(len(values))),
        "",
        *(f"(declare-const Y_{k} Real)" for k in range(classes)),
        "",
    ]
    for i, value in enumerate(values):
        lines += [f"(assert (>= X_{i} {decimal(value - EPS)}))", f"(assert (<= X_{i} {decimal(value + EPS)}))"]
    lines += ["", "(assert (or"]
    lines += [f"    (and (>= Y_{k} Y_{label}))" for k in range(classes) if k != label]
    lines += ["))", ""]
    return "\n".join(lines)


def properties() -> dict[str, str]:
    """Text of each property by the stem of its model; a model without integer labels has none."""
    texts = {}
    for path in sorted(ZOO.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            samples, labels = data["x"], data["y"]
        if labels.dtype.kind in "iu" and path.with_suffix(".onnx").is_file():
            texts[path.stem] = vnnlib(path.stem, samples[SAMPLE], int(labels[SAMPLE]), classes_of(labels))
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m specs.generate", description="Write the VNN-LIB properties.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "vnnlib", help="folder to write into")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in properties().items():
        (folder / f"{stem}.vnnlib").write_text(text)
        sys.stdout.write(f"{folder / stem}.vnnlib\n")


if __name__ == "__main__":
    main()
