"""From a file or a torch module to a Model: read, then checked against a runtime. Outside the trusted base."""

from certlip.importers.agreement import Agreement
from certlip.importers.load import load, load_bytes
from certlip.importers.model import Model

__all__ = ["Agreement", "Model", "load", "load_bytes"]
