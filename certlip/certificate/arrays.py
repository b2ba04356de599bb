"""Arrays as the bytes of `.npy` files, read without numpy's own reader: that one evaluates the header."""

from __future__ import annotations

import io
import re
from hashlib import sha256
from math import prod

import numpy as np

from certlip.errors import CertificateRejected
from certlip.rigor.rounding import Array

MAX_ARRAY_BYTES = 2**28
"""Largest array, as a file and in binary64."""

# The header that `array_bytes` writes, and no other.
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


def decode_array(data: bytes, digest: str) -> Array:
    """The binary64 form of an array from its file, read only. Raises CertificateRejected unless the file is it."""
    if sha256(data).hexdigest() != digest:
        raise CertificateRejected(f"the array {digest[:12]}... was altered: its digest does not match its name")
    head = _HEAD.match(data)
    if head is None or int.from_bytes(head["length"], "little") != len(head["header"]):
        raise CertificateRejected(
            f"the array {digest[:12]}... is not a plain file of little-endian floats in C order"
        )
    dtype, length = np.dtype(head["dtype"].decode()), len(data) - head.end()
    shape = tuple(int(n) for n in head["shape"].decode().split(",") if n.strip())
    if 8 * prod(max(n, 1) for n in shape) > MAX_ARRAY_BYTES:
        raise CertificateRejected(f"the array {digest[:12]}... of shape {shape} is larger than certlip reads")
    if dtype.itemsize * prod(shape) != length:
        raise CertificateRejected(f"the array {digest[:12]}... does not hold the {shape} entries that it announces")
    array = np.frombuffer(data, dtype, offset=head.end()).reshape(shape).astype(np.float64, copy=False)
    array.flags.writeable = False  # it is shared by all who ask the store for it
    return array
