"""Bundles: what certlip writes reads back; every archive that is not exactly such a one is refused, in bounded time."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.certificate import (
    Bundle,
    BundleWriter,
    Certificate,
    Folder,
    FolderWriter,
    array_bytes,
    array_digest,
    open_store,
)
from certlip.certificate.arrays import MAX_ARRAY_BYTES, decode_array
from certlip.certificate.bundle import MAX_MEMBERS
from certlip.check import Checker, check, records
from certlip.errors import CertificateRejected, UsageError

HEX = "0123456789abcdef" * 4
ARRAY = np.arange(6.0).reshape(2, 3)
MODEL = {"name": "m.onnx", "sha256": HEX, "external": {}, "input": "x", "output": "y", "graph": HEX}
OUTPUT = {"kind": "all", "indices": []}
RECORD = Certificate(
    MODEL,
    {"kind": "lipschitz", "norm": "l2", "output": OUTPUT, "value": "3/2"},
    {"method": "lipsdp", "arrays": {"metric": array_digest(ARRAY)}},
)
CLAIM = Certificate(
    MODEL,
    {"kind": "tolerance", "set": {"norm": "l2", "eps": "1"}, "tolerance": "2"},
    {"bounds": {"all": RECORD.digest}},
)
NAME = f"{HEX}.npy"


def write(path: Path) -> Path:
    writer = BundleWriter(path)
    writer.write("claim.json", CLAIM, {})
    writer.write("bound.json", RECORD, {array_digest(ARRAY): ARRAY})
    writer.close()
    return path


def zipped(path: Path, members, compression=zipfile.ZIP_DEFLATED, change=lambda entry: None) -> Path:
    """An archive of (name, data) as a forger makes it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = compression
            change(entry)
            archive.writestr(entry, data)
    return path


def refused(path: Path) -> str:
    """The reason, which is one sentence; any other exception fails the test."""
    began = time.process_time()
    with pytest.raises(CertificateRejected) as caught:
        store = Bundle(path)
        for name in store.names():
            store.record(name)
        store.array(HEX)
    assert time.process_time() - began < 5 and "\n" not in str(caught.value)
    (finding,) = {finding.accepted for finding in check(path)}
    assert not finding
    return str(caught.value)


def test_a_bundle_is_a_folder_in_one_file(tmp_path):
    bundle = open_store(write(tmp_path / "proofs.certlip"))
    folder = FolderWriter(tmp_path / "folder")
    folder.write("claim.json", CLAIM, {})
    folder.write("bound.json", RECORD, {array_digest(ARRAY): ARRAY})
    for store in (bundle, open_store(tmp_path / "folder")):
        assert store.names() == ["bound.json", "claim.json"]
        assert store.record("claim.json") == CLAIM and store.find(RECORD.digest) == RECORD
        assert store.find("0" * 64) is None
        assert store.is_lemma(RECORD.digest) and not store.is_lemma(CLAIM.digest)
        assert np.array_equal(store.array(array_digest(ARRAY)), ARRAY)
        with pytest.raises(CertificateRejected):
            store.array("0" * 64)
        with pytest.raises(CertificateRejected):
            store.data("bound.json", 10)


def test_nothing_is_seen_before_everything_is_there(tmp_path):
    writer = BundleWriter(tmp_path / "x.certlip")
    writer.write("claim.json", CLAIM, {})
    assert list(tmp_path.iterdir()) == []
    writer.close()
    assert [file.name for file in tmp_path.iterdir()] == ["x.certlip"]


def test_equal_certificates_make_equal_bundles(tmp_path):
    assert write(tmp_path / "a.certlip").read_bytes() == write(tmp_path / "b.certlip").read_bytes()


def test_archives_of_other_tools_are_read(tmp_path):
    names = [("bound.json", RECORD.to_json()), (f"{array_digest(ARRAY)}.npy", array_bytes(ARRAY))]
    for index, compression in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
        store = Bundle(zipped(tmp_path / f"{index}.certlip", names, compression))
        assert store.find(RECORD.digest) == RECORD


@pytest.mark.parametrize(
    "name",
    [
        "../bound.json", "/bound.json", "a/bound.json", "a\\bound.json", "..", ".", "", "bound.json/", "C:bound.json",
        ".bound.json", "bound", "bound.txt", "bound.json.exe", "bound\n.json", "bo und.json", "böund.json",
        "x" * 300 + ".json", "x.npy", HEX + ".NPY", HEX.upper() + ".npy", "../" + HEX[3:] + ".npy", "model.onnx",
        "model-../../../etc/pw.onnx", "bound.json\0", "\u202ejson.json",
    ],
)  # fmt: skip
def test_other_names_are_refused(tmp_path, name):
    try:
        path = zipped(tmp_path / "x.certlip", [("good.json", RECORD.to_json()), (name, "{}")])
    except (ValueError, UnicodeError):
        pytest.skip("the archive writer refuses the name itself")
    assert "no name of a certificate" in refused(path) or "\0" in name


def test_names_given_twice_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "x.certlip", [("a.json", RECORD.to_json()), ("a.json", CLAIM.to_json())])
    assert "twice" in refused(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_folders_and_devices_are_refused(tmp_path, kind):
    def change(entry):
        entry.external_attr = (kind | 0o777) << 16

    assert "regular" in refused(zipped(tmp_path / "x.certlip", [("a.json", "/etc/passwd")], change=change))


def test_encrypted_members_are_refused(tmp_path):
    data = bytearray(zipped(tmp_path / "x.certlip", [("a.json", RECORD.to_json())]).read_bytes())
    start = data.index(b"PK\x01\x02")
    for offset in (6, start + 8):
        data[offset] |= 1
    (tmp_path / "x.certlip").write_bytes(data)
    assert "encrypted" in refused(tmp_path / "x.certlip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressors_are_refused(tmp_path, method):
    pytest.importorskip({zipfile.ZIP_BZIP2: "bz2", zipfile.ZIP_LZMA: "lzma"}[method])
    assert "compressed" in refused(zipped(tmp_path / "x.certlip", [("a.json", RECORD.to_json())], method))


def test_bombs_are_refused_before_they_are_inflated(tmp_path):
    tracemalloc.start()
    with zipfile.ZipFile(tmp_path / "x.certlip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("a.json", b" " * (17 * 2**20))
    tracemalloc.reset_peak()
    assert "larger" in refused(tmp_path / "x.certlip")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def lying(path: Path, size: int) -> Path:
    """One member of 10 MiB that announces another size, in both headers."""
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = body.compress(b" " * (10 * 2**20)) + body.flush()
    crc = zlib.crc32(b" " * min(size, 10 * 2**20))
    name = b"a.json"
    common = struct.pack("<5H3L2H", 20, 0, 8, 0, 33, crc, len(raw), size, len(name), 0)
    local = b"PK\x03\x04" + common + name + raw
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<3H2L", 0, 0, 0, 0, 0) + name
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(local), 0)
    path.write_bytes(local + entry + end)
    return path


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**24, 2**31, 2**32 - 2])
def test_sizes_that_lie_are_refused(tmp_path, size):
    refused(lying(tmp_path / "x.certlip", size))


def test_the_sum_of_all_sizes_is_bounded(tmp_path):
    """Many members over one stream: each within its limit, together beyond the memory of a machine."""
    name, entries = b"%064x.npy", []
    raw = zlib.compress(b"", 9)[2:-4]
    local = b"PK\x03\x04" + struct.pack("<5H3L2H", 20, 0, 8, 0, 33, 0, len(raw), 2**29, 68, 0) + name % 0 + raw
    for index in range(20):
        head = struct.pack("<6H3L5H2L", 20, 20, 0, 8, 0, 33, 0, len(raw), 2**29, 68, 0, 0, 0, 0, 0, 0)
        entries.append(b"PK\x01\x02" + head + name % index)
    directory = b"".join(entries)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 20, 20, len(directory), len(local), 0)
    (tmp_path / "x.certlip").write_bytes(local + directory + end)
    assert "unpacks to more" in refused(tmp_path / "x.certlip")


@pytest.mark.parametrize(
    "change",
    [
        {"count": 65535, "here": 65535}, {"count": 0, "here": 0}, {"size": 2**31}, {"start": 2**32 - 1}, {"disk": 1},
        {"first": 1}, {"comment": 5}, {"here": 3}, {"magic": b"PK\x05\x07"}, {"size": 0}, {"start": 10**6},
    ],
)  # fmt: skip
def test_other_ends_are_refused(tmp_path, change):
    data = write(tmp_path / "x.certlip").read_bytes()
    keys = ("magic", "disk", "first", "here", "count", "size", "start", "comment")
    end = dict(zip(keys, struct.unpack("<4s4H2LH", data[-22:]), strict=True))
    (tmp_path / "x.certlip").write_bytes(data[:-22] + struct.pack("<4s4H2LH", *{**end, **change}.values()))
    refused(tmp_path / "x.certlip")


def test_64_bit_archives_are_refused(tmp_path):
    data = write(tmp_path / "x.certlip").read_bytes()
    large = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**9, 10**9, 10**12, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(data) - 22, 1)
    (tmp_path / "x.certlip").write_bytes(data[:-22] + large + locator + data[-22:])
    refused(tmp_path / "x.certlip")


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06", b"\0" * 22, b"PK\x05\x06" + b"\0" * 17, b"{}" * 100])
def test_files_that_are_no_archives_are_refused(tmp_path, data):
    (tmp_path / "x.certlip").write_bytes(data)
    refused(tmp_path / "x.certlip")


def test_an_empty_bundle_proves_nothing(tmp_path):
    BundleWriter(tmp_path / "x.certlip").close()
    with pytest.raises(UsageError, match="holds no certificates"):
        check(tmp_path / "x.certlip")


def test_every_truncation_is_refused(tmp_path):
    data, path = write(tmp_path / "x.certlip").read_bytes(), tmp_path / "t.certlip"
    for end in range(0, len(data), 5):
        path.write_bytes(data[:end])
        refused(path)


def outcome(path: Path) -> list:
    """What is read from an altered bundle: only what was in it, whole, under some name."""
    try:
        store = Bundle(path)
    except CertificateRejected:
        return []
    found = []
    for name in store.names():
        try:
            found.append(store.record(name))
        except CertificateRejected:
            continue
    with contextlib.suppress(CertificateRejected):
        assert np.array_equal(store.array(array_digest(ARRAY)), ARRAY)
    return found


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_bundles_hold_what_was_signed_or_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    raw = bytearray(write(folder / "mutated.certlip").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    (folder / "mutated.certlip").write_bytes(raw)
    assert all(record in (RECORD, CLAIM) for record in outcome(folder / "mutated.certlip"))
    for store, name in safe_records(folder / "mutated.certlip"):
        assert not Checker().check_record(store, name).accepted  # its model is not here


def safe_records(path: Path) -> list:
    try:
        return records([path])
    except UsageError:  # nothing in it
        return []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused(tmp_path_factory, noise, ends):
    path = tmp_path_factory.getbasetemp() / "noise.certlip"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, min(len(noise), 100), 0, 0)
    path.write_bytes(noise + (end if ends else b""))
    assert outcome(path) == []
    for store, name in safe_records(path):
        finding = Checker().check_record(store, name)
        assert not finding.accepted and finding.level == "none" and "broke off" not in finding.message


def test_too_many_members_are_refused_when_written(tmp_path, monkeypatch):
    monkeypatch.setattr("certlip.certificate.bundle.MAX_MEMBERS", 3)
    writer = BundleWriter(tmp_path / "x.certlip")
    for index in range(3):
        writer.put(f"{index}.json", b"{}")
    writer.put("2.json", b"{ }")
    with pytest.raises(UsageError, match="folder"):
        writer.put("3.json", b"{}")
    writer.close()
    assert Bundle(tmp_path / "x.certlip").names() == ["0.json", "1.json", "2.json"]


def test_as_many_members_as_are_allowed_fit(tmp_path):
    writer = BundleWriter(tmp_path / "x.certlip")
    for index in range(5000):
        writer.put(f"{'long-name' * 10}-{index:06d}.json", b"{}")
    writer.close()
    assert len(Bundle(tmp_path / "x.certlip").names()) == 5000 < MAX_MEMBERS


def test_an_array_that_many_claims_share_is_inflated_once(tmp_path, monkeypatch):
    path, digest = write(tmp_path / "x.certlip"), array_digest(ARRAY)
    calls, read = [], Bundle.data
    monkeypatch.setattr(Bundle, "data", lambda self, name, limit: calls.append(name) or read(self, name, limit))
    store = Bundle(path)
    shared = [store.array(digest) for _ in range(5)]
    assert calls == [f"{digest}.npy"] and np.array_equal(shared[-1], ARRAY)
    with pytest.raises(ValueError, match="read-only"):
        shared[0][0, 0] = 7.0
    monkeypatch.setattr("certlip.certificate.store._KEPT", 1)
    with pytest.raises(CertificateRejected):
        store.array("0" * 64)  # what is missing displaces nothing and is not remembered
    assert store.array(digest) is shared[0]


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_a_large_array_is_refused_before_it_is_inflated(tmp_path, kind):
    """Zeros that take 300 KiB in the archive and more in memory than any array of a certificate."""
    entries = MAX_ARRAY_BYTES // 8 + 1 if kind == "<f4" else MAX_ARRAY_BYTES // 8
    with zipfile.ZipFile(tmp_path / "x.certlip", "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(NAME)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": kind, "fortran_order": False, "shape": (entries,)}
            )
            for _ in range(entries * int(kind[-1]) // 2**20 + 1):
                stream.write(bytes(2**20))
        archive.writestr("a.json", RECORD.to_json())
    if kind == "<f4":  # the file is within the limit, what it decodes to is not: decoding refuses by the header
        data = Bundle(tmp_path / "x.certlip").data(NAME, MAX_ARRAY_BYTES)
        with pytest.raises(CertificateRejected, match="larger"):
            decode_array(data, sha256(data).hexdigest())
    else:
        tracemalloc.start()
        assert "larger" in refused(tmp_path / "x.certlip")
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="devices and pipes")
@pytest.mark.parametrize("target", ["/dev/zero", "/dev/stdin", "pipe"])
def test_devices_and_pipes_are_refused_at_once(tmp_path, target):
    os.mkfifo(tmp_path / "pipe")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.json", NAME, "x.certlip"):
        (folder / name).symlink_to(tmp_path / target)
    began = time.process_time()
    for read in (Folder(folder).record, lambda name: Folder(folder).data(name, 2**40)):
        with pytest.raises(CertificateRejected, match="regular"):
            read("a.json")
    with pytest.raises(CertificateRejected, match="regular"):
        Folder(folder).array(HEX)
    with pytest.raises(CertificateRejected, match="regular"):
        Bundle(folder / "x.certlip")
    assert time.process_time() - began < 1


def test_folders_are_confined(tmp_path):
    (tmp_path / "secret.json").write_text(RECORD.to_json())
    store = Folder(tmp_path / "inside")
    (tmp_path / "inside").mkdir()
    assert store.names() == []
    with pytest.raises(CertificateRejected):
        store.data("nul\0.json", 100)
    with pytest.raises(CertificateRejected):
        store.data("none.json", 100)


def test_arrays_are_read_one_by_one(tmp_path, monkeypatch):
    """Reading one array of a bundle takes memory of its own size and of the few that are kept, not of all."""
    monkeypatch.setattr("certlip.certificate.store._KEPT_BYTES", 2**21)
    writer = BundleWriter(tmp_path / "x.certlip")
    arrays = [np.full(2**17, float(index)) for index in range(8)]
    for array in arrays:
        writer.put(f"{array_digest(array)}.npy", array_bytes(array))
    writer.close()
    store = Bundle(tmp_path / "x.certlip")
    tracemalloc.start()
    for array in arrays:
        assert np.array_equal(store.array(array_digest(array)), array)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * arrays[0].nbytes
