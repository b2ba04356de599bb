"""Proved bounds on how far a neural network's output can move when its input moves."""

__version__ = "0.1.0"
