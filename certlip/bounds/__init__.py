"""Bounds on what a network's values can be on a set of inputs, and the batched evaluation that searches for them."""
