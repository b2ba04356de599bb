"""Norm bounds of convolutions against explicit matrices, filled in entry by entry from the definition."""

from itertools import product
from math import prod

import numpy as np
import pytest

import certlip.ops.conv as conv_module
import certlip.ops.convolution_norms as norms_module
from certlip.ops import Conv, ConvTranspose
from certlip.ops.convolution_norms import channel_dominance_norm, frequency_norm, torus
from certlip.rigor.ball import Ball

BELOW = 1 - 1e-12  # a floating-point singular value may be this much too large


def make(kernel, size, strides, pads, dilations, groups=1) -> Conv:
    weight = kernel if isinstance(kernel, Ball) else Ball.exact(kernel)
    return Conv(
        weight, Ball.exact(0.0), np.zeros(()), tuple(size), tuple(strides), tuple(pads), tuple(dilations), groups
    )


def random_conv(seed: int, dimensions: int) -> Conv:
    """Any stride, dilation, groups and asymmetric padding; kernels may be larger than the image."""
    rng = np.random.default_rng(seed)
    while True:
        groups = int(rng.integers(1, 3))
        channels, out = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
        space = rng.integers(1, 7 if dimensions == 2 else 12, dimensions).tolist()
        window = rng.integers(1, 5, dimensions).tolist()
        strides, dilations = rng.integers(1, 4, dimensions).tolist(), rng.integers(1, 4, dimensions).tolist()
        pads = [tuple(pair) for pair in rng.integers(0, 6, (dimensions, 2)).tolist()]
        kernel = rng.standard_normal((out, channels // groups, *window))
        if seed % 3 == 0:
            kernel = np.abs(kernel)  # these sum up, so that wrapping around matters most
        try:
            return make(kernel, (channels, *space), strides, pads, dilations, groups)
        except ValueError:  # the kernel is larger than the padded image
            continue


def explicit_matrix(conv: Conv, sides: tuple[int, ...] | None = None) -> np.ndarray:
    """W[o, i] from the definition; with `sides`, of the circular convolution on a torus of these side lengths."""
    out, per_group = conv.weight.shape[:2]
    space = conv.size[1:] if sides is None else sides
    results = conv.space if sides is None else tuple(n // s for n, s in zip(sides, conv.strides, strict=True))
    matrix = np.zeros((out, *results, conv.size[0], *space))
    taps = list(product(*(range(k) for k in conv.window)))
    for position in product(*(range(n) for n in results)):
        for tap in taps:
            axes = zip(position, conv.strides, conv.pads, tap, conv.dilations, strict=True)
            source = tuple(p * s - pad[0] + t * d for p, s, pad, t, d in axes)
            if sides is not None:
                source = tuple(q % n for q, n in zip(source, sides, strict=True))
            if any(not 0 <= q < n for q, n in zip(source, space, strict=True)):
                continue
            for o in range(out):
                group = o // (out // conv.groups)
                for i in range(per_group):
                    matrix[(o, *position, group * per_group + i, *source)] += conv.weight.mid[(o, i, *tap)]
    return matrix.reshape(out * prod(results), -1)


# Taps that would cancel after wrapping around a torus of the image's size.
CANCELLING = [
    make(np.array([[[1.0, 0.0, -1.0]]]), (1, 2), (1,), ((1, 1),), (1,)),
    make(np.array([[[1.0, 0.0, 0.0, -1.0]]]), (1, 3), (1,), ((1, 2),), (1,)),
    make(np.array([[[[1.0, 0.0, -1.0]]]]), (1, 3, 2), (1, 1), ((0, 0), (1, 1)), (1, 1)),
]
CONVS = [random_conv(seed, 1 + seed % 2) for seed in range(120)] + CANCELLING


def test_the_trials_cover_the_hard_cases():
    assert sum(any(k > n for k, n in zip(c.window, c.size[1:], strict=True)) for c in CONVS) > 10
    assert sum(any(a != b for a, b in c.pads) for c in CONVS) > 50
    assert sum(c.groups > 1 for c in CONVS) > 30 and sum(max(c.strides) > 1 for c in CONVS) > 50
    assert sum(max(c.dilations) > 1 for c in CONVS) > 50 and sum(prod(c.strides) == 1 for c in CONVS) > 10


def test_forward_backward_and_matrix_follow_the_definition():
    rng = np.random.default_rng(0)
    for conv in CONVS:
        exact = explicit_matrix(conv)
        matrix = conv.matrix()
        assert matrix.is_exact and np.array_equal(matrix.mid, exact)
        x, y = rng.standard_normal((2, *conv.domain)), rng.standard_normal((2, *conv.codomain))
        assert np.allclose(conv.forward(conv.weight.mid, x).reshape(2, -1), x.reshape(2, -1) @ exact.T, atol=1e-12)
        assert np.allclose(conv.backward(conv.weight.mid, y).reshape(2, -1), y.reshape(2, -1) @ exact, atol=1e-12)
        turned = ConvTranspose.of(conv, Ball.exact(0.0))
        assert np.array_equal(turned.matrix().mid, exact.T)


def test_every_bound_is_above_the_true_norm():
    for number, conv in enumerate(CONVS):
        true = np.linalg.norm(explicit_matrix(conv), 2)
        for bound in (frequency_norm(conv), channel_dominance_norm(conv), conv.l2_norm, conv.dominance_norm):
            assert bound >= true * BELOW, number
        rows = np.abs(explicit_matrix(conv)).sum(1).max()
        assert rows * BELOW <= conv.linf_norm <= rows * (1 + 1e-12) + 1e-300


def test_the_small_route_is_exact_and_the_large_one_is_the_torus(monkeypatch):
    for conv in CONVS[:40]:
        true = np.linalg.norm(explicit_matrix(conv), 2)
        assert conv.is_small and conv.l2_norm <= true * (1 + 1e-6) + 1e-300
    monkeypatch.setattr(conv_module, "_DENSE_SIDE", 0)
    for seed in range(40):
        conv = random_conv(seed, 1 + seed % 2)  # anew: norms are cached
        assert not conv.is_small
        assert conv.l2_norm == frequency_norm(conv)
        assert conv.dominance_norm == channel_dominance_norm(conv)
        turned = ConvTranspose.of(conv, Ball.exact(0.0))
        assert turned.l2_norm == conv.l2_norm and turned.dominance_norm == conv.dominance_norm
    monkeypatch.setattr(conv_module, "_DENSE_SIDE", 10**9)
    monkeypatch.setattr(conv_module, "_DENSE_ENTRIES", 0)
    assert not CONVS[0].is_small


def test_the_frequency_bound_is_the_norm_of_the_circular_operator():
    """Equality on the torus, strides, dilation and groups included: nothing is lost but the padding."""
    for number, conv in enumerate(CONVS):
        circular = np.linalg.norm(explicit_matrix(conv, torus(conv)), 2)
        assert circular * BELOW <= frequency_norm(conv) <= circular * (1 + 1e-6), number


def test_the_torus_is_not_larger_than_documented():
    for conv in CONVS:
        for n, height, k, d, pad, s, out in zip(
            torus(conv), conv.size[1:], conv.window, conv.dilations, conv.pads, conv.strides, conv.space, strict=True
        ):
            least = max(height + max(d * (k - 1), *pad), s * out)
            assert least <= n < least + s and n % s == 0


def test_a_torus_of_the_image_size_would_be_noticed(monkeypatch):
    """n = H wraps around zero padding; it is exceeded among these trials, so the tests above could not pass with it."""

    def image_sized(conv):
        return tuple(-(-n // s) * s for n, s in zip(conv.size[1:], conv.strides, strict=True))

    monkeypatch.setattr(norms_module, "torus", image_sized)
    violated = sum(frequency_norm(conv) < np.linalg.norm(explicit_matrix(conv), 2) * (1 - 1e-6) for conv in CONVS)
    assert violated >= 5


def test_more_batches_than_one(monkeypatch):
    conv = CONVS[1]
    whole = frequency_norm(conv)
    monkeypatch.setattr(norms_module, "_BATCH_ENTRIES", 1)
    assert frequency_norm(conv) == pytest.approx(whole, rel=1e-9)


def test_uncertain_kernels_bound_every_member():
    rng = np.random.default_rng(1)
    for seed in range(20):
        conv = random_conv(seed, 1 + seed % 2)
        rad = rng.random(conv.weight.shape) * 10.0 ** rng.integers(-10, 0)
        fuzzy = make(Ball(conv.weight.mid, rad), conv.size, conv.strides, conv.pads, conv.dilations, conv.groups)
        bounds = (frequency_norm(fuzzy), channel_dominance_norm(fuzzy), fuzzy.l2_norm, fuzzy.dominance_norm)
        for _ in range(4):
            member = conv.weight.mid + rng.choice([-1, 1], rad.shape) * rad
            altered = make(member, conv.size, conv.strides, conv.pads, conv.dilations, conv.groups)
            true = np.linalg.norm(explicit_matrix(altered), 2)
            assert min(bounds) >= true * BELOW


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("scale", [1e-290, 1e-200, 1e-155, 1e-30, 1e30, 1e155, 1e200, 1e300])
def test_scales_whose_squares_overflow_or_underflow(scale):
    conv = CONVS[3]
    scaled = make(conv.weight.mid * scale, conv.size, conv.strides, conv.pads, conv.dilations, conv.groups)
    true = np.linalg.norm(explicit_matrix(conv), 2)
    for bound in (frequency_norm, channel_dominance_norm):
        value = bound(scaled) / scale
        assert true * BELOW <= value <= bound(conv) * (1 + 1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zero_and_unbounded_kernels():
    for entry in (0.0, np.inf, np.nan):
        conv = make(np.full((1, 1, 2), entry), (1, 4), (1,), ((0, 0),), (1,))
        for bound in (frequency_norm, channel_dominance_norm):
            assert bound(conv) <= 1e-300 if entry == 0.0 else not np.isfinite(bound(conv))


def test_refusals():
    with pytest.raises(ValueError, match="larger than the padded input"):
        make(np.ones((1, 1, 4)), (1, 3), (1,), ((0, 0),), (1,))
    with pytest.raises(ValueError, match="does not fit"):
        make(np.ones((1, 2, 1)), (3, 3), (1,), ((0, 0),), (1,))
    with pytest.raises(ValueError, match="does not fit"):
        make(np.ones((3, 1, 1)), (2, 3), (1,), ((0, 0),), (1,), groups=2)
