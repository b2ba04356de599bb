"""Traps that are chains of dense layers and ReLU: cancellation, scale, ties, resolution, kinks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from traps import Trap, chain, graph, save_layers

CHAINS: list[Trap] = []


def add(*arguments) -> None:
    CHAINS.append(chain(*arguments))


ULP = 2.0**-23
DOUBLE_ULP = 2.0**-52

for dtype, big in ((np.float32, 1e8), (np.float64, 1e17)):
    kind = dtype.__name__
    add(
        f"cancelled coefficient, {kind}",
        "the slope of x is big + 1 - big: added up in this order it is 0, and the network looks constant",
        [([[1, 1], [1, 0], [1, 1]], [0, 2, 0]), ([big, 1, -big], -1.5)],
        (0, 4), 1, (-1, 4), [(-1, 4), (1, 4)], "1/4" if dtype is np.float32 else None, "substitution", dtype,
    )  # fmt: skip
    add(
        f"sum that is wrong in every usual order, {kind}",
        "four times big, eight times -1, four times -big: term by term, in lanes or backwards, the -1 are swallowed",
        [([16 * big] * 4 + [-1] * 8 + [-16 * big] * 4, 0.5)],
        (1,) * 16, 0, (1,) * 16, [(0,) * 16, (0,) * 4 + (1,) * 8 + (0,) * 4], None,
        "runtime substitution interval", dtype,
    )  # fmt: skip
    add(
        f"cancelled value, {kind}",
        "big - h - big is 0 in floats as long as h is below half a unit of big",
        [([[0, 1], [1, 0], [0, 1]], [0, 1, 0]), ([16 * big, -1, -16 * big], 0.5)],
        (-1, 1), 2, (1, 1), [(-1, 1), (1, 1)], "1/4" if dtype is np.float32 else None, "runtime gradient", dtype,
    )  # fmt: skip

add(
    "product of norms underflows",
    "2^-60 three times is 0 in binary32, and so is every product with it; the network's slope is 1",
    [([[2.0**-60]], [0])] * 3 + [([[2.0**60]], [0])] * 2 + [([-(2.0**60)], 0.5)],
    (0.25,), "1/2", (0.75,), [(0,), (1,)], "1/8", "runtime norms gradient interval",
)  # fmt: skip
add(
    "product of norms underflows in binary64",
    "the same in the checker's own arithmetic",
    [([[2.0**-400]], [0])] * 3 + [([[2.0**400]], [0])] * 2 + [([-(2.0**400)], 0.5)],
    (0.25,), "1/2", (0.75,), [(0,), (1,)], None, "runtime norms gradient interval", np.float64,
)  # fmt: skip
add(
    "subnormal weight",
    "2^-149 x is 0 after rounding, and the square of 2^-149 in a power iteration as well",
    [([[2.0**-149]], [0]), ([[2.0**60]], [0]), ([[2.0**60]], [0]), ([-(2.0**29)], 0.375)],
    (0.25,), "1/5", (0.4375,), [(0,), (1,)], "1/16", "runtime norms gradient interval",
)  # fmt: skip
add(
    "subnormal weight in binary64",
    "the same with the smallest number of the checker's own arithmetic",
    [([[2.0**-1074]], [0]), ([[2.0**400]], [0]), ([[2.0**400]], [0]), ([-(2.0**274)], 0.375)],
    (0.25,), "1/5", (0.4375,), [(0,), (1,)], None, "runtime norms gradient interval", np.float64,
)  # fmt: skip
add(
    "scales of 1e-30 and 1e15",
    "the square of 1e-30 underflows in binary32, so the first layer seems to have norm 0",
    [([[1e-30]], [0]), ([[1e15]], [0]), ([-1e15], 0.5)],
    (0.25,), "1/2", (0.7,), [(0,), (1,)], "1/8", "norms",
)  # fmt: skip
EQUAL = [([[1, 2], [1, 2]], [0.5, 0.5])]
CHAINS.append(
    graph(
        "tie of equal rows", "both classes score the same everywhere; argmax still returns one of them",
        lambda path: save_layers(path, EQUAL), (1, 1), 0, (1, 1), [(0, 0), (1, 0)], None, "runtime", layers=EQUAL,
    )
)  # fmt: skip
add(
    "tie at the border", "g = x 2^-23 is positive up to the border of the closed ball and 0 on it",
    [([ULP], 0.0)], (1,), 1, (0,), [(0,), (1,)], "999/1000", "runtime",
)  # fmt: skip
add(
    "sign of the margin lost", "-1 - 3 2^-24 + (1 + 2^-23) is negative; each 2^-24 is a tie that rounds to even",
    [([-1, -ULP / 2, -ULP / 2, -ULP / 2, 1 + ULP], 0.0)],
    (1,) * 5, 0, (1,) * 5, [(0,) * 5, (1, 0, 0, 0, 0)], None, "runtime substitution interval",
)  # fmt: skip
add(
    "sign of the margin lost in binary64", "the same in the checker's own arithmetic",
    [([-1, -DOUBLE_ULP / 2, -DOUBLE_ULP / 2, -DOUBLE_ULP / 2, 1 + DOUBLE_ULP], 0.0)],
    (1,) * 5, 0, (1,) * 5, [(0,) * 5, (1, 0, 0, 0, 0)], None, "runtime substitution interval", np.float64,
)  # fmt: skip
add(
    "margin of exactly zero", "0.3 - 0.1 3 is 0 at the sample for suitable weights: nothing is left for any ball",
    [([3.0, -1.5], 0.0)], (0.5, 1.0), 0, (0.5, 1.0), [(0, 0), (1, -0.5)], None, "runtime",
)  # fmt: skip
add(
    "radius below the resolution", "1e8 + 1 is 1e8 in binary32: the ball seems to be one point",
    [([[1]], [-1e8]), ([-1], 0.5)],
    (1e8,), 1, (10**8 + 1,), [(10**8,), (10**8 + 1,)], "1/4", "runtime interval gradient",
)  # fmt: skip
add(
    "radius below the resolution of binary64", "the same with 2^60 and the checker's own arithmetic",
    [([[1]], [-(2.0**60)]), ([-1], 0.5)],
    (2.0**60,), 1, (2**60 + 1,), [(2**60,), (2**60 + 1,)], None, "runtime interval gradient", np.float64,
)  # fmt: skip
add(
    "kink at the sample", "g = 1/4 - |x|: frameworks give ReLU the slope 0 at 0, so the network looks flat",
    [([[1], [-1]], [0, 0]), ([-1, -1], 0.25)],
    (0,), "1/2", (0.5,), [(0,), (1,)], "1/8", "gradient",
)  # fmt: skip
add(
    "shifted pair", "relu(x) - relu(x + 1) has slope 1 between -1 and 0; coupled multipliers certify 0",
    [([[1], [1]], [0, 1]), ([1, -1], 0.5)],
    (-1,), 1, (0,), [(-1,), (0,)], "1/4", "gradient",
)  # fmt: skip
add(
    "singular vector orthogonal to the start", "power iteration from (1, 1) stays there: 0.18 instead of 14.1",
    [([[10, -10], [0.125, 0.125]], [100, 100]), ([1, 0], -99.5)],
    (0, 0), "1/4", (-0.125, 0.125), [(1, -1), (-1, 1)], "1/64", "norms",
)  # fmt: skip
add(
    "nearly equal rows", "two rows differ by one unit in the last place, and the bias hides the difference",
    [([[1, 1], [1, 1 + ULP]], [1024, 1024]), ([-(2.0**23), 2.0**23], 0.5)],
    (0, 0), 1, (0, -1), [(0, -1), (0, 1)], "1/4", "runtime",
)  # fmt: skip
add(
    "nearly equal rows in binary64", "multipliers for a Gram matrix that is singular up to 2^-52",
    [([[1, 1], [1, 1 + DOUBLE_ULP]], [1024, 1024]), ([-(2.0**52), 2.0**52], 0.5)],
    (0, 0), 1, (0, -1), [(0, -1), (0, 1)], None, "runtime", np.float64,
)  # fmt: skip
add(
    "radius just beyond the truth", "the class is kept up to 1/2 exactly; 2^-1000 more is too much",
    [([[1], [-1]], [0, 0]), ([-1, -1], 0.5)],
    (0,), Fraction(1, 2) + Fraction(1, 2**1000), (0.5,), [(0,), (1,)], "499/1000", "runtime gradient",
)  # fmt: skip
