"""Concrete operators, one file per family. Nothing else in certlip knows how an operator computes."""

from certlip.ops.activations import (
    Abs,
    Clip,
    Elu,
    LeakyRelu,
    Relu,
    Sigmoid,
    Softplus,
    Tanh,
)
from certlip.ops.conv import Conv, ConvTranspose
from certlip.ops.dense import Dense
from certlip.ops.merge import Add, Concat, MaxPool
from certlip.ops.reindex import Reindex
from certlip.ops.scale import Scale
from certlip.ops.smooth import Gelu, Silu, TanhGelu

__all__ = [
    "Abs", "Add", "Clip", "Concat", "Conv", "ConvTranspose", "Dense", "Elu", "Gelu", "LeakyRelu", "MaxPool",
    "Reindex", "Relu", "Scale", "Sigmoid", "Silu", "Softplus", "Tanh", "TanhGelu",
]
