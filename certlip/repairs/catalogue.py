"""Every repair method: importing this module registers them."""

from certlip.repairs import one_lipschitz, scale  # noqa: F401
from certlip.repairs.admm import method as admm  # noqa: F401
from certlip.repairs.convex import method as convex  # noqa: F401
