"""The narrow waist: a frozen graph of Affine, Pointwise and Merge operators on arrays of known shape."""

from certlip.graph.graph import Graph, Node
from certlip.graph.kinds import Affine, Merge, Operator, Pointwise

__all__ = ["Affine", "Graph", "Merge", "Node", "Operator", "Pointwise"]
