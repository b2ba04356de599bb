"""Reading files that others name: only regular ones, and never more than was asked for.

A link to a device or a named pipe has no end, or waits for a writer; its size says nothing about either.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


class TooLarge(Exception):
    """The file holds more bytes than the reader allows."""


def open_regular(path: Path) -> tuple[BinaryIO, int]:
    """A regular file opened for reading, and its size. Raises OSError; ValueError where the name is no name."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is no regular file")
        return os.fdopen(handle, "rb"), found.st_size
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes. Raises TooLarge, and what `open_regular` raises."""
    stream, size = open_regular(path)
    with stream:
        data = stream.read(min(size, limit) + 1)  # it may have grown since it was opened
    if len(data) > limit:
        raise TooLarge
    if len(data) != size:
        raise OSError(0, "it changed while it was read")
    return data
