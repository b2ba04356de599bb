"""One CROWN pass against the same bound in plain torch: `python -m benchmarks.crown MODEL METHOD` prints a JSON row.

Each row is a process of its own, with the number of threads that its environment names.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import ROOT, competition, reference_data
from certlip.graph import Graph
from certlip.rigor.rounding import Array

TITLE = "A CROWN pass"
_TEXT = """\
All intermediate bounds and the 9 margins of {boxes} boxes at once: those of the suite's instances, and where there are
fewer, the same boxes again with half the sides. `certlip` is the rigorous kernel in binary64: its bounds are proved.
`torch` is a straightforward vectorised implementation (`benchmarks/crown_torch.py`), not proved: of all intermediate
neurons, or `few`: of those that intervals leave open in some box. auto_LiRPA is measured where `AUTO_LIRPA` names its
checkout, and is the reference then; else `torch float32` is. Medians of at least {least} repetitions after one to warm
up. `difference`: the largest of a margin from certlip's. Target: not slower than the reference. Goal: twice as fast."""
_MODELS = {
    "mnist_fc 256x2": ("mnist_fc", "mnist_fc/onnx/mnist-net_256x2.onnx.gz"),
    "oval21 base": ("oval21", "oval21/onnx/cifar_base_kw.onnx.gz"),
}
_BOXES, _LEAST, _MOST, _SECONDS = 16, 3, 21, 3.0  # repetitions, and seconds after which they end
_CHECKOUT = "AUTO_LIRPA"
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_OURS, _PEER, _PLAIN = "certlip", "auto_LiRPA float32", "torch float32"
METHODS = (_OURS, _PEER, _PLAIN, "torch float32, few", "torch float64", "torch float64, few")

Row = dict[str, Any]
Bound = Callable[[Array, Array, Array], Array]


def boxes(suite: str, graph: Graph) -> tuple[Array, Array]:
    """Low and high ends, (boxes, *input shape)."""
    from certlip.proofs.query import property_queries
    from certlip.properties.vnnlib import read_property

    folder = reference_data()
    if folder is None:
        raise FileNotFoundError("no folder of published networks")
    with (folder / "vnncomp" / "instances.csv").open(newline="") as stream:
        names = [row["property"] for row in csv.DictReader(stream) if row["benchmark"] == suite][:_BOXES]
    domains = [property_queries(graph, read_property(folder / "vnncomp" / name))[0].domain for name in names]
    low, high = np.array([domain.low for domain in domains]), np.array([domain.high for domain in domains])
    while len(low) < _BOXES:
        quarter = (high - low) / 4
        low, high = np.concatenate([low, low + quarter]), np.concatenate([high, high - quarter])
    return low[:_BOXES], high[:_BOXES]


def margins(outputs: Array) -> Array:
    """For each box the rows of f_label - f_k, the label being the class of its center: (boxes, m - 1, m)."""
    count, size = outputs.shape
    labels = outputs.argmax(1)
    rows = np.eye(size)[labels][:, None] - np.eye(size)
    return rows[np.arange(size) != labels[:, None]].reshape(count, size - 1, size)


def ours(graph: Graph) -> Bound:
    """The kernel that proofs go through."""
    from certlip.proofs.query import Domain
    from certlip.proofs.relaxation.backward import lower_bounds
    from certlip.proofs.relaxation.cells import cells_of

    def bound(low: Array, high: Array, rows: Array) -> Array:
        frame = cells_of(graph, Domain(low.min(0), high.max(0)), low, high)
        owners = np.repeat(np.arange(len(rows)), rows.shape[1])
        coefficients = rows.reshape(-1, *graph.output_shape)
        return lower_bounds(frame, len(graph.nodes), coefficients, owners).least.reshape(rows.shape[:2])

    return bound


def method_of(name: str, graph: Graph) -> Bound:
    """The function that is timed."""
    if name == _OURS:
        return ours(graph)
    import torch

    from benchmarks.crown_torch import auto_lirpa, plain

    torch.set_num_threads(int(os.environ.get(_THREADS[0]) or 1))
    if name == _PEER:
        return auto_lirpa(graph, Path(os.environ[_CHECKOUT]))
    dtype, _, few = name.removeprefix("torch ").partition(", ")
    return plain(graph, dtype, few == "few")


def measure(model: str, method: str) -> Row:
    """Medians of the repetitions, and the bounds."""
    suite, path = _MODELS[model]
    graph = competition(path)
    low, high = boxes(suite, graph)
    rows, bound = margins(graph(0.5 * low + 0.5 * high).reshape(len(low), -1)), method_of(method, graph)
    values, walls, cpus, began = bound(low, high, rows), [], [], time.perf_counter()
    while len(walls) < _LEAST or (len(walls) < _MOST and time.perf_counter() - began < _SECONDS):
        wall, cpu = time.perf_counter(), time.process_time()
        bound(low, high, rows)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "wall": statistics.median(walls), "cpu": statistics.median(cpus), "memory": memory, "values": values.tolist(),
    }  # fmt: skip


def section() -> list[str]:
    """The lines of the table."""
    if reference_data() is None:
        return [f"## {TITLE}", "", "Not measured: there is no folder of published networks."]
    heads = "network | threads | method | wall ms | CPU ms | x time | x CPU | difference | MB | target | met"
    lines = [f"## {TITLE}", "", _TEXT.format(boxes=_BOXES, least=_LEAST), "", f"| {heads} |"]
    lines.append("|---" * (heads.count("|") + 1) + "|")
    reference = _PEER if os.environ.get(_CHECKOUT) else _PLAIN
    for model in _MODELS:
        for threads in (1, 2):
            rows = {name: _once(model, name, threads) for name in METHODS if name != _PEER or reference == _PEER}
            print(f"  {model}, {threads} threads: {1000 * rows[_OURS]['wall']:.0f} ms", flush=True)
            lines += [_line(model, threads, name, rows, reference) for name in rows]
    return lines


def _once(model: str, method: str, threads: int) -> Row:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.crown", model, method],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | dict.fromkeys(_THREADS, str(threads)),
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        if method == _OURS:
            raise RuntimeError(f"the pass of {model} failed: {reason}")
        return {"unavailable": reason[:120]}
    return json.loads(done.stdout.splitlines()[-1])


def _line(model: str, threads: int, name: str, rows: dict[str, Row], reference: str) -> str:
    row, own = rows[name], rows[_OURS]
    if "unavailable" in row:
        return f"| {model} | {threads} | {name} | not available: {row['unavailable']} |" + " |" * 7
    cells = [model, str(threads), name, *(f"{1000 * row[key]:.3g}" for key in ("wall", "cpu"))]
    if name == _OURS:
        cells += ["", "", "", f"{row['memory']:.0f}", f"<= {reference}", _met(row, rows[reference])]
    else:
        apart = np.abs(np.array(row["values"]) - np.array(own["values"])).max()
        cells += [f"{row[key] / own[key]:.3g}" for key in ("wall", "cpu")]
        cells += [f"{apart:.0e}", f"{row['memory']:.0f}", "", ""]
    return f"| {' | '.join(cells)} |"


def _met(own: Row, other: Row) -> str:
    if "unavailable" in other:
        return "no: nothing to compare with"
    if own["wall"] > other["wall"]:
        return "no: time"
    return "yes" if 2 * own["wall"] <= other["wall"] else "target only, goal: time"


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
