"""What is claimed: which output, over which inputs, with which decision."""

from certlip.properties.outputs import Output, select

__all__ = ["Output", "select"]
