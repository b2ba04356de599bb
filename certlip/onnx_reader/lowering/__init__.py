"""The tables from ONNX operators to the three kinds, one file per family.

A lowering takes a Call and returns the value of its output (a list for several outputs). It raises NotLowered with a
hint for the user. Adding an operator is adding a function to the table of its family.
"""

from certlip.onnx_reader.lowering.activations import ACTIVATIONS
from certlip.onnx_reader.lowering.arithmetic import ARITHMETIC
from certlip.onnx_reader.lowering.linear import LINEAR
from certlip.onnx_reader.lowering.movement import MOVEMENT
from certlip.onnx_reader.lowering.pooling import POOLING
from certlip.onnx_reader.lowering.sorting import SORTING

LOWERINGS = {**ACTIVATIONS, **ARITHMETIC, **LINEAR, **MOVEMENT, **POOLING, **SORTING}

__all__ = ["LOWERINGS"]
