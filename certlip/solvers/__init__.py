"""Solvers propose multipliers for LipSDP; none of them is trusted, for every bound is proved anew from the
multipliers.

``interior_point.solve`` is the default, ``feasible_start`` the closed form that needs no iteration,
``conic.solve`` the bridge to general solvers through cvxpy (imported only when called).
"""

from certlip.solvers import conic, interior_point
from certlip.solvers.problem import LipSDP, Proposal
from certlip.solvers.start import feasible_start

__all__ = ["LipSDP", "Proposal", "conic", "feasible_start", "interior_point"]
