"""An attestation is what was checked: every change to it is refused, when it is read or when it is held to facts."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from small_models import command, random_chain, save_chain

from certlip.attestation import PREDICATE_TYPE, Attestation, attest, objections, read_attestation, steady
from certlip.check import Checker, records
from certlip.errors import CertificateRejected, UsageError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, certificates about its executions in `c`, and one about real arithmetic among them."""
    folder = tmp_path_factory.mktemp("attested")
    model = save_chain(folder / "m.onnx", random_chain(1, (2, 5, 3)))
    np.savez(folder / "m.npz", x=np.float32([[1.0, 0.0], [0.3, 2.0]]))
    ran = command("verify", model, "--eps", "0.001", "--level", "deployed", "--certificates", folder / "c")
    assert ran.code == 0, ran.out + ran.err
    assert command("bound", model, "--logit", "1", "--certificate", folder / "c" / "bound.json").code == 0
    return folder


@pytest.fixture(scope="module")
def facts(place):
    """The records in `c`, and what the checker says about them."""
    entries = steady(records([place / "c"]))
    checker = Checker()
    return entries, [checker.check_record(*entry) for entry in entries]


@pytest.fixture(scope="module")
def written(place):
    return attest([place / "c"], time="2026-01-31T12:00:00Z").to_json()


def stands(text: str, facts, models=()) -> bool:
    try:
        return not objections(Attestation.from_json(text), *facts, models)
    except CertificateRejected:
        return False


def test_it_says_what_the_files_say(place, written, facts):
    data = json.loads(written)
    assert data["_type"] == "https://in-toto.io/Statement/v1" and data["predicateType"] == PREDICATE_TYPE
    digest = sha256((place / "m.onnx").read_bytes()).hexdigest()
    assert data["subject"] == [{"name": "m.onnx", "digest": {"sha256": digest}}]
    predicate = data["predicate"]
    assert predicate["verdict"] == "accepted" and predicate["level"] == "float"
    stored = {}
    for path in (place / "c").glob("*.json"):
        record = json.loads(path.read_text())
        stored[record["digest"]] = record
    rested_on = {digest for record in stored.values() for digest in record["witness"].get("bounds", {}).values()}
    claims = {claim["digest"]["sha256"]: claim for claim in predicate["certificates"]}
    assert claims.keys() == stored.keys() - rested_on and len(claims) == 3 and rested_on
    for digest, claim in claims.items():
        assert claim["statement"] == stored[digest]["statement"] and claim["semantics"] == stored[digest]["semantics"]
        assert claim["level"] == ("float" if claim["statement"]["kind"] == "lipschitz" else "deployed")
    assert stands(written, facts, [place / "m.onnx"]) and stands(written, facts, [place])


def test_the_text_is_canonical_and_reads_back(written):
    text = json.dumps(json.loads(written), sort_keys=True, separators=(",", ":")) + "\n"
    assert written == text and written.isascii()
    assert Attestation.from_json(written).to_json() == written
    assert Attestation.from_json(json.dumps(json.loads(written), indent=3)).to_json() == written


def paths_of(data, path=()):
    """The way to every value of a JSON document, the document itself last."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from paths_of(value, (*path, key))
    yield path


def at(data, path):
    for key in path:
        data = data[key]
    return data


HARMLESS = {("predicate", "timeChecked"), ("predicate", "checker", "version")}
"""Nothing can tell whether these are true; they are as good as whoever signs them."""


def test_every_changed_value_is_refused(written, facts):
    data, changed = json.loads(written), 0
    for path in list(paths_of(data))[:-1]:
        old = at(data, path)
        others = [None, 0, 1, -1, True, False, "", "x", [], {}, [old], {"x": old}, 10**30]
        if isinstance(old, str):
            others += [old[:-1], old + "0", old.upper(), old[:-1] + ("0" if old[-1:] != "0" else "1"), " " + old]
        if type(old) is int:
            others += [old + 1, str(old)]
        for other in others:
            if json.dumps(other) == json.dumps(old):
                continue
            wrong = copy.deepcopy(data)
            at(wrong, path[:-1])[path[-1]] = other
            harmless = path in HARMLESS and isinstance(other, str) and other != ""
            if not harmless:
                assert not stands(json.dumps(wrong), facts), (path, other)
                changed += 1
    assert changed > 300


def test_everything_left_out_added_or_repeated_is_refused(written, facts):
    data = json.loads(written)
    for path in paths_of(data):
        target = at(data, path)
        if isinstance(target, dict):
            for key in [*target, "annotations", "new", "https://example.org/x"]:
                wrong = copy.deepcopy(data)
                if key in target:
                    del at(wrong, path)[key]
                else:
                    at(wrong, path)[key] = "more"
                assert stands(json.dumps(wrong), facts) == ((*path, key) == ("predicate", "timeChecked")), (path, key)
        if isinstance(target, list):
            for change in (lambda x: x.pop(), lambda x: x.append(x[0]), lambda x: x.clear(), lambda x: x.reverse()):
                wrong = copy.deepcopy(data)
                change(at(wrong, path))
                if wrong != data:
                    assert not stands(json.dumps(wrong), facts), path


def test_claims_that_trade_places_are_refused(written, facts):
    data = json.loads(written)
    first, second = data["predicate"]["certificates"][:2]
    for key in ("statement", "semantics", "level"):
        wrong = copy.deepcopy(data)
        a, b = wrong["predicate"]["certificates"][:2]
        a[key], b[key] = second[key], first[key]
        if wrong != data:
            assert not stands(json.dumps(wrong), facts), key


@pytest.mark.parametrize(
    "text, word",
    [
        ("", "JSON"),
        ("[]", "object"),
        ("null", "object"),
        ('{"_type":1.0}', "floating"),
        ('{"a":NaN}', "NaN"),
        ('{"a":1,"a":1}', "twice"),
        ("[" * 100_000, "JSON"),
        ('{"payload":"","payloadType":"","signatures":[]}', "envelope"),
        ('{"dsseEnvelope":{},"mediaType":""}', "envelope"),
        (" " * (16 * 2**20 + 1), "long"),
        ('{"a":' + "9" * 5000 + "}", "JSON"),
    ],
    ids=["empty", "list", "null", "float", "nan", "twice", "deep", "dsse", "bundle", "long", "digits"],
)
def test_what_is_no_attestation_is_refused(text, word):
    with pytest.raises(CertificateRejected, match=word):
        Attestation.from_json(text)


def test_repeated_keys_are_refused(written, facts):
    for key in ('"_type":', '"level":', '"sha256":', '"kind":'):
        place = written.index(key)
        twice = written[:place] + key + "1," + written[place:]
        assert json.loads(twice) == json.loads(written)  # what a careless reader sees
        assert not stands(twice, facts), key


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="check the path"):
        read_attestation(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot read"):
        read_attestation(tmp_path)
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CertificateRejected, match="not text"):
        read_attestation(tmp_path / "a.json")


def test_it_stands_for_these_certificates_only(place, written, facts, tmp_path):
    entries, findings = facts
    for index, (store, name) in enumerate(entries):
        fewer = entries[:index] + entries[index + 1 :], findings[:index] + findings[index + 1 :]
        is_claim = not store.is_lemma(store.record(name).digest)
        assert stands(written, fewer) == (not is_claim), name
        failed = [*findings[:index], replace(findings[index], accepted=False, level="none"), *findings[index + 1 :]]
        assert not stands(written, (entries, failed)), name
    one = attest([place / "c" / "sample-000000.json"]).to_json()
    own = [(entry, finding) for entry, finding in zip(*facts, strict=True) if entry[1] == "sample-000000.json"]
    assert stands(one, tuple(map(list, zip(*own, strict=True)))) and not stands(one, facts)


def test_a_lower_level_than_attested_is_refused(written, facts):
    entries, findings = facts
    lower = [replace(finding, level="float") for finding in findings]
    assert not stands(written, (entries, lower))


def test_another_model_is_refused(place, written, facts, tmp_path):
    other = save_chain(tmp_path / "m.onnx", random_chain(2, (2, 5, 3)))
    assert not stands(written, facts, [other]) and not stands(written, facts, [place / "m.onnx", other])
    (tmp_path / "broken.onnx").write_bytes(b"x")
    assert not stands(written, facts, [tmp_path / "broken.onnx"])
    with pytest.raises(CertificateRejected, match="another model"):
        attest([place / "c"], [other])


def test_models_are_attested_one_by_one(place, tmp_path):
    model = save_chain(tmp_path / "n.onnx", random_chain(3, (2, 4, 3)))
    assert command("bound", model, "--certificate", tmp_path / "bound.json").code == 0
    with pytest.raises(UsageError, match="2 models"):
        attest([place / "c", tmp_path / "bound.json"])


def test_one_rejected_certificate_stops_everything(place, tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(CertificateRejected, match=r"of \d+ certificates 1 were rejected"):
        attest([place / "c", tmp_path / "bad.json"])
    with pytest.raises(CertificateRejected, match="less than deployed"):
        attest([place / "c"], level="deployed")


def test_a_record_that_changes_while_it_is_checked_is_refused(place, tmp_path):
    path = tmp_path / "bound.json"
    assert command("bound", place / "m.onnx", "--method", "spectral", "--certificate", path).code == 0
    ((store, name),) = steady(records([path]))
    assert store.record(name).digest == store.record(name).digest
    path.write_text(path.read_text() + " ")
    with pytest.raises(CertificateRejected, match="changed while"):
        store.record(name)
    assert not Checker([place]).check_record(store, name).accepted


def test_too_much_is_not_written(place):
    attestation = attest([place / "c"])
    long = replace(attestation.certificates[0], statement={"kind": "x" * 2**24})
    with pytest.raises(UsageError, match="in parts"):
        replace(attestation, certificates=(long,)).to_json()
