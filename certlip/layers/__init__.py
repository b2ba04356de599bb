"""1-Lipschitz layers for torch: weights whose operator norm is at most 1 by construction.

They propose; the number to rely on is the one that `certlip.bound` proves for the exported network. This package
imports torch, so `import certlip` leaves it alone.
"""

from certlip.layers.families import FAMILIES, family
from certlip.layers.feedforward import (
    CONV2D,
    DENSE,
    AOLConv2d,
    AOLDense,
    CPLConv2d,
    CPLDense,
    NormalizedLinear,
    OrthogonalConv2d,
    OrthogonalDense,
    SLLConv2d,
    SLLDense,
    SpectralConv2d,
    SpectralDense,
)
from certlip.layers.geometry import Geometry
from certlip.layers.margin import margin_loss
from certlip.layers.plain import Branch, plain
from certlip.layers.residual import (
    RESIDUAL_CONV2D,
    RESIDUAL_DENSE,
    AOLResidualConv2d,
    AOLResidualDense,
    CPLResidualConv2d,
    CPLResidualDense,
    OrthogonalResidualConv2d,
    OrthogonalResidualDense,
    SLLResidualConv2d,
    SLLResidualDense,
    SpectralResidualConv2d,
    SpectralResidualDense,
)
from certlip.layers.weight import Weight

__all__ = [
    "CONV2D",
    "DENSE",
    "FAMILIES",
    "RESIDUAL_CONV2D",
    "RESIDUAL_DENSE",
    "AOLConv2d",
    "AOLDense",
    "AOLResidualConv2d",
    "AOLResidualDense",
    "Branch",
    "CPLConv2d",
    "CPLDense",
    "CPLResidualConv2d",
    "CPLResidualDense",
    "Geometry",
    "NormalizedLinear",
    "OrthogonalConv2d",
    "OrthogonalDense",
    "OrthogonalResidualConv2d",
    "OrthogonalResidualDense",
    "SLLConv2d",
    "SLLDense",
    "SLLResidualConv2d",
    "SLLResidualDense",
    "SpectralConv2d",
    "SpectralDense",
    "SpectralResidualConv2d",
    "SpectralResidualDense",
    "Weight",
    "family",
    "margin_loss",
    "plain",
]  # fmt: skip
