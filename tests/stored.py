"""Single certificates as files of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from certlip.certificate import Certificate, Folder, FolderWriter


def read_certificate(path: Path) -> Certificate:
    """The record in a file. Raises CertificateRejected."""
    return Folder(path.parent).record(path.name)


def write_certificate(path: Path, certificate: Certificate, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays, by digest, and then the record."""
    FolderWriter(path.parent).write(path.name, certificate, arrays)
