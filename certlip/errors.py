"""Every error that certlip raises on purpose, each with the exit code the command line gives it.

A message is one sentence that names the cause and the fix. Anything else that escapes is a defect and
leaves the command line with exit code 70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CertlipError(Exception):
    """Base of all deliberate errors; `exit_code` is what the command line returns."""

    exit_code = 70


class UsageError(CertlipError):
    """An option, a data file or their combination makes no sense."""

    exit_code = 2


class PropertyError(CertlipError):
    """The file is not a property that certlip can read; the message names file, line and column."""

    exit_code = 2


class ModelError(CertlipError):
    """The file is not a model that certlip can state anything about."""

    exit_code = 4


class ImportMismatch(ModelError):
    """certlip's reading of the model and the runtime's execution differ by more than rounding explains."""


class CertificateRejected(CertlipError):
    """A certificate is malformed, altered, for another model, or does not prove what it states."""

    exit_code = 5


@dataclass(frozen=True)
class UnsupportedNode:
    """One node that the reader cannot lower, with what the user can do about it."""

    name: str
    operator: str
    opset: int
    hint: str

    def __str__(self) -> str:
        return f"{self.operator} '{self.name}' (opset {self.opset}): {self.hint}"


class UnsupportedModel(ModelError):
    """Lists *every* node that cannot be lowered, so that one attempt shows the whole distance."""

    def __init__(self, nodes: Sequence[UnsupportedNode]):
        self.nodes = tuple(nodes)
        count = "1 node is" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes are"
        super().__init__(f"{count} not supported: " + "; ".join(str(node) for node in self.nodes))
