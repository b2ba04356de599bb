"""Certifiers of Lipschitz bounds: each proposes a witness, and a theorem of `certlip.proofs` turns it into a number."""

from certlip.lipschitz.bound import Bound
from certlip.lipschitz.certifier import Certifier, certifiers
from certlip.lipschitz.eclipse_fast import EclipseFast
from certlip.lipschitz.engine import best, bound_output
from certlip.lipschitz.lipsdp import LipSDP
from certlip.lipschitz.norm_products import Gershgorin, Spectral
from certlip.lipschitz.torus import TorusLipSDP

__all__ = [
    "Bound",
    "Certifier",
    "EclipseFast",
    "Gershgorin",
    "LipSDP",
    "Spectral",
    "TorusLipSDP",
    "best",
    "bound_output",
    "certifiers",
]
