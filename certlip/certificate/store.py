"""Certificates in a folder: `NAME.json` with its arrays beside it as `SHA256.npy`, each written by atomic rename."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from math import prod
from pathlib import Path

import numpy as np

from certlip.certificate.record import Certificate
from certlip.errors import CertificateRejected, UsageError
from certlip.rigor.rounding import Array

MAX_ARRAY_BYTES = 2**30

# The header that `array_bytes` writes, and no other: numpy's own reader evaluates what it finds there.
_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)(?P<header>\{'descr': '(?P<dtype><f[48])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>|[0-9]{1,10},|[0-9]{1,10}(?:, [0-9]{1,10}){1,31})\), \} *\n)",
    re.DOTALL,
)


def array_bytes(array: np.ndarray) -> bytes:
    """The `.npy` file of an array, without pickled objects."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def array_digest(array: np.ndarray) -> str:
    """sha256 of the `.npy` file, the name under which a certificate refers to the array."""
    return sha256(array_bytes(array)).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or an interruption, sees the old one or the new one, never half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose a folder you may write to") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose a place you may write to") from error
    finally:
        Path(name).unlink(missing_ok=True)


def write_certificate(path: Path, certificate: Certificate, arrays: Mapping[str, np.ndarray]) -> None:
    """Store arrays (by digest) first and the record last: a record that exists is complete."""
    text = certificate.to_json()
    for digest, array in arrays.items():
        file = path.parent / f"{digest}.npy"
        if not file.exists():
            write_atomically(file, array_bytes(array))
    write_atomically(path, text.encode())


def read_certificate(path: Path) -> Certificate:
    """Read and validate a record. Raises CertificateRejected."""
    try:
        if path.stat().st_size > 16 * 2**20:
            raise CertificateRejected(f"{path} is too large for a certificate")
        text = path.read_bytes().decode()
    except OSError as error:
        raise CertificateRejected(f"{path} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise CertificateRejected(f"{path} is not a certificate: it is not text") from error
    try:
        return Certificate.from_json(text)
    except CertificateRejected as error:
        raise CertificateRejected(f"{path}: {error}") from error


def read_array(folder: Path, digest: str) -> Array:
    """The binary64 form of the array with this digest. Raises CertificateRejected unless the file is exactly it."""
    file = folder / f"{digest}.npy"
    try:
        if file.stat().st_size > MAX_ARRAY_BYTES:
            raise CertificateRejected(f"{file} is larger than certlip reads")
        data = file.read_bytes()
    except OSError as error:
        raise CertificateRejected(
            f"the array {file} cannot be read: {error.strerror}; keep it beside the record"
        ) from error
    if sha256(data).hexdigest() != digest:
        raise CertificateRejected(f"the array {file} was altered: its digest does not match its name")
    head = _HEAD.match(data)
    if head is None or int.from_bytes(head["length"], "little") != len(head["header"]):
        raise CertificateRejected(f"{file} is not a plain array file of little-endian floats in C order")
    body, dtype = data[head.end() :], np.dtype(head["dtype"].decode())
    shape = tuple(int(n) for n in head["shape"].decode().split(",") if n.strip())
    if dtype.itemsize * prod(max(n, 1) for n in shape) > MAX_ARRAY_BYTES or dtype.itemsize * prod(shape) != len(body):
        raise CertificateRejected(f"{file} does not hold the {shape} entries that it announces")
    return np.frombuffer(body, dtype).reshape(shape).astype(np.float64)
