"""What makes two questions the same: digests of model, property and sample, not their names."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from certlip.importers import Model
from certlip.onnx_reader import read_file
from certlip.rigor.rounding import Array
from certlip.verification import Question


def property_identity(text: str) -> dict[str, Any]:
    """sha256 of the uncompressed bytes of a property file."""
    return {"property_sha256": sha256(text.encode()).hexdigest()}


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
