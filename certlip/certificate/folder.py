"""A folder as a store: each file is written by an atomic rename."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from certlip.certificate.store import Store, Writer
from certlip.errors import CertificateRejected, UsageError
from certlip.regular_files import TooLarge, read_regular


class Folder(Store):
    """The records of a folder; no file of it is read before it is asked for."""

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("*.json"))

    def data(self, name: str, limit: int) -> bytes:
        file = self.path / name
        try:
            return read_regular(file, limit)
        except TooLarge as error:
            raise CertificateRejected(f"{file} is larger than certlip reads") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "its name is no name of a file"
            raise CertificateRejected(f"{file} cannot be read: {reason}; keep what belongs together") from error


class FolderWriter(Writer):
    """Writes into a folder, file by file."""

    def __init__(self, path: Path):
        self._path = path

    def put(self, name: str, data: bytes) -> None:
        write_atomically(self._path / name, data)

    def has(self, name: str) -> bool:
        return (self._path / name).exists()


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
