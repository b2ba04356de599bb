"""A model as certlip read it, with what identifies it and how the reading was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from certlip.graph import Graph
from certlip.importers.agreement import Agreement
from certlip.rigor.rounding import Precision


@dataclass(frozen=True, eq=False)
class Model:
    """graph: the raw reading, notes included; passes make the normal form.

    name: file name, or the class of a torch module. sha256: of the uncompressed ONNX bytes that certificates refer
    to. external: sha256 of each external data file. source: "onnx", "pt2" or "torch". precision: the coarsest
    arithmetic that an execution of the file uses. parameters: floating-point entries of the initializers used.
    onnx_bytes: for torch sources the exported ONNX file, else None.
    """

    graph: Graph
    name: str
    path: Path | None
    sha256: str
    external: Mapping[str, str]
    source: str
    opset: int
    precision: Precision
    input_name: str
    output_name: str
    parameters: int
    agreement: Agreement
    onnx_bytes: bytes | None = None

    def __repr__(self) -> str:
        shapes = f"{list(self.graph.input_shape)} -> {list(self.graph.output_shape)}"
        return f"Model({self.name!r}, {shapes}, {self.parameters} parameters, sha256 {self.sha256[:12]})"
