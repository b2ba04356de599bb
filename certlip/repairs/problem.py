"""The whole question: a model, what it must satisfy, and samples split into parts; tasks for methods are made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from certlip.errors import UsageError
from certlip.graph import Graph, Node
from certlip.importers import Model
from certlip.passes import normal_form
from certlip.properties.outputs import decision_graph, is_probability
from certlip.repairs.losses import CLASSIFICATION, REGRESSION
from certlip.repairs.requirement import Aim, MaxLipschitz, MinCertified, Requirement
from certlip.repairs.split import Split, split
from certlip.repairs.task import Rows, Task, outputs_of
from certlip.rigor.rounding import Array, down
from certlip.verification.dataset import Dataset, require_classes
from certlip.verification.model_file import opened

_FAR_OFF = 4.0  # times the variance of the targets: a squared error at which they are another model's


@dataclass(frozen=True, eq=False)
class Problem:
    """parts: samples with labels or targets; where the data came without, those that the model itself gives them
    (`is_labelled` is then false). loss: a name of `losses`. accuracy_loss: how much accuracy may be given up for larger
    certified radii."""

    model: Model
    requirement: Requirement
    parts: Split
    loss: str
    is_labelled: bool
    seed: int
    accuracy_loss: float

    @staticmethod
    def of(
        model: Model,
        requirement: Requirement,
        data: Dataset,
        holdout: Dataset | None,
        loss: str | None,
        seed: int,
        accuracy_loss: float,
    ) -> Problem:
        """Check that samples, loss and requirement belong together. Raises UsageError, one sentence each."""
        given = [part for part in (data, holdout) if part is not None]
        labelled = all(part.targets is not None for part in given)
        if holdout is not None and (data.targets is None) != (holdout.targets is None):
            raise UsageError("either the data or the holdout has no labels; give them to both or to neither")
        if not labelled:
            given = [replace(part, targets=predicted(model, part.inputs, loss)) for part in given]
        is_classifier = classifies(model, given, loss)
        if not is_classifier and ends_in_decision(model):
            raise UsageError(
                f"{model.name} ends in a softmax or arg max, so its samples need class labels and a loss for classes; "
                "give these, or end the model in what the targets are about"
            )
        given = [_with_targets(model, part, is_classifier) for part in given]
        if isinstance(requirement, MinCertified) and (requirement.tolerance is None) != is_classifier:
            raise UsageError(
                "a tolerance says how far the outputs of a regressor may move, and these are classes; leave it out"
                if is_classifier
                else f"{model.name} is a regressor here, which has no classes to keep; say with a tolerance how far an "
                "output may move"
            )
        parts = split(given[0], given[1] if len(given) > 1 else None, seed)
        problem = Problem(model, requirement, parts, loss or _default(is_classifier), labelled, seed, accuracy_loss)
        problem._require_own_labels()
        return problem

    @property
    def decides(self) -> bool:
        """Whether the model ends in a softmax or arg max, which is kept: the bound is then about the logits before."""
        return ends_in_decision(self.model)

    @property
    def norm(self) -> str:
        return self.requirement.norm

    @property
    def is_classifier(self) -> bool:
        return self.loss in CLASSIFICATION

    @cached_property
    def body(self) -> Graph:
        """Normal form of what is trained: everything before a last sigmoid that makes a probability of a logit."""
        graph = self.model.graph
        is_logit_hidden = self.is_classifier and is_probability(graph)
        return normal_form(decision_graph(graph) if is_logit_hidden else graph)

    @cached_property
    def _tail(self) -> tuple[Node, ...]:
        graph = self.model.graph
        if not (self.is_classifier and is_probability(graph)):
            return ()
        return graph.nodes[len(decision_graph(graph).nodes) :]

    @property
    def tail_gain(self) -> float:
        """How much steeper than the trained part the whole network can be: 1/4 behind a sigmoid, else 1."""
        gain = 1.0
        for node in self._tail:
            gain = node.operator.gain(self.norm, gain)
        return gain

    def whole(self, body: Graph) -> Graph:
        """The network with its tail."""
        for node in self._tail:
            body = body.append(node.operator, node.name)
        return body

    def task(self, aim: Aim, start: Graph, deadline: float, seconds: float) -> Task:
        """What methods are asked for an aim."""
        train, validation = (self.rows(part) for part in (self.parts.train, self.parts.validation))
        teacher = None if self.is_labelled else outputs_of(self.body, train.x)
        target = aim.target if self.tail_gain == 1.0 else down(aim.target / self.tail_gain)
        return Task(
            self.body, start, self.norm, target, aim.radius, self.loss, train, validation, deadline, seconds, self.seed,
            teacher, isinstance(self.requirement, MaxLipschitz) or not self.is_classifier,
        )  # fmt: skip

    def rows(self, part: Dataset) -> Rows:
        """Samples as methods and scores take them."""
        if part.targets is None:
            raise ValueError("the samples have no targets")
        return Rows(part.inputs, part.targets)

    def _require_own_labels(self) -> None:
        """Refuse labels that the model predicts no better than a constant would: they are another model's."""
        data = self.parts.train
        rows, y = self.rows(data), np.asarray(data.targets)
        outputs = outputs_of(self.body, rows.x)
        if not self.is_classifier:
            error, variance = float(np.mean((outputs - y) ** 2)), float(y.var(axis=0).mean())
            if error > _FAR_OFF * variance > 0:
                raise UsageError(
                    f"the squared error of {self.model.name} on {data.where} is {error:.4g} and the variance of the "
                    f"targets {variance:.4g}: they look like another model's; give the data it was made for"
                )
            return
        right = float(np.mean(classes_of(outputs) == y))
        shares = np.bincount(y, minlength=2) / len(y)
        if right <= shares.max() and np.count_nonzero(shares) > 1:
            raise UsageError(
                f"{self.model.name} gets {100 * right:.1f} % of the labels of {data.where} right, no more than always "
                f"answering class {int(shares.argmax())} would ({100 * shares.max():.1f} %): they look like another "
                "model's; give the data it was made for"
            )


def classifies(model: Model, given: list[Dataset], loss: str | None) -> bool:
    """Classes or real targets: what the loss says, else whole numbers are classes where the outputs can tell them."""
    if loss is not None and loss not in (*CLASSIFICATION, *REGRESSION):
        raise UsageError(f"unknown loss '{loss}'; choose one of {', '.join((*REGRESSION, *CLASSIFICATION))}")
    if loss is not None:
        return loss in CLASSIFICATION
    if any(part.labels is None for part in given):
        return False
    if model.graph.output_size > 1 or is_probability(model.graph):
        return True
    return all(set(np.unique(np.asarray(part.targets))) <= {0, 1} for part in given)


def ends_in_decision(model: Model) -> bool:
    """Whether the reader left a softmax or arg max out."""
    _, ends = opened(model)
    return ends.certified != ends.output


def classes_of(outputs: Array) -> np.ndarray:
    """The class that each row of outputs decides."""
    return (outputs[:, 0] > 0).astype(np.int64) if outputs.shape[1] == 1 else outputs.argmax(axis=1)


def predicted(model: Model, x: Array, loss: str | None) -> np.ndarray:
    """What the model says about samples that have no labels: outputs where the loss is a regressor's, or none is given
    and a single output is no probability; else classes."""
    graph = model.graph
    if loss in REGRESSION or (loss is None and graph.output_size == 1 and not is_probability(graph)):
        return outputs_of(graph, x)
    return classes_of(outputs_of(decision_graph(graph) if graph.output_size == 1 else graph, x))


def _with_targets(model: Model, part: Dataset, is_classifier: bool) -> Dataset:
    if is_classifier:
        require_classes(model, part)
        return replace(part, targets=np.asarray(part.targets).astype(np.int64))
    targets = np.asarray(part.targets, dtype=np.float64).reshape(len(part), -1)
    size = model.graph.output_size
    if targets.shape[1] != size:
        raise UsageError(
            f"{part.where} holds {targets.shape[1]} targets a sample, the model has {size} outputs; store one for "
            "each, or choose a loss for classes"
        )
    return replace(part, targets=targets)


def _default(is_classifier: bool) -> str:
    return CLASSIFICATION[0] if is_classifier else REGRESSION[0]
