"""Model file to Graph with onnx and numpy alone; part of the trusted base."""

from certlip.onnx_reader.files import ModelFile, parse, read_file
from certlip.onnx_reader.reader import read_graph

__all__ = ["ModelFile", "parse", "read_file", "read_graph"]
