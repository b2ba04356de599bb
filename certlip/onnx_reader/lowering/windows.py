"""Strides, dilations and paddings of convolutions and pooling, from ONNX's several ways to write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from certlip.onnx_reader.builder import Call, NotLowered

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Windows:
    """image: the spatial size that windows slide over; pads: (before, after) per axis; is_same: chosen by auto_pad."""

    image: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    is_same: bool = False

    @staticmethod
    def of(call: Call, window: Sequence[int], image: Sequence[int]) -> Windows:
        window, strides, dilations = _sizes(call, window)
        mode = _mode(call)
        if mode.startswith("SAME"):
            pads = tuple(
                _split((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, mode)
                for n, k, s, d in zip(image, window, strides, dilations, strict=True)
            )
        else:
            pads = _explicit(call, len(window)) if mode == "NOTSET" else ((0, 0),) * len(window)
        return Windows(tuple(image), window, strides, dilations, pads, mode.startswith("SAME"))

    @staticmethod
    def transposed(call: Call, window: Sequence[int], image: Sequence[int]) -> Windows:
        """For ConvTranspose: `image` of the result is the output that maps back to the given input size."""
        window, strides, dilations = _sizes(call, window)
        mode = _mode(call)
        extra = tuple(call.attribute("output_padding", (0,) * len(window)))
        full = [
            s * (n - 1) + e + d * (k - 1) + 1
            for n, k, s, d, e in zip(image, window, strides, dilations, extra, strict=True)
        ]
        wanted = call.attribute("output_shape", None)
        if wanted is None and mode.startswith("SAME"):
            wanted = [n * s for n, s in zip(image, strides, strict=True)]
            if any(total < n for total, n in zip(full, wanted, strict=True)):
                raise NotLowered("its stride exceeds its kernel: with auto_pad runtimes do not agree on its size")
        if wanted is not None:
            pads = tuple(_split(total - int(n), mode) for total, n in zip(full, wanted, strict=True))
            output = tuple(int(n) for n in wanted)
        else:
            pads = _explicit(call, len(window)) if mode == "NOTSET" else ((0, 0),) * len(window)
            output = tuple(total - sum(pad) for total, pad in zip(full, pads, strict=True))
        if min(output) < 1:
            raise NotLowered("nothing is left of its output between the pads")
        if any(e >= s for e, s in zip(extra, strides, strict=True)):
            raise NotLowered("its output padding is not smaller than its stride")
        return Windows(output, window, strides, dilations, pads)


def _sizes(call: Call, window: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    rank = len(window)
    strides = tuple(int(n) for n in call.attribute("strides", (1,) * rank))
    dilations = tuple(int(n) for n in call.attribute("dilations", (1,) * rank))
    if len(strides) != rank or len(dilations) != rank or min((*strides, *dilations, *window)) < 1:
        raise NotLowered("its strides, dilations or kernel size are malformed")
    return tuple(int(n) for n in window), strides, dilations


def _mode(call: Call) -> str:
    mode = call.attribute("auto_pad", b"NOTSET")
    return mode.decode() if isinstance(mode, bytes) else str(mode)


def _explicit(call: Call, rank: int) -> Pads:
    flat = [int(n) for n in call.attribute("pads", (0,) * 2 * rank)]
    if len(flat) != 2 * rank or min(flat) < 0:
        raise NotLowered("negative or malformed pads are not supported; slice the input instead")
    return tuple(zip(flat[:rank], flat[rank:], strict=True))


def _split(total: int, mode: str) -> tuple[int, int]:
    total = max(0, total)
    small, large = total // 2, total - total // 2
    return (small, large) if mode == "SAME_UPPER" else (large, small)
