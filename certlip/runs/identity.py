"""What makes two questions the same: digests of model, property and sample, not their names."""

from __future__ import annotations

import gzip
import io
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from certlip.errors import PropertyError
from certlip.importers import Model
from certlip.onnx_reader import read_file
from certlip.regular_files import TooLarge, read_regular
from certlip.rigor.rounding import Array
from certlip.verification import Question

_LARGEST = 2**30
"""Bytes of a property, uncompressed."""


def property_digest(path: Path) -> str:
    """sha256 of the uncompressed bytes of a property file. Raises PropertyError."""
    try:
        raw = read_regular(path, _LARGEST)
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(raw)) as stream:
                raw = stream.read(_LARGEST + 1)
            if len(raw) > _LARGEST:
                raise TooLarge
    except TooLarge as error:
        raise PropertyError(f"{path} is larger than {_LARGEST} bytes; split the property") from error
    except (OSError, EOFError, zlib.error) as error:
        raise PropertyError(f"the property {path} cannot be read ({error}); copy it again") from error
    return sha256(raw).hexdigest()


def model_identity(model: Model | Path) -> dict[str, Any]:
    """sha256 of the model and of the files with its weights, read from the file where it is not loaded yet."""
    source = read_file(model) if isinstance(model, Path) else model
    return {"model_sha256": source.sha256, "model_external": dict(source.external)}


def sample_identity(x: Array, target: Any) -> dict[str, Any]:
    """sha256 of a sample and of its label or targets."""
    state = sha256(repr((x.shape, None if target is None else np.asarray(target).tolist())).encode())
    state.update(np.ascontiguousarray(x, "<f8").tobytes())
    return {"sample_sha256": state.hexdigest()}


def question_identity(question: Question) -> dict[str, Any]:
    """What is asked of every sample, in exact numbers."""
    return {
        "norm": question.norm,
        "eps": str(question.eps),
        "tolerance": None if question.tolerance is None else str(question.tolerance),
        "clip": None if question.clip is None else [str(end) for end in question.clip],
        "level": question.level,
    }
