"""Samples from .npz and .csv files, checked against the model before anything runs."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from certlip.errors import UsageError
from certlip.importers import Model
from certlip.rigor.rounding import BFLOAT16, BINARY16, BINARY64, Array

_INPUT_NAMES = ("x", "X", "inputs", "data", "images", "x_test")
_LABEL_NAMES = ("y", "Y", "labels", "label", "target", "targets", "y_test")
_MAX_BYTES = 2**32


@dataclass(frozen=True, eq=False)
class Dataset:
    """inputs: (N, *input_shape), values that the model's own input type represents, as binary64.
    targets: (N,) integers (class labels), (N, ...) floats (regression), or None."""

    inputs: Array
    targets: np.ndarray | None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labels(self) -> np.ndarray | None:
        """Class labels, None where there are none or where targets are real numbers."""
        return self.targets if self.targets is not None and self.targets.dtype.kind in "iu" else None


def default_data(model: Model) -> Path | None:
    """The `.npz` with the model's own stem beside it, if there is one."""
    if model.path is None:
        return None
    stem = model.path.name
    for suffix in (".gz", ".onnx", ".pt2"):
        stem = stem.removesuffix(suffix)
    path = model.path.with_name(stem + ".npz")
    return path if path.is_file() else None


def read_dataset(path: Path, model: Model, limit: int | None = None) -> Dataset:
    """Read and check a data file. Raises UsageError for anything that is not samples for this model."""
    if not path.is_file():
        raise UsageError(f"there is no data file {path}; check the path")
    inputs, targets = _read_csv(path, model) if path.suffix.lower() == ".csv" else _read_npz(path)
    return make_dataset(inputs, targets, model, limit, str(path))


def make_dataset(inputs, targets, model: Model, limit: int | None = None, where: str = "the data") -> Dataset:
    """Check arrays against the model and bring them to its input shape and type."""
    inputs = np.asarray(inputs)
    if inputs.dtype.kind not in "fiub":
        raise UsageError(f"the inputs in {where} are not numbers; store them as a float array")
    shape = model.graph.input_shape
    if not len(inputs) if inputs.ndim else True:
        raise UsageError(f"{where} holds no samples; nothing can be verified")
    if inputs.size // len(inputs) != model.graph.input_size or inputs.size % len(inputs):
        raise UsageError(f"{where} holds samples of shape {inputs.shape[1:]}, the model takes {shape}")
    inputs = inputs.reshape(len(inputs), *shape)
    if limit is not None:
        inputs = inputs[:limit]
    stored = inputs.astype(np.float64).astype(input_type(model))
    values = stored.astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{where} holds NaN, infinite or overflowing inputs; clean them first")
    return Dataset(
        values, None if targets is None else _check_targets(np.asarray(targets), len(inputs), model, where, limit)
    )


def input_type(model: Model) -> np.dtype:
    """The type in which the model takes its input."""
    if model.precision == BINARY64:
        return np.dtype(np.float64)
    return np.dtype(np.float16) if model.precision in (BINARY16, BFLOAT16) else np.dtype(np.float32)


def _check_targets(targets: np.ndarray, count: int, model: Model, where: str, limit: int | None) -> np.ndarray:
    if targets.dtype.kind not in "fiub" or not targets.ndim:
        raise UsageError(f"the labels in {where} are not numbers; store integers (classes) or floats (targets)")
    if limit is not None:
        targets = targets[:limit]
    if len(targets) != count:
        raise UsageError(f"{where} holds {count} samples but {len(targets)} labels; store one label a sample")
    flat = targets.reshape(count, -1)
    if flat.shape[1] == 1 and targets.dtype.kind in "iub":
        labels = flat[:, 0].astype(np.int64)
        classes = max(2, model.graph.output_size)
        if labels.min() < 0 or labels.max() >= classes:
            raise UsageError(
                f"{where} holds labels from {labels.min()} to {labels.max()}, the model has classes 0 to {classes - 1}"
            )
        return labels
    values = flat.astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{where} holds NaN or infinite targets; clean them first")
    if flat.shape[1] not in (1, model.graph.output_size):
        raise UsageError(
            f"{where} holds {flat.shape[1]} targets a sample, the model has {model.graph.output_size} outputs"
        )
    return values


def _read_npz(path: Path):
    try:
        with path.open("rb") as stream:
            if stream.read(6) == b"\x93NUMPY":
                return np.load(path, allow_pickle=False), None
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise UsageError(f"{path} unpacks to more than {_MAX_BYTES} bytes; split it")
        with np.load(path, allow_pickle=False) as data:
            inputs = next((data[name] for name in _INPUT_NAMES if name in data.files), None)
            targets = next((data[name] for name in _LABEL_NAMES if name in data.files), None)
            names = ", ".join(data.files)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(
            f"{path} is not a readable .npz file of plain arrays ({error}); store x and y with numpy.savez"
        ) from error
    if inputs is None:
        raise UsageError(f"{path} holds the arrays {names or 'none'}; name the inputs x and the labels y")
    return inputs, targets


def _read_csv(path: Path, model: Model):
    """Rows of numbers; a header names the label column (y, label, target), else a last extra column is the label."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path} is not a readable .csv file ({error}); store rows of comma-separated numbers"
        ) from error
    header = None
    if rows and not all(map(_is_number, rows[0])):
        header, rows = [cell.strip() for cell in rows[0]], rows[1:]
    if not rows:
        raise UsageError(f"{path} holds no samples; nothing can be verified")
    width = len(rows[0])
    for number, row in enumerate(rows, 1 + (header is not None)):
        if len(row) != width or not all(map(_is_number, row)):
            raise UsageError(f"{path}, row {number}: expected {width} numbers; mend or remove that row")
    table = np.array([[float(cell) for cell in row] for row in rows])
    column = next((header.index(name) for name in _LABEL_NAMES if name in header), None) if header else None
    if column is None and width == model.graph.input_size + 1:
        column = width - 1
    if column is None:
        return table, None
    targets = table[:, column]
    if np.isfinite(targets).all() and (targets == np.round(targets)).all() and _looks_like_classes(rows, column):
        targets = targets.astype(np.int64)
    return np.delete(table, column, axis=1), targets


def _looks_like_classes(rows: list[list[str]], column: int) -> bool:
    return all(row[column].strip().lstrip("+-").isdigit() for row in rows)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
