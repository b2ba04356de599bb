"""The verdict on a property: placeholder that knows vacuous properties and what random inputs show."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from certlip.importers import Model
from certlip.properties.property import Case, Property
from certlip.rigor.rounding import Array
from certlip.verification.model_file import input_type
from certlip.verification.replay import runner
from certlip.verification.verdicts import Status

_TRIES = 200


@dataclass(frozen=True)
class PropertyResult:
    """The verdict on one property: certified where the unsafe set is proved empty, falsified where a counterexample is
    confirmed."""

    status: Status
    method: str
    seconds: float
    counterexample: Array | None = None
    outputs: Array | None = None
    note: str = ""
    level: str = "none"
    proofs: tuple = ()


def decide_property(
    model: Model,
    property: Property,
    *,
    deadline: float | None,
    seed: int = 0,
    method: str = "auto",
    progress: Callable[[str], None] = lambda message: None,
) -> PropertyResult:
    """Decide a property of the model by the deadline (of time.monotonic)."""
    began = time.monotonic()
    if property.is_vacuous:
        note = "no input lies in any box, so the property says nothing about the model"
        return PropertyResult(Status.CERTIFIED, "vacuous", time.monotonic() - began, note=note, level="exact")
    progress("random inputs")
    draw, run = np.random.default_rng(seed), runner(model)
    for _ in range(_TRIES):
        for case in property.cases:
            if deadline is not None and time.monotonic() >= deadline:
                return PropertyResult(Status.TIMEOUT, "", time.monotonic() - began)
            x = _point(case, draw, model)
            if x is None:
                continue
            outputs = model.graph(x.reshape(1, *model.graph.input_shape)).reshape(-1)
            if _is_unsafe(case, x, outputs) and _is_unsafe(case, x, run(x.reshape(model.graph.input_shape))):
                seconds = time.monotonic() - began
                return PropertyResult(Status.FALSIFIED, "random", seconds, x, outputs, level="float")
    return PropertyResult(Status.UNKNOWN, "", time.monotonic() - began)


def _point(case: Case, draw: np.random.Generator, model: Model) -> Array | None:
    low, high = (np.array([float(value) for value in ends]) for ends in (case.low, case.high))
    share = draw.integers(0, 2, low.size) if draw.random() < 0.5 else draw.random(low.size)
    x = np.clip(low + share * (high - low), low, high).astype(input_type(model)).astype(np.float64)
    ends = zip(case.low, x.tolist(), case.high, strict=True)
    return x if all(a <= Fraction(value) <= b for a, value, b in ends) else None


def _is_unsafe(case: Case, x: Array, outputs: Array) -> bool:
    for half in case.halfspaces:
        left = sum((c * Fraction(float(x[i])) for i, c in half.inputs), Fraction(0))
        left += sum((a * Fraction(float(outputs[j])) for j, a in half.outputs), Fraction(0))
        if not half.holds(left):
            return False
    return True
