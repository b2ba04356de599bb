"""Files of a certificate: arrays are plain floats under their digest, or rejected."""

import io
import pickle
import sys
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import read_certificate, write_certificate

from certlip.certificate import Certificate, Folder
from certlip.certificate.arrays import MAX_ARRAY_BYTES, array_bytes, array_digest
from certlip.certificate.folder import write_atomically
from certlip.errors import CertificateRejected, UsageError

HEX = "0123456789abcdef" * 4
RECORD = Certificate(
    {"name": "m.onnx", "sha256": HEX, "external": {}, "input": "x", "output": "y", "graph": HEX},
    {"kind": "lipschitz", "norm": "l2", "output": {"kind": "all", "indices": []}, "value": "3/2"},
    {"method": "spectral", "arrays": {}},
)


def read_array(folder, digest: str) -> np.ndarray:
    return Folder(folder).array(digest)


def store(folder, data: bytes) -> str:
    """A file under the name that fits its content, as a forger would place it."""
    digest = sha256(data).hexdigest()
    (folder / f"{digest}.npy").write_bytes(data)
    return digest


def npy(header: str | bytes, body: bytes, version=(1, 0)) -> bytes:
    raw = header.encode("latin-1") if isinstance(header, str) else header
    return b"\x93NUMPY" + bytes(version) + len(raw).to_bytes(2, "little") + raw + body


def header(shape: str, descr: str = "'<f8'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def rejected(folder, data: bytes) -> bool:
    try:
        read_array(folder, store(folder, data))
    except CertificateRejected as error:
        return bool(str(error))
    return False


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (3,), (0,), (2, 3), (1, 2, 3, 4), (2, 0, 3)])
def test_round_trip(tmp_path, dtype, shape):
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    digest = store(tmp_path, array_bytes(array))
    assert digest == array_digest(array)
    again = read_array(tmp_path, digest)
    assert again.dtype == np.float64 and again.shape == shape and np.array_equal(again, array)


def test_special_values_and_orders_survive(tmp_path):
    array = np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, 5e-324]])
    for stored in (array, array.T, np.asfortranarray(array), array[:, ::2]):
        again = read_array(tmp_path, store(tmp_path, array_bytes(stored)))
        assert np.array_equal(again, stored, equal_nan=True)
        assert np.array_equal(np.signbit(again), np.signbit(stored))


def test_certificates_round_trip_with_their_arrays(tmp_path):
    arrays = {array_digest(a): a for a in (np.arange(3.0), np.ones((2, 2)))}
    path = tmp_path / "deep" / "folder" / "claim.json"
    write_certificate(path, RECORD, arrays)
    assert read_certificate(path) == RECORD
    for digest, array in arrays.items():
        assert np.array_equal(read_array(path.parent, digest), array)
    assert {file.suffix for file in path.parent.iterdir()} == {".json", ".npy"}  # no temporary files stay


@pytest.mark.parametrize("dtype", ["<i8", "<i4", "|b1", "<c16", ">f8", ">f4", "<f2", "|O", "<U3", "|S3", "|V8"])
def test_other_types_are_rejected(tmp_path, dtype):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.zeros(3, dtype), allow_pickle=True)
    assert rejected(tmp_path, stream.getvalue())


class Bomb:
    """Unpickling this would be noticed."""

    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def test_nothing_is_ever_unpickled(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
    payload = pickle.dumps(Bomb())
    for data in (
        stream.getvalue(), payload, npy(header("(1,)", "'|O'"), payload), npy(header("(1,)"), payload),
        npy(header("(1,)", "'<f8'") , payload[:8].ljust(8, b"\0") + payload),
    ):  # fmt: skip
        assert rejected(tmp_path, data)
    assert not Bomb.exploded


def test_fortran_order_is_rejected(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asfortranarray(np.ones((2, 3))))
    assert rejected(tmp_path, stream.getvalue())


SHAPES = [
    "(-1,-1)", "(-1, -1)", "(-1, -8)", "(-1,)", "(True,)", "(1.0,)", "[1]", "1", "(1)", "None", "(2,)", "(0,)",
    "(1, 2)",
    f"(0, {10**30})", f"({2**62}, 0)", f"({2**62}, 0, 4)", f"({2**63},)", "(" + "1, " * 70 + ")", "(1L,)", "(+1,)",
    "(1,,)",
    "(1 ,)", "(0x1,)", "(1_0,)", "('1',)", "(1, 1.0)", "((1,),)", "", "(", ")", "(٣,)".encode().decode("latin-1"),
]  # fmt: skip
HEADERS = [
    "", "\0", "{", "{'descr': (", "(" * 5000, "-" * 5000 + "1", "{1:" * 300, "{[]:1}", "'", "'''", "\\", "(\n  1\n 2",
    "   x\n y",
    "1", "9" * 5000, "10**10**10", "L" * 20000, "{'descr': '<f8', 'fortran_order': 0, 'shape': (1,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': 1}", "{'fortran_order': False, 'shape': (1,), }",
    "__import__('os').abort()", "\xff" * 30, header("(1,)") * 2, header("(1,)").rstrip("\n") + "#\n",
    " " * 60000 + "\n",
]  # fmt: skip
DESCRS = [
    "'O'", "'<f8,<f8'", "'(2,)<f8'", "[]", "None", "()", "{}", "('<f8',)", "('<f8', (2,))", "[('a', '<f8')]", "[[]]",
    "1", "'x'",
    "[('a', '<f8', -1)]", "{'names': 1}", "float", "b'<f8'", "'<f8\\x00'", "'<f16'", "'<F8'", "'f8'", "'=f8'",
]  # fmt: skip


def test_forged_headers_are_rejected(tmp_path):
    """Every one is named by its own digest, so that only the reader of the header stands in between."""
    body = np.zeros(1).tobytes()
    for shape in SHAPES:
        assert rejected(tmp_path, npy(header(shape), body)), shape
    for text in HEADERS:
        assert rejected(tmp_path, npy(text, body)), text[:40]
    for descr in DESCRS:
        assert rejected(tmp_path, npy(header("(1,)", descr), body)), descr
    for fortran in ("True", "0", "None", "1", "'False'"):
        assert rejected(tmp_path, npy(header("(1,)", fortran=fortran), body))
    for version in ((2, 0), (3, 0), (1, 1), (0, 0), (9, 9)):
        assert rejected(tmp_path, npy(header("(1,)"), body, version))
    assert not rejected(tmp_path, npy(header("(1,)"), body))  # the forger's tool itself works


def test_lengths_that_do_not_fit_are_rejected(tmp_path):
    data = array_bytes(np.arange(4.0))
    for end in range(len(data)):
        assert rejected(tmp_path, data[:end])
    for extra in (b"\0", b"\0" * 8, data):
        assert rejected(tmp_path, data + extra)
    for length in (0, 1, 10, 117, 119, 127, 65535):
        assert rejected(tmp_path, data[:8] + length.to_bytes(2, "little") + data[10:])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 140), st.booleans())
def test_random_bytes_are_rejected(tmp_path_factory, noise, position, inside):
    folder = tmp_path_factory.getbasetemp()
    data = array_bytes(np.arange(2.0))
    forged = data[:position] + noise + data[position + len(noise) :] if inside else noise
    if rejected(folder, forged):
        return
    array = read_array(folder, store(folder, forged))  # noise in the body gives another, equally plain, array
    assert array.dtype == np.float64 and array.size * 4 <= len(forged)


def test_altered_missing_and_misnamed_arrays_are_rejected(tmp_path):
    digest = store(tmp_path, array_bytes(np.arange(3.0)))
    file = tmp_path / f"{digest}.npy"
    data = file.read_bytes()
    for position in range(len(data)):
        file.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(CertificateRejected, match="altered"):
            read_array(tmp_path, digest)
    file.unlink()
    with pytest.raises(CertificateRejected, match="cannot be read"):
        read_array(tmp_path, digest)
    file.mkdir()
    with pytest.raises(CertificateRejected, match="cannot be read"):
        read_array(tmp_path, digest)


@pytest.mark.skipif(sys.platform == "win32", reason="sparse files")
def test_huge_arrays_are_not_read(tmp_path):
    file = tmp_path / f"{HEX}.npy"
    with file.open("wb") as stream:
        stream.truncate(MAX_ARRAY_BYTES + 1)
    with pytest.raises(CertificateRejected, match="larger"):
        read_array(tmp_path, HEX)
    record = tmp_path / "claim.json"
    with record.open("wb") as stream:
        stream.truncate(17 * 2**20)
    with pytest.raises(CertificateRejected, match="larger"):
        read_certificate(record)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"\x80abc", b"{}", b"null", b"\0" * 100, RECORD.to_json().encode("utf-16")]
)
def test_files_that_are_no_certificates_are_rejected(tmp_path, data):
    path = tmp_path / "claim.json"
    path.write_bytes(data)
    with pytest.raises(CertificateRejected, match=r"claim\.json"):
        read_certificate(path)


def test_absent_files_and_folders_are_rejected(tmp_path):
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "none" / "none.json"):
        with pytest.raises(CertificateRejected):
            read_certificate(path)


def test_writing_replaces_whole_files(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and [file.name for file in tmp_path.iterdir()] == ["file"]


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "below", tmp_path / "folder"):
        with pytest.raises(UsageError, match=path.name):
            write_atomically(path, b"data")
    assert {file.name for file in tmp_path.iterdir()} == {"file", "folder"}
