"""Samples from .npz and .csv files, checked against the model before anything runs."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from certlip.errors import UsageError
from certlip.importers import Model
from certlip.properties.outputs import is_probability
from certlip.rigor.rounding import Array
from certlip.verification.archive import LABEL_NAMES, read_arrays
from certlip.verification.model_file import input_type


@dataclass(frozen=True, eq=False)
class Dataset:
    """inputs: (N, *input_shape), values that the model's own input type represents, as binary64.
    targets: (N,) integers (class labels), (N, ...) floats (regression), or None. where: what messages call it."""

    inputs: Array
    targets: np.ndarray | None
    where: str = "the data"

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labels(self) -> np.ndarray | None:
        """Class labels, None where there are none or where targets are real numbers."""
        return self.targets if self.targets is not None and self.targets.dtype.kind in "iub" else None

    def first(self, limit: int | None) -> Dataset:
        """The first `limit` samples, all for None."""
        if limit is None:
            return self
        if limit < 1:
            raise UsageError(f"the limit {limit} leaves no samples; use a number of at least 1")
        return replace(self, inputs=self.inputs[:limit], targets=None if self.targets is None else self.targets[:limit])


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
    inputs, targets = _read_csv(path, model) if path.suffix.lower() == ".csv" else read_arrays(path)
    return make_dataset(inputs, targets, model, limit, str(path))


def read_sample(text: str, model: Model) -> tuple[Array, int]:
    """A sample and its number from "FILE" (the first) or "FILE:I". Raises UsageError."""
    name, _, number = text.rpartition(":")
    named = bool(name) and number.isdecimal() and not Path(text).is_file()
    data, index = read_dataset(Path(name if named else text), model), int(number) if named else 0
    if index >= len(data):
        raise UsageError(f"{data.where} holds {len(data)} samples, so there is none with number {index}; count from 0")
    return data.inputs[index], index


def make_dataset(inputs, targets, model: Model, limit: int | None = None, where: str = "the data") -> Dataset:
    """Check arrays against the model and bring them to its input shape and type."""
    inputs = np.asarray(inputs)
    if inputs.dtype.kind not in "fiub":
        raise UsageError(f"the inputs in {where} are not numbers; store them as a float array")
    if not inputs.ndim or not len(inputs):
        raise UsageError(f"{where} holds no samples, so nothing can be verified; store them along the first axis of x")
    shape = model.graph.input_shape
    if not _fits(inputs.shape[1:], shape):
        fix = "transpose them" if inputs[0].size == prod(shape) else "pass samples of that shape"
        raise UsageError(f"{where} holds samples of shape {inputs.shape[1:]}, the model takes {shape}; {fix}")
    checked = None if targets is None else _check_targets(np.asarray(targets), len(inputs), model, where)
    inputs = inputs.reshape(len(inputs), *shape)
    with np.errstate(over="ignore"):
        values = inputs.astype(np.float64).astype(input_type(model)).astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{where} holds NaN, infinite or overflowing inputs; clean them first")
    return Dataset(values, checked, where).first(limit)


def _fits(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """True if samples can be reshaped without guessing an order of axes: axes of length one aside, equal or flat."""
    given, wanted = (tuple(n for n in shape if n != 1) for shape in (given, wanted))
    return given == wanted or (prod(given) == prod(wanted) and min(len(given), len(wanted)) <= 1)


def _check_targets(targets: np.ndarray, count: int, model: Model, where: str) -> np.ndarray:
    if targets.dtype.kind not in "fiub" or not targets.ndim:
        raise UsageError(f"the labels in {where} are not numbers; store integers (classes) or floats (targets)")
    if len(targets) != count:
        raise UsageError(f"{where} holds {count} samples but {len(targets)} labels; store one label a sample")
    flat = targets.reshape(count, -1)
    if flat.shape[1] == 1 and targets.dtype.kind in "iub":
        return flat[:, 0]
    values = flat.astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{where} holds NaN or infinite targets; clean them first")
    if (
        flat.shape[1] == 1 < model.graph.output_size
        and (values == np.round(values)).all()
        and abs(values).max() < 2**53
    ):
        return values[:, 0].astype(np.int64)  # one whole number for several outputs: a class, however it was stored
    if flat.shape[1] not in (1, model.graph.output_size):
        raise UsageError(
            f"{where} holds {flat.shape[1]} targets a sample, the model has {model.graph.output_size} outputs; "
            "store one target for each output"
        )
    return values


def require_classes(model: Model, samples: Dataset) -> None:
    """A classifier's question needs classes: refuse a regressor without a tolerance, and labels that are no classes."""
    size = model.graph.output_size
    unlabelled = size == 1 and samples.targets is None and not is_probability(model.graph)
    if unlabelled or (samples.targets is not None and samples.labels is None):
        raise UsageError(
            f"{model.name} looks like a regressor (one output or real targets); state how far an output may move with "
            "--tolerance, or give integer class labels"
        )
    labels = samples.labels
    classes = max(2, size)
    if labels is not None and (labels.min() < 0 or labels.max() >= classes):
        raise UsageError(
            f"{samples.where} holds labels from {labels.min()} to {labels.max()}, the model has classes 0 to "
            f"{classes - 1}; correct them, or state how far an output may move with --tolerance"
        )


def _read_csv(path: Path, model: Model):
    """Rows of numbers; a header names the label column (y, label, target), else a last extra column is the label."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path} is not a readable .csv file ({error}); store rows of comma-separated numbers"
        ) from error
    header = None
    if lines and not all(map(_is_number, lines[0][1])):
        header, lines = [cell.strip() for cell in lines[0][1]], lines[1:]
    if not lines:
        raise UsageError(f"{path} holds no samples, so nothing can be verified; store rows of comma-separated numbers")
    rows = [row for _, row in lines]
    width = len(header or rows[0])
    for number, row in lines:
        found = [f"{len(row)} cells instead of {width}"] if len(row) != width else []
        found += [f"'{cell[:40]}' instead of a number" for cell in row if not _is_number(cell)]
        if found:
            raise UsageError(f"{path}, line {number}: {found[0]}; separate numbers by commas or remove that row")
    table = np.array([[float(cell) for cell in row] for row in rows])
    named = [name.lower() for name in header or ()]
    column = next((named.index(name) for name in LABEL_NAMES if name in named), None)
    if column is None and width == model.graph.input_size + 1:
        column = width - 1
    if column is None:
        return table, None
    targets = table[:, column]
    if _looks_like_classes(rows, column) and (np.abs(targets) < 2**53).all():
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
