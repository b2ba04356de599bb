"""One `.certlip` file as a store: a zip archive of a flat list of our own names.

The archive is untrusted. Its end record is read here before `zipfile` allocates anything for it: one disk, no comment,
no 64-bit extension, a bounded number of members whose directory is no longer than their names explain. Every member
is a regular file, stored or deflated, not encrypted, under a name that a folder of certificates could have; no name
occurs twice. Sizes are bounded one by one and in sum, and no more is inflated than was announced.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from pathlib import Path

from certlip.certificate.arrays import MAX_ARRAY_BYTES
from certlip.certificate.folder import write_atomically
from certlip.certificate.record import MAX_TEXT
from certlip.certificate.store import MAX_MODEL_BYTES, MAX_PROPERTY_BYTES, RECORD_NAME, Store, Writer
from certlip.errors import CertificateRejected, UsageError
from certlip.regular_files import open_regular

SUFFIX = ".certlip"
MAX_MEMBERS = 65534
MAX_BYTES = 2**31
MAX_TOTAL = 2**32
"""Bytes of the file, and of everything in it together."""

_LIMITS = (
    (RECORD_NAME, MAX_TEXT),
    (re.compile(r"[0-9a-f]{64}\.npy"), MAX_ARRAY_BYTES),
    (re.compile(r"model-[0-9a-f]{16}\.onnx"), MAX_MODEL_BYTES),
    (re.compile(r"property-[0-9a-f]{16}\.vnnlib"), MAX_PROPERTY_BYTES),
)
_END = struct.Struct("<4s4H2LH")
_ENTRY = 46 + 204 + 64  # the fixed part of a directory entry, the longest name, and what other tools add
_FLAGS = 0x0002 | 0x0004 | 0x0008 | 0x0800  # effort of the compressor, sizes after the data, names in UTF-8
_AGAIN = "copy it again, or make it again with --certificates"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Bundle(Store):
    """The members of an archive, all announcements checked on opening. Raises CertificateRejected."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            self._stream, size = open_regular(path)
            if size > MAX_BYTES:
                raise CertificateRejected(f"{path} is larger than certlip reads; write a folder instead")
            self._stream.seek(max(0, size - _END.size - 20))
            count = _announced(self._stream.read(_END.size + 20), path)
            self._archive = zipfile.ZipFile(self._stream)
            entries = self._archive.infolist()
        except CertificateRejected:
            raise
        except OSError as error:
            raise CertificateRejected(f"{path} cannot be read: {error.strerror}; check the path") from error
        except Exception as error:  # zipfile raises half a dozen unrelated types for damaged bytes
            raise CertificateRejected(f"{path} is not a complete bundle ({error}); copy it again") from error
        if len(entries) != count:
            raise CertificateRejected(f"{path} does not hold the {count} members that it announces; {_AGAIN}")
        if sum(entry.file_size for entry in entries) > MAX_TOTAL:
            raise CertificateRejected(f"{path} unpacks to more than certlip reads; write a folder instead")
        for entry in entries:
            _require_member(entry, path)
            if entry.filename in self._members:
                raise CertificateRejected(f"{path} holds the name {entry.filename} twice")
            self._members[entry.filename] = entry

    def names(self) -> list[str]:
        return sorted(name for name in self._members if name.endswith(".json"))

    def data(self, name: str, limit: int) -> bytes:
        entry = self._members.get(name)
        if entry is None:
            raise CertificateRejected(f"{self.path} holds no {name}")
        if entry.file_size > limit:
            raise CertificateRejected(f"{name} in {self.path} is larger than certlip reads")
        try:
            with self._archive.open(entry) as stream:
                data = stream.read(entry.file_size + 1)
        except Exception as error:  # as above, and those of the decompressor
            raise CertificateRejected(f"{name} in {self.path} is damaged ({error}); copy the file again") from error
        if len(data) != entry.file_size:
            raise CertificateRejected(f"{name} in {self.path} is not as long as announced; copy the file again")
        return data


def _announced(tail: bytes, path: Path) -> int:
    """The number of members, from the end of an archive that is one file of a bounded number of them."""
    if len(tail) < _END.size:
        raise CertificateRejected(f"{path} is not a bundle, or is truncated; {_AGAIN}")
    magic, disk, first, here, count, size, start, comment = _END.unpack(tail[-_END.size :])
    whole = magic == b"PK\x05\x06" and disk == first == 0 and here == count <= MAX_MEMBERS and comment == 0
    extended = tail[:4] == b"PK\x06\x07" or 0xFFFFFFFF in (size, start)
    if not whole or extended or size > count * _ENTRY:
        raise CertificateRejected(
            f"{path} is not a bundle as certlip writes it, of at most {MAX_MEMBERS} members, or is truncated; {_AGAIN}"
        )
    return count


def _require_member(entry: zipfile.ZipInfo, path: Path) -> None:
    name = entry.filename
    limit = next((most for pattern, most in _LIMITS if pattern.fullmatch(name)), None)
    if limit is None or entry.orig_filename != name:
        raise CertificateRejected(
            f"{path} holds {name[:80]!r}, which is no name of a certificate, array, model or property"
        )
    if entry.flag_bits & ~_FLAGS or entry.compress_type not in _METHODS:
        raise CertificateRejected(f"{name} in {path} is encrypted or compressed in a way that certlip does not read")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise CertificateRejected(f"{name} in {path} is not a regular file")
    if entry.file_size > limit:
        raise CertificateRejected(f"{name} in {path} is larger than certlip reads")


class BundleWriter(Writer):
    """Collects files in memory and writes them as one, atomically, when it is closed."""

    def __init__(self, path: Path):
        self._path = path
        self._files: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        if len(self._files) >= MAX_MEMBERS and name not in self._files:
            raise UsageError(f"a bundle holds at most {MAX_MEMBERS} files; write the certificates into a folder")
        self._files[name] = data

    def has(self, name: str) -> bool:
        return name in self._files

    def close(self) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(self._files):
                entry = zipfile.ZipInfo(name)  # dated 1980: equal certificates make equal bundles
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, self._files[name], zipfile.ZIP_DEFLATED)
        write_atomically(self._path, buffer.getvalue())
