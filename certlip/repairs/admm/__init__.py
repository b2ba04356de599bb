"""Dense chains trained under a Lipschitz bound by ADMM; the copy of the weights that carries the certificate counts."""

from certlip.repairs.admm.chain import Chain
from certlip.repairs.admm.train import State, train

__all__ = ["Chain", "State", "train"]
