"""Weights of every family: norms against explicit matrices; the laws of forward, right_inverse, contains, sample."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import matrix_of, norm

from certlip.errors import UsageError
from certlip.layers import FAMILIES, Geometry, Weight, family
from certlip.layers.dominance import AOL, SLL
from certlip.layers.spectral import norm_bound

SIDES = {0: (), 1: (11,), 2: (6, 5), 3: (3, 4, 3)}


@dataclass(frozen=True)
class Shaped:
    """A weight's shape and geometry."""

    shape: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    dilation: int = 1
    groups: int = 1

    def weight(self, name: str, tight: bool = True) -> Weight:
        return family(
            name, self.shape, stride=self.stride, dilation=self.dilation, groups=self.groups, tight=tight
        ).double()

    def norm(self, weight: torch.Tensor, padding: int = 0) -> float:
        size = SIDES[len(self.shape) - 2]
        return norm(matrix_of(weight.detach().numpy(), size, self.stride, self.dilation, padding, self.groups))


CASES = [
    Shaped((3, 5)), Shaped((5, 3)), Shaped((4, 4)), Shaped((1, 6)), Shaped((6, 1)),
    Shaped((3, 2, 3, 3)), Shaped((3, 2, 3, 2), stride=2), Shaped((4, 2, 3, 3), stride=(2, 1), groups=2),
    Shaped((3, 2, 2, 2), stride=2), Shaped((2, 2, 2, 2), dilation=2), Shaped((2, 2, 2, 2), stride=2, dilation=2),
    Shaped((2, 3, 3), stride=2, dilation=3), Shaped((9, 1, 2, 2), stride=2), Shaped((4, 3, 1, 1), stride=2),
    Shaped((2, 2, 2, 2, 2)), Shaped((5, 2, 4)),
]  # fmt: skip


def randomised(weight: Weight, generator: torch.Generator) -> Weight:
    """With parameters of its own, SLL's q, drawn at random."""
    with torch.no_grad():
        for parameter in weight.parameters():
            parameter.normal_(generator=generator)
    return weight


@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_norms_of_explicit_matrices_are_at_most_one(name, tight):
    generator = torch.Generator().manual_seed(0)
    for case in CASES:
        for size in (0.05, 1.0, 30.0):
            weight = randomised(case.weight(name, tight), generator)
            made = weight(size * torch.randn(case.shape, generator=generator, dtype=torch.float64))
            for padding in (0, 1, 2) if len(case.shape) > 2 else (0,):
                assert case.norm(made, padding) <= 1 + 1e-12, (case, padding)


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[8], CASES[13]], ids=str)
@pytest.mark.parametrize("name", ["cpl", "orthogonal", "spectral"])
def test_nothing_is_lost_where_the_bound_is_exact(name, case):
    raw = 3 * torch.randn(case.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert case.norm(case.weight(name)(raw)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_weights_exceed_one_by_rounding_only(name):
    generator = torch.Generator().manual_seed(2)
    for case in [*CASES, Shaped((40, 200))]:
        made = randomised(case.weight(name), generator).float()(torch.randn(case.shape, generator=generator))
        assert case.norm(made.double()) <= 1 + 2e-6


@given(data=st.data())
@settings(max_examples=35, deadline=None)
def test_laws_of_the_four_functions(data):
    name = data.draw(st.sampled_from(FAMILIES))
    case = data.draw(st.sampled_from(CASES))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    tight = data.draw(st.booleans())
    weight = randomised(case.weight(name, tight), generator)
    raw = torch.randn(case.shape, generator=generator, dtype=torch.float64) * 10.0 ** data.draw(st.integers(-2, 2))
    member, drawn = weight(raw).detach(), weight.sample(generator, torch.float64)
    for inside in (member, drawn):
        assert weight.contains(inside)
        torch.testing.assert_close(weight(weight.right_inverse(inside)), inside, rtol=0, atol=1e-7)
        assert not weight.contains(1e6 * inside)
    near = weight(weight.right_inverse(raw)).detach()
    assert weight.contains(near)
    # all but one scale: a network of homogeneous activations stays the same up to a factor, as far as groups allow
    if name != "orthogonal" and not (tight and case.groups > 1 and name in ("sll", "aol")):
        factor = float((near * raw).sum() / (raw * raw).sum())
        torch.testing.assert_close(near, factor * raw, rtol=0, atol=1e-6 * float(near.abs().max()))


@pytest.mark.parametrize("case", [Shaped((3, 5)), Shaped((5, 3)), Shaped((3, 2, 3, 3))], ids=str)
@pytest.mark.parametrize("name", ["sll", "aol", "cpl", "spectral"])
def test_weights_within_the_bound_are_left_alone_unless_tight(name, case):
    small = 0.02 * torch.randn(case.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weight = case.weight(name, tight=False)
    assert weight.contains(small)
    torch.testing.assert_close(weight(weight.right_inverse(small)), small, rtol=0, atol=1e-12)
    if name != "spectral":
        assert not case.weight(name).contains(small)


def test_a_weight_whose_rows_dominate_only_after_scaling_is_kept():
    """The Perron root of |W W'| is .98 while a row sums to 2.0: policy iteration has to find the scaling."""
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.9, 0.9, 0.1]], dtype=torch.float64)
    root = torch.linalg.eigvalsh((weight @ weight.T).abs())[-1]
    weight = weight * (0.98 / root).sqrt()
    for name in ("aol", "sll"):
        soft = family(name, (3, 3), tight=False).double()
        assert ((weight @ weight.T).abs().sum(1) > 1).any()
        torch.testing.assert_close(soft(soft.right_inverse(weight)), weight, rtol=0, atol=1e-10)


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_dominance_bound_is_what_its_definition_says(seed, rows, columns):
    """T_i = sum_j |K K'|_ij q_j / q_i, written with loops, and T - K K' >= 0."""
    generator = torch.Generator().manual_seed(seed)
    weight = randomised(SLL(Geometry((rows, columns)), side="output").double(), generator)
    raw = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    k, q = raw.numpy(), weight.log_q.detach().exp().numpy()[0]
    expected = [sum(abs(k[i] @ k[j]) * q[j] for j in range(rows)) / q[i] for i in range(rows)]
    np.testing.assert_allclose(weight.metric(raw).detach().numpy()[0], expected, rtol=1e-12)
    assert np.linalg.eigvalsh(np.diag(expected) - k @ k.T)[0] >= -1e-10 * max(expected)


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("case", CASES[5:10], ids=str)
def test_q_is_live_in_convolutions(case, side):
    """The published main branch lost it: q cancelled, and its gradient was zero."""
    generator = torch.Generator().manual_seed(4)
    weight = SLL(Geometry(case.shape, case.stride, case.dilation, case.groups), side=side).double()
    raw = torch.randn(case.shape, generator=generator, dtype=torch.float64)
    before = weight(raw)
    (before * torch.randn(case.shape, generator=generator, dtype=torch.float64)).sum().backward()
    assert (weight.log_q.grad.abs() > 1e-6).all()
    with torch.no_grad():
        weight.log_q.normal_(generator=generator)
    after = weight(raw)
    assert (after - before).abs().max() > 0.01
    assert case.norm(after, padding=1) <= 1 + 1e-12


@pytest.mark.parametrize("name", FAMILIES)
def test_disjoint_patches_cost_nothing(name):
    """A window as large as the stride: the same weights as those of the dense layer on a patch."""
    raw = torch.randn(9, 2, 2, 3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    by_patch = family(name, (9, 12)).double()(raw.reshape(9, 12))
    torch.testing.assert_close(family(name, raw.shape, stride=(2, 3)).double()(raw), by_patch.reshape(raw.shape))


def test_q_at_one_is_aol():
    raw = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(5))
    geometry = Geometry(tuple(raw.shape))
    assert torch.equal(SLL(geometry)(raw), AOL(geometry)(raw))


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[7], CASES[13]], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_derivatives(name, case):
    generator = torch.Generator().manual_seed(6)
    weight = randomised(case.weight(name), generator)
    raw = torch.randn(case.shape, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(weight, (raw,))


def test_orthogonal_weights_are_their_own_polar_factors_with_bounded_derivatives():
    """Equal singular values, where the derivative of a decomposition is infinite."""
    raw = torch.eye(4, 6, requires_grad=True)
    made = family("orthogonal", (4, 6))(raw)
    torch.testing.assert_close(made @ made.T, torch.eye(4))
    made[0, 1].backward()
    assert torch.isfinite(raw.grad).all() and raw.grad.abs().max() <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_extreme_entries(name):
    for shape in ((3, 4), (3, 2, 3, 3)):
        weight = family(name, shape)
        zero = weight(torch.zeros(shape))
        assert torch.isfinite(zero).all() and norm(matrix_of(zero.detach().numpy(), (6, 5), 1, 1, 1, 1)) <= 1 + 1e-6
        for size in (1e-25, 1e-12, 1e12):
            raw = size * torch.randn(shape, generator=torch.Generator().manual_seed(7))
            assert norm(matrix_of(weight(raw).detach().double().numpy(), (6, 5), 1, 1, 1, 1)) <= 1 + 2e-6


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_frequency_bound_covers_every_finite_image(data):
    """From above, and within one percent of the supremum, of which the grid of 101 misses .3 percent."""
    window = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))
    channels = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    shape = (*channels, *window)
    kernel = torch.randn(shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))).double()
    bound = float(norm_bound(Geometry(shape).fold(kernel)))
    fine = np.fft.fftn(kernel.numpy(), s=(101,) * len(window), axes=tuple(range(2, 2 + len(window))))
    fine = np.moveaxis(fine.reshape(*channels, -1), -1, 0)
    largest = float(np.linalg.svd(fine, compute_uv=False).max())
    assert largest * (1 - 1e-12) <= bound <= 1.0135 * largest
    size = tuple(k + 3 for k in window)
    assert norm(matrix_of(kernel.numpy(), size, 1, 1, 1, 1)) <= bound * (1 + 1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_folding_is_undone(case):
    geometry = Geometry(case.shape, case.stride, case.dilation, case.groups)
    weight = torch.arange(1.0, prod(case.shape) + 1).reshape(case.shape)
    kernels = geometry.fold(weight)
    assert torch.equal(geometry.unfold(kernels), weight)
    assert kernels.shape[:3] == (case.groups, geometry.outputs, geometry.inputs)
    assert float(kernels.sum()) == float(weight.sum())


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "bcop", "shape": (3, 3)},
        {"name": "sll", "shape": (3,)},
        {"name": "sll", "shape": (3, 0)},
        {"name": "sll", "shape": (3, 2, 2, 2, 2, 2)},
        {"name": "aol", "shape": (3, 2, 3), "groups": 2},
        {"name": "aol", "shape": (4, 2), "groups": 2},
        {"name": "cpl", "shape": (4, 2, 3), "stride": 0},
        {"name": "cpl", "shape": (4, 2, 3), "stride": (1, 1)},
    ],
)
def test_unusable_requests_are_refused(arguments):
    with pytest.raises(UsageError):
        family(**arguments)


def test_a_tensor_of_another_shape_is_refused():
    with pytest.raises(UsageError, match=r"\(2, 3\)"):
        family("cpl", (2, 3))(torch.zeros(3, 2))
