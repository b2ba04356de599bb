"""The statement of a certificate in words: what is claimed, for which inputs, and what that does not include."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from certlip.certificate import Certificate, Store
from certlip.certificate.grammar import rational
from certlip.certificate.store import property_name
from certlip.errors import CertificateRejected
from certlip.properties.numbers import decimal_down, decimal_up
from certlip.report.rounded import rounded_down, rounded_up
from certlip.report.sections import Item, clipped

_HEADLINES = {
    "lipschitz": "lipschitz: a bound on how fast an output can change",
    "robustness": "robustness: a class is kept on a set of inputs",
    "radius": "radius: a class is kept up to a distance",
    "tolerance": "tolerance: outputs stay close to each other",
    "falsification": "falsification: a property is violated",
    "property": "property: no input of a VNN-LIB file is unsafe",
    "violation": "violation: an input of a VNN-LIB file is unsafe",
}
DISTANCES = {"l2": "Euclidean distance", "linf": "l-infinity distance (the largest change of one entry)"}
SIGNS = {"l2": "|.|_2 (Euclidean length)", "linf": "|.|_inf (largest entry)"}


def headline(record: Certificate) -> str:
    """The kind in half a line."""
    return _HEADLINES[record.kind]


def is_local(record: Certificate) -> bool:
    """Whether the claim is about a set of inputs, not about all."""
    return record.kind in ("radius", "property", "violation") or "center" in record.statement.get("set", {})


def claim_items(record: Certificate) -> tuple[Item, ...]:
    """The claim itself; the first item is a sentence of its own."""
    statement, kind = record.statement, record.kind
    where = f", in every execution in {record.semantics['arithmetic']}" if record.is_deployed else ""
    if kind == "lipschitz":
        pairs = "any two inputs of the set" if is_local(record) else "any two inputs, whichever they are"
        moved, value = output_words(statement["output"]), rounded_up(rational(statement["value"]))
        sentence = f"Between {pairs}, {moved} moves at most L times as far as the input, L = {value}."
        return Item(sentence), Item(f"|f(x) - f(y)| <= L |x - y|, both sides in {SIGNS[statement['norm']]}.", "formula")
    if kind in ("robustness", "radius"):
        label, inputs = statement["label"], "of the set"
        if kind == "radius":
            inputs = f"closer to the center than R = {rounded_down(rational(statement['radius']))}"
        return Item(f"The network decides for class {label} at every input {inputs}{where}."), Item(
            f"class {label} scores strictly higher than every other class; with a single output the sign of its score "
            "decides, above zero for class 1 and below for class 0",
            "meaning",
        )
    if kind == "tolerance":
        most = rounded_up(rational(statement["tolerance"]))
        if is_local(record):
            sentence = f"At every input of the set, each output is within {most} of its value at the center{where}."
            return (Item(sentence),)
        return (Item(f"Between any two inputs as close as stated below, no output moves by more than {most}{where}."),)
    if kind in ("property", "violation"):
        return _property_items(record, where)
    point = "at the counterexample, an input of the set,"
    if "label" in statement:
        label = statement["label"]
        return Item(f"The network is NOT robust: {point} it decides against class {label}{where}."), Item(
            f"some other class scores strictly higher than class {label} there", "meaning"
        )
    least = rounded_down(rational(statement["tolerance"]))
    return (
        Item(
            f"The tolerance is NOT kept: {point} some output differs from its value at the center by more than "
            f"{least}{where}."
        ),
    )


def _property_items(record: Certificate, where: str) -> tuple[Item, ...]:
    """The claim about a property file, which lists what must not happen."""
    if record.kind == "property":
        sentence = f"The network HAS the property: no input that the file describes is unsafe{where}."
    else:
        sentence = f"The network does NOT have the property: the counterexample is unsafe{where}."
    meaning = "unsafe: input and outputs satisfy all assertions of the file together (VNN-COMP: sat)"
    return Item(sentence), Item(meaning, "meaning"), Item(record.statement["property"], "file's sha256")


def output_words(output: Mapping[str, Any]) -> str:
    """The function that a Lipschitz bound is about."""
    kind, indices = output["kind"], output["indices"]
    if kind == "pair" and len(indices) == 2:
        return f"the difference of output {indices[0]} and output {indices[1]}"
    if kind == "logit" and len(indices) == 1:
        return f"output {indices[0]}"
    known = {"all": "the vector of all outputs", "decision": "the score whose sign decides between two classes"}
    return known.get(kind, f"the output '{clipped(kind)}', which no checker knows,")


def input_items(record: Certificate, store: Store) -> tuple[Item, ...]:
    """The set of inputs, and the stored points by shape and range."""
    statement = record.statement
    items = [Item(f"{domain_words(record)}.", "set")]
    center = statement.get("center") or statement.get("set", {}).get("center")
    if center is not None:
        items.append(Item(point_words(center, store), "center c"))
        items.append(Item(center, "its sha256"))
    if "counterexample" in statement:
        items.append(Item(point_words(statement["counterexample"], store), "failing input"))
        items.append(Item(statement["counterexample"], "its sha256"))
    items.append(
        Item("those of the model's own input, after whatever is done to the data before it reaches the file.", "units")
    )
    return tuple(items)


def domain_words(record: Certificate) -> str:
    """The set in half a sentence. Rounded so that the set described is never the better claim."""
    statement = record.statement
    if "property" in statement:
        return f"the boxes of the property file that is stored as {property_name(statement['property'])}"
    if record.kind == "radius":
        radius = rounded_down(rational(statement["radius"]))
        return f"all inputs x whose {DISTANCES[statement['norm']]} from the center c is less than {radius}"
    if "set" not in statement:
        return "all inputs, without exception"
    entry, larger = statement["set"], record.kind == "falsification"
    eps = (rounded_up if larger else rounded_down)(rational(entry["eps"]))
    if "center" not in entry:
        return f"all pairs of inputs whose {DISTANCES[entry['norm']]} is at most {eps}"
    words = f"all inputs x whose {DISTANCES[entry['norm']]} from the center c is at most {eps}"
    if "clip" in entry:
        low, high = map(rational, entry["clip"])
        inner, outer = rounded_up(low), rounded_down(high)
        if larger:
            inner, outer = rounded_down(low), rounded_up(high)
        words += f", and whose entries all lie from {inner} to {outer}"
    return words


def point_words(digest: str, store: Store) -> str:
    """Shape and range of a stored input; the range is rounded outwards."""
    try:
        array = store.array(digest)
    except CertificateRejected as error:
        return f"NOT AVAILABLE: {clipped(str(error))}"
    shape = "x".join(map(str, array.shape)) or "a single number"
    if not array.size or not np.isfinite(array).all():
        return f"one stored array of shape {shape} that is no input"
    low, high = decimal_down(float(array.min())), decimal_up(float(array.max()))
    return f"one stored input of shape {shape}, entries from {low:.10g} to {high:.10g}"


def limits(record: Certificate) -> list[str]:
    """What somebody might read into the claim, and should not."""
    statement, found = record.statement, [_LIMITS[record.kind]]
    if is_local(record):
        found.append("Nothing about inputs outside the set, nor about other norms.")
    if record.kind == "falsification" and "clip" not in record.statement["set"]:
        found.append("Not that the counterexample is a valid input: the set is not cut to the range of the data.")
    if "property" in statement:
        found.append("Not that the property is the right one: read the file, whose sha256 is part of the claim.")
    elif record.kind in ("robustness", "radius"):
        found.append("Not that the class is right: a wrong decision can be a robust one.")
    elif record.kind in ("lipschitz", "tolerance"):
        found.append("Nothing about which class is decided for, or whether it is right.")
    if record.is_deployed:
        found.append(
            "Nothing about executions outside the class: TF32, Winograd, FFT or Strassen kernels, quantisation, a "
            "lower precision, approximated activations."
        )
    else:
        found.append("Nothing about executions in floating point: near a tie they can decide differently.")
    found.append("Nothing about accuracy, the training data, or what happens to data before it reaches the model.")
    found.append("Not who made it: a digest is no signature. `certlip attest` writes what can be signed.")
    return found


_LIMITS = {
    "lipschitz": "Not that L is the smallest such number, nor that some pair of inputs attains it.",
    "robustness": "Not that a larger set would fail.",
    "radius": "Nothing at the distance R itself, and not that the class is lost beyond it.",
    "tolerance": "Not that outputs do move that far.",
    "falsification": "Not how many such inputs there are, nor that this one would occur in practice.",
    "property": "Not that inputs outside the boxes of the file are safe.",
    "violation": "Not how many such inputs there are, nor that this one would occur in practice.",
}


def metric_words(record: Certificate) -> str:
    """The quantity that the claim puts a number to."""
    statement = record.statement
    if record.kind == "lipschitz":
        return f"Lipschitz constant at most {rounded_up(rational(statement['value']))}"
    if record.kind == "radius":
        return f"certified {statement['norm']} radius {rounded_down(rational(statement['radius']))}"
    if "property" in statement:
        count = "no unsafe input" if record.kind == "property" else "an unsafe input"
        return f"{count} for the property with sha256 {statement['property'][:16]}..."
    eps: Fraction = rational(statement["set"]["eps"])
    norm = statement["set"]["norm"]
    if record.kind == "robustness":
        return f"class kept within {norm} distance {rounded_down(eps)}"
    if record.kind == "tolerance":
        most = rounded_up(rational(statement["tolerance"]))
        return f"output deviation at most {most} within {norm} distance {rounded_down(eps)}"
    return f"a counterexample within {norm} distance {rounded_up(eps)}"
