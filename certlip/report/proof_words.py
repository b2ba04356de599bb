"""How a certificate is proved, and in which arithmetic, in words. The theorems are in `docs/certificates.md`."""

from __future__ import annotations

from collections import Counter
from decimal import Context, Decimal
from fractions import Fraction
from math import log2

from certlip.certificate import Certificate, Store
from certlip.certificate.grammar import rational
from certlip.errors import CertificateRejected
from certlip.report.sections import Item, clipped
from certlip.rigor.rounding import PRECISIONS

_MOST = 12
METHODS = {
    "spectral": "a product of operator norms: no layer stretches a change by more than its norm, which is proved, and "
    "the norms are combined along the graph",
    "gershgorin": "a product of operator norms: no layer stretches a change by more than its norm, which is bounded by "
    "diagonal dominance, and the norms are combined along the graph",
    "lipsdp": "a semidefinite certificate (LipSDP): stored multipliers turn the slopes of all activations into one "
    "matrix, and that matrix is proved to be positive semidefinite",
    "lipsdp-torus": "a semidefinite certificate (LipSDP) over channels: convolutions run around a torus, where the "
    "matrix falls apart into one block per frequency, and each block is proved to be positive semidefinite",
}
"""By the name of the theorem in the witness."""


def arithmetic_items(record: Certificate) -> tuple[Item, ...]:
    """What the claim takes the network to be."""
    if not record.is_deployed:
        return (
            Item(
                "Real arithmetic: the network as a function of real numbers, with exactly the weights that the file "
                "stores. What is run in floating point differs from it by rounding errors."
            ),
        )
    name, units = record.semantics["arithmetic"], record.semantics["library_units"]
    unit = int(log2(PRECISIONS[name].unit))
    underflow = "subnormal numbers kept" if name == "binary16" else "subnormal numbers kept or flushed to zero"
    return (
        Item(
            f"Computer arithmetic: every execution in {name}, with sums in any order, fused multiply-add or not, "
            f"{underflow}, and library functions f within {units} u (1 + |f|), where u = 2^{unit}. The checker bounds "
            "the rounding errors of all of them over the whole set; the claim holds although they count against it."
        ),
    )


def proof_items(record: Certificate, store: Store) -> tuple[Item, ...]:
    """The argument, and what it rests on."""
    deployed = record.is_deployed
    if record.kind == "lipschitz":
        return (_method(record), _BELIEVED)
    if record.kind == "falsification":
        return (
            Item(
                "The counterexample is stored to the last bit. Its distance from the center is compared in exact "
                "rational arithmetic. The outputs are enclosed in intervals that show the violation"
                f"{', whatever the rounding errors of executions do' if deployed else ''}."
            ),
            _BELIEVED,
        )
    if record.kind == "violation":
        return (
            Item(
                "The counterexample is stored to the last bit. Its place in a box of the file is compared in exact "
                "rational arithmetic. The outputs are enclosed in intervals all of which are unsafe"
                f"{', whatever the rounding errors of executions do' if deployed else ''}."
            ),
            _BELIEVED,
        )
    if record.witness.get("method") == "branches":
        return (_branches(record, store),)
    if record.kind == "tolerance":
        total = "this and the rounding errors of executions together are" if deployed else "this is"
        text = (
            "No output moves further than L times the distance, L being a proved Lipschitz bound; "
            f"{total} at most the tolerance."
        )
    else:
        text = (
            "At the center, the lead of the class over each other class is bounded from below. Over the set it can "
            "shrink by no more than L times the distance, L being a proved Lipschitz bound of that lead. What is left "
            f"is above {'the rounding errors of executions' if deployed else 'zero'}."
        )
    return (Item(text), *_lemmas(record, store), _BELIEVED)


def _branches(record: Certificate, store: Store) -> Item:
    """The distinction of cases in words; the checker finds the cases itself."""
    digest = record.witness["arrays"].get("nodes")
    try:
        leaves = 0 if digest is None else int((store.array(digest) < 0).sum())
    except CertificateRejected:
        leaves = 0
    how = f" The record distinguishes {leaves} cases." if leaves > 1 else ""
    margin = "more than the rounding errors of executions" if record.is_deployed else "positive"
    return Item(
        "By linear bounds: each activation is enclosed between two lines, which makes the outputs linear functions of "
        "the input, whose least value over the inputs is known. Where one bound does not suffice, cases are told apart "
        "by splits of inputs or of neurons. In each, a weighted sum of functions that all are at most zero where the "
        f"claim fails is shown to be {margin}.{how} The checker reads the model file and computes every bound itself, "
        "with bounds on its own rounding errors; there is no such proof in exact arithmetic yet."
    )


_BELIEVED = Item(
    "No number of the record is believed: the checker reads the model file, computes each bound again with bounds on "
    "its own rounding errors, or in exact arithmetic, and compares rational numbers."
)


def execution_items(record: Certificate) -> tuple[Item, ...]:
    """What the record says that a runtime answered at a counterexample: it was there to see, and no proof reads it."""
    details = record.provenance.get("details")
    told = details.get("execution") if isinstance(details, dict) else None
    if record.kind not in ("falsification", "violation") or not isinstance(told, dict):
        return ()
    runtime = clipped(str(told.get("runtime")))
    answer = told.get("outputs_at_counterexample")
    try:
        outputs = [rational(value) for value in answer] if isinstance(answer, list) else []
    except CertificateRejected:
        outputs = []
    if not outputs:
        return (Item(f"{runtime} gave no answer at the failing input (evidence, not part of the proof)", "execution"),)
    shown = ", ".join(_nearest(value) for value in outputs[:_MOST]) + (", ..." if len(outputs) > _MOST else "")
    decides = "label" in record.statement and len(outputs) > 1
    largest = f", the largest for class {outputs.index(max(outputs))}" if decides else ""
    return (
        Item(
            f"{runtime} answered {shown} (rounded){largest}, at the failing input, as the record says: evidence, not "
            "part of the proof.", "execution",
        ),
    )  # fmt: skip


def _nearest(value: Fraction) -> str:
    """Five digits of what nothing rests on, however large it is."""
    return f"{Context(prec=5).divide(Decimal(value.numerator), Decimal(value.denominator)).normalize():g}"


def _method(record: Certificate) -> Item:
    method = record.witness["method"]
    words = METHODS.get(method)
    if words is None:
        return Item(
            f"By '{clipped(method)}', which this certlip does not know: its checker will reject the certificate."
        )
    if "set" in record.statement:
        words += "; slopes are those that activations show on the set, which the checker finds itself"
    return Item(f"By {words}.")


def _lemmas(record: Certificate, store: Store) -> tuple[Item, ...]:
    """The Lipschitz certificates that are referred to, by method; one that is missing fails the check."""
    methods: Counter[str] = Counter()
    missing = 0
    for digest in record.witness["bounds"].values():
        try:
            found = store.find(digest)
        except CertificateRejected:
            found = None
        if found is None or found.kind != "lipschitz":
            missing += 1
        else:
            place = "on a ball around the center" if "set" in found.statement else "for all inputs"
            methods[f"{clipped(found.witness['method'])}, {place}"] += 1
    items = [
        Item(f"{count} Lipschitz bound{'s' * (count != 1)} by {method}", "-")
        for method, count in sorted(methods.items())
    ]
    if missing:
        items.append(Item(f"{missing} Lipschitz bounds are NOT in this store: the check will fail without them", "-"))
    return (Item("It rests on these certificates, which the record names by digest:"), *items)
