"""Where certificates lie together: records `NAME.json`, arrays `SHA256.npy`, property files and exported models, read
and written.

A store is a folder or one bundle (`bundle.py`). Both hold the same files, so this class reads records and arrays from
the bytes that a subclass hands over, and trusts no name: an array is what its digest says.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from certlip.certificate.arrays import MAX_ARRAY_BYTES, array_bytes, array_digest, decode_array
from certlip.certificate.record import MAX_TEXT, Certificate
from certlip.errors import CertificateRejected
from certlip.rigor.rounding import Array

MAX_MODEL_BYTES = 2**31
MAX_PROPERTY_BYTES = 2**28
_KEPT = 256
_KEPT_BYTES = MAX_ARRAY_BYTES
RECORD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.json")


def array_name(digest: str) -> str:
    return f"{digest}.npy"


def model_name(sha256: str) -> str:
    """The name of an exported model that is stored with the claims about it."""
    return f"model-{sha256[:16]}.onnx"


def property_name(sha256: str) -> str:
    """The name of a VNN-LIB file, uncompressed, that is stored with the claims about it."""
    return f"property-{sha256[:16]}.vnnlib"


class Store(ABC):
    """Certificates and what they refer to, read only."""

    def __init__(self, path: Path):
        self.path = path
        self._index: dict[str, str] | None = None
        self._lemmas: set[str] = set()
        self._recent: dict[str, Certificate] = {}
        self._arrays: dict[str, Array] = {}

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all records, sorted."""

    @abstractmethod
    def data(self, name: str, limit: int) -> bytes:
        """The bytes of one file. Raises CertificateRejected where it is missing or larger than `limit`."""

    def record(self, name: str) -> Certificate:
        """Read and validate a record. Raises CertificateRejected."""
        data = self.data(name, MAX_TEXT)
        try:
            return Certificate.from_json(data.decode())
        except UnicodeDecodeError as error:
            raise CertificateRejected(f"{name} is not a certificate: it is not text") from error
        except CertificateRejected as error:
            raise CertificateRejected(f"{name}: {error}") from error

    def array(self, digest: str) -> Array:
        """The binary64 form of the array with this digest, read only. The last ones are kept: many claims share one.

        Raises CertificateRejected unless the file is exactly it.
        """
        if digest not in self._arrays:
            array = decode_array(self.data(array_name(digest), MAX_ARRAY_BYTES), digest)
            while self._arrays and (len(self._arrays) >= _KEPT or self._kept_bytes() + array.nbytes > _KEPT_BYTES):
                self._arrays.pop(next(iter(self._arrays)))
            self._arrays[digest] = array
        return self._arrays[digest]

    def _kept_bytes(self) -> int:
        return sum(array.nbytes for array in self._arrays.values())

    def find(self, digest: str) -> Certificate | None:
        """The record with this digest, None if there is none. The last ones are kept: many claims share a bound."""
        name = self.index().get(digest)
        if name is None or digest in self._recent:
            return self._recent.get(digest)
        if len(self._recent) >= _KEPT:
            self._recent.pop(next(iter(self._recent)))
        self._recent[digest] = self.record(name)
        return self._recent[digest]

    def is_lemma(self, digest: str) -> bool:
        """Whether another record of the store refers to this one."""
        self.index()
        return digest in self._lemmas

    def index(self) -> dict[str, str]:
        """The name of every readable record by its digest."""
        if self._index is None:
            table: dict[str, str] = {}
            for name in self.names():
                try:
                    record = self.record(name)
                except CertificateRejected:
                    continue  # reported when it is checked itself; here it only cannot be referred to
                table[record.digest] = name
                self._lemmas.update(record.witness.get("bounds", {}).values())
            self._index = table
        return self._index


class Writer(ABC):
    """Certificates on their way into a store."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Store a file under its name; an older one of this name is replaced as a whole."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether a file of this name is there."""

    def close(self) -> None:  # noqa: B027 - a folder is complete after every file
        """Make what was put visible."""

    def write(self, name: str, certificate: Certificate, arrays: Mapping[str, np.ndarray]) -> None:
        """Store arrays (by digest) first and the record last: a record that exists is complete."""
        text = certificate.to_json()
        for digest, array in arrays.items():
            if not self.has(array_name(digest)):
                self.put(array_name(digest), array_bytes(array))
        self.put(name, text.encode())


__all__ = [
    "MAX_MODEL_BYTES", "MAX_PROPERTY_BYTES", "RECORD_NAME", "Store", "Writer", "array_digest", "array_name",
    "model_name", "property_name",
]  # fmt: skip
