"""Rewrites Graph -> Graph. Each states its exactness; all here are exact over the reals, with rounding in balls."""

from certlip.passes.normal_form import normal_form

__all__ = ["normal_form"]
