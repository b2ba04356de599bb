"""Lipschitz bounds: claims of their own, and the lemmas that other claims rest on. Each is proved once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from certlip.certificate.grammar import rational
from certlip.certificate.record import Certificate
from certlip.certificate.store import Store
from certlip.check.models import Models
from certlip.errors import CertificateRejected
from certlip.graph import Graph
from certlip.proofs import LIPSCHITZ_PROOFS, WITNESS_ARRAYS
from certlip.proofs.exact import prove_exactly
from certlip.proofs.local import LOCAL_PROOFS
from certlip.proofs.ranges import Region
from certlip.properties.numbers import text_up
from certlip.properties.outputs import Output, chosen, select
from certlip.rigor.rounding import Array


class Lemmas:
    """Proves Lipschitz certificates and remembers which are proved. exact: in exact arithmetic."""

    def __init__(self, models: Models, exact: bool):
        self._models, self._exact = models, exact
        self._proved: set[tuple[str, str]] = set()

    def prove(self, certificate: Certificate, store: Store) -> Fraction:
        """The value that the certificate claims, proved. Raises CertificateRejected."""
        value = rational(certificate.statement["value"])
        key = str(store.path), certificate.digest
        if key in self._proved:
            return value
        graph = self._models.network(certificate, store).graph
        proved = self._value(certificate, graph, store)
        if proved is None:
            raise CertificateRejected("the witness proves no bound at all, not the claimed " + text_up(value))
        if proved > value:
            raise CertificateRejected(f"the witness proves {text_up(proved)}, not the claimed {text_up(value)}")
        self._proved.add(key)
        return value

    def _value(self, certificate: Certificate, graph: Graph, store: Store) -> Fraction | None:
        """What the witness proves, None where that is nothing."""
        method, names = certificate.witness["method"], certificate.witness["arrays"]
        region = _region(certificate, graph, store)
        if method not in (LIPSCHITZ_PROOFS if region is None else LOCAL_PROOFS):
            kind = "" if region is None else " for bounds on a region"
            raise CertificateRejected(f"the method '{method}' is unknown to this checker{kind}")
        if set(names) != set(WITNESS_ARRAYS[method]):
            raise CertificateRejected(f"the witness of '{method}' must hold exactly {sorted(WITNESS_ARRAYS[method])}")
        witness = {name: store.array(digest) for name, digest in names.items()}
        output, norm = output_of(certificate), certificate.statement["norm"]
        if self._exact:
            return prove_exactly(chosen(graph, output), norm, method, witness, region)
        if region is None:
            proved = LIPSCHITZ_PROOFS[method](select(graph, output), norm, witness)
        else:
            proved = LOCAL_PROOFS[method](select(graph, output), norm, witness, region)
        return Fraction(proved) if np.isfinite(proved) else None

    def bound(self, claim: Certificate, output: Output, store: Store) -> Fraction:
        """The bound for this output that a claim refers to: same model, valid where the claim is."""
        digest = claim.witness["bounds"].get(str(output))
        if digest is None:
            raise CertificateRejected(f"the witness names no Lipschitz bound for '{output}'")
        other = store.find(digest)
        if other is None:
            raise CertificateRejected(f"the Lipschitz certificate {digest[:12]}... is missing; keep the store together")
        if other.digest != digest or other.kind != "lipschitz":
            raise CertificateRejected(f"{digest[:12]}... is not a Lipschitz certificate")
        norm, eps, center = domain_of(claim)
        if other.model != claim.model or other.statement["norm"] != norm or output_of(other) != output:
            raise CertificateRejected(f"the Lipschitz bound {digest[:12]}... is for another model, norm or output")
        region = other.statement.get("set")
        if region is not None:  # equal digests are equal points
            if center is None or region["center"] != center or region["norm"] != norm:
                raise CertificateRejected(f"the Lipschitz bound {digest[:12]}... holds around another point only")
            if rational(region["eps"]) < eps:
                raise CertificateRejected(f"the Lipschitz bound {digest[:12]}... holds on a smaller ball only")
        return self.prove(other, store)


def domain_of(claim: Certificate) -> tuple[str, Fraction, str | None]:
    """Norm, radius and center of the ball that a claim is about."""
    statement = claim.statement
    if claim.kind == "radius":
        return statement["norm"], rational(statement["radius"]), statement["center"]
    return statement["set"]["norm"], rational(statement["set"]["eps"]), statement["set"].get("center")


def output_of(certificate: Certificate) -> Output:
    """Which function of the network a Lipschitz certificate bounds."""
    entry = certificate.statement["output"]
    return Output(entry["kind"], tuple(entry["indices"]))


def point(digest: str, what: str, graph: Graph, store: Store) -> Array:
    """An input of the network. Raises CertificateRejected for an array that is none."""
    array = store.array(digest)
    if array.shape != graph.input_shape or not np.isfinite(array).all():
        raise CertificateRejected(f"the {what} of shape {array.shape} is no input of shape {graph.input_shape}")
    return array


def _region(certificate: Certificate, graph: Graph, store: Store) -> Region | None:
    entry = certificate.statement.get("set")
    if entry is None:
        return None
    return Region(point(entry["center"], "center", graph, store), rational(entry["eps"]), entry["norm"])
