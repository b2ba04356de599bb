"""Claims that distinctions of cases prove: their questions, made here from the statement, and property files.

A certificate's trees answer a `certlip.proofs.query`. Which question that is they do not say: it is built from the
statement and the model alone, so a proof of another question is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from hashlib import sha256

import numpy as np

from certlip.certificate.grammar import rational
from certlip.certificate.record import Certificate
from certlip.certificate.store import MAX_PROPERTY_BYTES, Store, property_name
from certlip.check import theorems
from certlip.check.executions import class_slack_on, slack_between, slack_on
from certlip.check.lemmas import domain_of, point
from certlip.check.models import Network
from certlip.errors import CertificateRejected
from certlip.graph import Graph
from certlip.proofs.query import Domain, Query, ball_domain, float_up, label_query, property_queries, range_query
from certlip.proofs.ranges import Region
from certlip.proofs.relaxation.witness import ARRAYS, MAX_NUMBERS, prove
from certlip.properties.fit import require_order_only
from certlip.properties.property import Property
from certlip.properties.vnnlib import parse_property
from certlip.rigor.exact_numbers import NotExact
from certlip.rigor.rounding import Array, Precision


def is_by_branches(certificate: Certificate) -> bool:
    """Whether the witness is a forest of case distinctions."""
    return certificate.witness.get("method") == "branches"


def prove_class(
    certificate: Certificate, network: Network, store: Store, precision: Precision | None, exact: bool
) -> None:
    """Robustness: the class wins at every input of the set. Raises CertificateRejected."""
    graph, label = network.graph, certificate.statement["label"]
    count = theorems.classes(graph.output_size)
    if label >= count:
        raise CertificateRejected(f"the label {label} does not exist among {count} classes")
    domain, region = _set(certificate, graph, store)
    query = label_query(graph, label, domain)
    slacks = None if precision is None else [class_slack_on(graph, region, precision)]
    _prove(certificate, [query], store, exact, slacks)


def prove_tolerance(
    certificate: Certificate, network: Network, store: Store, precision: Precision | None, exact: bool,
    outputs: theorems.Enclosure,
) -> None:  # fmt: skip
    """Every output stays close to its value at the center, which lies in `outputs`. Raises CertificateRejected."""
    graph, tolerance = network.graph, rational(certificate.statement["tolerance"])
    domain, region = _set(certificate, graph, store)
    low, high = outputs
    query = range_query(graph, [end - tolerance for end in high], [end + tolerance for end in low], domain)
    slacks = None
    if precision is not None:
        slacks = [slack_between(graph, Region(region.center, Fraction(0), region.norm), region, precision)]
    _prove(certificate, [query], store, exact, slacks)


def prove_property(
    certificate: Certificate, network: Network, store: Store, precision: Precision | None, exact: bool
) -> Property:
    """No input is unsafe. Raises CertificateRejected."""
    property = _property(certificate, network, store)
    queries = property_queries(network.graph, property)
    slacks = None
    if precision is not None:
        slacks = [_slack(network, _around(query.domain), precision) for query in queries]
    _prove(certificate, queries, store, exact, slacks)
    return property


def prove_violation(
    certificate: Certificate, network: Network, store: Store, precision: Precision | None, x: Array,
    outputs: theorems.Enclosure,
) -> None:  # fmt: skip
    """The network, whose outputs at x are enclosed, is unsafe there. Raises CertificateRejected."""
    property = _property(certificate, network, store)
    if precision is not None:
        outputs = theorems.widened(outputs, _slack(network, Region(x, Fraction(0), "linf"), precision))
    entries = [Fraction(entry) for entry in x.ravel().tolist()]
    if not any(theorems.violates(case, entries, outputs) for case in property.cases):
        raise CertificateRejected("the property is not proved to be violated at the counterexample")


def _property(certificate: Certificate, network: Network, store: Store) -> Property:
    """What a claim is about, read from the store. Raises CertificateRejected for a property of another network, or of
    values that the network's graph leaves out."""
    digest = certificate.statement["property"]
    name = property_name(digest)
    data = store.data(name, MAX_PROPERTY_BYTES)
    if sha256(data).hexdigest() != digest:
        raise CertificateRejected(f"{name} is not the property that the certificate is about: its sha256 is another")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CertificateRejected(f"{name} is no property: it is not text") from error
    property = parse_property(text, name)
    require_order_only(property, network.decisions, name)
    graph = network.graph
    if (property.inputs, property.outputs) != (graph.input_size, graph.output_size):
        raise CertificateRejected(
            f"{name} is about {property.inputs} inputs and {property.outputs} outputs, the model has "
            f"{graph.input_size} and {graph.output_size}"
        )
    return property


def _slack(network: Network, region: Region, precision: Precision) -> list[Fraction]:
    """How far outputs of executions may be from the exact ones at inputs of the region. Behind a softmax that the graph
    leaves out, the order that they show is meant. Raises CertificateRejected where nothing is known."""
    return (class_slack_on if network.decisions else slack_on)(network.graph, region, precision)


def _set(certificate: Certificate, graph: Graph, store: Store) -> tuple[Domain, Region]:
    """The set of the claim, and the ball that it was cut from. Raises CertificateRejected where nothing lies in it."""
    norm, eps, center = domain_of(certificate)
    x = point(center or "", "center", graph, store)
    clip = certificate.statement["set"].get("clip")
    domain = ball_domain(x, eps, norm, clip and [rational(end) for end in clip])
    if (domain.low > domain.high).any():
        raise CertificateRejected("no input lies in the set, so the claim says nothing")
    return domain, Region(x, eps, norm)


def _around(domain: Domain) -> Region:
    """The smallest cube around a box, up to rounding of its center. Raises CertificateRejected for an infinite one."""
    if not (np.isfinite(domain.low).all() and np.isfinite(domain.high).all()):
        raise CertificateRejected("the box is not bounded by finite floats, so nothing is known about executions on it")
    center = 0.5 * domain.low + 0.5 * domain.high
    ends = zip(center.ravel().tolist(), domain.low.ravel().tolist(), domain.high.ravel().tolist(), strict=True)
    apart = (max(Fraction(high) - Fraction(mid), Fraction(mid) - Fraction(low)) for mid, low, high in ends)
    return Region(center, max(apart, default=Fraction(0)), "linf")


def _prove(
    certificate: Certificate, queries: Sequence[Query], store: Store, exact: bool,
    slacks: Sequence[Sequence[Fraction]] | None,
) -> None:  # fmt: skip
    """slacks: for each query, of the outputs that its constraints read."""
    if exact and queries:
        raise NotExact("bound propagation is computed in floating point, with bounds on its rounding errors")
    arrays: dict[str, Array] = {}
    for name, digest in certificate.witness["arrays"].items():
        if name in ARRAYS:  # others are refused without being read
            arrays[name] = store.array(digest)
        else:
            raise CertificateRejected(f"the array '{name[:40]}' is unknown to this checker")
        if sum(array.size for array in arrays.values()) > MAX_NUMBERS:
            raise CertificateRejected(f"the witness holds more than {MAX_NUMBERS} numbers")
    lowered = None if slacks is None else [lost(query, slack) for query, slack in zip(queries, slacks, strict=True)]
    prove(queries, arrays, lowered)


def lost(query: Query, slack: Sequence[Fraction]) -> Array:
    """Bounds on |computed - exact| of the left sides of all constraints, inputs taken as they are."""
    sums = (sum((abs(factor) * slack[j] for j, factor in row.outputs), Fraction(0)) for row in query.rows)
    bounds = np.array([float_up(each) for each in sums])
    if not np.isfinite(bounds).all():
        raise CertificateRejected("executions may overflow there, or their rounding errors have no bound")
    return bounds
