"""Does the graph mean what the file means? Compared step by step with an execution, within proved rounding errors.

Nothing is proved by agreement on samples: it catches misread attributes and defects of exporters. The bound is the
forward-error bound of `enclose`, never a fixed tolerance. Over a whole network that bound is too wide to catch much,
so wherever the file names a value the graph continues from what the runtime computed there: each step is held to its
own rounding error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from certlip.errors import ImportMismatch
from certlip.graph import Graph, Node
from certlip.importers.runtimes import Runtime
from certlip.onnx_reader.reader import Reading
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, Precision


@dataclass(frozen=True)
class Agreement:
    """Record of the check: of all values compared, the one that came closest to its bound.

    largest_difference: between graph and runtime at that entry; allowed: what rounding explains there.
    samples: inputs compared; values: values of the file compared on each.
    """

    runtime: str
    samples: int
    values: int
    largest_difference: float
    allowed: float
    note: str = ""


UNCHECKED = Agreement("none", 0, 0, 0.0, 0.0, "the reading was not checked against a runtime")
NOTHING = Agreement("none", 0, 0, 0.0, 0.0, "the model computes nothing before its decision")


def sample_inputs(shape: tuple[int, ...], dtype: np.dtype) -> list[tuple[str, np.ndarray]]:
    """Named inputs: kinks, signs, small, large, sparse and random ones; always the same."""
    draw = np.random.default_rng(20240229)
    named = [
        ("zeros", np.zeros(shape)),
        ("ones", np.ones(shape)),
        ("minus ones", -np.ones(shape)),
        ("small", 1e-3 * draw.standard_normal(shape)),
        ("large", 1e2 * draw.standard_normal(shape)),
        ("sparse", draw.standard_normal(shape) * (draw.random(shape) < 0.3)),
        ("ramp", np.linspace(-1.0, 1.0, int(np.prod(shape))).reshape(shape)),
        ("wide", draw.uniform(-10.0, 10.0, shape)),
        *((f"uniform {i}", draw.random(shape)) for i in (1, 2)),
        *((f"normal {i}", draw.standard_normal(shape)) for i in (1, 2, 3)),
    ]
    return [(name, array.astype(dtype)) for name, array in named]


def check_agreement(
    reading: Reading,
    precision: Precision,
    dtype: np.dtype,
    runtimes: Sequence[Runtime],
    native: Reading | None = None,
) -> Agreement:
    """Compare a reading with each runtime on `sample_inputs`; the record is of the tightest comparison.

    native: the reading with constant subgraphs folded in the file's own precision, as runtimes fold them. Where it
    moves a step by r times that step's bound, 1 + 4 r times the bound is allowed. Raises ImportMismatch for a
    difference beyond that, and where nothing finite could be compared.
    """
    named = sample_inputs(reading.graph.input_shape, dtype)
    records = [_check(reading, native, precision, named, runtime) for runtime in runtimes]
    return max(records, key=lambda record: record.largest_difference / max(record.allowed, 1e-300))


def _check(
    reading: Reading,
    native: Reading | None,
    precision: Precision,
    named: Sequence[tuple[str, np.ndarray]],
    runtime: Runtime,
) -> Agreement:
    results = [_observed(reading, runtime, x) for _, x in named]
    usable = [
        i for i, result in enumerate(results) if all(np.isfinite(array).all() for array in result.values())
    ]
    steps = _Steps(
        reading.graph,
        precision,
        runtime,
        [named[i][0] for i in usable],
        {index: np.stack([results[i][index] for i in usable]) for index in results[0] if usable},
        _nodes_like(reading.graph, native),
    )
    if usable:
        with np.errstate(all="ignore"):
            steps.run(np.stack([named[i][1].astype(np.float64) for i in usable]))
    if not steps.samples:
        raise ImportMismatch(
            f"no sample could be compared with {runtime.name}, values or their rounding bounds overflow; "
            "rescale the model's weights"
        )
    return Agreement(runtime.name, steps.samples, len(steps.observed), *steps.tightest, runtime.note)


def _observed(reading: Reading, runtime: Runtime, x: np.ndarray) -> dict[int, Array]:
    """What the runtime computes for each value of the graph that it shows."""
    shown = runtime.run(x)
    result: dict[int, Array] = {}
    for index, names in reading.names.items():
        name = next((name for name in reversed(names) if name in shown), None)
        if index == 0 or name is None:
            continue
        if shown[name].shape != reading.graph.shapes[index]:
            raise ImportMismatch(
                f"{runtime.name} gives '{name}' the shape {shown[name].shape} where certlip reads "
                f"{reading.graph.shapes[index]}; report this model"
            )
        result[index] = shown[name].astype(np.float64)
    return result


def _nodes_like(graph: Graph, native: Reading | None) -> tuple[Node, ...]:
    """The other reading's nodes where the two have the same structure, else the graph's own."""
    if native is None or [node.inputs for node in native.graph.nodes] != [
        node.inputs for node in graph.nodes
    ]:
        return graph.nodes
    return native.graph.nodes


@dataclass
class _Steps:
    """One pass through the graph that continues from the runtime's values; see the module's docstring."""

    graph: Graph
    precision: Precision
    runtime: Runtime
    labels: Sequence[str]
    observed: Mapping[int, Array]
    native: Sequence[Node]
    tightest: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.bounded = np.ones(len(self.labels), dtype=bool)

    @property
    def samples(self) -> int:
        return int(self.bounded.sum())

    def run(self, start: Array) -> None:
        balls, plain = [Ball.exact(start)], [start]
        for position, (node, native) in enumerate(zip(self.graph.nodes, self.native, strict=True)):
            ball = node.operator.enclose(self.precision, *(balls[i] for i in node.inputs))
            other = native.operator.value(*(plain[i] for i in node.inputs))
            seen = self.observed.get(position + 1)
            if seen is not None:
                self._compare(node, ball, other, seen)
                ball, other = Ball.exact(seen), seen
            balls.append(ball)
            plain.append(other)

    def _compare(self, node: Node, ball: Ball, other: Array, seen: Array) -> None:
        allowed = np.broadcast_to(ball.rad, ball.shape)
        axes = tuple(range(1, allowed.ndim))
        self.bounded &= (np.isfinite(allowed) & np.isfinite(ball.mid)).all(axes)
        if not seen.size or not self.samples:
            return
        labels = [label for label, bounded in zip(self.labels, self.bounded, strict=True) if bounded]
        mid, allowed, other, seen = (array[self.bounded] for array in (ball.mid, allowed, other, seen))
        allowed = allowed * (1.0 + 4.0 * float(_share(np.abs(other - mid), allowed).max()))
        difference = np.abs(seen - mid)
        share = _share(difference, allowed, np.inf)
        entry = int(np.argmax(share))
        pair = float(difference.flat[entry]), float(allowed.flat[entry])
        if share.flat[entry] > 1.0:
            raise ImportMismatch(
                f"at node '{node.name}' certlip's reading and {self.runtime.name} differ by {pair[0]:.3g} on the "
                f"sample '{labels[entry * len(share) // share.size]}', where rounding explains {pair[1]:.3g}; "
                "report this model"
            )
        if pair[0] * self.tightest[1] > self.tightest[0] * pair[1] or self.tightest[1] == 0.0:
            self.tightest = pair


def _share(difference: Array, allowed: Array, impossible: float = 0.0) -> Array:
    """difference / allowed; where nothing is allowed 0 or, for a difference, `impossible`."""
    share = np.where(difference > 0, impossible, 0.0)
    return np.divide(difference, allowed, out=share, where=allowed > 0)
