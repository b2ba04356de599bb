"""Training of graphs with torch: a network with trainable weights, losses, a loop. It proposes weights, nothing more.

This package imports torch, so `import certlip` leaves it alone.
"""

from certlip.training.loop import Epoch, Samples, fit
from certlip.training.network import Network
from certlip.training.objective import Objective

__all__ = ["Epoch", "Network", "Objective", "Samples", "fit"]
