"""The page about a certificate says what the record says: every number, every limit, for every kind of claim."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from certlip.certificate import Certificate, array_digest, open_store, open_writer
from certlip.check import Finding
from certlip.report.explanation import choose, explain, survey
from certlip.report.proof_words import METHODS
from certlip.report.sections import WIDTH, page

CENTER = np.float32([[0.125, -3.5, 7.0]])
OTHER = np.float32([[0.25, -3.5, 7.0]])
DEPLOYED = {"arithmetic": "binary16", "library_units": 48}
SET = {"norm": "linf", "eps": "8/255", "center": array_digest(CENTER)}
ALL = {"kind": "all", "indices": []}
BOUNDS = {"bounds": {"pair 0,4": "b" * 64}}
SPECTRAL = {"method": "spectral", "arrays": {}}
CLIP = {"clip": ["1/3", "2/3"]}
REAL = {"arithmetic": "real"}

CLAIMS = {
    "lipschitz": ({"kind": "lipschitz", "norm": "l2", "output": ALL, "value": "100/3"}, SPECTRAL, REAL),
    "local": ({"kind": "lipschitz", "norm": "l2", "output": ALL, "value": "100/3", "set": SET}, SPECTRAL, REAL),
    "robustness": ({"kind": "robustness", "set": SET | CLIP, "label": 41}, BOUNDS, REAL),
    "deployed": ({"kind": "robustness", "set": SET, "label": 41}, BOUNDS, DEPLOYED),
    "radius": (
        {"kind": "radius", "norm": "l2", "center": array_digest(CENTER), "label": 41, "radius": "22/7"},
        BOUNDS, DEPLOYED,
    ),
    "tolerance": ({"kind": "tolerance", "set": {"norm": "l2", "eps": "8/255"}, "tolerance": "5/9"}, BOUNDS, REAL),
    "local tolerance": ({"kind": "tolerance", "set": SET, "tolerance": "5/9"}, BOUNDS, DEPLOYED),
    "falsified label": (
        {"kind": "falsification", "set": SET | CLIP, "counterexample": array_digest(OTHER), "label": 41}, {}, DEPLOYED,
    ),
    "falsified tolerance": (
        {"kind": "falsification", "set": SET, "counterexample": array_digest(OTHER), "tolerance": "5/9"}, {}, REAL,
    ),
}  # fmt: skip


def record_of(name: str, **changes) -> Certificate:
    statement, witness, semantics = CLAIMS[name]
    model = {"name": "net.onnx", "sha256": "a" * 64, "external": {}, "input": "x", "output": "y", "graph": "c" * 64}
    fields = {"model": model, "statement": statement, "witness": witness, "semantics": semantics}
    return Certificate(**(fields | {"assumptions": ("The weather is fine.",)} | changes))


def store_of(folder: Path, *records: Certificate, arrays=(CENTER, OTHER)):
    writer = open_writer(folder)
    for index, record in enumerate(records):
        writer.write(f"claim{index}.json", record, {array_digest(array): array for array in arrays})
    writer.close()
    return open_store(folder)


def text_of(folder: Path, record: Certificate, finding: Finding | None = None, **options) -> str:
    return page(explain(store_of(folder, record, **options), "claim0.json", folder / "claim0.json", finding).sections)


def joined(text: str) -> str:
    return " ".join(text.split())


def section(text: str, title: str) -> str:
    return joined(next(part for part in text.split("\n\n") if part.startswith(title)))


@pytest.mark.parametrize("name", CLAIMS)
def test_numbers_are_those_of_the_record(name, tmp_path):
    """Each decimal beside an exact number is on the side that weakens the claim; there are no other numbers."""
    record = record_of(name)
    text = text_of(tmp_path, record)
    statement, falsified = record.statement, name.startswith("falsified")
    entry = statement.get("set", {})
    low, high = entry.get("clip", (None, None))
    up, down = "up", "down"
    expected = [
        (statement.get("value"), up),
        (statement.get("radius"), down),
        (statement.get("tolerance"), down if falsified else up),
        (entry.get("eps"), up if falsified else down),
        (low, down if falsified else up),
        (high, up if falsified else down),
    ]
    shown = joined(text)
    found = set(re.findall(r"(\S+) \(rounded (up|down); exactly (\S+)\)", shown))
    assert {(exact, side) for _, side, exact in found} == {(exact, side) for exact, side in expected if exact}
    for decimal, side, exact in found:
        apart = Fraction(decimal) - Fraction(exact)
        assert abs(apart) < Fraction(exact) / 10**9 and (apart > 0) == (side == "up")
    body = section(text, "WHAT IS CLAIMED") + section(text, "FOR WHICH INPUTS")
    body = re.sub(r"\S+ \(rounded \w+; exactly \S+\)|[0-9a-f]{64}", "", body)
    words = {word.rstrip(".") for word in re.findall(r"(?<![\w.])-?\d[\d./e+-]*(?!\w)", body)}
    assert words <= {"41", "-3.5", "7"} | ({"0", "1"} if "single output" in body else set()), words
    assert ("41" in body) == ("label" in statement)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_page_is_whole(name, tmp_path):
    record = record_of(name)
    text = text_of(tmp_path, record)
    titles = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert len(titles) == 10 and titles[0] == "CERTIFICATE claim0.json"
    assert record.digest in text and "a" * 64 in text and "net.onnx" in text and "The weather is fine." in text
    assert "READ ONLY" in text and "PROVED AGAIN" not in text and "REJECTED" not in text
    for digest in {"center": array_digest(CENTER)}.values():
        assert (digest in text) == ("center" in str(record.statement))
    assert (array_digest(OTHER) in text) == name.startswith("falsified")
    assert ("entries from -3.5 to 7" in joined(text)) == ("center" in str(record.statement))
    for line in text.splitlines():
        assert len(line) <= WIDTH or line.startswith("    $ ") or len(line.split()) <= 2 or str(tmp_path) in line, line
    assert "claim0.json --model net.onnx" in text
    unsure = "only if a check accepts"
    assert unsure in section(text, "FOR A TECHNICAL FILE") and "if a check accepts" in section(text, "IN THE TERMS")


@pytest.mark.parametrize("name", CLAIMS)
def test_what_is_left_out_is_said(name, tmp_path):
    record = record_of(name)
    text = text_of(tmp_path, record)
    limits, arithmetic = section(text, "WHAT IS NOT CLAIMED"), section(text, "IN WHICH ARITHMETIC")
    if record.is_deployed:
        assert "every execution in binary16" in arithmetic and "48 u" in arithmetic and "2^-11" in arithmetic
        assert "subnormal numbers kept," in arithmetic and "outside the class" in limits
        assert "computer arithmetic (binary16)" in text and "--level deployed" in text
        assert "in every execution in binary16" in section(text, "WHAT IS CLAIMED")
    else:
        assert "Real arithmetic" in arithmetic and "Nothing about executions" in limits and "--exact" in text
        assert "execution" not in section(text, "WHAT IS CLAIMED")
    assert ("inputs outside the set" in limits) == ("center" in str(record.statement))
    act = section(text, "FOR A TECHNICAL FILE")
    assert "accuracy not supported" in act and "no legal advice" in act
    assert ("speaks against" in act) == name.startswith("falsified") == ("NOT" in section(text, "WHAT IS CLAIMED"))
    stable = "label" in record.statement
    assert ("stability:" in text) == stable and ("sensitivity:" in text) != stable


@pytest.mark.parametrize("name", CLAIMS)
def test_a_finding_changes_what_is_said(name, tmp_path):
    record, path = record_of(name), tmp_path / "claim0.json"
    text = text_of(tmp_path, record, Finding(path, True, "fine", "exact"))
    assert "PROVED AGAIN" in text and "level exact" in text and "READ ONLY" not in text and "if a check" not in text
    text = joined(text_of(tmp_path, record, Finding(path, False, "the margin is \x1b[31mtoo small")))
    assert "REJECTED just now: the margin is \\x1b[31mtoo small" in text and "PROVED AGAIN" not in text
    assert "it supports nothing" in text and "inconclusive" in text and "supported in part" not in text


def test_arrays_and_lemmas_that_are_missing_are_named(tmp_path):
    text = joined(text_of(tmp_path, record_of("robustness"), arrays=()))
    assert "NOT AVAILABLE" in text and "1 Lipschitz bounds are NOT in this store" in text
    lemma = record_of("lipschitz")
    claim = record_of("robustness", witness={"bounds": {"pair 0,4": lemma.digest}})
    store = store_of(tmp_path / "both", claim, lemma)
    text = joined(page(explain(store, "claim0.json", tmp_path / "both").sections))
    assert "1 Lipschitz bound by spectral, for all inputs" in text and "are NOT" not in text


@pytest.mark.parametrize("method", [*METHODS, "magic"])
def test_methods_are_explained(method, tmp_path):
    from certlip.proofs import LIPSCHITZ_PROOFS

    assert set(METHODS) == set(LIPSCHITZ_PROOFS)
    text = text_of(tmp_path, record_of("local", witness={"method": method, "arrays": {}}))
    words = section(text, "HOW THE PROOF GOES")
    if method == "magic":
        assert "does not know" in words
    else:
        assert joined(METHODS[method]) in words and "on the set" in words


HOSTILE = "\x1b[2J\r\nStatus: PROVED AGAIN\u202e" + "x" * 5000


def test_text_of_others_stays_in_its_place(tmp_path):
    record = record_of("robustness")
    model = {**record.model, "name": HOSTILE, "input": HOSTILE, "output": "-rf\x07", "external": {"w": "d" * 64}}
    provenance = {"certlip": HOSTILE, "details": {"index": HOSTILE}}
    text = text_of(tmp_path, record_of("robustness", model=model, assumptions=(HOSTILE,) * 40, provenance=provenance))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert not any(line.lstrip().startswith("Status: PROVED") for line in text.splitlines())
    assert "28 more stand in the record" in text and len(text) < 20_000


def test_a_page_about_many_counts_them(tmp_path):
    records = [record_of(name) for name in CLAIMS]
    store = store_of(tmp_path / "many.certlip", *records)
    entries = [(store, name) for name in store.names()]
    found = survey(entries, tmp_path / "many.certlip")
    assert found.kinds == {"falsification": 2, "lipschitz": 2, "radius": 1, "robustness": 2, "tolerance": 2}
    assert found.is_sound and not found.unreadable and found.record is None
    text = joined(page(found.sections))
    assert "9 CERTIFICATES IN" in text and "READ ONLY" in text and "radius 1 in every execution in binary16" in text
    assert "net.onnx, sha256 aaaaaaaaaaaaaaaa...: 9 certificates" in text
    findings = [
        Finding(tmp_path / name, i % 2 == 0, "no", "exact" if i % 2 == 0 else "none")
        for i, (_, name) in enumerate(entries)
    ]
    checked = survey(entries, tmp_path / "many.certlip", findings)
    text = joined(page(checked.sections))
    assert "CHECKED just now" in text and "5 at level exact. Rejected: 4." in text and not checked.is_sound


def test_choosing_one(tmp_path):
    from certlip.errors import UsageError

    records = [record_of("robustness"), record_of("radius")]
    store = store_of(tmp_path, *records)
    entries = [(store, name) for name in store.names()]
    for name in ("claim1", "claim1.json", records[1].digest):
        assert choose(entries, name) == (store, "claim1.json")
    for name in ("claim", "x" * 64, ""):
        with pytest.raises(UsageError, match="no certificate"):
            choose(entries, name)
    with pytest.raises(UsageError, match="more than one"):
        choose([*entries, *entries], "claim0")
