"""Decoding a certificate: round trips, and rejection (nothing else) of everything that is not one."""

import json
import time
from fractions import Fraction
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.certificate import SCHEMA, Certificate
from certlip.certificate.grammar import rational
from certlip.errors import CertificateRejected

HEX = "0123456789abcdef" * 4
MODEL = {"name": "m.onnx", "sha256": HEX, "external": {"w.bin": HEX}, "input": "x", "output": "y", "graph": HEX}
BINARY32 = {"arithmetic": "binary32", "library_units": 16}
BALL = {"norm": "l2", "eps": "1/3", "center": HEX}
BOUNDS = {"bounds": {"pair 0,3": HEX}}
PAIR = {"kind": "pair", "indices": [0, 3]}
RECORDS = {
    "lipschitz": Certificate(
        MODEL,
        {"kind": "lipschitz", "norm": "l2", "output": PAIR, "value": "5164637/2097152"},
        {"method": "lipsdp", "arrays": {"metric": HEX, "multipliers": HEX[::-1]}},
        assumptions=("real arithmetic",),
        provenance={"made": "today", "details": [1, None, True, {"a": "b"}]},
    ),
    "local": Certificate(
        MODEL,
        {"kind": "lipschitz", "norm": "l2", "output": PAIR, "value": "2", "set": BALL},
        {"method": "lipsdp", "arrays": {"metric": HEX}},
    ),
    "robustness": Certificate(
        MODEL, {"kind": "robustness", "set": {"norm": "linf", "eps": "1/10", "center": HEX}, "label": 3}, BOUNDS
    ),
    "deployed": Certificate(
        MODEL, {"kind": "robustness", "set": {**BALL, "clip": ["-1/2", "1"]}, "label": 3}, BOUNDS, BINARY32
    ),
    "radius": Certificate(
        MODEL, {"kind": "radius", "norm": "l2", "center": HEX, "label": 0, "radius": "1/7"}, BOUNDS, BINARY32
    ),
    "tolerance": Certificate(
        MODEL, {"kind": "tolerance", "set": {"norm": "l2", "eps": "0"}, "tolerance": "2"}, {"bounds": {"all": HEX}}
    ),
    "tolerance around": Certificate(
        MODEL, {"kind": "tolerance", "set": BALL, "tolerance": "2"}, {"bounds": {"all": HEX}}, BINARY32
    ),
    "falsification": Certificate(
        MODEL, {"kind": "falsification", "set": BALL, "counterexample": HEX, "label": 0}, {}
    ),
    "falsified tolerance": Certificate(
        MODEL, {"kind": "falsification", "set": BALL, "counterexample": HEX, "tolerance": "0"}, {}, BINARY32
    ),
}
TEXTS = {name: record.to_json() for name, record in RECORDS.items()}


def signed(data) -> str:
    """The JSON of a record with its digest made to fit, as a forger would."""
    text = json.dumps(
        {key: value for key, value in data.items() if key != "digest"}, sort_keys=True, separators=(",", ":")
    )
    return json.dumps({**data, "digest": sha256(text.encode()).hexdigest()})


def rejected(text: str) -> bool:
    """True for CertificateRejected; any other exception fails the test."""
    began = time.process_time()
    try:
        Certificate.from_json(text)
    except CertificateRejected as error:
        assert str(error) and time.process_time() - began < 2.0
        return True
    return False


@pytest.mark.parametrize("name", RECORDS)
def test_round_trip(name):
    record = RECORDS[name]
    again = Certificate.from_json(TEXTS[name])
    assert again == record and again.digest == record.digest and again.to_json() == TEXTS[name]
    assert again.kind == record.statement["kind"]
    assert json.loads(TEXTS[name])["schema"] == SCHEMA
    compact = json.dumps(json.loads(TEXTS[name]))  # whitespace and order of keys mean nothing
    assert Certificate.from_json(compact) == record
    assert not rejected(signed(json.loads(TEXTS[name])))  # the forger's tool itself works


def test_the_digest_covers_every_field():
    data = json.loads(TEXTS["lipschitz"])
    digests = set()
    for change in (
        {}, {"assumptions": []}, {"provenance": {}}, {"model": {**MODEL, "name": "n"}},
        {"witness": {**data["witness"], "method": "spectral"}}, {"statement": {**data["statement"], "norm": "linf"}},
        {"model": {**MODEL, "graph": HEX[::-1]}},
    ):  # fmt: skip
        text = signed({**data, **change})
        digests.add(json.loads(text)["digest"])
        assert not rejected(text)
        assert rejected(json.dumps({**data, **change})) == bool(change)  # the old digest does not fit
    assert len(digests) == 7


@pytest.mark.parametrize("name", RECORDS)
def test_every_altered_character_is_noticed(name):
    """All positions, with another digit, letter and sign; accepted only where the same record is read."""
    text = TEXTS[name]
    for position, old in enumerate(text):
        replacements = {chr(ord("0") + (ord(old) - ord("0") + 1) % 10)} if old.isdigit() else {"0"}
        replacements |= {"a" if old != "a" else "b", "", " ", old.swapcase()} if position % 3 == 0 else set()
        for new in replacements - {old}:
            altered = text[:position] + new + text[position + 1 :]
            assert rejected(altered) or Certificate.from_json(altered) == RECORDS[name], (position, old, new)
            if old.isalnum() and new.strip() and new != old:
                assert rejected(altered), (position, old, new)


@pytest.mark.parametrize("name", ["lipschitz", "robustness"])
def test_truncations_and_additions_are_rejected(name):
    text = TEXTS[name]
    for end in range(0, len(text.rstrip()), 7):
        assert rejected(text[:end])
    for extra in ("x", "{}", "null", "\x00", ","):
        assert rejected(text + extra) and rejected(extra + text)
    assert rejected("\ufeff" + text)


INVALID = {
    "lipschitz": [
        ("statement", "value", v) for v in
        (1.5, 3, None, "", "1.5", "1e3", "-1", "-1/2", "1/0", "0x10", "01", "1/02", " 1", "1 ", "1\n", "+1", "\u0661",
         "nan", "inf",
         "1/-2", "--1", "1/2/3", "9" * 2501, ["1"], {"a": 1}, True)
    ] + [
        ("statement", "norm", v) for v in ("L2", "l1", "", None, 2, ["l2"], {"l2": 1}, True)
    ] + [
        ("statement", "output", v) for v in
        (None, "all", [], {}, {"kind": "all"}, {"kind": "all", "indices": None}, {"kind": 1, "indices": []},
         {"kind": "logit", "indices": [-1]}, {"kind": "logit", "indices": ["0"]}, {"kind": "logit", "indices": [True]},
         {"kind": "all", "indices": [], "more": 1}, {"kind": ["all"], "indices": []},
         {"kind": "logit", "indices": {"0": 0}})
    ] + [
        ("statement", "kind", v) for v in ("", "robustness", None, 1, ["lipschitz"], {"lipschitz": 1}, True)
    ] + [
        ("witness", "method", v) for v in (None, 1, ["lipsdp"], {})
    ] + [
        ("witness", "arrays", v) for v in
        (None, [], "x", {"metric": "../../../etc/passwd"}, {"metric": HEX[:-1]}, {"metric": HEX.upper()},
         {"metric": HEX + "\n"},
         {"metric": None}, {"metric": [HEX]}, {"metric": HEX[:-1] + "/"}, {"metric": "/" + HEX[1:]})
    ] + [
        ("model", "sha256", v) for v in (None, "", HEX[:-1], HEX.upper(), 7, [HEX])
    ] + [
        ("model", "external", v) for v in (None, [], {"w": None}, {"w": "x"}, {"w": 1}, "x")
    ] + [("model", key, v) for key in ("name", "input", "output") for v in (None, 1, ["x"], {}, True)] + [
        ("model", "graph", v) for v in (None, "", HEX[:-1], HEX.upper(), 7)
    ] + [
        ("semantics", None, v) for v in
        (None, {}, "real", {"arithmetic": "binary32"}, BINARY32, {"arithmetic": "real", "library_units": 0},
         {"arithmetic": "real", "more": 1}, {"arithmetic": ["real"]})
    ] + [
        ("statement", "set", v) for v in
        (None, {}, "l2", {"norm": "l2", "eps": "1"}, {**BALL, "clip": ["0", "1"]}, {**BALL, "more": HEX},
         {**BALL, "norm": "l1"}, {**BALL, "eps": "-1"}, {**BALL, "eps": 1}, {**BALL, "center": "c.npy"})
    ],
    "robustness": [
        ("statement", "label", v) for v in (-1, "3", None, True, [3], {})
    ] + [
        ("set", "eps", v) for v in (0.1, 1, "-1", "0.1", None)
    ] + [
        ("set", "center", v) for v in ("", "../x", None, 1, HEX + "0", "x" * 64)
    ] + [
        ("set", "clip", v) for v in
        (None, [], ["0"], ["0", "1", "2"], ["1", "0"], [0, 1], ["0", 1], "0,1", {"low": "0"}, ["0.5", "1"])
    ] + [
        ("semantics", None, v) for v in
        ({**BINARY32, "arithmetic": "binary33"}, {**BINARY32, "arithmetic": "real"}, {**BINARY32, "library_units": -1},
         {**BINARY32, "library_units": "16"}, {**BINARY32, "library_units": True}, {**BINARY32, "library_units": 10**9},
         {**BINARY32, "more": 1}, {"library_units": 16}, [BINARY32])
    ] + [("witness", "bounds", v) for v in (None, [], {"all": 1}, {"all": "../" + HEX[3:]}, HEX)],
    "radius": [("statement", "radius", v) for v in ("0", "-1", 1, 1.5, None, "0/3")] + [
        ("statement", "center", v) for v in (None, "", 1)
    ],
    "tolerance": [("statement", "tolerance", v) for v in (-1, "-1", "1.0", None)] + [
        ("set", "clip", ["0", "1"]), ("semantics", None, BINARY32),
    ],
    "falsification": [("statement", "counterexample", v) for v in (None, "", "..", 1)],
}  # fmt: skip


@pytest.mark.parametrize("kind", INVALID)
def test_wrong_values_are_rejected_with_a_fitting_digest(kind):
    for part, key, value in INVALID[kind]:
        data = json.loads(TEXTS[kind])
        place = data["statement"] if part == "set" else data
        if key is None:
            place[part] = value
        else:
            place[part][key] = value
        assert rejected(signed(data)), (part, key, value)


@pytest.mark.parametrize("name", RECORDS)
def test_missing_and_unknown_fields_are_rejected_with_a_fitting_digest(name):
    data = json.loads(TEXTS[name])
    for part in ("model", "statement", "semantics", "witness"):
        for key in set(data[part]) - {"set" if name == "local" else ""}:  # a bound without its region is another claim
            assert rejected(signed({**data, part: {k: v for k, v in data[part].items() if k != key}})), key
        assert rejected(signed({**data, part: {**data[part], "more": "x"}}))
        for other in (None, [], "x", 1):
            assert rejected(signed({**data, part: other}))
    for key in data:
        assert rejected(json.dumps({k: v for k, v in data.items() if k != key}))
    assert rejected(signed({**data, "more": 1}))
    for schema in (0, 1, 3, SCHEMA + 0.0, "1", True, None, [1], 10**4000):
        assert rejected(signed({**data, "schema": schema}))
    for kind in ("", "certlip/model", None, 2):
        assert rejected(signed({**data, "type": kind}))
    for assumptions in (None, "x", [1], {}, [None]):
        assert rejected(signed({**data, "assumptions": assumptions}))
    for provenance in (None, [], "x"):
        assert rejected(signed({**data, "provenance": provenance}))
    both = {**data["statement"], "label": 0, "tolerance": "1"}
    assert rejected(signed({**data, "statement": both}))


def test_numbers_that_are_not_exact_are_rejected():
    text = TEXTS["lipschitz"]
    for number in ("1.0", "1e5", "-0.0", "NaN", "Infinity", "-Infinity", "1E400"):
        assert rejected(text.replace('"made": "today"', f'"made": {number}'))
        assert rejected(text.replace('"value": "5164637/2097152"', f'"value": {number}'))
    assert rejected(text.replace('"made": "today"', '"made": ' + "9" * 100_000))
    data = json.loads(text)
    for number in (1.5, -0.0, 1e300, float("nan"), float("inf")):  # with a digest that fits
        assert rejected(signed({**data, "provenance": {"made": number}}))


def test_keys_that_occur_twice_are_rejected():
    """The last one would win silently: another reader might take the first."""
    for name, text in TEXTS.items():
        for line in text.splitlines():
            if ":" in line and line.rstrip().endswith(","):
                assert rejected(text.replace(line, line + "\n" + line, 1)), (name, line)


@pytest.mark.parametrize("depth", [100, 900, 980, 990, 1000, 2000, 10_000, 1_000_000])
def test_deep_nesting_is_rejected(depth):
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        assert rejected(opening * depth + "1" + closing * depth)
        for line, new in (
            ('"schema": 2', '"schema": '),
            ('"kind": "lipschitz"', '"kind": '),
            ('"norm": "l2"', '"norm": '),
        ):
            assert rejected(TEXTS["lipschitz"].replace(line, new + opening * depth + "1" + closing * depth))
        assert rejected(
            TEXTS["lipschitz"].replace('"made": "today"', '"made": ' + opening * depth + "1" + closing * depth)
        )


def test_large_texts_are_rejected_quickly():
    for text in ("[" * 20_000_000, '"' + "x" * 17 * 2**20 + '"', " " * 17 * 2**20, "[" + "1," * 5_000_000 + "1]"):
        assert rejected(text)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_random_text_is_rejected(text):
    assert rejected(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["", HEX, "1/2", "l2", "all", [], {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(data, path=()):
    """Every path into a JSON document."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.data())
def test_any_value_anywhere_is_a_valid_record_or_rejected(name, data):
    """With a fitting digest: whatever is accepted has the types that the checker relies on."""
    record = json.loads(TEXTS[name])
    del record["digest"]
    path = data.draw(st.sampled_from([path for path in places(record) if path]))
    target = record
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = data.draw(json_values)
    text = signed(record)
    if not rejected(text):
        accepted = Certificate.from_json(text)
        statement = accepted.statement
        assert accepted.kind in ("lipschitz", "robustness", "radius", "tolerance", "falsification")
        ball = statement if accepted.kind in ("lipschitz", "radius") else statement["set"]
        assert ball["norm"] in ("l2", "linf")
        assert all(rational(statement[key]) >= 0 for key in ("value", "radius", "tolerance") if key in statement)
        assert "eps" not in ball or rational(ball["eps"]) >= 0
        assert all(isinstance(accepted.model[key], str) for key in ("name", "sha256", "input", "output", "graph"))
        assert set(accepted.semantics) in ({"arithmetic"}, {"arithmetic", "library_units"})
        assert Certificate.from_json(accepted.to_json()) == accepted


@settings(max_examples=200, deadline=None)
@given(st.fractions())
def test_rationals_round_trip_exactly(value):
    assert rational(str(value)) == value


@settings(max_examples=100, deadline=None)
@given(st.floats(min_value=0.0, allow_nan=False, allow_infinity=False))
def test_every_float_has_an_exact_form_that_is_not_too_long(value):
    assert float(rational(str(Fraction(value)))) == value


def test_nothing_invalid_is_written():
    record = RECORDS["lipschitz"]
    for change in ({"norm": "l7"}, {"value": 1.5}, {"value": "-1"}, {"more": 1}):
        with pytest.raises(CertificateRejected):
            Certificate(record.model, {**record.statement, **change}, record.witness).to_json()
