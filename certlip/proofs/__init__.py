"""From a witness to a proved number: one theorem per file. The certifiers and the checker call the same functions.

`LIPSCHITZ_PROOFS` maps the name of a method to its theorem: (graph, norm, witness arrays) -> upper bound.
"""

from certlip.proofs.lipsdp import prove_lipsdp
from certlip.proofs.norm_product import prove_dominance_product, prove_norm_product
from certlip.proofs.torus import prove_torus

LIPSCHITZ_PROOFS = {
    "spectral": prove_norm_product,
    "gershgorin": prove_dominance_product,
    "lipsdp": prove_lipsdp,
    "lipsdp-torus": prove_torus,
}

WITNESS_ARRAYS: dict[str, tuple[str, ...]] = {
    "spectral": (),
    "gershgorin": (),
    "lipsdp": ("metric", "multipliers"),
    "lipsdp-torus": ("metric", "multipliers", "cut"),
}

__all__ = ["LIPSCHITZ_PROOFS", "WITNESS_ARRAYS"]
