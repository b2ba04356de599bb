"""Where a certificate stands in ISO/IEC 24029-2 and in Article 15 of the EU AI Act: its terms, and what it leaves open.

Own words throughout. A certificate is evidence about one property of one model; nothing here says that anybody
conforms.
"""

from __future__ import annotations

from certlip.certificate import Certificate
from certlip.check import Finding
from certlip.report.claim_words import is_local, metric_words
from certlip.report.sections import Item

_REAL = Item("Robustness and cybersecurity are those of the network in real arithmetic, not of its executions.")
_IF = Item("All of this only if a check accepts the certificate; none was made just now.")


def iso_items(record: Certificate, finding: Finding | None) -> tuple[Item, ...]:
    """The terms of ISO/IEC 24029-2:2023, clauses 5 (properties) and 6.2 (verifiers)."""
    return (
        Item("bounded: the set above" if is_local(record) else "unbounded: all inputs", "domain"),
        Item(_property(record), "property"),
        Item(_criterion(record), "criterion"),
        Item(
            "deterministic; glass-box (it reads the model file); incomplete (what it rejects may still be true)",
            "verifier",
        ),
        Item(_technique(record), "technique"),
        Item(
            f"computer arithmetic ({record.semantics['arithmetic']})" if record.is_deployed else "real arithmetic",
            "arithmetic",
        ),
        Item(_result(record, finding), "result"),
    )


def _result(record: Certificate, finding: Finding | None) -> str:
    disproved = record.kind in ("falsification", "violation")
    result = "property disproved by a counterexample" if disproved else "property proved"
    if finding is None:
        return f"{result}, if a check accepts the certificate"
    return result if finding.accepted else "inconclusive: the check rejected the certificate"


def _property(record: Certificate) -> str:
    if "property" in record.statement:
        return "reachability: no unsafe output is reached from the inputs of a VNN-LIB file"
    if record.kind in ("robustness", "radius") or "label" in record.statement:
        return "stability: the decision stays the same over the domain"
    return "sensitivity: how far outputs vary as inputs do"


def _criterion(record: Certificate) -> str:
    if "property" in record.statement:
        return "the assertions of the property file never hold together"
    if record.kind == "lipschitz":
        return "outputs move at most L times as far as inputs, for every pair of inputs of the domain"
    if record.kind == "tolerance" or "tolerance" in record.statement:
        return "no output moves further than the tolerance"
    return "the class scores strictly higher than every other one at every input of the domain"


def _technique(record: Certificate) -> str:
    if record.witness.get("method") == "branches":
        return "linear relaxation of activations (abstract interpretation) with distinction of cases (branch and bound)"
    if record.kind in ("falsification", "violation"):
        return "search for a counterexample, confirmed by interval enclosures (abstract interpretation)"
    if record.kind == "lipschitz" and record.witness["method"] in ("spectral", "gershgorin"):
        return "bounds carried from operator to operator (abstract interpretation)"
    if record.kind == "lipschitz":
        return "semidefinite programming (a solver), its answer proved afterwards"
    return "Lipschitz bounds (by a solver or by abstract interpretation), proved, and enclosures at the center"


def ai_act_items(record: Certificate, finding: Finding | None) -> tuple[Item, ...]:
    """Regulation (EU) 2024/1689, Article 15, point by point: what this certificate supports and what it leaves open."""
    if finding is not None and not finding.accepted:
        return (Item("The check rejected the certificate: it supports nothing."),)
    robustness, security = _SUPPORT[record.kind]
    return (
        Item(metric_words(record), "metric"),
        Item("not supported. To be supplied: metrics, measured values and their declaration to users.", "accuracy"),
        Item(
            f"{robustness} To be supplied: why this property, these inputs and this distance matter for the intended "
            "purpose; results for a whole set of inputs; other errors, faults and shifts; fallback plans; feedback "
            "loops.", "robustness",
        ),
        Item(
            f"{security} The sha256 shows whether the model was replaced. To be supplied: data and model poisoning, "
            "confidentiality, other attacks, and everything around the model.", "cybersecurity",
        ),
        Item("one file of a model; certify it again after retraining, conversion or quantisation.", "life cycle"),
        *([] if record.is_deployed else [_REAL]),
        *([_IF] if finding is None else []),
        Item("This sorts evidence for a technical file. It is no legal advice and no statement of conformity."),
    )  # fmt: skip


_SUPPORT = {
    "lipschitz": (
        "supported in part: a proved limit on how fast the output named above changes with the input.",
        "supported in part: limits what any small change of an input, an attacker's too, can do to that output.",
    ),
    "robustness": (
        "supported in part: for this input, no change within the set alters the decision.",
        "supported in part: no adversarial example (model evasion) exists in the set.",
    ),
    "radius": (
        "supported in part: for this input, no change below the radius alters the decision.",
        "supported in part: no adversarial example (model evasion) exists below the radius.",
    ),
    "tolerance": (
        "supported in part: a proved limit on how far outputs move under changes of the stated size.",
        "supported in part: limits what such a change, an attacker's too, can do to an output.",
    ),
    "falsification": (
        "speaks against it: a proved failure, to be listed among the known limitations.",
        "speaks against it: an adversarial example exists and is stored with the record.",
    ),
    "property": (
        "supported in part: for every input of the file's boxes, the outputs are not those that it calls unsafe.",
        "supported in part: no change of an input within those boxes, an attacker's too, leads to unsafe outputs.",
    ),
    "violation": (
        "speaks against it: a proved failure, to be listed among the known limitations.",
        "speaks against it: an input that leads to unsafe outputs exists and is stored with the record.",
    ),
}
