"""Whatever lies in a folder of certificates, the checker answers with a finding, soon, and accepts nothing new."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import ZOO, command
from stored import write_certificate
from workbench import BROKE_OFF

from certlip.certificate import BundleWriter, Certificate, Folder, array_digest
from certlip.check import Checker, check, records
from certlip.errors import UsageError

MODEL = ZOO / "breast_cancer.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("fuzz") / "c"
    line = ["verify", MODEL, "--eps", "0.5", "--limit", "2", "--method", "lipsdp"]
    assert command(*line, "--certificates", place).code == 0
    return place


def finding(path: Path):
    began = time.process_time()
    found = Checker([MODEL]).check(path)
    assert time.process_time() - began < 10 and BROKE_OFF not in found.message, found.message
    assert repr(found).isprintable() and found.level == ("none" if not found.accepted else found.level)
    return found


def mutations(data: st.DataObject, raw: bytes) -> bytes:
    """Bytes replaced, removed, doubled or swapped."""
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(len(changed) - 1, 0)))
        length = data.draw(st.integers(1, 12))
        kind = data.draw(st.sampled_from(["replace", "remove", "double", "insert"]))
        if kind == "replace":
            changed[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif kind == "remove":
            del changed[place : place + length]
        elif kind == "double":
            changed[place:place] = changed[place : place + length]
        else:
            changed[place:place] = data.draw(st.binary(min_size=1, max_size=length))
    return bytes(changed)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_records(folder, data):
    name = data.draw(st.sampled_from(Folder(folder).names()))
    original = (folder / name).read_bytes()
    path = folder / "zzz.json"
    path.write_bytes(mutations(data, original))
    found = finding(path)
    if found.accepted:  # white space at most: it is the same record
        assert Folder(folder).record("zzz.json") == Folder(folder).record(name)
    path.unlink()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutated_arrays(folder, data):
    """A claim whose arrays were touched is not accepted, unless they were not."""
    array = data.draw(st.sampled_from(sorted(folder.glob("*.npy"))))
    original = array.read_bytes()
    try:
        array.write_bytes(mutations(data, original))
        touched = array.read_bytes() != original
        users = [n for n in Folder(folder).names() if array.stem in (folder / n).read_text()]
        assert users
        assert all(finding(folder / name).accepted != touched for name in users)
    finally:
        array.write_bytes(original)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(folder, noise):
    path = folder / "zzz.json"
    path.write_bytes(noise)
    assert not finding(path).accepted
    path.unlink()


HOSTILE = {
    "deep list": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "huge integer": '{"schema": ' + "9" * 1_000_000 + "}",
    "huge rational": '{"value": "' + "9" * 5_000_000 + '"}',
    "nan": '{"schema": NaN}',
    "infinity": '{"schema": 2, "provenance": {"x": Infinity}}',
    "duplicate": '{"schema": 2, "schema": 2}',
    "long": " " * (17 * 2**20),
    "many": "[" + "[]," * 1_000_000 + "[]]",
    "surrogate": '{"schema": 2, "type": "\\ud800"}',
    "null bytes": "\0" * 1000,
    "keys": json.dumps({str(i): i for i in range(100_000)}),
    "text": json.dumps("x" * 1_000_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts(tmp_path, name):
    for text in (HOSTILE[name], HOSTILE[name] + "}", '{"provenance": ' + HOSTILE[name] + "}"):
        (tmp_path / "x.json").write_bytes(text.encode())
        assert not finding(tmp_path / "x.json").accepted


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutated_bundles(folder, data):
    path = folder.parent / "fuzz.certlip"
    writer = BundleWriter(path)
    for file in folder.iterdir():
        writer.put(file.name, file.read_bytes())
    writer.close()
    honest = {Folder(folder).record(name).digest for name in Folder(folder).names()}
    path.write_bytes(mutations(data, path.read_bytes()))
    try:
        entries = records([path])
    except UsageError:
        return
    checker = Checker([MODEL])
    for store, name in entries:
        found = checker.check_record(store, name)
        assert BROKE_OFF not in found.message
        assert not found.accepted or store.record(name).digest in honest


def test_large_arrays_of_the_wrong_size_are_refused(folder, tmp_path):
    """A multiplier for every pair of neurons, and more entries than the network has numbers."""
    name = next(n for n in Folder(folder).names() if n.startswith("bound"))
    honest = Folder(folder).record(name)
    shape = Folder(folder).array(honest.witness["arrays"]["multipliers"]).shape
    for lie in (np.ones((*shape, *shape)), np.ones(10**6), np.ones(0), np.ones((1, *shape)), np.eye(*shape, *shape)):
        arrays = {**honest.witness["arrays"], "multipliers": array_digest(lie)}
        forged = Certificate(honest.model, honest.statement, {"method": "lipsdp", "arrays": arrays})
        metric = Folder(folder).array(honest.witness["arrays"]["metric"])
        write_certificate(tmp_path / "x.json", forged, {array_digest(lie): lie, array_digest(metric): metric})
        for exact in (False, True):
            (found,) = check(tmp_path / "x.json", [MODEL], exact=exact)
            assert not found.accepted and BROKE_OFF not in found.message
