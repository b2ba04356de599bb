"""Arrays out of `.npz` and `.npy` files that somebody else made: bounded in size, never unpickled."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from certlip.errors import UsageError

INPUT_NAMES = ("x", "X", "inputs", "data", "images", "x_test")
LABEL_NAMES = ("y", "Y", "labels", "label", "target", "targets", "y_test")
MAX_BYTES = 2**32


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs and, where there are any, targets. Raises UsageError for anything but plain arrays under known names."""
    try:
        return _read(path)
    except UsageError:
        raise
    except MemoryError as error:
        raise UsageError(f"{path} does not fit into memory; split it") from error
    except Exception as error:  # zip files and their compressors raise a dozen unrelated types for damaged bytes
        raise UsageError(
            f"{path} is not a readable .npz file of plain arrays ({error}); store x and y with numpy.savez"
        ) from error


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with path.open("rb") as stream:
        if stream.read(6) == b"\x93NUMPY":
            stream.seek(0)
            return _array(stream, path.stat().st_size, path), None
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}

        def first(names: tuple[str, ...]) -> np.ndarray | None:
            entry = next((entries[name] for name in names if name in entries), None)
            if entry is None:
                return None
            if entry.file_size > MAX_BYTES:
                raise UsageError(f"{path} unpacks to more than {MAX_BYTES} bytes; split it")
            with archive.open(entry) as member:
                return _array(member, entry.file_size, path)

        inputs, targets = first(INPUT_NAMES), first(LABEL_NAMES)
    if inputs is None:
        names = ", ".join(entries) or "none"
        raise UsageError(f"{path} holds the arrays {names[:200]}; name the inputs x and the labels y")
    return inputs, targets


def _array(stream, size: int, path: Path) -> np.ndarray:
    """One array, after its header was held against the bytes that are there."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise UsageError(f"{path} holds pickled objects, which can run any code when they are opened; store numbers")
    if dtype.itemsize * math.prod(shape) > size:
        raise UsageError(f"{path} announces an array of shape {shape}, more than it holds; write it again")
    data = stream.read(dtype.itemsize * math.prod(shape))
    if len(data) != dtype.itemsize * math.prod(shape):
        raise UsageError(f"{path} ends before its array does; copy or write it again")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
