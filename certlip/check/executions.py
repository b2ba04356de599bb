"""Claims about executions: which class is meant, and how far it may be from the exact network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from certlip.check.models import Network
from certlip.errors import CertificateRejected
from certlip.graph import Graph
from certlip.proofs.deployment import class_slack, slack
from certlip.proofs.ranges import Region
from certlip.rigor.rounding import PRECISIONS, Precision


def execution_class(semantics: Mapping[str, Any], network: Network) -> Precision:
    """The class of executions that a claim is about. Raises CertificateRejected where it is finer than the file."""
    if network.arithmetic is None:
        raise CertificateRejected(f"nothing is known about executions of this model: {network.obstacle}")
    own, claimed = PRECISIONS[network.arithmetic], PRECISIONS[semantics["arithmetic"]]
    if claimed.unit < own.unit or claimed.largest > own.largest:
        raise CertificateRejected(f"the claim is about {claimed.name}, but the model computes in {own.name}")
    return replace(claimed, library_units=float(semantics["library_units"]))


def in_words(precision: Precision) -> str:
    """The class by name, and how good its libraries are where that is not what the arithmetic has by default."""
    units, usual = precision.library_units, PRECISIONS[precision.name].library_units
    return f"the class {precision.name}" + (f" with libraries within {units:g} u" if units != usual else "")


def class_slack_on(graph: Graph, region: Region, precision: Precision) -> list[Fraction]:
    """Bounds on |computed - exact| of the scores that decide a class, at every input of the region.

    graph: as it is read from the file. Raises CertificateRejected where nothing is known.
    """
    return _known(class_slack(graph, region, precision), graph)


def slack_on(graph: Graph, region: Region, precision: Precision) -> list[Fraction]:
    """The same of all outputs, as numbers."""
    return _known(slack(graph, region, precision), graph)


def slack_between(graph: Graph, first: Region, second: Region, precision: Precision) -> list[Fraction]:
    """Bounds on how far the computed difference of two outputs may be from the exact one, for an input of each region.

    Raises CertificateRejected where nothing is known.
    """
    parts = [slack_on(graph, region, precision) for region in (first, second)]
    return [a + b for a, b in zip(*parts, strict=True)]


def _known(bounds: Sequence[float] | np.ndarray, graph: Graph) -> list[Fraction]:
    known = np.asarray(bounds, dtype=np.float64)
    if known.shape != (graph.output_size,) or not (np.isfinite(known) & (known >= 0)).all():
        raise CertificateRejected("executions may overflow there, or their rounding errors have no bound")
    return [Fraction(bound) for bound in known.tolist()]
