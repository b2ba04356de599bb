"""Every repair method: importing this module registers them."""

from certlip.repairs import scale  # noqa: F401
