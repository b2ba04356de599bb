"""Arithmetic with proof: rounding bounds, balls, definiteness, norms. Arrays only, no networks.

Everything here assumes IEEE 754 binary64 with round-to-nearest and gradual underflow, and that numpy's sums
and matrix products are conventional: any order, fused multiply-add allowed, no Strassen-like scheme.
"""
