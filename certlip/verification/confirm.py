"""Which candidates count as counterexamples: numbers that the model takes, in the box over the reals, where the exact
network is proved unsafe and the runtime's own outputs are unsafe too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import groupby

import numpy as np

from certlip.check import theorems
from certlip.errors import CertificateRejected
from certlip.importers import Model
from certlip.proofs.query import float_down
from certlip.properties.property import Case, Property
from certlip.rigor.rounding import Array
from certlip.verification.model_file import input_type
from certlip.verification.replay import runner

_UNITS = 4  # a candidate further than so many units in the last place from a box was never in it


def confirm(model: Model, property: Property, point: Array) -> Array | None:
    """The counterexample that the candidate is, up to rounding; None for none.

    It has the input's shape, its entries are floats of the type that the model takes. It lies in the box of a case all
    of whose halfspaces hold for every number in the enclosures of the exact outputs, and for the runtime's outputs.
    """
    kind = input_type(model)

    def nearest(low: Sequence[Fraction], high: Sequence[Fraction], rounded: Array) -> list[Fraction] | None:
        least, greatest = -_at_most([-end for end in low], kind), _at_most(high, kind)
        inside = bool((least <= greatest).all() and np.isfinite(least).all() and np.isfinite(greatest).all())
        return list(map(Fraction, np.clip(rounded, least, greatest).tolist())) if inside else None

    exact = _confirmed(model, property, point, nearest)
    return None if exact is None else _floats(exact).reshape(model.graph.input_shape)


def confirm_real(model: Model, property: Property, point: Array) -> list[Fraction] | None:
    """`confirm` for the network as a function of real numbers: entries need not be floats, so that boxes count in which
    the input's type has no number. The runtime gets numbers of its type next to them. Entries in flat order."""

    def nearest(low: Sequence[Fraction], high: Sequence[Fraction], rounded: Array) -> list[Fraction] | None:
        if any(least > greatest for least, greatest in zip(low, high, strict=True)):
            return None
        ends = zip(low, map(Fraction, rounded.tolist()), high, strict=True)
        return [min(max(least, entry), greatest) for least, entry, greatest in ends]

    return _confirmed(model, property, point, nearest)


_Nearest = Callable[[Sequence[Fraction], Sequence[Fraction], Array], "list[Fraction] | None"]
"""The admitted point of a box that is nearest to one given by floats, None where a box has none."""


def _confirmed(model: Model, property: Property, point: Array, nearest: _Nearest) -> list[Fraction] | None:
    """The first of the points nearest to the candidate, in the boxes that it lies in up to rounding, that is unsafe."""
    kind, point = input_type(model), np.asarray(point, dtype=np.float64).ravel()
    if (point.size, model.graph.output_size) != (property.inputs, property.outputs) or not np.isfinite(point).all():
        return None
    with np.errstate(over="ignore"):
        rounded = point.astype(kind).astype(np.float64)
    if not np.isfinite(rounded).all():
        return None
    slack = _slack(point, kind)
    for (low, high), cases in groupby(property.cases, lambda case: (case.low, case.high)):
        exact = nearest(low, high, rounded)
        if exact is None or not (np.abs(_floats(exact) - point) <= slack).all():
            continue
        if _is_unsafe(model, list(cases), exact):
            return exact
    return None


def _floats(exact: Sequence[Fraction]) -> Array:
    """The largest floats that are at most the numbers: they themselves where they are floats."""
    return np.array([float_down(entry) for entry in exact])


def _slack(point: Array, kind: np.dtype) -> Array:
    """How far from a candidate rounding may have moved it."""
    zero, one, two = (kind.type(value) for value in (0, 1, 2))
    unit, least = float(np.nextafter(one, two)) - 1.0, float(np.nextafter(zero, one))
    return _UNITS * (unit * np.abs(point) + least)


def _is_unsafe(model: Model, cases: Sequence[Case], exact: Sequence[Fraction]) -> bool:
    """Whether one of the cases is shown by the runtime, and proved."""
    x = _floats(exact).reshape(model.graph.input_shape)
    shown = _runner(model)(x)
    if not np.isfinite(shown).all():
        return False
    values = [Fraction(value) for value in shown.tolist()]
    cases = [case for case in cases if theorems.violates(case, exact, (values, values))]
    if not cases:
        return False
    try:
        proved = theorems.outputs_of(model.graph, exact)
    except CertificateRejected:  # outputs that overflow prove nothing
        return False
    return any(theorems.violates(case, exact, proved) for case in cases)


def _at_most(ends: Sequence[Fraction], kind: np.dtype) -> Array:
    """The largest number of the type that is at most each end. Every one is a float, so it is at most the float below
    the end, and the nearest of the type to that float is it or the next above."""
    floats = np.array([float_down(end) for end in ends])
    with np.errstate(over="ignore"):
        near = floats.astype(kind)
    below = np.nextafter(near, kind.type(-np.inf))
    return np.where(near.astype(np.float64) > floats, below, near).astype(np.float64)


_runner = lru_cache(maxsize=2)(runner)
