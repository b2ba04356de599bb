"""Convex restrictions of Lipschitz-regularised training for networks of one hidden layer.

`improve` yields networks that are never worse than the start; `lipschitz` is the value that it goes by, an estimate to
be proved elsewhere.
"""

from certlip.repairs.convex.improve import PROGRAMS, SOLVERS, Round, improve, too_large
from certlip.repairs.convex.losses import LOSSES
from certlip.repairs.convex.shallow import Shallow, lipschitz

__all__ = ["LOSSES", "PROGRAMS", "SOLVERS", "Round", "Shallow", "improve", "lipschitz", "too_large"]
