"""1-Lipschitz layers for torch: weights whose operator norm is at most 1 by construction.

They propose; the number to rely on is the one that `certlip.bound` proves for the exported network. This package
imports torch, so `import certlip` leaves it alone.
"""

from certlip.layers.families import FAMILIES, family
from certlip.layers.geometry import Geometry
from certlip.layers.weight import Weight

__all__ = ["FAMILIES", "Geometry", "Weight", "family"]
