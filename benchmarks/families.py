"""Families of 1-Lipschitz layers: `python -m benchmarks.families ARCHITECTURE FAMILY` prints one row as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept import Row, kept
from benchmarks.process import row_of
from certlip.properties.numbers import decimal_up

TITLE = "1-Lipschitz layers"
KEY = "families"
ARCHITECTURES = ("dense", "conv")
EPOCHS = {"dense": 40, "conv": 30}
BATCH, RATE = 100, 5e-3
RADIUS, TEMPERATURE = 1.0, 0.25
METHODS = {"dense": "lipsdp", "conv": "lipsdp-torus"}
SECONDS = 300.0  # for the bound, and for all radii together
EPS = ("36/255", "72/255", "108/255", "1")
NOMINAL = "none"
_TEXT = """\
Networks trained from scratch on 4500 MNIST images and certified on 500 others. One budget for all: {dense} epochs
(`dense`) or {conv} (`conv`) in batches of {batch}, Adam with the rate {rate:g} falling to zero along a cosine, one
thread, no augmentation, one run with the seed 0. `dense`: 784-64, three residual layers of width 64 with 64 neurons,
64-10. `conv`: convolution 1-8 (4x4, stride 2), residual layer 8 (3x3), convolution 8-16 (4x4, stride 2), residual layer
16 (3x3), dense 784-10. The loss is `margin_loss` with radius {radius:g} and temperature {temperature:g}. `none` has the
same shape without constraints, residual layers x + W2 relu(W1 x + b), and plain cross-entropy. `train s`: CPU time.
`proved L`: by `certlip.bound` on the written ONNX file, with `lipsdp` for `dense` and `lipsdp-torus` for `conv`.
`slope`: the steepest found between two points, proved too, below which no Lipschitz constant can be. Then the shares of
images that are classified correctly with a proved radius above the l2 radius of the column: from a bound of its own for
each pair of classes (`dense`), or from sqrt(2) L (`conv`, where programs for all 45 pairs take minutes)."""


def build(architecture: str, family: str) -> Any:
    """The untrained module."""
    from torch import nn

    from certlip import layers

    if family == NOMINAL:
        dense, conv = nn.Linear, nn.Conv2d

        def thin(width: int) -> nn.Module:
            return layers.Branch(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

        def image(width: int) -> nn.Module:
            return layers.Branch(
                nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
            )
    else:
        dense, conv = layers.DENSE[family], layers.CONV2D[family]
        thin, image = layers.RESIDUAL_DENSE[family], layers.RESIDUAL_CONV2D[family]
    if architecture == "dense":
        return nn.Sequential(nn.Flatten(), dense(784, 64), *(thin(64) for _ in range(3)), dense(64, 10))
    return nn.Sequential(
        conv(1, 8, 4, stride=2, padding=1), image(8), conv(8, 16, 4, stride=2, padding=1), image(16),
        nn.Flatten(), dense(16 * 7 * 7, 10),
    )  # fmt: skip


def train(module: Any, x: np.ndarray, y: np.ndarray, epochs: int, nominal: bool) -> None:
    """One budget for all."""
    import torch
    from torch.nn import functional as F

    from certlip.layers import margin_loss

    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    steps = len(x) // BATCH
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x))[: steps * BATCH].split(BATCH):
            logits = module(inputs[rows])
            if nominal:
                loss = F.cross_entropy(logits, labels[rows])
            else:
                loss = margin_loss(logits, labels[rows], 1.0, RADIUS, TEMPERATURE)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def measure(architecture: str, family: str) -> Row:
    """Train, write, bound, certify."""
    import torch

    import certlip
    from certlip.layers import plain
    from models_zoo.data import mnist

    torch.set_num_threads(1)
    torch.manual_seed(0)
    split = mnist()
    module = build(architecture, family)
    began = time.process_time()
    train(module, split.x_train, split.y_train, EPOCHS[architecture], family == NOMINAL)
    seconds = time.process_time() - began
    method = METHODS[architecture]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        exported = certlip.load(plain(module), input_shape=(1, 1, 28, 28))
        path.write_bytes(exported.onnx_bytes or b"")
        model = certlip.load(path)
        report = certlip.bound(model, method=method, timeout=SECONDS)
        if architecture == "dense":
            data = (split.x_test, split.y_test)
            verified = certlip.radius(model, data=data, method=method, timeout=SECONDS, total_timeout=SECONDS)
            right = [sample for sample in verified.samples if sample.status != "misclassified"]
            found = [float(sample.radius or 0.0) for sample in right]
        else:
            found = global_radii(model, split.x_test, split.y_test, report.best.value if report.best else float("inf"))
    return {
        "train": seconds,
        "clean": len(found) / len(split.y_test),
        "bound": report.best.value if report.best else None,
        "seconds": report.best.seconds if report.best else None,
        "slope": report.lower.value if report.lower else 0.0,
        "certified": [sum(radius > Fraction(eps) for radius in found) / len(split.y_test) for eps in EPS],
    }


def global_radii(model: Any, x: np.ndarray, y: np.ndarray, bound: float) -> list[float]:
    """Proved radii of the images that are classified correctly: a margin moves at most sqrt(2) L times the input."""
    from certlip.proofs.margin import output_balls
    from certlip.rigor.rounding import up
    from certlip.verification.margins import certified_radius, label_margins

    outputs = output_balls(model.graph, x.astype(np.float64))
    margins = [float(label_margins(outputs[i], int(label)).min()) for i, label in enumerate(y)]
    moves = up(up(np.sqrt(2.0)) * bound)
    return [certified_radius(margin, float(moves)) for margin in margins if margin > 0]


def section() -> list[str]:
    """The lines of the table."""
    from certlip.layers import FAMILIES

    heads = " | ".join(["network", "train s", "clean", "proved L", "bound s", "slope", *(f"l2 {eps}" for eps in EPS)])
    text = _TEXT.format(**EPOCHS, batch=BATCH, rate=RATE, radius=RADIUS, temperature=TEMPERATURE)
    lines = [f"## {TITLE}", "", text, "", f"| {heads} |", "|---" * (heads.count("|") + 1) + "|"]
    with kept(KEY) as known:
        for architecture, family in product(ARCHITECTURES, (NOMINAL, *FAMILIES)):
            order = {"architecture": architecture, "family": family}
            budget = {"epochs": EPOCHS[architecture], "batch": BATCH, "rate": RATE, "radius": RADIUS}
            row = known.row(order | budget | {"temperature": TEMPERATURE}, partial(row_of, KEY, *order.values()))
            lines.append(_line(f"{architecture}, {family}", row))
            print(f"  {lines[-1]}", flush=True)
    return lines


def _line(name: str, row: Row) -> str:
    if "unavailable" in row:
        return f"| {name} | not available: {row['unavailable'].replace('|', '/')} |" + " |" * (4 + len(EPS))
    bound = "-" if row["bound"] is None else f"{decimal_up(row['bound']):.10g}"
    seconds = "-" if row["seconds"] is None else f"{row['seconds']:.3g}"
    shares = " | ".join(f"{100 * share:.1f} %" for share in row["certified"])
    clean = f"{100 * row['clean']:.1f} %"
    return f"| {name} | {row['train']:.0f} | {clean} | {bound} | {seconds} | {row['slope']:.4f} | {shares} |"


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
