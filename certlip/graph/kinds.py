"""The three kinds of operator. Importers lower everything to them; certifiers see nothing else.

Shapes carry no batch axis. Every method takes and returns arrays with one extra leading axis, the batch.
`enclose` bounds two things at once: the exact real result, and the result of any execution in a class of
floating-point arithmetic (see `Precision`) that computes operator by operator, on every input of a ball. `deviate`
bounds the difference of the two over a set of inputs, and for executions that fuse operators too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TypeVar

import numpy as np

from certlip.graph.computed import Computed
from certlip.graph.shift import Shift, linear
from certlip.rigor.ball import Ball
from certlip.rigor.norms import dominance_norm, spectral_norm
from certlip.rigor.rounding import REAL, TINY, Array, Precision, down, inflate, product_up, up

Shape = tuple[int, ...]
AffineType = TypeVar("AffineType", bound="Affine")


@dataclass(frozen=True, eq=False)
class Operator(ABC):
    """One step of a network; immutable, without knowledge of its neighbours."""

    @abstractmethod
    def shape(self, *inputs: Shape) -> Shape:
        """Output shape for these input shapes; raises ValueError where they do not fit."""

    @abstractmethod
    def value(self, *inputs: Array) -> Array:
        """Evaluate in binary64 on a batch."""

    @abstractmethod
    def pullback(self, output: Array, *inputs: Array) -> tuple[Array, ...]:
        """Gradient with respect to each input of <output, value(inputs)> (a subgradient at kinks)."""

    @abstractmethod
    def enclose(self, precision: Precision, *inputs: Ball) -> Ball:
        """Ball around every exact result and every result computed in `precision`, for inputs in the balls."""

    @abstractmethod
    def deviate(self, precision: Precision, *inputs: Computed) -> Computed:
        """The value of every execution in `precision`, given those of the inputs; see `certlip.graph.computed`."""

    @abstractmethod
    def spread(self, *inputs: Array) -> Array:
        """If each entry of input i moves by at most inputs[i], entries of the output move by at most this."""

    @abstractmethod
    def gain(self, norm: str, *bounds: float) -> float:
        """If input i moves by at most bounds[i] in `norm` ("l2" or "linf"), the output moves by at most this."""

    def shift(self, *inputs: Shift) -> Shift:
        """How far the output moves if the inputs do so."""
        return Shift.of(self.spread(*(x.entries for x in inputs)), self.gain("l2", *(x.length for x in inputs)))


@dataclass(frozen=True, eq=False)
class Affine(Operator):
    """y = W x + b with W known as a ball. Subclasses say how an array of weights acts and how its transpose does.

    Weights are passed to `forward` and `backward` explicitly because proofs apply the same operator with |W| and
    with the radii of W. `bias_size` is at least |b|: the sum of the sizes of the terms that b was folded from.
    """

    weight: Ball
    bias: Ball
    bias_size: Array

    @property
    @abstractmethod
    def domain(self) -> Shape:
        """Shape of x."""

    @property
    @abstractmethod
    def codomain(self) -> Shape:
        """Shape of y."""

    @property
    @abstractmethod
    def terms(self) -> int:
        """Length of the longest dot product that makes one entry of W x."""

    @property
    def terms_back(self) -> int:
        """Upper bound on the length of a dot product that makes one entry of W' y."""
        return prod(self.codomain)

    @property
    def roundings(self) -> int:
        """How often an execution rounds one term of W x + b: constants converted to its format, the product, at most
        `terms` additions, a factor of the whole (Gemm's alpha), a constant made from others (BatchNormalization's)."""
        return self.terms + 4

    @property
    def extent(self) -> tuple[float, float]:
        """(p, q) for a W and b that executions make from other constants, each of them counted as 1 where smaller:
        no product or sum of them on the way exceeds p where it multiplies x, q where it does not."""
        return 1.0, 0.0

    @abstractmethod
    def forward(self, weight: Array, x: Array) -> Array:
        """W x for this array of weights."""

    @abstractmethod
    def backward(self, weight: Array, y: Array) -> Array:
        """W' y for this array of weights."""

    def shape(self, *inputs: Shape) -> Shape:
        if inputs != (self.domain,):
            raise ValueError(f"expected an input of shape {self.domain}, got {inputs}")
        return self.codomain

    def value(self, *inputs: Array) -> Array:
        return self.forward(self.weight.mid, inputs[0]) + self.bias.mid

    def pullback(self, output: Array, *inputs: Array) -> tuple[Array, ...]:
        return (self.backward(self.weight.mid, output),)

    def enclose(self, precision: Precision, *inputs: Ball) -> Ball:
        linear = self._image(inputs[0], precision, self.forward, self.terms)
        slip = precision.gamma(self.terms + 2) * (np.abs(linear.mid) + linear.rad + self.bias_size)
        mid = linear.mid + self.bias.mid
        rad = linear.rad + self.bias.rad + slip + 2 * (self.terms + 2) * precision.tiny
        return Ball(mid, inflate(rad, 8))

    def deviate(self, precision: Precision, *inputs: Computed) -> Computed:
        (given,) = inputs
        bias = np.maximum(self.bias_size, self.bias.magnitude())
        steepest, offset = self.extent
        largest = float(self.weight.magnitude().max(initial=0.0))  # also of those that multiply padding alone
        return Computed(
            self.enclose(REAL, given.centre),
            self.shift(given.moved),
            self.shift(given.error),
            inflate(self.spread(given.size) + bias, 2),
            given.depth + self.roundings,
            inflate(self.terms * given.monomials + 1.0, 2),
            inflate(
                max(1.0, self.linf_norm, largest, steepest) * given.reach + max(float(bias.max(initial=0.0)), offset), 3
            ),
        )

    def shift(self, *inputs: Shift) -> Shift:
        entries, rest = self.spread(inputs[0].entries), self.spread(inputs[0].rest)
        length = self.gain("l2", inputs[0].length)
        return linear(lambda rows: self.linear_image(rows, REAL), entries, rest, length, inputs)

    def linear_image(self, x: Ball, precision: Precision) -> Ball:
        """Ball around W x, without the bias (rows of a batch are columns of a matrix to be pushed through W)."""
        return self._image(x, precision, self.forward, self.terms)

    def _image(self, x: Ball, precision: Precision, act: Callable[[Array, Array], Array], terms: int) -> Ball:
        # |computed - W x| <= gamma |W||x|; every quantity is non-negative, so one final inflation covers the rest.
        sizes = np.abs(self.weight.mid)
        magnitude = np.abs(x.mid) + x.rad
        rad = precision.gamma(terms + 2) * act(sizes, magnitude) + 2 * (terms + 1) * (precision.tiny + TINY)
        if not x.is_exact:
            rad = rad + act(sizes, np.broadcast_to(x.rad, x.mid.shape))
        if not self.weight.is_exact:
            rad = rad + act(np.broadcast_to(self.weight.rad, self.weight.shape), magnitude)
        return Ball(act(self.weight.mid, x.mid), inflate(rad, 2 * terms + 8))

    def matrix(self) -> Ball:
        """W as a dense (outputs, inputs) matrix, exact up to the weights' own radius: unit vectors pick entries."""
        size = prod(self.domain)
        basis = np.eye(size).reshape(size, *self.domain)
        mid = self.forward(self.weight.mid, basis).reshape(size, -1).T
        if self.weight.is_exact:
            return Ball(mid, np.zeros(()))
        rad = self.forward(np.broadcast_to(self.weight.rad, self.weight.shape), basis)
        return Ball(mid, inflate(rad.reshape(size, -1).T, self.terms))

    def spread(self, *inputs: Array) -> Array:
        sizes = np.broadcast_to(self.weight.magnitude(), self.weight.shape)
        return inflate(self.forward(sizes, inputs[0]), self.terms + 2)

    def with_bias(self: AffineType, bias: Ball, bias_size: Array) -> AffineType:
        """The same linear map with another bias, of shape broadcastable to the output."""
        return replace(self, bias=bias, bias_size=bias_size)

    def gain(self, norm: str, *bounds: float) -> float:
        return product_up(bounds[0], self.l2_norm if norm == "l2" else self.linf_norm)

    @cached_property
    def l2_norm(self) -> float:
        """Proved upper bound on |W|_2."""
        return spectral_norm(self.matrix())

    @cached_property
    def dominance_norm(self) -> float:
        """Proved upper bound on |W|_2 by diagonal dominance alone, without an eigenvalue."""
        return dominance_norm(self.matrix())

    @cached_property
    def linf_norm(self) -> float:
        """Proved upper bound on max_i sum_j |W_ij|."""
        return float(self.spread(np.ones((1, *self.domain))).max(initial=0.0))


@dataclass(frozen=True, eq=False)
class Pointwise(Operator):
    """y_i = phi(x_i) with (phi(s) - phi(t)) / (s - t) in [a, b] for all s, t (per entry if parameters are)."""

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    @abstractmethod
    def slopes(self) -> tuple[Array, Array]:
        """Floats (a, b), arrays that broadcast to the shape, with every difference quotient in [a, b]."""

    def slopes_on(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Floats (a, b) of the shape of low and high with every difference quotient of points of [low, high] in [a, b].

        They are never wider than `slopes()`. Ends may be infinite; where low <= high fails, as for NaN, nothing is
        known about the points and the answer is `slopes()`. low and high have at least one axis.
        """
        known = low <= high
        low, high = np.where(known, low, -np.inf), np.where(known, high, np.inf)
        (a, b), (least, greatest) = self.slopes(), self._slopes_within(low, high)
        return np.maximum(a, least), np.minimum(b, greatest)

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        """`slopes_on` for low <= high, possibly infinite; may be wider than `slopes()`."""
        a, b = self.slopes()
        return np.broadcast_to(a, low.shape), np.broadcast_to(b, low.shape)

    @abstractmethod
    def derivative(self, x: Array) -> Array:
        """phi'(x), any slope in between at a kink; guides searches only."""

    def exact_value(self, x: Array) -> Ball:
        """Ball around phi(x) at float points. The default is for functions that floats evaluate exactly."""
        return Ball.exact(self.value(x))

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        """Bound on how far an execution in `precision` may be from phi at one float point x; 0 if exact.

        `size` and `value` bound |x| and |phi(x)|.
        """
        return np.zeros(())

    def pullback(self, output: Array, *inputs: Array) -> tuple[Array, ...]:
        return (output * self.derivative(inputs[0]),)

    def spread(self, *inputs: Array) -> Array:
        return inflate(self.steepness() * inputs[0], 2)

    def steepness(self) -> Array:
        """max(|a|, |b|), per entry where slopes are."""
        low, high = self.slopes()
        return np.maximum(np.abs(low), np.abs(high))

    def enclose(self, precision: Precision, *inputs: Ball) -> Ball:
        exact = self.exact_value(inputs[0].mid)
        moved = self.steepness() * inputs[0].rad
        size = np.abs(inputs[0].mid) + inputs[0].rad
        value = np.abs(exact.mid) + exact.rad + moved
        error = self.execution_error(size, value, precision)
        return Ball(exact.mid, np.asarray(inflate(exact.rad + moved + error, 12)))

    def deviate(self, precision: Precision, *inputs: Computed) -> Computed:
        """|phi'(v') - phi(v)| <= steepest |v' - v| + execution error, the steepest slope where v and v' may be."""
        (given,) = inputs
        off, exact = given.deviation(precision), given.exact()
        low, high = self.slopes_on(down(exact.lower() - off.entries), up(exact.upper() + off.entries))
        centre, moved = self.enclose(REAL, given.centre), given.moved.through(low, high, np.zeros(low.shape))
        value = centre.magnitude() + moved.entries + np.maximum(np.abs(low), np.abs(high)) * off.entries
        slip = self.execution_error(up(exact.magnitude() + off.entries), inflate(value, 4), precision)
        slip = np.broadcast_to(inflate(slip + precision.tiny, 12), low.shape)
        return Computed.leaf(centre, moved, off.through(low, high, slip))

    def gain(self, norm: str, *bounds: float) -> float:
        return product_up(bounds[0], float(self.steepness().max(initial=0.0)))


@dataclass(frozen=True, eq=False)
class Merge(Operator):
    """Several values, or several entries of one value, become one: sums, concatenations, maxima."""


def rounding_error(value: Array, precision: Precision, operations: int) -> Array:
    """Bound for a value computed by so many correctly rounded operations on terms no larger than `value`."""
    return precision.gamma(operations) * value + 2 * operations * (precision.tiny + TINY)


def parameter_error(parameter: Array, partner: Array, precision: Precision) -> Array:
    """What `rounding_error` lacks where a parameter is rounded to the format: it may become subnormal or be flushed,
    an error of `tiny` times the numbers of at most `partner` that it multiplies. Infinite where it may overflow."""
    if precision.unit == 0.0:  # the real network
        return np.zeros(())
    lost = 2.0 * precision.tiny * (1.0 + partner)
    return np.where(np.abs(parameter) <= 0.5 * precision.largest, lost, np.inf)


def library_error(value: Array, precision: Precision) -> Array:
    """The stated assumption on library functions: library_units u (1 + |f|); nothing for the real network."""
    return precision.library_units * precision.unit * (1.0 + value)
