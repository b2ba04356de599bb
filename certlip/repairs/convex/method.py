"""Convex restrictions as a repair method: of networks with one hidden layer, or of the last two layers of deep ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from certlip.graph import Graph
from certlip.ops import Relu
from certlip.repairs.method import Method
from certlip.repairs.scale import within
from certlip.repairs.surgery import DenseChain, dense_chain
from certlip.repairs.task import Task

_PASSES = 4
"""Programs over two layers of a deep network, each for the bound that the one before left unused."""
_WORTHWHILE = 1e-3
"""Relative room below the target for which another pass is made."""


class ConvexRestriction(Method):
    """min loss subject to L <= target over the last two layers: a convex program around the scaled network, whose loss
    it cannot exceed. In front of them the network stays as it is, and L <= L_head L_backbone; what the proof of the
    whole leaves of the target is given to the head in the next pass."""

    name: ClassVar[str] = "convex-restriction"
    summary: ClassVar[str] = "convex program around the scaled network (R2), over its last two dense layers"
    rank: ClassVar[int] = 10
    program: ClassVar[str] = "R2"

    def obstacle(self, task: Task) -> str | None:
        if task.norm != "l2":
            return "its program bounds the constant in l2 only; scale and spectral serve l-infinity"
        chain = dense_chain(task.graph, 2)
        if chain is None or len(chain.positions) < 2 or not isinstance(chain.functions[0], Relu):
            return "the network does not end in a dense layer, ReLU and another dense layer"
        return self._too_large(chain, task)

    def _too_large(self, chain: DenseChain, task: Task) -> str | None:
        """Why the program cannot be written down: the first-order method that R2 has needs no memory for it."""
        if self.program == "R2":
            return None
        from certlip.repairs.convex import Shallow, too_large

        (W1, W2), (b1, b2) = chain.weights, chain.biases
        return too_large(Shallow(W1, b1, W2, b2), len(task.train))

    def propose(self, task: Task) -> Iterator[Graph]:
        chain = dense_chain(task.start, 2)
        if chain is None or len(chain.positions) < 2:  # a start that ends in a factor of its own
            return
        room = 1.0 if chain.starts_at_input else 1.0 / max(task.bound(chain.backbone), 1e-300)
        for _ in range(_PASSES):
            best = None
            for found in self._rounds(task, chain, room):
                met = within(task, found)
                if met is not None:
                    best = met
                    yield met
            if best is None or chain.starts_at_input or task.expired:
                return
            unused = task.target / task.bound(best)
            if unused < 1.0 + _WORTHWHILE:
                return
            chain = dense_chain(best, 2) or chain
            room *= unused

    def _rounds(self, task: Task, chain: DenseChain, room: float) -> Iterator[Graph]:
        """The chain with better layers, whose L is at most `room` times the target or what it is already."""
        from certlip.repairs.convex import Shallow, improve, lipschitz

        (W1, W2), (b1, b2) = chain.weights, chain.biases
        head = Shallow(W1, b1, W2, b2)
        target = max(room * task.target, lipschitz(head))
        rounds = improve(
            head, chain.features(task.train.x), task.train.y, loss=task.loss, target=target, program=self.program,
            margin=task.margin, deadline=task.deadline,
        )  # fmt: skip
        for found in rounds:
            net = found.net
            yield chain.with_layers([net.W1, net.W2], [net.b1, net.b2])


class FrozenPatterns(ConvexRestriction):
    """The same with the activation patterns of the training rows frozen: exact on their cone, and smaller."""

    name: ClassVar[str] = "convex-restriction-r1"
    summary: ClassVar[str] = "the same with frozen activation patterns (R1)"
    program: ClassVar[str] = "R1"
    in_auto: ClassVar[bool] = False


class BothLayers(ConvexRestriction):
    """The same over both layers at once, their product linearised: valid, and the weakest."""

    name: ClassVar[str] = "convex-restriction-r3"
    summary: ClassVar[str] = "the same over both layers at once (R3)"
    program: ClassVar[str] = "R3"
    in_auto: ClassVar[bool] = False
