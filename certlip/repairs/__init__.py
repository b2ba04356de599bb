"""Repairs: networks changed until a required bound is proved."""
