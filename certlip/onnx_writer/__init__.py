"""Graphs as plain ONNX files: standard operators alone, which any runtime executes."""

from certlip.onnx_writer.write import write

__all__ = ["write"]
