"""What a user can do about operators that have no lowering."""

from __future__ import annotations

NO_HINT = "it is neither affine, nor pointwise with bounded slopes, nor a sum or maximum; replace the layer"

_NORMALISATION = "normalising by the input's own statistics has no global Lipschitz constant; use BatchNormalization"
_RECURRENT = "recurrent layers are not supported; unroll the network into plain operators"
_BRANCHES = "control flow on data is not supported; export with it resolved"
_QUANTISED = "rounding to integers is not continuous; export the model in floating point"
_STEP = "it is not continuous; no Lipschitz constant exists"
_SMOOTH = "it has no lowering yet; use Relu, Gelu, Sigmoid, Tanh, Softplus or x * Sigmoid(x) instead"

HINTS = {
    **dict.fromkeys(
        (
            "LayerNormalization",
            "InstanceNormalization",
            "GroupNormalization",
            "RMSNormalization",
            "LRN",
            "MeanVarianceNormalization",
            "LpNormalization",
            "SimplifiedLayerNormalization",
        ),
        _NORMALISATION,
    ),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _RECURRENT),
    **dict.fromkeys(("If", "Loop", "Scan"), _BRANCHES),
    **dict.fromkeys(
        (
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "ConvInteger",
            "MatMulInteger",
            "Round",
        ),
        _QUANTISED,
    ),
    **dict.fromkeys(
        (
            "Sign",
            "Floor",
            "Ceil",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
            "Equal",
            "ThresholdedRelu",
            "NonZero",
            "Mod",
        ),
        _STEP,
    ),
    **dict.fromkeys(("HardSwish", "Mish", "Softsign", "Erf", "Sin", "Cos", "Shrink"), _SMOOTH),
    **dict.fromkeys(
        ("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin"),
        "it is read only as the last step, where claims are about its input; inside a network it is not supported",
    ),
    "Attention": "attention has no global Lipschitz constant",
    "Pow": "powers have no global Lipschitz constant; for the tanh form of GELU export with opset 20 or newer",
    "Sqrt": "its slope is unbounded at 0",
    "Reciprocal": "division by an activation has no global Lipschitz constant",
    "Where": (
        "a choice by data is not continuous in general; write it as Relu, Max or Clip, and give torch's Softplus "
        "threshold=float('inf'): at a finite one it jumps"
    ),
    "Resize": "resizing activations is not supported; use ConvTranspose, or resize the data before the model",
    "Upsample": "resizing activations is not supported; use ConvTranspose, or resize the data before the model",
    "Einsum": "write it as MatMul or Gemm with constant weights",
}
