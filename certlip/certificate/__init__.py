"""The record of a proof: what is claimed about which model, by which witness, and how it is stored."""

from __future__ import annotations

from pathlib import Path

from certlip.certificate.arrays import array_bytes, array_digest
from certlip.certificate.bundle import SUFFIX, Bundle, BundleWriter
from certlip.certificate.folder import Folder, FolderWriter
from certlip.certificate.record import SCHEMA, Certificate
from certlip.certificate.store import Store, Writer

__all__ = [
    "SCHEMA", "SUFFIX", "Bundle", "Certificate", "Folder", "Store", "Writer", "array_bytes", "array_digest",
    "open_store", "open_writer",
]  # fmt: skip


def open_store(path: Path) -> Store:
    """A folder, or a bundle where the path is no folder. Raises CertificateRejected for what is neither."""
    return Folder(path) if path.is_dir() else Bundle(path)


def open_writer(path: Path) -> Writer:
    """A bundle for a name that ends in `.certlip`, a folder for any other."""
    return BundleWriter(path) if path.suffix == SUFFIX else FolderWriter(path)
